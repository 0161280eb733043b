"""The requests of NLDS' client: the parameters of its queries, and its bodies.

It also sends access key, secret key and tenancy of the object store: they are no parameters here, and nothing reads
them.
"""

from typing import Annotated
from uuid import UUID

from msgspec import Struct
from pydantic import BaseModel, BeforeValidator, Field

from glitchflow_api.nlds.jobs import Member, Order
from glitchflow_api.nlds.selection import Selection
from gwwire.decoding import InvalidRequest
from gwwire.holdings import parse_tags

_MOST_PATHS = 100_000
_Words = Annotated[str | None, Field(max_length=500)]
#: Its client sends 0 or an empty text for an option that is not given.
_Number = Annotated[int | None, Field(ge=1, lt=2**63), BeforeValidator(lambda value: None if value == "0" else value)]


class _Selecting(BaseModel):
    label: _Words = None
    holding_id: _Number = None
    tag: str | None = None
    groupall: bool = False
    regex: bool = False

    def tags(self) -> dict[str, str]:
        """Return the tags in `k:v,k:v`, or raise InvalidRequest."""
        given = ",".join(part for part in (self.tag or "").split(",") if part.strip())
        return parse_tags(given) if given else {}


class HoldingQuery(_Selecting):
    """The query of `list`, `find` and `meta`."""

    transaction_id: _Words = None
    path: Annotated[str | None, Field(max_length=2048)] = None
    limit: _Number = None
    descending: bool = False

    def selection(self, member: Member) -> Selection:
        """Return the holdings that are meant."""
        return Selection(
            *(member.user, member.group, self.groupall, self.label or None),
            *(self.holding_id, self.transaction_id or None, self.tags(), self.regex),
        )


class PutQuery(BaseModel):
    """The query of `put` and `putlist`."""

    transaction_id: UUID
    job_label: _Words = None


class GetlistQuery(PutQuery):
    """The query of `getlist`."""

    target: Annotated[str | None, Field(max_length=4096)] = None
    groupall: bool = False
    regex: bool = False


class GetQuery(GetlistQuery, _Selecting):
    """The query of `get`."""

    filepath: str

    def order(self) -> Order:
        """Return what to get."""
        selected = (self.label or None, self.holding_id, self.tags())
        return Order(paths([self.filepath]), *selected, self.target, self.regex, self.groupall)


class StatQuery(BaseModel):
    """The query of `stat`."""

    id: _Number = None
    transaction_id: UUID | None = None
    job_label: _Words = None
    sub_id: UUID | None = None
    groupall: bool = False
    regex: bool = False
    limit: _Number = None
    descending: bool = False


class PathsBody(Struct, frozen=True):
    """The body of `put`, `putlist` and `getlist`."""

    filelist: list[str]
    label: str | None = None
    holding_id: int | None = None
    tag: dict[str, str] | None = None

    def order(self, query: GetlistQuery | None = None) -> Order:
        """Return what to put or get."""
        selected = (self.label or None, self.holding_id or None, self.tag or {})
        wanted = (query.target, query.regex, query.groupall) if query else ()
        return Order(paths(self.filelist), *selected, *wanted)


class MetaBody(Struct, frozen=True):
    """The body of `meta`."""

    new_label: str | None = None
    new_tag: dict[str, str] | None = None
    del_tag: dict[str, str] | None = None


class StatBody(Struct, frozen=True):
    """The body of `stat`; None selects all."""

    api_action: list[str] | None = None
    exclude_api_action: list[str] | None = None
    state: list[str] | None = None


def paths(lines: list[str]) -> list[str]:
    """Return the paths in the lines of a list, or raise InvalidRequest if there are none."""
    found = [line.rstrip("\r\n") for line in lines if line.strip()]
    if not 0 < len(found) <= _MOST_PATHS:
        expected = f"expected 1 to {_MOST_PATHS:,} paths; a directory has those below it"
        raise InvalidRequest(f"filelist: {expected}", field="filelist")
    return found
