"""What the tiers tell each other about the datastore: its state, counts, and the outcome of an order."""

from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec

from gwwire.decoding import decode

Order = TypeVar("Order", bound=msgspec.Struct)

#: What dslogic says, with status 503 and as plain text, to a segment that meets a frozen datastore.
FROZEN_TEXT = "Datastore frozen."
#: What dslogic says, with status 200 and as plain text, to a freeze that has to wait for more data.
WAITING_TEXT = "Waiting for the buffer to fill."


class DatastoreState(StrEnum):
    """The state of the datastore, as in Dsstat.json."""

    OPERATIONAL = "OPERATIONAL"
    FROZEN = "FROZEN"


class BatchState(StrEnum):
    """The life of a batch."""

    OPEN = "OPEN"
    FROZEN = "FROZEN"
    ARCHIVED = "ARCHIVED"


class OutcomeCode(StrEnum):
    """What the buffer did with an order."""

    RES_CREATE = "RES_CREATE"
    STAT_UPD = "STAT_UPD"


class Quota(msgspec.Struct, frozen=True):
    """What a group may store a day: `used` of `limit` bytes are, until `reset` (Unix seconds)."""

    group: str
    limit: int
    used: int
    reset: int


class BufferStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """The batch in hand: `n_itm` segments in files of `buff_size` bytes altogether. Also StatDesc.json.

    `next_n_itm` and `next_buff_size` count the next batch, while segments are taken into it beside a frozen one.
    `quota` is that of whoever asks, where there is one.
    """

    n_itm: int
    buff_size: int
    next_n_itm: int | None = None
    next_buff_size: int | None = None
    quota: Quota | None = None


class Description(msgspec.Struct, frozen=True):
    """The state, and who froze the batch; both strings are empty while OPERATIONAL. Also Dsstat.json.

    `token` is not the holder's token, which is kept nowhere, but its fingerprint.
    """

    dstatus: DatastoreState
    user: str = ""
    token: str = ""


class Names(msgspec.Struct, frozen=True):
    """The file names of the batch in hand, in the order they were stored."""

    nmlist: list[str]


class LogEntry(msgspec.Struct, frozen=True):
    """A line of LogStream.json: a segment was stored."""

    level: str
    id: int
    size: int
    name: str
    time: str
    message: str


class LogTail(msgspec.Struct, frozen=True):
    """The newest lines of LogStream.json, the oldest of them first."""

    lines: list[LogEntry]


class Outcome(msgspec.Struct, frozen=True):
    """What the buffer did, for programs (`code`) and people (`body`)."""

    code: OutcomeCode
    body: str


class FreezeOrder(msgspec.Struct, frozen=True):
    """Freeze the batch for `user`.

    `at_least` makes the order conditional: it fails where the batch in hand has fewer bytes by then, because
    somebody archived the batch that the decision to freeze was taken on.
    """

    user: Annotated[str, msgspec.Meta(min_length=1)]
    token: str
    at_least: Annotated[int, msgspec.Meta(ge=0)] = 0


class FlushOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Archive the batch in hand; where `batch` is said, only if it is that one."""

    batch: str | None = None


class CleanOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Archive the batch in hand, only `batch` where that is said; `msg` says why, for the log."""

    msg: str
    batch: str | None = None


class FreezeOutcome(msgspec.Struct, frozen=True):
    """A frozen batch: its counts, taken in the same step as the freeze, and its holder."""

    code: OutcomeCode
    body: str
    n_itm: int
    buff_size: int
    holder: str
    batch: str
    digest: str


class ThawOrder(msgspec.Struct, frozen=True):
    """Open the frozen batch again, for its holder."""

    user: Annotated[str, msgspec.Meta(min_length=1)]
    token: str


class ClaimOrder(msgspec.Struct, frozen=True):
    """Give a frozen batch to `worker` alone, for `lease` seconds from now; the same worker asking again renews it."""

    worker: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    lease: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 600


class ReleaseOrder(msgspec.Struct, frozen=True):
    """Take a batch back from `worker`, who is done with it."""

    worker: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Claim(msgspec.Struct, frozen=True):
    """Who works on a batch, and until when (Unix seconds) nobody else may; both None where nobody does."""

    batch: str
    worker: str | None = None
    expires: float | None = None


class StreamAnswer(msgspec.Struct, frozen=True):
    """What became of one of many segments in a request; what is wrong with one is told as a Problem instead."""

    resp: str
    body: str


class VerificationState(StrEnum):
    """How the bytes of an archived batch compare with what was sealed."""

    RUNNING = "running"
    INTACT = "intact"
    DAMAGED = "damaged"


class Verification(msgspec.Struct, frozen=True):
    """What became of verifying a batch: begun or ended `at` (Unix seconds), `checked` of `segments` files read.

    `problems` are what does not agree, the first of them where there are many.
    """

    state: VerificationState
    at: float
    checked: int
    segments: int
    problems: list[str]


class Batch(msgspec.Struct, frozen=True):
    """A batch; times are UTC (RFC 3339), `path` is relative to the volume.

    `digest` is the identity of a sealed batch: the SHA-256 of its `sha256sum` listing, sorted by name.
    """

    id: str
    state: BatchState
    opened: str
    frozen: str | None
    archived: str | None
    holder: str
    n_itm: int
    buff_size: int
    path: str
    digest: str | None
    verification: Verification | None = None


class Batches(msgspec.Struct, frozen=True):
    """All batches, the oldest first."""

    batches: list[Batch]


class ManifestEntry(msgspec.Struct, frozen=True):
    """A sealed segment: its file, and what it holds."""

    name: str
    size: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int


class Manifest(msgspec.Struct, frozen=True):
    """MANIFEST.json: everything that is in a sealed batch."""

    batch: str
    opened: str
    sealed: str
    holder: str
    n_itm: int
    buff_size: int
    digest: str
    segments: list[ManifestEntry]


class SegmentRecord(msgspec.Struct, frozen=True):
    """A stored segment; `seq` grows strictly in the order segments were stored."""

    seq: int
    name: str
    batch: str
    bytes: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    stored: str


class SegmentPage(msgspec.Struct, frozen=True):
    """A page of segments; the next one begins after the seq `after`, and `more` says that there is one by now."""

    segments: list[SegmentRecord]
    after: int
    more: bool


_ORDERS: dict[type, msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (FreezeOrder, ThawOrder, FlushOrder, CleanOrder, ClaimOrder, ReleaseOrder)
}


def decode_order(shape: type[Order], body: bytes) -> Order:
    """Decode and validate an order of the kind `shape`.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidRequest: a field is missing or wrong.

    """
    order: Order = decode(_ORDERS[shape], body)
    return order
