"""The models of the public API. The services encode them, the OpenAPI document describes them, the client decodes them.

The segment is in `gwwire.segment`, the problem document in `gwwire.problems`, the overview in `gwwire.overview`. A
later version may add fields: decoders ignore fields that they do not know. An answer contains every field of its model,
unless the model omits defaults. The other defaults are for answers of the original system, which lacks those fields.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gwwire.names import HolderToken, UserName
from gwwire.tiering import BatchLocality, Replica, Tiering


class DatastoreState(StrEnum):
    """The state of the datastore: OPERATIONAL stores segments in the current batch."""

    OPERATIONAL = "OPERATIONAL"
    FROZEN = "FROZEN"


class BatchState(StrEnum):
    """The state of a batch."""

    OPEN = "OPEN"
    FROZEN = "FROZEN"
    ARCHIVED = "ARCHIVED"


class VerificationState(StrEnum):
    """The result of comparing an archived batch with its manifest."""

    RUNNING = "running"
    INTACT = "intact"
    DAMAGED = "damaged"
    FAILED = "failed"
    REPAIRED = "repaired"  # it was damaged, and every copy is verified again


class AuthMode(StrEnum):
    """The method by which the gateway identifies callers."""

    OFF = "off"
    KEYS = "keys"
    JWT = "jwt"


class Scope(StrEnum):
    """A permission of a credential."""

    READ = "read"
    STREAM = "stream"
    TRAIN = "train"
    CLEAN = "clean"
    WORK = "work"
    ADMIN = "admin"


# ---- access and probes


class Whoami(Struct, frozen=True):
    """The caller, as the credential identifies it."""

    # A client of this version also accepts modes and scopes that a later gateway adds.
    auth: Annotated[str, Meta(description="how callers are identified", extra_json_schema={"enum": list(AuthMode)})]
    name: Annotated[str | None, Meta(description="the user, or null without a valid credential")]
    group: Annotated[str | None, Meta(description="the group whose quota applies")]
    scopes: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"enum": list(Scope)})]],
        Meta(description="the permissions; `admin` includes all others"),
    ]


class SessionOrder(Struct, frozen=True):
    """The credential that a browser keeps in its cookie."""

    key: Annotated[str, Meta(description="an API key or a token")]


class Health(Struct, frozen=True, omit_defaults=True):
    """The answer of the probes."""

    status: str
    cannot_store: Annotated[str | None, Meta(description="why the buffer cannot store segments now")] = None


# ---- the current batch


class Quota(Struct, frozen=True):
    """The number of bytes that the caller's group may store per UTC day."""

    group: str
    limit: Annotated[int, Meta(description="bytes per day")]
    used: Annotated[int, Meta(description="bytes stored today")]
    reset: Annotated[int, Meta(description="start of the next day, Unix s")]


class Stats(Struct, frozen=True, omit_defaults=True):
    """The size of the current batch."""

    n_itm: Annotated[int, Meta(description="segments")]
    buff_size: Annotated[int, Meta(description="bytes of their files")]
    next_n_itm: Annotated[int | None, Meta(description="segments of the next batch, while one is frozen")] = None
    next_buff_size: Annotated[int | None, Meta(description="bytes of the next batch")] = None
    quota: Annotated[Quota | None, Meta(description="of the caller's group, if it has one")] = None


class NameList(Struct, frozen=True):
    """The files of the current batch."""

    nmlist: Annotated[list[str], Meta(description="file names, in the order they were stored")]


class State(Struct, frozen=True):
    """The state of the datastore."""

    resp: DatastoreState


class StreamAnswer(Struct, frozen=True):
    """The outcome of storing a segment: CREATED means durable and counted, FROZEN means not stored."""

    resp: Literal["CREATED", "FROZEN"]
    body: Annotated[str, Meta(description="the outcome in words")] = ""


class TrainOrder(Struct, frozen=True):
    """A request to freeze the batch for training."""

    user: Annotated[UserName, Meta(description="becomes the holder of the frozen batch")]
    token: Annotated[HolderToken, Meta(description="allows to thaw the batch; only its fingerprint is stored")]


class TrainFrozen(Struct, frozen=True, tag_field="resp", tag="FROZEN"):
    """The batch is frozen; the numbers are those of the frozen batch."""

    resp: ClassVar[Literal["FROZEN"]] = "FROZEN"
    n_f: Annotated[int, Meta(description="segments in the frozen batch")]
    bt_wrt: Annotated[int, Meta(description="bytes of their files")]
    holder: Annotated[str, Meta(description="the user who froze it; another user's freeze does not change it")] = ""
    batch: Annotated[str, Meta(description="the batch id, for /batches")] = ""
    digest: Annotated[str, Meta(description="identity of the batch: SHA-256 of its `sha256sum` listing")] = ""


class TrainWaiting(Struct, frozen=True, tag_field="resp", tag="WAITING"):
    """The batch is too small; ask again later."""

    resp: ClassVar[Literal["WAITING"]] = "WAITING"


class ThawOrder(Struct, frozen=True):
    """A request of the holder to open the frozen batch again.

    It takes any user and token, because earlier versions froze batches for any.
    """

    user: Annotated[str, Meta(min_length=1, description="the holder of the frozen batch")]
    token: Annotated[str, Meta(description="the token of the request that froze it")]


class ThawAnswer(Struct, frozen=True):
    """The batch is open: again, or `body` says that it was open already."""

    resp: Literal["OPERATIONAL"]
    body: Annotated[str, Meta(description="the outcome in words")] = ""


