"""The policy that says which tiers keep a batch, the replicas it has, and the moves between; part of the public API.

A tier is a place where packs lie, named as in the buffer's setting TIERS. The disk is always there and has no policy of
its own, except how long it keeps a batch. Times are Unix seconds.
"""

import re
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, structs

from gwwire.records import StepState

#: The tier that every datastore has.
DISK = "disk"
#: s; longer is written as `forever`.
LONGEST_KEPT = 100 * 366 * 86_400
#: Batches that one order may name.
MOST_BATCHES = 1000
_MOST_TIERS = 16

_DURATION = re.compile(r"(?P<number>[0-9]{1,10})(?P<unit>[smhd])")
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_FOREVER = "forever"
_NOTHING = "0"
_WORDS = {_FOREVER: None, _NOTHING: 0}

#: The names of those for whom a recalled batch is kept, and the default.
ASKER = r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,99}$"
ANYBODY = "anybody"

_TIER = r"[a-z][a-z0-9-]{0,31}"

_BatchId = Annotated[str, Meta(max_length=200, pattern=r"^[\w.-]+$(?!\n)")]
TierName = Annotated[str, Meta(pattern=rf"^{_TIER}$(?!\n)", description="as in the setting TIERS")]


class Tiering(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The tiers that must have a verified replica of a batch, and how long the disk keeps it.

    A policy is in canonical form from the start: the tiers are sorted and without repeats.
    """

    archive_to: Annotated[tuple[TierName, ...], Meta(max_length=_MOST_TIERS, description="besides the disk")] = ()
    keep_on_disk: Annotated[
        Annotated[int, Meta(ge=0, le=LONGEST_KEPT)] | None,
        Meta(description="s after archiving that the disk keeps it; null: forever"),
    ] = None

    def __post_init__(self) -> None:
        """Bring the tiers into canonical form, or raise ValueError."""
        if DISK in self.archive_to:
            raise ValueError("archive_to: the disk is always there; name other tiers")
        if self.keep_on_disk is not None and not self.archive_to:
            raise ValueError("keep_on_disk: the disk keeps a batch forever if archive_to names no tier")
        structs.force_setattr(self, "archive_to", tuple(sorted(set(self.archive_to))))


class ReplicaState(StrEnum):
    """The state of one copy of a pack."""

    WRITING = "WRITING"
    WRITTEN = "WRITTEN"
    VERIFIED = "VERIFIED"  # read back and compared
    LOST = "LOST"
    DELETING = "DELETING"
    EVICTED = "EVICTED"  # deleted on purpose; a recall writes it again


class Locality(StrEnum):
    """The locality of the bytes of a key within a tier."""

    ONLINE = "ONLINE"  # they can be read now
    NEARLINE = "NEARLINE"  # they can be read after `stage`
    NONE = "NONE"  # they are not there
    UNAVAILABLE = "UNAVAILABLE"  # the tier does not answer


class BatchLocality(StrEnum):
    """The locality of the bytes of a batch, in the terms of the WLCG Tape REST API.

    DISK is everything that can be read at once: the volume, an object store, a second disk.
    """

    DISK = "DISK"
    TAPE = "TAPE"
    DISK_AND_TAPE = "DISK_AND_TAPE"
    LOST = "LOST"  # no replica is whole
    NONE = "NONE"  # no replica is known
    UNAVAILABLE = "UNAVAILABLE"  # only tiers have it that TIERS does not name


class RecallState(StrEnum):
    """The state of the recall of a batch from tape."""

    ONLINE = "ONLINE"  # it can be read now
    NEARLINE = "NEARLINE"  # it is on tape, and nobody has asked for it
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FAILED = "FAILED"


class Replica(Struct, frozen=True):
    """One copy of a batch's pack in a tier; on the disk, the batch's folder."""

    tier: str
    key: str
    size: int
    sha256: Annotated[str | None, Meta(description="of the pack")]
    state: ReplicaState
    written: float | None = None
    verified: Annotated[float | None, Meta(description="when its bytes were compared last")] = None
    used: Annotated[float | None, Meta(description="when its bytes were read last for a caller")] = None
    pinned: Annotated[bool, Meta(description="whether a recall still needs it")] = False
    error: Annotated[str | None, Meta(description="of the last failure")] = None
    again: Annotated[
        float | None, Meta(description="for WRITING: from when it is written again; null: it is being written now")
    ] = None
    in_tiers: Annotated[
        bool,
        Meta(description="whether there is such a tier; false: TIERS does not name it, the replica counts for nothing"),
    ] = True


class BatchReplicas(Struct, frozen=True):
    """The replicas of one archived batch, and the policy that applies to it."""

    batch: str
    size: Annotated[int, Meta(description="bytes of the pack")]
    archived: Annotated[float, Meta(description="when the batch was archived")]
    tiering: Annotated[Tiering | None, Meta(description="null: none was given, the disk keeps it")] = None
    replicas: list[Replica] = []


class Recall(Struct, frozen=True):
    """The recall of a batch: how far it is, and until when the bytes are kept readable for the asker."""

    batch: str
    state: RecallState
    percent: Annotated[int, Meta(description="of the recall; 100 if the batch can be read")] = 0
    position: Annotated[int | None, Meta(description="in the queue of recalls, the running one first")] = None
    bytes: Annotated[int, Meta(description="of the pack")] = 0
    tier: Annotated[str | None, Meta(description="where the recall brings it; null: TIERS names no tape")] = None
    pinned: Annotated[float | None, Meta(description="until when it is kept there for the asker; null: not")] = None
    others: Annotated[
        dict[str, float],
        Meta(description="for whom else it is kept there, and until when; `readers` are all who only read from it"),
    ] = {}
    seconds: Annotated[int, Meta(description="estimate of the time until it can be read")] = 0
    reason: Annotated[str | None, Meta(description="of the last failure, or what it waits for")] = None
    measured: Annotated[bool, Meta(description="whether `seconds` follows from recalls so far; false: a guess")] = True


class TierOverview(Struct, frozen=True):
    """One tier: what it can hold and holds, and what waits for it."""

    name: str
    kind: Annotated[str, Meta(description="`disk`, `object` or `tape`; empty if TIERS does not name it")]
    total: Annotated[int | None, Meta(description="bytes that it can hold, or null if it cannot say")] = None
    used: Annotated[int | None, Meta(description="bytes that it holds, or null if it cannot say")] = None
    replicas: Annotated[int, Meta(description="packs that are verified in it")] = 0
    bytes: Annotated[int, Meta(description="of these packs")] = 0
    queue: Annotated[int, Meta(description="copies to it that wait or run")] = 0
    lost: Annotated[int, Meta(description="packs that were verified in it, and were missing or altered")] = 0
    missing: Annotated[int, Meta(description="packs that policies want in it, and that are not verified")] = 0
    oldest: Annotated[float | None, Meta(description="when the oldest batch of these was archived")] = None
    verified: Annotated[float | None, Meta(description="the comparison of a verified pack that is longest ago")] = None
    error: Annotated[str | None, Meta(description="of its last failure; null after a success")] = None
    quota: Annotated[int | None, Meta(description="bytes that the holdings of a group may have in it")] = None
    quota_used: Annotated[int | None, Meta(description="of the quota, by the holdings of the caller's group")] = None
    in_tiers: Annotated[
        bool, Meta(description="whether TIERS names it; false: it has packs, or policies name it, but it is not used")
    ] = True
    unreadable: Annotated[
        int, Meta(description="packs that cannot be read, because only tiers have them that TIERS does not name")
    ] = 0


class RunningMove(Struct, frozen=True):
    """A move that is under way."""

    batch: str
    step: Annotated[str, Meta(description="`copy:TIER`, `drop:TIER`, `scrub` or `recall`")]
    began: float
    done: Annotated[int, Meta(description="bytes written and read back so far")] = 0
    of: Annotated[int | None, Meta(description="bytes to write and to read back; null if that is not known yet")] = None
    rate: Annotated[float | None, Meta(description="bytes per s since it began; null in its first second")] = None
    reason: Annotated[str | None, Meta(description="what it waits for")] = None


class WaitingRecall(Struct, frozen=True):
    """A recall of a batch that has not begun, or has to begin again."""

    batch: str
    since: Annotated[float, Meta(description="when it was asked for")]
    reason: Annotated[str | None, Meta(description="of the last failure")] = None


class Tiers(Struct, frozen=True):
    """All tiers, the disk first, and the moves that are under way."""

    tiers: list[TierOverview]
    moves: Annotated[list[RunningMove], Meta(description="the one that began first is the first")] = []
    recalls: Annotated[list[WaitingRecall], Meta(description="the first of those that wait, in their order")] = []


class TieringOrder(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request for the plan of archived batches, or to apply it."""

    tiering: Annotated[
        Tiering | None, Meta(description="null: the datastore's own policy, of ARCHIVE_TO and KEEP_ON_DISK")
    ] = None
    batches: Annotated[
        tuple[_BatchId, ...], Meta(max_length=MOST_BATCHES, description="batch ids; none: all archived batches")
    ] = ()


class Move(Struct, frozen=True):
    """Work that a policy requires on one batch."""

    batch: str
    step: Annotated[str, Meta(description="`copy:TIER` or `drop:TIER`, as on the record of the batch")]
    bytes: int
    after: Annotated[list[str], Meta(description="steps that have to be done before")] = []
    due: Annotated[float | None, Meta(description="not before this time; null: now")] = None
    state: Annotated[StepState, Meta(description="of the step; WAITING also before it is requested")] = (
        StepState.WAITING
    )
    reason: Annotated[str | None, Meta(description="of the last failure of the step")] = None


class Blocked(Struct, frozen=True):
    """A move that cannot be made."""

    batch: str
    step: str
    reason: str


class TieringPlan(Struct, frozen=True):
    """The effect of a policy: the moves that follow from it and from the replicas that exist."""

    time: float
    tiering: Tiering
    batches: Annotated[list[str], Meta(description="the batches that were compared, the oldest first")]
    moves: Annotated[list[Move], Meta(description="by batch, in the order in which they can be made")]
    blocked: list[Blocked]
    evictions: Annotated[list[Move], Meta(description="packs to delete from tiers above their high-water mark")]
    rates: Annotated[dict[str, float], Meta(description="bytes per s of the copies made so far, by tier")]


def on_tape_text(recall: Recall) -> str:
    """Return in words that a batch, or a pack of files by its id, is on tape, and how far its recall is."""
    what = recall.batch if "/" in recall.batch else f"batch {recall.batch}"
    match recall.state:
        case RecallState.FAILED:
            state = f"its recall failed: {recall.reason}"
        case RecallState.QUEUED | RecallState.RUNNING if recall.reason:
            state = f"its recall waits: {recall.reason}"
        case RecallState.QUEUED:
            state = f"its recall is number {recall.position} of the queue"
        case RecallState.RUNNING:
            state = f"its recall is {recall.percent} % done"
        case RecallState.NEARLINE:
            state = "nobody has asked for its recall"
        case RecallState.ONLINE:
            state = "it can be read now"
    return f"{what} is on tape; {state}"


def disk_until(batch: BatchReplicas) -> float | None:
    """Return when the time of a batch on the disk ends by its policy, or None: never, or it is not on the disk."""
    keep = batch.tiering.keep_on_disk if batch.tiering else None
    is_there = any(each.tier == DISK for each in batch.replicas)
    return batch.archived + keep if is_there and keep is not None else None


def parse_tiers(text: str) -> tuple[str, ...]:
    """Return the tiers in a text with commas between them, `object,tape`; raise ValueError for any other text."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    for name in names:
        if name == DISK or not re.fullmatch(_TIER, name):
            raise ValueError(f"{name!r} is not a tier to archive to; tiers are named as in the buffer's setting TIERS")
    return names


def parse_duration(text: str) -> int | None:
    """Return the seconds of `0`, `90m`, `12h` or `7d`, or None for `forever`; raise ValueError for any other text."""
    if text in _WORDS:
        return _WORDS[text]
    if (parts := _DURATION.fullmatch(text)) and (seconds := int(parts["number"]) * _UNITS[parts["unit"]]) <= (
        LONGEST_KEPT
    ):
        return seconds
    raise ValueError("expected a duration of at most 100 years, as 90m, 12h or 7d, or forever")


def duration_text(seconds: int | None) -> str:
    """Return a duration as `parse_duration` reads it, in the largest unit that fits."""
    if seconds is None:
        return _FOREVER
    if seconds == 0:
        return _NOTHING
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
