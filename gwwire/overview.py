"""The datastore at a glance: what an operator looks at, in one answer that costs the same however much is stored."""

import msgspec
from msgspec import UNSET, UnsetType

from gwwire.datastore import DatastoreState


class ChannelOverview(msgspec.Struct, frozen=True):
    """The segments of one channel; None: those that do not say.

    `seconds` counts what the segments cover, overlaps twice; `start` and `stop` are the GPS seconds between which they
    lie; `latest` is the one stored last.
    """

    channel: str | None
    segments: int
    bytes: int
    seconds: float
    start: float
    stop: float
    latest: str


class NextOverview(msgspec.Struct, frozen=True):
    """The next batch, while segments are taken into it beside a frozen one."""

    batch: str
    n_itm: int
    buff_size: int


class ClaimOverview(msgspec.Struct, frozen=True):
    """The worker that has the frozen batch, and until when (Unix seconds)."""

    worker: str
    expires: float


class ErrorOverview(msgspec.Struct, frozen=True):
    """What the volume refused last: when (Unix seconds), as which problem, and why."""

    at: float
    code: str
    detail: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The datastore at one moment; times are Unix seconds.

    `since` is when the batch in hand was opened, or frozen where it is. `max_size` is said by dslogic, which decides
    it. `seq` is the seq of the segment stored last. `queue` of `queue_size` segments wait to be stored. `channels` are
    those of the batch in hand and the next one; where there are very many, those that got a segment last, and
    `more_channels` counts the others. `archived` batches and `quarantined` files lie on the volume, of whose `size` in
    bytes `free` are left; both are None where it does not answer. `ready` is what /readyz says.
    """

    time: float
    state: DatastoreState
    since: float
    holder: str | None
    batch: str
    digest: str | None
    n_itm: int
    buff_size: int
    max_size: int | UnsetType = UNSET
    seq: int
    queue: int
    queue_size: int
    next: NextOverview | None
    claim: ClaimOverview | None
    channels: list[ChannelOverview]
    more_channels: int
    archived: int
    quarantined: int
    free: int | None
    size: int | None
    last_error: ErrorOverview | None
    ready: bool
