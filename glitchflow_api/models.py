"""The query parameters that the gateway's routes parse."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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

    kind: Annotated[str | None, Field(description="only this kind: the first part of the id")] = None
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


class CoverageQuery(BaseModel):
    """The query of /coverage."""

    model_config = ConfigDict(extra="ignore")

    channel: Annotated[str | None, Field(description="only this channel, DET:NAME")] = None
    start: _Gps = Field(None, description="only segments that end after this GPS time, s")
    stop: _Gps = Field(None, description="only segments that begin before this GPS time, s")
    batch: Annotated[str | None, Field(description="only this batch (id)")] = None
    limit: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="maximum number of spans per channel; the shortest gaps are ignored to keep to it",
    )
