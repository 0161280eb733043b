"""The census of replicas: how many each tier has in which state, and which copies are missing.

It reads all replicas, so it is taken when they have changed, and looked at as often as needed.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from databuffer.storage.catalog.schema import RECORDS, REPLICAS, STEPS
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.locality import AT_ONCE, locality_of
from databuffer.tiers.ledger.wanted import copy_step, leaving_tiers, settled_tiers
from databuffer.tiers.packs.packs import public_name
from databuffer.tiers.tier import Tier
from gwwire.records import RECALL, StepState
from gwwire.tiering import DISK, ReplicaState, WaitingRecall

_C = REPLICAS.c
_SECOND = 10**9
_MOST_RECALLS = 50


@dataclass(frozen=True)
class Held:
    """Some replicas and the bytes of their packs."""

    replicas: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class TierCensus:
    """The replicas in one tier; times are nanoseconds of Unix time.

    Attributes:
        held: the replicas by state.
        unreadable: packs that only tiers have which TIERS does not name, this one among them.
        verified: when the VERIFIED replica that was compared longest ago was compared, or None if there is none, or if
            there is no such tier.
        queue: copies to the tier that wait or run.
        missing: copies that policies want and that are not verified.
        oldest: when the oldest batch with a missing copy was archived, or None.

    """

    held: Mapping[ReplicaState, Held] = field(default_factory=dict)
    unreadable: int = 0
    verified: int | None = None
    queue: int = 0
    missing: int = 0
    oldest: int | None = None


def take_census(connection: sa.Connection, tiers: Collection[str]) -> dict[str, TierCensus]:
    """Return the census of the disk, of some tiers, and of those besides that policies name or that have packs."""
    held, verified = _held(connection)
    missing = _missing(connection, tiers)
    here = (DISK, *tiers)
    names = (*here, *sorted((missing.keys() | verified.keys()) - set(here)))
    queues, unreadable = _queues(connection, names), unreadable_packs(connection, tiers)
    return {
        name: TierCensus(
            held[name],
            unreadable.get(name, 0),
            verified.get(name) if name in here else None,
            queues.get(name, 0),
            len(missing[name]),
            min(missing[name], default=None),
        )
        for name in names
    }


def unreadable_packs(connection: sa.Connection, tiers: Collection[str]) -> dict[str, int]:
    """Return how many packs are neither on the disk nor in some tiers, by the other tiers that have them."""
    here = _C.tier.in_((DISK, *tiers))
    is_whole = sa.or_(_C.state == ReplicaState.VERIFIED, sa.and_(_C.tier == DISK, _C.state == ReplicaState.WRITTEN))
    readable = sa.select(_C.pack).where(here, is_whole)
    query = sa.select(_C.tier, sa.func.count()).where(~here, is_whole, _C.pack.not_in(readable))
    return {row.tier: row[1] for row in connection.execute(query.group_by(_C.tier).order_by(_C.tier))}


def waiting_recalls(connection: sa.Connection, tiers: Mapping[str, Tier]) -> list[WaitingRecall]:
    """Return the recalls that wait, in the order in which they begin, of the first 50.

    The pack of one that is to run again may have arrived: nobody waits for that.
    """
    query = (
        sa.select(STEPS.c.record, STEPS.c.reason, RECORDS.c.changed, STEPS.c.asked)
        .join(RECORDS, STEPS.c.record == RECORDS.c.id)
        .where(STEPS.c.name == RECALL, STEPS.c.state == StepState.WAITING)
        .order_by(STEPS.c.due.is_(None), STEPS.c.due, RECORDS.c.seq)
        .limit(_MOST_RECALLS)
    )
    rows = connection.execute(query).all()
    known = replicas.of_packs(connection, (row.record for row in rows))
    return [
        WaitingRecall(
            public_name(row.record),
            (row.changed if row.asked is None else row.asked) / _SECOND,
            row.reason,
        )
        for row in rows
        if locality_of(known.get(row.record, ()), tiers) not in AT_ONCE
    ]


def _held(connection: sa.Connection) -> tuple[defaultdict[str, dict[ReplicaState, Held]], dict[str, int]]:
    """Return the replicas by tier and state, and the oldest comparisons of VERIFIED ones by tier."""
    columns = _C.tier, _C.state, sa.func.count(), sa.func.sum(_C.size), sa.func.min(_C.verified)
    held: defaultdict[str, dict[ReplicaState, Held]] = defaultdict(dict)
    verified = {}
    for tier, state, number, size, oldest in connection.execute(sa.select(*columns).group_by(_C.tier, _C.state)):
        held[tier][ReplicaState(state)] = Held(number, int(size))
        if state == ReplicaState.VERIFIED and oldest is not None:
            verified[tier] = oldest
    return held, verified


def _queues(connection: sa.Connection, names: Collection[str]) -> dict[str, int]:
    """Return the numbers of copies that wait or run, by tier."""
    tiers = {copy_step(name): name for name in names}
    open_states = StepState.WAITING, StepState.RUNNING
    query = sa.select(STEPS.c.name, sa.func.count()).where(STEPS.c.name.in_(tiers), STEPS.c.state.in_(open_states))
    return {tiers[step]: number for step, number in connection.execute(query.group_by(STEPS.c.name))}


def _missing(connection: sa.Connection, tiers: Collection[str]) -> defaultdict[str, list[int]]:
    """Return when the batches were archived of which a tier should have a verified replica and has none, by tier."""
    missing: defaultdict[str, list[int]] = defaultdict(list)
    for archive in replicas.archives(connection, steady_ns()):
        settled = settled_tiers(archive, tiers) | leaving_tiers(archive)
        for tier in archive.tiering.archive_to:
            if tier not in settled:
                missing[tier].append(archive.archived)
    return missing
