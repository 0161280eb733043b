"""The overview: the datastore at one moment, as pages and monitoring show it."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from gwwire.public import DatastoreState
from gwwire.tiering import RunningMove, TierOverview, WaitingRecall


class ChannelOverview(Struct, frozen=True):
    """The segments of one channel."""

    channel: Annotated[str | None, Meta(description="null for segments that name no channel")]
    segments: int
    bytes: int
    seconds: Annotated[float, Meta(description="sum of the segments' durations; overlaps count twice")]
    start: Annotated[float, Meta(description="start of the earliest segment, GPS s")]
    stop: Annotated[float, Meta(description="end of the latest segment, GPS s")]
    latest: Annotated[str, Meta(description="file name of the segment stored last")]


class NextOverview(Struct, frozen=True):
    """The batch that is filled while the current one is frozen."""

    batch: str
    n_itm: int
    buff_size: int


class ErrorOverview(Struct, frozen=True):
    """The last error of the volume."""

    at: Annotated[float, Meta(description="Unix s")]
    code: Annotated[str, Meta(description="the code of its problem")]
    detail: str


class EventOverview(Struct, frozen=True):
    """An event of the buffer: a freeze, a thaw, an archived or verified batch, a repair, a failure of the volume."""

    at: Annotated[float, Meta(description="Unix s")]
    event: Annotated[str, Meta(description="its kind, as in the log of the buffer")]
    detail: str


class Overview(Struct, frozen=True, kw_only=True):
    """The datastore at one moment; times are Unix seconds."""

    time: float
    state: DatastoreState
    since: Annotated[float, Meta(description="when the current batch was opened, or frozen")]
    holder: str | None
    batch: str
    digest: str | None
    n_itm: int
    buff_size: int
    max_size: Annotated[int, Meta(description="bytes at which a batch may be frozen")] | UnsetType = UNSET
    seq: Annotated[int, Meta(description="seq of the segment stored last")]
    queue: Annotated[int, Meta(description="segments that wait to be stored")]
    queue_size: Annotated[int, Meta(description="the limit of `queue`")]
    next: NextOverview | None
    channels: Annotated[
        list[ChannelOverview],
        Meta(description="of the current and the next batch; if there are too many, those with the newest segments"),
    ]
    more_channels: Annotated[int, Meta(description="number of channels left out of `channels`")]
    archived: Annotated[int, Meta(description="number of archived batches")]
    quarantined: Annotated[int, Meta(description="number of rejected files")]
    free: Annotated[int | None, Meta(description="free bytes of the volume, or null if it does not respond")]
    size: Annotated[int | None, Meta(description="bytes of the volume")]
    free_inodes: Annotated[
        int | None, Meta(description="files that can still be created on the volume, or null if it does not count them")
    ]
    total_inodes: Annotated[int | None, Meta(description="files that the volume can hold, or null")]
    cannot_store: Annotated[str | None, Meta(description="why the volume rejects segments; null while it takes them")]
    last_error: ErrorOverview | None
    refused: Annotated[int, Meta(description="segments refused since the freeze, or since the buffer started")]
    events: Annotated[list[EventOverview], Meta(description="the newest events since the buffer started, oldest first")]
    ready: Annotated[bool, Meta(description="the result of /readyz")]
    unread_meta: Annotated[int, Meta(description="segments of an earlier version whose meta is not searchable yet")] = 0
    left_out: Annotated[
        int, Meta(description="archives and packs of files whose manifests cannot be read; the log names them")
    ] = 0
    used: Annotated[
        int | None, Meta(description="bytes of the volume that are used; the rest of `size` is free or kept for root")
    ] = None
    tiers: Annotated[
        list[TierOverview],
        Meta(description="the disk first, whose space is `free` and `used`; empty without tiers besides the disk"),
    ] = []
    moves: Annotated[list[RunningMove], Meta(description="moves of packs between the tiers that are under way")] = []
    recalls: Annotated[list[WaitingRecall], Meta(description="the first recalls from tape that wait")] = []
