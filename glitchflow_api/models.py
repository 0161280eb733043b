"""The query parameters that the gateway's routes parse."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class SpanQuery(BaseModel):
    """Selects a channel and a half-open GPS span."""

    model_config = ConfigDict(extra="ignore")

    channel: Annotated[str | None, Field(description="only this channel, DET:NAME")] = None
    start: Annotated[
        float | None, Field(allow_inf_nan=False, description="only segments that end after this GPS time, s")
    ] = None
    stop: Annotated[
        float | None, Field(allow_inf_nan=False, description="only segments that begin before this GPS time, s")
    ] = None


class SegmentQuery(SpanQuery):
    """The query of /segments."""

    batch: Annotated[str | None, Field(description="only this batch (id)")] = None
    after: Annotated[int, Field(ge=0, lt=2**63, description="only segments stored after this seq")] = 0
    before: Annotated[
        int | None, Field(ge=0, lt=2**63, description="only segments stored before this seq, the newest first")
    ] = None
    limit: Annotated[int, Field(ge=1, le=10_000, description="maximum number of segments")] = 1000


class RecordFilter(BaseModel):
    """Selects records."""

    model_config = ConfigDict(extra="ignore")

    kind: Annotated[str | None, Field(description="only this kind: the first part of the id")] = None
    status: Annotated[str | None, Field(description="only this status")] = None
    run: Annotated[str | None, Field(description="only this run")] = None
    last: Annotated[str | None, Field(description="only records on which this step was done last")] = None
    condition: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": r"^[\w.-]{1,50}(<=|>=|!=|<|>|=)[0-9]{1,9}$"})]],
        Field(max_length=20, description="NAME<VALUE, or with <= > >= = !=; all have to be true"),
    ] = []


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


class CoverageQuery(SpanQuery):
    """The query of /coverage."""

    batch: Annotated[str | None, Field(description="only this batch (id)")] = None
    limit: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="maximum number of spans per channel; the shortest gaps are ignored to keep to it",
    )