class CleanOrder(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request to archive the current batch; a misspelt condition is refused, not ignored."""

    msg: Annotated[str, Meta(description="the reason, for the log")]
    batch: Annotated[str | None, Meta(description="archive only this batch")] = None
    holder: Annotated[
        str | None, Meta(description="archive only a batch that this user has frozen; empty: only an open batch")
    ] = None
    tiering: Annotated[
        Tiering | None, Meta(description="where the batch is kept; null: by the datastore's own policy")
    ] = None


class CleanAnswer(Struct, frozen=True):
    """The batch is archived and an empty one is open."""

    resp: Literal["CLEANED"]
    body: Annotated[str, Meta(description="the outcome in words")] = ""


class LogEntry(Struct, frozen=True):
    """A stored segment, as a line of LogStream.json."""

    level: str
    id: int
    size: int
    name: str
    time: str
    message: str


class LogTail(Struct, frozen=True):
    """The newest lines of LogStream.json, in the order they were written."""

    lines: list[LogEntry]


# ---- batches


class Verification(Struct, frozen=True):
    """The progress and the result of verifying an archived batch."""

    state: VerificationState
    at: Annotated[float, Meta(description="start or end, Unix s")]
    checked: Annotated[int, Meta(description="files read")]
    segments: Annotated[int, Meta(description="files to read")]
    problems: Annotated[
        list[str], Meta(description="the first differences from the manifest; why an attempt failed, while RUNNING")
    ]
    tiers: Annotated[list[str], Meta(description="where copies were read, the disk first")] = []


class Batch(Struct, frozen=True):
    """A batch; times are UTC (RFC 3339)."""

    id: str
    state: BatchState
    opened: str
    frozen: str | None
    archived: str | None
    holder: Annotated[str, Meta(description="the user who froze it, or empty")]
    n_itm: Annotated[int, Meta(description="segments")]
    buff_size: Annotated[int, Meta(description="bytes of their files")]
    path: Annotated[str, Meta(description="relative to the volume")]
    digest: Annotated[str | None, Meta(description="identity of a sealed batch: SHA-256 of its `sha256sum` listing")]
    verification: Verification | None = None
    locality: Annotated[BatchLocality, Meta(description="where its bytes are; TAPE: readable after a recall")] = (
        BatchLocality.DISK
    )
    replicas: Annotated[list[Replica], Meta(description="copies of an archived batch; empty without tiers")] = []
    leaves_disk: Annotated[
        str | None, Meta(description="when its time on the disk ends; null: never, or the disk does not have it")
    ] = None


class Batches(Struct, frozen=True):
    """All batches, the oldest first."""

    batches: list[Batch]


class ManifestEntry(Struct, frozen=True):
    """A segment of a sealed batch: its file, and its content."""

    name: str
    size: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int


class Manifest(Struct, frozen=True):
    """MANIFEST.json: the content of a sealed batch."""

    batch: str
    opened: str
    sealed: str
    holder: str
    n_itm: int
    buff_size: int
    digest: str
    segments: list[ManifestEntry]


# ---- segments


class SegmentRecord(Struct, frozen=True):
    """A stored segment."""

    seq: Annotated[int, Meta(description="grows strictly in the order segments are stored")]
    name: str
    batch: str
    bytes: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    stored: str
    locality: Annotated[BatchLocality, Meta(description="where its bytes are; TAPE: readable after a recall")] = (
        BatchLocality.DISK
    )


class SegmentPage(Struct, frozen=True):
    """A page of stored segments."""

    segments: list[SegmentRecord]
    after: Annotated[int, Meta(description="the next page begins after this seq")]
    more: Annotated[bool, Meta(description="whether there is a next page now")]


#: GPS seconds of the start and the end of a half-open span without a gap, and the number of segments in it.
Span = tuple[float, float, int]


class ChannelCoverage(Struct, frozen=True):
    """The spans of one channel with one sample spacing."""

    channel: Annotated[str | None, Meta(description="null for segments that name no channel")]
    dt: Annotated[float, Meta(description="sample spacing, s")]
    spans: Annotated[list[Span], Meta(description="`[start, stop, segments]`, GPS s")]
    closed_gaps: Annotated[float, Meta(description="the longest gap that was ignored to keep to the limit, s")]


class ChannelGaps(Struct, frozen=True):
    """The gaps of one channel: between its spans, and to the ends of the query's span."""

    channel: Annotated[str | None, Meta(description="null for segments that name no channel")]
    dt: Annotated[float, Meta(description="sample spacing, s")]
    spans: Annotated[list[tuple[float, float]], Meta(description="`[start, stop]`, GPS s")]


class Coverage(Struct, frozen=True):
    """The time that the segments of a query cover, per channel."""

    batch: Annotated[str | None, Meta(description="null unless the query names one batch")]
    channels: list[ChannelCoverage]
    gaps: list[ChannelGaps]
    more: Annotated[int, Meta(description="channels that are not listed: there are at most 100,000 spans in all")]


# ---- GraphQL


class GraphqlRequest(Struct, frozen=True, omit_defaults=True):
    """A GraphQL request, with the names of the specification of GraphQL over HTTP."""

    query: Annotated[str, Meta(description="the document", examples=["{ batches { id state n_itm } }"])]
    variables: dict[str, Any] | None = None
    operationName: Annotated[str | None, Meta(description="which operation of the document")] = None  # noqa: N815


class GraphqlAnswer(Struct, frozen=True, omit_defaults=True):
    """The answer to a GraphQL request."""

    data: dict[str, Any] | None = None
    errors: Annotated[list[dict[str, Any]], Meta(description="`message`, `locations`, `path`, `extensions`")] = []
