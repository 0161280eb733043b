"""The query parameters that the gateway's routes parse."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gwwire.holdings import FileState, TransactionKind, TransactionState
from gwwire.names import PRINTABLE

#: Values of a field of the detector, which has neither wildcards nor colons.
_Values = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^*:\x00-\x1f\x7f]*$")]], Field(max_length=100)
]
_Gps = Annotated[float | None, Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": PRINTABLE})] | None


class QueryParameters(BaseModel):
    """A query; a field that is left out selects all, and lists are given by repeating the parameter."""

    model_config = ConfigDict(extra="forbid")

    facility: _Values = Field([], description="facilities, as `LIGO`")
    site: _Values = Field([], description="sites, as `Hanford`")
    instrument: _Values = Field([], description="instruments, as `Advanced LIGO`")
    detector: _Values = Field([], description="detectors, as `L1`: the prefixes of channels")
    channel: list[
        Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^*\x00-\x1f\x7f]*(\*[^*\x00-\x1f\x7f]*){0,2}$")]
    ] = Field([], max_length=100, description="channels, DET:NAME, with at most two `*` for any text")
    start: _Gps = Field(None, description="only segments that end after this GPS time, s")
    stop: _Gps = Field(None, description="only segments that begin before this GPS time, s")
    batch: list[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^*\x00-\x1f\x7f]*$")]] = Field(
        [], max_length=100, description="batch ids"
    )
    status: _Text = Field(None, description="the status of the record")
    run: _Text = Field(None, description="the run of the record")
    last: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$", description="the step that was done last on the record"
    )
    condition: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": r"^[\w.-]{1,50}(<=|>=|!=|<|>|=)[0-9]{1,9}$"})]],
        Field(max_length=20, description="NAME<VALUE, or with <= > >= = !=; all have to be true"),
    ] = []


class SegmentQuery(QueryParameters):
    """The query of /segments."""

    after: Annotated[int, Field(ge=0, lt=2**63, description="only segments stored after this seq")] = 0
    before: Annotated[
        int | None, Field(ge=0, lt=2**63, description="only segments stored before this seq, the newest first")
    ] = None
    limit: Annotated[int, Field(ge=1, le=10_000, description="maximum number of segments")] = 1000


class RecordFilter(QueryParameters):
    """Selects records."""

    kind: Annotated[str | None, Field(min_length=1, description="only this kind: the first part of the id")] = None
    segments: Annotated[
        Literal["all", "written"], Field(description="`written`: without segments that nobody has written to")
    ] = "all"


class RecordsQuery(RecordFilter):
    """The query of /records."""

    after: Annotated[int, Field(ge=0, lt=2**63, description="only records that changed after this seq")] = 0
    limit: Annotated[int, Field(ge=1, le=1000, description="maximum number of records")] = 100


class ChangesQuery(RecordFilter):
    """The query of /changes."""

    since: Annotated[int, Field(ge=0, lt=2**63, description="only what changed after this seq")] = 0
    feed: Annotated[
        Literal["once", "continuous"], Field(description="`once` ends when all is sent; `continuous` goes on")
    ] = "once"
    heartbeat: Annotated[float, Field(ge=1, le=60, description="s after which an empty line is sent")] = 30


class CoverageQuery(QueryParameters):
    """The query of /coverage."""

    limit: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="maximum number of spans per channel; the shortest gaps are ignored to keep to it",
    )


_Name = Annotated[str, Field(min_length=1, max_length=255)] | None
_Regex = Annotated[
    str | None,
    Field(
        max_length=500,
        json_schema_extra={"pattern": r"^[\w./-]*$"},
        description="a regular expression of Rust's `regex`, without look-around and back-references",
    ),
]
_FilePath = Annotated[str, Field(max_length=2048, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _Listing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: _Name = Field(None, description="only of this user")
    group: _Name = Field(None, description="only of this group")
    limit: Annotated[int, Field(ge=1, le=1000, description="maximum number on a page")] = 100
    after: Annotated[int | None, Field(ge=0, lt=2**63, description="where the page before ended")] = None
    descending: Annotated[bool, Field(description="the newest first")] = False


class HoldingsQuery(_Listing):
    """The query of /holdings."""

    label: _Name = Field(None, description="only this label")
    tag: Annotated[str | None, Field(pattern=r"^[\w.-]+:[^,]+(,[\w.-]+:[^,]+)*$", description="`k:v,…`; all match")] = (
        None
    )
    path: Annotated[_FilePath | None, Field(description="only holdings that have this complete file")] = None
    regex: _Regex = None
    deleted: Annotated[bool, Field(description="those that were deleted and can be restored, instead")] = False


class FilesQuery(BaseModel):
    """The query of the files of a holding."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=10_000, description="maximum number on a page")] = 1000
    after: Annotated[_FilePath, Field(description="the path where the page before ended")] = ""
    path: Annotated[_FilePath, Field(description="only this file, or the files below it if it ends with a slash")] = ""
    regex: _Regex = None


class TransactionsQuery(_Listing):
    """The query of /transactions."""

    holding: Annotated[int | None, Field(ge=1, lt=2**63, description="only of this holding")] = None
    job_label: _Name = Field(None, description="only with this job label")
    kind: TransactionKind | None = None
    state: TransactionState | None = None


class TransactionFilesQuery(BaseModel):
    """The query of the files of a transaction."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=10_000, description="of paths on a page; each has all of its entries")] = 1000
    after: Annotated[_FilePath, Field(description="the path where the page before ended")] = ""
    state: FileState | None = None
