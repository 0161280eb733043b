"""The steps from the replicas that a batch has to those that it should have; pure functions."""

from collections.abc import Collection, Iterable

from databuffer.tiers.ledger.replicas import Archive
from gwwire.records import Step, StepState
from gwwire.tiering import DISK, ReplicaState

DROP_DISK = "drop:disk"
_SECOND = 10**9
#: Seconds after which a step whose attempts have all failed is requested again.
AGAIN_SECONDS = 3600


def copy_step(tier: str) -> str:
    """Return the name of the step that makes a replica in a tier."""
    return f"copy:{tier}"


def evict_step(tier: str) -> str:
    """Return the name of the step that deletes a replica from the cache of a tape."""
    return f"drop:{tier}"


def settled_tiers(archive: Archive, tiers: Collection[str]) -> set[str]:
    """Return those of the disk and some tiers that need no copy of a batch.

    One that evicted its own needs none while another tier has one. A tier that is not named may be gone.
    """
    settled = _tiers_with(archive, ReplicaState.VERIFIED) & {DISK, *tiers}
    return settled | _tiers_with(archive, ReplicaState.EVICTED) & set(tiers) if settled - {DISK} else settled


def leaving_tiers(archive: Archive) -> set[str]:
    """Return the tiers that delete their replica of a batch."""
    return _tiers_with(archive, ReplicaState.DELETING)


def _tiers_with(archive: Archive, state: ReplicaState) -> set[str]:
    return {tier for tier, row in archive.replicas.items() if row.state is state}


def missing_steps(archive: Archive, tiers: Collection[str], now: int) -> list[str]:
    """Return the steps that a batch needs now, a time in nanoseconds of Unix time, if there are these tiers.

    The disk drops a batch when it has kept it long enough and each tier of the policy has a verified replica; it keeps
    it while the policy names a tier that there is not. What it has lost before that is copied to it again, but not what
    it has dropped. What a tier has evicted is not copied back while another tier has it. An eviction that was begun is
    finished.
    """
    had = {tier: row.state for tier, row in archive.replicas.items()}
    wanted, keep = archive.tiering.archive_to, archive.tiering.keep_on_disk
    settled, leaving = settled_tiers(archive, tiers), leaving_tiers(archive)
    steps = [copy_step(tier) for tier in wanted if tier in tiers and tier not in settled | leaving]
    steps += [evict_step(tier) for tier in leaving if tier in tiers]
    if had.get(DISK) is ReplicaState.DELETING:
        return [*steps, DROP_DISK]
    if keep is not None and now >= archive.archived + keep * _SECOND:
        if DISK in had and settled.issuperset(wanted):
            steps.append(DROP_DISK)
    elif had.get(DISK) in {ReplicaState.LOST, ReplicaState.WRITING}:
        steps.append(copy_step(DISK))
    return steps


def is_to_be_requested(step: Step | None, now: float, outages: Iterable[tuple[float, float]] = ()) -> bool:
    """Return whether a step that a record needs has to be requested, a time in seconds of Unix time.

    One that waits or runs is not. One that failed for good is tried again an hour later, or at once if its last attempt
    fell into one of some outages of tiers that are over, each from one time until another, at least in part.
    """
    if step is None or step.state is StepState.DONE:
        return True
    if step.state is not StepState.FAILED:
        return False
    ended = step.ended or 0
    started = step.started or ended
    is_recent = 0 <= now - ended < AGAIN_SECONDS  # it has not ended later than now: the clock was ahead
    return not is_recent or any(begin <= ended and started < end for begin, end in outages)
