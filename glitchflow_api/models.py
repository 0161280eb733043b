"""What the gateway takes and answers, with examples, as its OpenAPI document shows it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from glitchflow_api.access import Scope
from glitchflow_api.settings import AuthMode
from gwwire.segment import LONGEST_CHANNEL, STEERING


class SegmentMeta(BaseModel):
    """What is known of the data beyond the numbers: detector, event, source, …; whatever is here is kept."""

    model_config = ConfigDict(extra="allow")

    channel: Annotated[
        str,
        Field(
            description="DET:NAME, without control characters",
            max_length=LONGEST_CHANNEL,
            json_schema_extra={"not": {"pattern": STEERING}},
        ),
    ] = ""


class Segment(BaseModel):
    """A run of evenly spaced strain samples, covering `[t0, t0 + len(h)·dt)`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "h": [2.1e-19, 2.3e-19, 1.9e-19],
                    "t": [1126259462.0, 0.000244140625],
                    "meta": {"channel": "L1:GWOSC-4KHZ_R1_STRAIN"},
                }
            ]
        },
    )

    h: Annotated[list[float], Field(min_length=1, description="strain, dimensionless, finite")]
    t: Annotated[
        tuple[float, Annotated[float, Field(gt=0)]],
        Field(description="[t0, dt]: GPS seconds of the first sample, sample spacing in s"),
    ]
    meta: SegmentMeta = SegmentMeta()


class TrainOrder(BaseModel):
    """Who wants to train."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "alice", "token": "a-secret"}]})

    user: Annotated[str, Field(min_length=1, description="becomes the holder of the frozen batch")]
    token: Annotated[str, Field(description="whoever knows it may thaw; only its fingerprint is kept")]


class CleanOrder(BaseModel):
    """Why the batch is archived."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"msg": "training of 2026-11-20 is done"}]})

    msg: Annotated[str, Field(description="for the log")]
    batch: Annotated[str | None, Field(description="archive this batch, and no other one")] = None


class Quota(BaseModel):
    """What the caller's group may store a day of UTC."""

    model_config = ConfigDict(from_attributes=True)

    group: str
    limit: Annotated[int, Field(description="bytes a day")]
    used: Annotated[int, Field(description="bytes stored today")]
    reset: Annotated[int, Field(description="when the next day begins, Unix s")]


class Stats(BaseModel):
    """The counts of the batch in hand."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"n_itm": 128, "buff_size": 12582912}]})

    n_itm: Annotated[int, Field(description="segments")]
    buff_size: Annotated[int, Field(description="bytes of their files altogether")]
    next_n_itm: Annotated[int | None, Field(description="segments of the next batch, while one is frozen")] = None
    next_buff_size: Annotated[int | None, Field(description="bytes of the next batch")] = None
    quota: Annotated[Quota | None, Field(description="of the caller's group, where it has one")] = None


class NameList(BaseModel):
    """The files of the batch in hand."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"nmlist": ["gwb1724170688599724923.json"]}]})

    nmlist: Annotated[list[str], Field(description="file names, in the order they were stored")]


class State(BaseModel):
    """The state of the datastore."""

    resp: Literal["OPERATIONAL", "FROZEN"]


class StreamAnswer(BaseModel):
    """What became of a segment: CREATED means durable and counted, FROZEN means not taken."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"resp": "CREATED", "body": "Written gwb1724170688599724923.json for 7130 bytes"},
                {"resp": "FROZEN", "body": "Datastore frozen."},
            ]
        }
    )

    resp: Literal["CREATED", "FROZEN"]
    body: str


class TrainFrozen(BaseModel):
    """The batch is frozen; the numbers are the frozen batch's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "resp": "FROZEN",
                    "n_f": 512,
                    "bt_wrt": 50331648,
                    "holder": "alice",
                    "batch": "b1795224029597668971",
                    "digest": "5211e97b2ad7…",
                }
            ]
        }
    )

    resp: Literal["FROZEN"] = "FROZEN"
    n_f: Annotated[int, Field(description="segments in the frozen batch")]
    bt_wrt: Annotated[int, Field(description="bytes of their files altogether")]
    holder: Annotated[str, Field(description="who froze it; somebody else's freeze stays theirs")]
    batch: Annotated[str, Field(description="the batch's id, for /batches")]
    digest: Annotated[str, Field(description="the batch's identity: SHA-256 of its `sha256sum` listing")]


class TrainWaiting(BaseModel):
    """The batch is too small yet; ask again later."""

    resp: Literal["WAITING"] = "WAITING"


class ThawAnswer(BaseModel):
    """The batch is open again."""

    resp: Literal["OPERATIONAL"] = "OPERATIONAL"
    body: str


class SpanQuery(BaseModel):
    """Of which channel and half-open GPS span something is asked for."""

    model_config = ConfigDict(extra="ignore")

    channel: Annotated[str | None, Field(description="of this channel, DET:NAME")] = None
    start: Annotated[float | None, Field(allow_inf_nan=False, description="that end after this GPS time, s")] = None
    stop: Annotated[float | None, Field(allow_inf_nan=False, description="that begin before this GPS time, s")] = None


class SegmentQuery(SpanQuery):
    """Which segments are asked for."""

    batch: Annotated[str | None, Field(description="of this batch")] = None
    after: Annotated[int, Field(ge=0, lt=2**63, description="stored after this seq")] = 0
    before: Annotated[
        int | None, Field(ge=0, lt=2**63, description="stored before this seq, and then the newest first")
    ] = None
    limit: Annotated[int, Field(ge=1, le=10_000, description="at most so many")] = 1000


class CoverageQuery(SpanQuery):
    """Which stretches of time are asked for."""

    batch: Annotated[str | None, Field(description="of this batch; of everything, where none is named")] = None
    limit: Annotated[
        int, Field(ge=1, le=100_000, description="at most so many of a channel; the smallest gaps are closed for that")
    ] = 2000


class CleanAnswer(BaseModel):
    """The batch is archived and an empty one is open."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"resp": "CLEANED", "body": "Archived 512 segments, 50331648 bytes in '2026-11-20 23 41'"}]
        }
    )

    resp: Literal["CLEANED"] = "CLEANED"
    body: str


class Whoami(BaseModel):
    """Who the caller is, as their credential says."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"auth": "keys", "name": "alice", "group": "detchar", "scopes": ["read", "train"]}]
        }
    )

    auth: Annotated[AuthMode, Field(description="how callers are known")]
    name: Annotated[str | None, Field(description="the user; null where nobody is known")]
    group: Annotated[str | None, Field(description="whose quota it counts for")]
    scopes: Annotated[list[Scope], Field(description="what is allowed; `admin` comes with all others")]


class SessionOrder(BaseModel):
    """What a browser shall keep in its cookie."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": "gf_0123456789ab_a-key-as-glitchflow-keys-showed-it"}]}
    )

    key: Annotated[str, Field(description="an API key, or a token")]


class Health(BaseModel):
    """The answer of the probes."""

    status: str


class ProblemDocument(BaseModel):
    """What is wrong (RFC 9457, `application/problem+json`); `code` is stable, `detail` is for people."""

    type: Annotated[str, Field(examples=["/problems/invalid-segment"])]
    title: Annotated[str, Field(examples=["The body is not a segment"])]
    status: Annotated[int, Field(examples=[422])]
    code: Annotated[str, Field(examples=["invalid-segment"])]
    detail: Annotated[str, Field(examples=["h[0]: expected `float`, got `null`"])]
    field: Annotated[str | None, Field(examples=["h"])] = None
