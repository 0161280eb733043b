"""The overview of the tiers: what each can hold and holds, what waits for it, and whether it answers."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

from msgspec import structs

from databuffer.errors import VolumeError
from databuffer.holdings.quotas import Quotas
from databuffer.queries import Queries
from databuffer.records.performer import Performer
from databuffer.state import State
from databuffer.tiers.moves.meter import Progress
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.packs.packs import public_name
from databuffer.tiers.recalls.cache import Full
from databuffer.tiers.tier import Tier
from databuffer.tiers.upkeep.census import Held, TierCensus, take_census, unreadable_packs, waiting_recalls
from databuffer.tiers.upkeep.sweep import Sweep
from gwwire.overview import Overview
from gwwire.records import RECALL
from gwwire.tiering import DISK, ReplicaState, RunningMove, TierOverview, Tiers

_SECOND = 10**9


class TiersOverview:
    """Answers `GET /tiers`, and adds the tiers to the overview of the datastore."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self, state: State, queries: Queries, performer: Performer, mover: Mover, sweep: Sweep, quotas: Quotas
    ) -> None:
        self._state = state
        self._queries = queries
        self._performer = performer
        self._mover = mover
        self._sweep = sweep
        self._quotas = quotas
        self._probes = mover.access.probes

    async def open(self) -> None:
        """Log a warning if packs cannot be read because TIERS does not name the tiers that have them."""
        found: dict[str, int] = {}
        with suppress(VolumeError):
            found = await self._queries.read(lambda c: unreadable_packs(c, self._mover.tiers))
        if found:
            where = ", ".join(f"{number} in {tier}" for tier, number in found.items())
            text = f"packs of batches, or of files, cannot be read, because TIERS does not name their tiers: {where}"
            self._state.log_event("packs-unreadable", text, logging.WARNING, packs=found)

    @property
    def census(self) -> Mapping[str, TierCensus]:
        """The census of the last sweep, by tier; empty without tiers besides the disk."""
        return self._sweep.census

    @property
    def scrub_every(self) -> float | None:
        """Seconds after which a replica is compared again, or None: never."""
        return self._sweep.scrub_every

    async def overview(self, group: str | None = None) -> Tiers:
        """Return all tiers, the disk first, with what a group uses of its quotas; ask those whose state is old."""
        await self._ask()
        space = await self._queries.space()
        census = await self._queries.read(lambda c: take_census(c, self._mover.tiers))
        disk = TierOverview(DISK, "disk", error=None if space else "the volume does not answer")
        if space:
            disk = structs.replace(disk, total=space.used + space.free, used=space.used)
        recalls = await self._queries.read(lambda c: waiting_recalls(c, self._mover.tiers))
        tiers = await self._with_quotas(self._with_census(disk, census), group)
        return Tiers(tiers, list(self._moves()), recalls)

    def added_to(self, overview: Overview) -> Overview:
        """Return an overview with the tiers and the moves, as they are known: nothing is waited for, or counted.

        Without tiers besides the disk, it is returned as it is.
        """
        if not self._probes:
            return overview
        for probe in self._probes.values():
            probe.begin()
        tiers = self._with_census(TierOverview(DISK, "disk"), self.census)
        return structs.replace(overview, tiers=tiers, moves=list(self._moves()), recalls=self._sweep.recalls)

    def _with_census(self, disk: TierOverview, census: Mapping[str, TierCensus]) -> list[TierOverview]:
        named = [disk, *(self._of(tier) for tier in self._mover.tiers.values())]
        others = sorted(census.keys() - {tier.name for tier in named})
        tiers = [*named, *(TierOverview(name, "", in_tiers=False) for name in others)]
        return [_counted(tier, census.get(tier.name, TierCensus())) for tier in tiers]

    async def _with_quotas(self, tiers: list[TierOverview], group: str | None) -> list[TierOverview]:
        quotas = self._quotas
        used = {} if group is None else await self._queries.read(lambda c: quotas.used(c, group))
        return [
            structs.replace(tier, quota=quotas.tiers.get(tier.name), quota_used=used.get(tier.name)) for tier in tiers
        ]

    def _of(self, tier: Tier) -> TierOverview:
        probe = self._probes[tier.name]
        error = probe.error or self._mover.errors.get(tier.name)
        return TierOverview(tier.name, tier.kind, probe.capacity.total, probe.capacity.used, error=error)

    async def _ask(self) -> None:
        if self._probes:
            await asyncio.gather(*(probe.ask() for probe in self._probes.values()))

    def _moves(self) -> Iterator[RunningMove]:
        now = time.time()
        for (step, record), attempt in self._performer.attempts.items():
            if step not in self._mover.steps | {RECALL}:
                continue
            move = RunningMove(public_name(record), step, attempt.began)
            match attempt.progress:
                case Progress(done, of):
                    seconds = now - attempt.began
                    move = structs.replace(move, done=done, of=of, rate=done / seconds if seconds >= 1 else None)
                case Full() as full:
                    move = structs.replace(move, reason=str(full))
            yield move


def _counted(tier: TierOverview, census: TierCensus) -> TierOverview:
    """Return the overview of a tier with the numbers of its census."""
    verified, lost = (census.held.get(state, Held()) for state in (ReplicaState.VERIFIED, ReplicaState.LOST))
    # A capacity that was given is for packs.
    used = verified.bytes if tier.used is None and tier.total is not None else tier.used
    return structs.replace(
        tier,
        used=used,
        replicas=verified.replicas,
        bytes=verified.bytes,
        queue=census.queue,
        lost=lost.replicas,
        unreadable=census.unreadable,
        missing=census.missing,
        oldest=census.oldest / _SECOND if census.oldest else None,
        verified=census.verified / _SECOND if census.verified else None,
    )
