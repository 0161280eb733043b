"""The next attempts at writing copies of packs: a replica that is WRITING may wait, as after a failure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from databuffer.records.table import steps_named
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.ledger.wanted import AGAIN_SECONDS, copy_step
from gwwire.records import RECALL, Step, StepState
from gwwire.tiering import ReplicaState


class NextAttempt(NamedTuple):
    """The time of the next attempt, in Unix seconds, and why the last one failed, if there was one."""

    at: float
    reason: str | None


def next_attempts(
    connection: sa.Connection, rows: Iterable[ReplicaRow], cache: str | None, now: float
) -> Mapping[tuple[str, str], NextAttempt]:
    """Return by pack and tier when those replicas that are WRITING, but are not written now, are written again.

    Recalls write to the `cache`, copies to every tier.
    """
    packs = defaultdict(list)
    for row in rows:
        if row.state is ReplicaState.WRITING:
            packs[row.tier].append(row.pack)
    found = {}
    for tier, those in packs.items():
        known = [steps_named(connection, copy_step(tier), those)]
        if tier == cache:
            known.append(steps_named(connection, RECALL, those))
        for pack in those:
            if following := _next_of([each[pack] for each in known if pack in each], now):
                found[pack, tier] = following
    return found


def _next_of(steps: Iterable[Step], now: float) -> NextAttempt | None:
    """Return the first of the next attempts at some steps, or None if one runs or none waits."""
    waiting = []
    for step in steps:
        match step.state:
            case StepState.RUNNING:
                return None
            case StepState.WAITING:
                waiting.append(NextAttempt(step.expires or now, step.reason))
            case StepState.FAILED:
                waiting.append(NextAttempt((step.ended or now) + AGAIN_SECONDS, step.reason))
            case StepState.DONE:
                pass
    return min(waiting, default=None, key=lambda each: each.at)
