"""Orders about the tiers of archived batches: the plan of what a policy changes, and its application."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable

from dslogic.buffer_client import BufferClient
from dslogic.tiering import check_tiers, copy_rates, evictions, plan, with_states
from gwwire.tiering import DISK, BatchReplicas, Move, Tiering, TieringOrder, TieringPlan, TierOverview

#: Requests to the buffer at once.
_AT_ONCE = 8
#: The kind of tiers that nothing is evicted from.
_TAPE = "tape"


class TierOrders:
    """Plans and applies policies; every method raises the errors of `Upstream`, and InvalidRequest.

    `policy` is that of the settings, or None for the disk alone; `high_water` is the share of a store that may be full.
    """

    def __init__(self, buffer: BufferClient, policy: Tiering | None, high_water: float) -> None:
        self._buffer = buffer
        self._policy = policy
        self._high_water = high_water

    async def check(self, wanted: Tiering) -> None:
        """Raise InvalidRequest if a policy names a tier that the buffer does not have."""
        if wanted.archive_to:
            check_tiers(wanted, {tier.name for tier in await self._buffer.tiers()})

    async def plan(self, order: TieringOrder) -> TieringPlan:
        """Return what follows from a policy for archived batches; nothing is changed.

        Evictions are only planned for all batches together.
        """
        wanted, tiers = order.tiering or self._policy or Tiering(), await self._buffer.tiers()
        check_tiers(wanted, {tier.name for tier in tiers})
        batches = await self._replicas(order.batches)
        now = time.time()
        found = plan(wanted, batches, now)
        sizes = {each.batch: each.size for each in batches}
        records = [record async for record in self._buffer.batch_records()]
        rates = copy_rates(records, sizes)
        compared = [each.batch for each in sorted(batches, key=lambda each: (each.archived, each.batch))]
        leaving = [] if order.batches else self._evictions(tiers, batches, found.moves)
        moves = with_states(found.moves, records)
        return TieringPlan(now, wanted, compared, moves, found.blocked, leaving, rates)

    async def apply(self, order: TieringOrder) -> TieringPlan:
        """Set the policy of archived batches, and return the plan that it had just before.

        The buffer derives the moves itself, from the policy and the replicas that exist by then.
        """
        planned = await self.plan(order)
        await _for_each(planned.batches, lambda batch: self._buffer.set_tiering(batch, planned.tiering))
        return planned

    async def _replicas(self, batches: Collection[str]) -> Collection[BatchReplicas]:
        found = await self._buffer.replicas()
        if not batches:
            return found
        known = {each.batch: each for each in found}
        for batch in batches:
            if batch not in known:  # the buffer says why
                known[batch] = await self._buffer.replicas_of(batch)
        return [known[batch] for batch in dict.fromkeys(batches)]

    def _evictions(
        self, tiers: Iterable[TierOverview], batches: Collection[BatchReplicas], moves: Collection[Move]
    ) -> list[Move]:
        """Return the packs to delete from stores that are above their high-water mark after some moves."""
        found: list[Move] = []
        for tier in tiers:
            if tier.name != DISK and tier.kind != _TAPE and tier.total is not None and tier.used is not None:
                target = int(self._high_water * tier.total)
                found += evictions(tier.name, used=tier.used, target=target, batches=batches, moves=moves)
        return found


async def _for_each(names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Do some work on each name, a few at a time."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        async with turn:
            await work(name)

    await asyncio.gather(*map(one, names))
