"""Holdings, and files in them, that NLDS' options select: user or group, label, id, tags and transaction together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glitchflow_api.nlds.calls import CALL_FAILED, HoldingCalls, code_of
from gwwire.holdings import Holding, HoldingFile, PathType, check_path
from gwwire.problems import ProblemCode


@dataclass(frozen=True)
class Selection:
    """The selected holdings; None selects all. With `groupall`, those of the whole group."""

    user: str
    group: str | None
    groupall: bool = False
    label: str | None = None
    holding: int | None = None
    transaction: str | None = None
    tag: Mapping[str, str] = field(default_factory=dict)
    regex: bool = False

    @property
    def is_specific(self) -> bool:
        """Return whether some holdings of the user or the group may not be selected."""
        return bool(self.label or self.holding or self.transaction or self.tag)

    def filters(self) -> dict[str, Any]:
        """Return the parameters of the route that select the same, except by id and transaction."""
        owner = {"group": self.group} if self.groupall else {"user": self.user}
        label = {"regex" if self.regex else "label": self.label} if self.label else {}
        tag = {"tag": ",".join(f"{name}:{value}" for name, value in self.tag.items())} if self.tag else {}
        return {**owner, **label, **tag}

    def has(self, holding: Holding) -> bool:
        """Return whether a holding is selected by owner, label and tags."""
        owned = holding.group == self.group if self.groupall else holding.user == self.user
        labelled = self.label in {None, "", holding.label} or self.regex
        return owned and labelled and self.tag.items() <= holding.tags.items() and holding.deleted is None

    def described(self) -> str:
        """Return what is selected, for a message."""
        asked = {"holding_id": self.holding, "transaction_id": self.transaction, "label": self.label}
        words = [f"{name}:{value}" for name, value in asked.items() if value]
        words += [f"tag:{name}:{value}" for name, value in self.tag.items()]
        return f"{' with ' if words else ''}{', '.join(words)} for user:{self.user} and group:{self.group or ''}"


def not_found(selection: Selection) -> str:
    """Return the message of a selection that selects no holding."""
    return f"no holding found{selection.described()}"


async def find_holdings(
    calls: HoldingCalls, selection: Selection, *, limit: int | None = None, descending: bool = False, path: Any = None
) -> list[Holding]:
    """Return the selected holdings, by id; only those with a complete file at `path`, if it is given."""
    number = selection.holding
    if selection.transaction:
        try:
            of = (await calls.transaction(selection.transaction)).holding
        except CALL_FAILED as error:
            return _none_if_missing(error)
        if number not in {None, of}:
            return []
        number = of
    if number is None:
        filters = {**selection.filters(), "path": path, "descending": descending}
        return [each async for each in calls.holdings(limit, **filters)]
    try:
        found = await calls.holding(number)
    except CALL_FAILED as error:
        return _none_if_missing(error)
    if selection.regex and selection.label:
        matching = [each.id async for each in calls.holdings(**selection.filters())]
        return [found] if number in matching else []
    return [found] if selection.has(found) else []


async def find_files(
    calls: HoldingCalls, selection: Selection, holdings: list[Holding] | None, path: str
) -> list[HoldingFile]:
    """Return the files that a get of a path means: the one stored last, and if it is a directory, what is below it.

    `holdings` are those selected, None if all are. With `regex`, the path is an expression, and each path that matches
    is meant.
    """
    if selection.regex:
        of = await find_holdings(calls, selection) if holdings is None else holdings
        return _newest([each for holding in of async for each in calls.files(holding.id, regex=path)])
    check_path(path)
    if holdings is None or len(holdings) > 1:
        everywhere = replace(selection, label=None, holding=None, transaction=None, tag={})
        having = await find_holdings(calls, everywhere, path=path)
        wanted = None if holdings is None else {each.id for each in holdings}
        holdings = [each for each in having if wanted is None or each.id in wanted]
    found = _newest([each for holding in holdings async for each in calls.files(holding.id, path=path)])
    if found and found[0].type is PathType.DIRECTORY:
        found += [each async for each in calls.files(found[0].holding, path=f"{path}/")]
    return found


def _newest(files: Iterable[HoldingFile]) -> list[HoldingFile]:
    """Return for each path the file that was stored last."""
    newest: dict[str, HoldingFile] = {}
    for each in sorted(files, key=lambda file: (file.stored or 0, file.holding)):
        newest[each.path] = each
    return sorted(newest.values(), key=lambda file: file.path)


def _none_if_missing(error: Exception) -> list[Holding]:
    if code_of(error) != ProblemCode.NOT_FOUND:
        raise error
    return []
