"""The tiers that a batch must reach, the time that the disk keeps it, and the moves that follow; pure functions."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from msgspec.structs import replace

from gwwire.decoding import InvalidRequest
from gwwire.records import Record, Step, StepState
from gwwire.tiering import DISK, BatchReplicas, Blocked, Move, Replica, ReplicaState, Tiering

_COPY, _DROP = "copy:", "drop:"
#: s that a copy takes at least, for its rate.
_SHORTEST = 1e-3


@dataclass
class Moves:
    """The moves that follow from a policy, and those that cannot be made."""

    moves: list[Move] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)


def policy_of(archive_to: Collection[str], keep_on_disk: int | None) -> Tiering | None:
    """Return the policy of the settings, or None if they name no tier; raise ValueError if they contradict."""
    if not archive_to and keep_on_disk is None:
        return None
    return Tiering(tuple(archive_to), keep_on_disk)


def check_tiers(wanted: Tiering, tiers: Collection[str]) -> None:
    """Raise InvalidRequest if a policy names a tier that the buffer does not have."""
    if missing := [name for name in wanted.archive_to if name not in tiers]:
        there = ", ".join(sorted(set(tiers) - {DISK})) or "none"
        reason = f"the buffer has no tier {missing[0]!r}; its setting TIERS names {there}"
        raise InvalidRequest(f"tiering.archive_to: {reason}", field="tiering.archive_to")


def plan(wanted: Tiering, batches: Iterable[BatchReplicas], now: float) -> Moves:
    """Return the moves that bring batches to a policy, the oldest batch first.

    A batch leaves the disk only after every copy that the policy requires: its drop comes last, and is blocked if one
    of them cannot be made. What the disk has lost is copied back to it, but not what it has dropped, and not what a
    tier has evicted. Replicas that the policy does not require stay.
    """
    found = Moves()
    for batch in sorted(batches, key=lambda each: (each.archived, each.batch)):
        of_batch = Moves()
        _plan_copies(wanted, batch, of_batch, now)
        _plan_drop(wanted, batch, of_batch, now)
        found.moves += of_batch.moves
        found.blocked += of_batch.blocked
    return found


def evictions(
    tier: str, *, used: int, target: int, batches: Iterable[BatchReplicas], moves: Iterable[Move] = ()
) -> list[Move]:
    """Return the packs to delete from a tier that holds `used` bytes until it holds at most `target` after some moves.

    The pack that was used least recently goes first. A pack that is pinned, or that is not VERIFIED in another
    tier, never goes. If those are too many, more than `target` remains.
    """
    found: list[Move] = []
    used += sum(move.bytes for move in moves if move.step == _COPY + tier)
    for batch, replica in sorted(_evictable(tier, batches), key=lambda pair: (_last_use(pair[1]), pair[0].batch)):
        if used <= target:
            break
        found.append(Move(batch.batch, _DROP + tier, replica.size))
        used -= replica.size
    return found


def with_states(moves: Iterable[Move], records: Iterable[Record]) -> list[Move]:
    """Return the moves with the state and the last failure of their steps.

    A step that is DONE although its move is still required has to be done again: it is WAITING.
    """
    steps = _steps_of(records)
    found = []
    for move in moves:
        step = steps.get((move.batch, move.step))
        state = step.state if step and step.state is not StepState.DONE else StepState.WAITING
        found.append(replace(move, state=state, reason=step.reason if step else None))
    return found


def copy_rates(records: Iterable[Record], sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the median bytes per s of the copies that are done, by tier; `sizes` are those of packs, by batch id."""
    rates: dict[str, list[float]] = {}
    for (batch, name), step in _steps_of(records).items():
        size = sizes.get(batch)
        if size and name.startswith(_COPY) and _has_moved(step) and step.started and step.ended:
            seconds = max(step.ended - step.started, _SHORTEST)
            rates.setdefault(name.removeprefix(_COPY), []).append(size / seconds)
    return {tier: median(each) for tier, each in sorted(rates.items())}


def _has_moved(step: Step) -> bool:
    """Return whether a copy is done, and did not just find a whole replica."""
    compared = isinstance(step.result, dict) and step.result.get("moved") is False
    return step.state is StepState.DONE and not compared


def _steps_of(records: Iterable[Record]) -> dict[tuple[str, str], Step]:
    return {(record.id.partition("/")[2], step.name): step for record in records for step in record.steps}


def _plan_copies(wanted: Tiering, batch: BatchReplicas, found: Moves, now: float) -> None:
    missing = _missing(wanted, batch)
    disk = _disk(batch)
    if disk in {ReplicaState.LOST, ReplicaState.WRITING} and _keeps(wanted, batch, now):
        missing.append(DISK)
    for tier in missing:
        step = _COPY + tier
        if any(_is_source(each) for each in batch.replicas):
            found.moves.append(Move(batch.batch, step, batch.size))
        else:
            found.blocked.append(Blocked(batch.batch, step, "no replica of the batch can be read"))


def _plan_drop(wanted: Tiering, batch: BatchReplicas, found: Moves, now: float) -> None:
    if _disk(batch) is ReplicaState.DELETING:  # it was begun, and is finished or taken back
        found.moves.append(Move(batch.batch, _DROP + DISK, batch.size))
        return
    copies = [each.step for each in found.moves]
    if wanted.keep_on_disk is None or _disk(batch) is None:
        return
    step, due = _DROP + DISK, batch.archived + wanted.keep_on_disk
    if found.blocked:
        reason = f"{found.blocked[0].step} comes before it and cannot be made"
        found.blocked.append(Blocked(batch.batch, step, reason))
    else:
        found.moves.append(Move(batch.batch, step, batch.size, copies, due if due > now else None))


def _keeps(wanted: Tiering, batch: BatchReplicas, now: float) -> bool:
    return wanted.keep_on_disk is None or now < batch.archived + wanted.keep_on_disk


def _disk(batch: BatchReplicas) -> ReplicaState | None:
    return next((each.state for each in batch.replicas if each.tier == DISK), None)


def _is_source(replica: Replica) -> bool:
    """Return whether a copy can be made from a replica; the disk's is compared with the manifest while it is read."""
    return replica.state is ReplicaState.VERIFIED or (replica.tier == DISK and replica.state is ReplicaState.WRITTEN)


def _missing(wanted: Tiering, batch: BatchReplicas) -> list[str]:
    """Return the tiers that need a copy; one that evicted its own needs none while another tier has one."""
    settled = {each.tier for each in batch.replicas if each.state is ReplicaState.VERIFIED}
    if settled - {DISK}:
        settled |= {each.tier for each in batch.replicas if each.state is ReplicaState.EVICTED}
    return [tier for tier in wanted.archive_to if tier not in settled]


def _evictable(tier: str, batches: Iterable[BatchReplicas]) -> Iterator[tuple[BatchReplicas, Replica]]:
    for batch in batches:
        # The disk may drop it later, and is no second copy.
        safe = {each.tier for each in batch.replicas if each.state is ReplicaState.VERIFIED} - {tier, DISK}
        for each in batch.replicas:
            if safe and each.tier == tier and each.state is ReplicaState.VERIFIED and not each.pinned:
                yield batch, each


def _last_use(replica: Replica) -> float:
    return replica.used or replica.verified or replica.written or 0.0
