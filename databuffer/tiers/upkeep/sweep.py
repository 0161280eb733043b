"""The sweep: it compares the replicas that batches have with those that they should have, and requests the steps.

It runs at the start, after each flush, after each step of the mover, and every minute. It needs none of these events:
what one sweep does not request, the next one does.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import sqlalchemy as sa

from databuffer.errors import NotFound
from databuffer.queries import Queries
from databuffer.records.records import Records
from databuffer.records.table import steps_named
from databuffer.storage.clock import steady_ns
from databuffer.storage.store import Store
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import Archive, ReplicaRow
from databuffer.tiers.ledger.wanted import DROP_DISK, copy_step, evict_step, is_to_be_requested, missing_steps
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.recalls.cache import TapeCache
from databuffer.tiers.tier import TierError
from databuffer.tiers.upkeep.census import TierCensus, take_census, waiting_recalls
from databuffer.tiers.upkeep.discards import Discards
from databuffer.tiers.upkeep.file_seals import FileSeals
from databuffer.tiers.upkeep.lost_holdings import LostHoldings
from databuffer.tiers.upkeep.watch import TierWatch
from gwwire.problems import ProblemError
from gwwire.records import DISCARD, RECALL, SCRUB, Step, StepState
from gwwire.tiering import DISK, WaitingRecall

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 60.0
#: Between two sweeps, however often one is asked for.
_PAUSE_SECONDS = 0.5
_SECOND = 10**9
_OPEN = frozenset({StepState.WAITING, StepState.RUNNING})
#: Replicas among which the next one to scrub is looked for: the scrub of the oldest may have failed.
_MOST_CANDIDATES = 100


class Sweep:
    """Requests the steps that lead to the replicas that the policies of the batches ask for.

    Each replica is read again when its last comparison is `scrub_every` seconds old; None: never.

    Attributes:
        census: the replicas after the last sweep, by tier; empty before the first one.
        recalls: the recalls that waited then.

    """

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self,
        store: Store,
        records: Records,
        queries: Queries,
        mover: Mover,
        watch: TierWatch,
        cache: TapeCache,
        seals: FileSeals,
        discards: Discards,
        lost_holdings: LostHoldings,
        *,
        scrub_every: float | None,
    ) -> None:
        self._store = store
        self._records = records
        self._queries = queries
        self._mover = mover
        self._watch = watch
        self._cache = cache
        self._seals = seals
        self._discards = discards
        self._lost_holdings = lost_holdings
        self.scrub_every = scrub_every
        self.census: dict[str, TierCensus] = {}
        self.recalls: list[WaitingRecall] = []
        self._asked = asyncio.Event()
        self._sweeping = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        #: The generation of the database that agrees with the volume, or None.
        self._reconciled: int | None = None
        self._reported: set[str] = set()

    def open(self) -> None:
        """Begin to sweep, if there are tiers."""
        if self._mover.tiers:
            loop = asyncio.get_running_loop()
            # Later, so that one sweep follows several changes.
            ask = partial(loop.call_later, _PAUSE_SECONDS, self._asked.set)
            self._mover.on_change = lambda: loop.call_soon_threadsafe(ask)
            self._task = asyncio.create_task(self._run())
            self._watch.open(on_change=ask)

    async def close(self) -> None:
        """Stop."""
        self._mover.on_change = lambda: None
        await self._watch.close()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def ask(self) -> None:
        """Sweep soon."""
        self._asked.set()

    async def _run(self) -> None:
        while True:
            self._asked.clear()
            try:
                await self.sweep()
            except ProblemError as error:
                log.warning("the replicas cannot be compared: %s", error.detail, extra={"event": "sweep-error"})
            except Exception:
                log.exception("the replicas cannot be compared", extra={"event": "sweep-error"})
            await asyncio.sleep(_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await self._asked.wait()

    async def sweep(self) -> None:
        """Request what is missing now, after a sweep that has begun before."""
        async with self._sweeping:
            await self._sweep()

    async def _sweep(self) -> None:
        generation = self._store.catalog.database.generation
        if self._reconciled != generation:
            await asyncio.to_thread(self._mover.reconcile)
            await asyncio.to_thread(self._lost_holdings.restore)
            self._reconciled = generation
        await asyncio.to_thread(self._seals.seal)
        now = steady_ns()
        archives, missing = await self._queries.read(partial(self._look, now=now))
        self._report_unknown(archives)
        await self._correct_times(archives, max(now, time.time_ns()))
        for step, (packs, known) in missing.items():
            for pack in packs:
                await self._request(pack, step, known)
        await self._request_evictions()
        await self._request_discards()
        await self._request_scrub(now)
        self.census = await self._queries.read(lambda c: take_census(c, self._mover.tiers))
        self.recalls = await self._queries.read(lambda c: waiting_recalls(c, self._mover.tiers))

    async def _correct_times(self, archives: Sequence[Archive], latest: int) -> None:
        """Correct the times of a clock that was ahead: until they come, nothing would be dropped or scrubbed."""
        rows = [row for archive in archives for row in archive.replicas.values()]
        times = [at for row in rows for at in (row.verified, row.used) if at]
        if max([*times, *(archive.archived for archive in archives)], default=0) > latest:
            await asyncio.to_thread(self._mover.correct_times, latest)
            self.ask()

    def _look(
        self, connection: sa.Connection, now: int
    ) -> tuple[list[Archive], dict[str, tuple[list[str], dict[str, Step]]]]:
        """Return the packs with a policy, and by step those that need it, with the steps as they are.

        All are from one state of the catalog: a step that has ended since would be requested once more.
        """
        archives, recalls = replicas.archives(connection, now), steps_named(connection, RECALL)
        wanted = [
            (step, archive.pack)
            for archive in archives
            for step in self._missing_steps(archive, recalls.get(archive.pack), now)
        ]
        by_step: dict[str, dict[str, None]] = {}
        for step, pack in [*wanted, *self._comparisons(connection, recalls)]:
            by_step.setdefault(step, {})[pack] = None
        return archives, {step: (list(packs), steps_named(connection, step, packs)) for step, packs in by_step.items()}

    def _missing_steps(self, archive: Archive, recall: Step | None, now: int) -> list[str]:
        """Return the steps that a batch needs, without those that a recall makes, or that its readers forbid."""
        left_out = set()
        if _is_open(recall):
            left_out.add(copy_step(self._mover.cache))
        if archive.pinned and self._mover.cache == DISK:
            left_out.add(DROP_DISK)
        return [step for step in missing_steps(archive, self._mover.tiers, now) if step not in left_out]

    async def _request_evictions(self) -> None:
        """Request the evictions that bring the cache of the tape below its high-water mark."""
        try:
            surplus = await asyncio.to_thread(self._cache.surplus)
        except TierError:  # the watch reports it
            return
        if surplus:
            known = await self._records.steps_named(evict_step(self._mover.cache))
            for pack in surplus:
                await self._request(pack, evict_step(self._mover.cache), known)

    async def _request_discards(self) -> None:
        if due := await asyncio.to_thread(self._discards.due):
            known = await self._records.steps_named(DISCARD)
            for pack in due:
                await self._request(pack, DISCARD, known)

    async def _request(self, pack: str, step: str, known: Mapping[str, Step]) -> bool:
        """Request a step unless it waits, runs, or failed a short time ago; return whether it was requested."""
        if not is_to_be_requested(known.get(pack), steady_ns() / _SECOND, self._outages(step)):
            return False
        try:
            await self._records.request(pack, step)
        except NotFound:  # the batch was removed from the volume
            return False
        return True

    def _outages(self, step: str) -> Iterable[tuple[float, float]]:
        """Return the outages whose end lets a step be tried again: of all tiers, because it may read any of them.

        There are none while the tier that the step writes to does not answer.
        """
        probe = self._mover.access.probes.get(step.partition(":")[2])
        return () if probe and probe.failure else self._watch.outages.values()

    def _comparisons(self, connection: sa.Connection, recalls: Mapping[str, Step]) -> list[tuple[str, str]]:
        """Return the steps, each with its pack, that compare replicas which are only WRITTEN, as a rebuild finds them.

        A recall compares its own.
        """
        return [
            (copy_step(row.tier), row.pack)
            for row in replicas.unverified(connection, self._mover.tiers)
            if not (row.tier == self._mover.cache and _is_open(recalls.get(row.pack)))
        ]

    async def _request_scrub(self, now: int) -> None:
        """Request the scrub of the replica that was compared longest ago, if that is long ago and none is scrubbed."""
        if self.scrub_every is None:
            return
        before = now - round(self.scrub_every * _SECOND)
        tiers = (*self._mover.tiers, DISK)

        def look(connection: sa.Connection) -> tuple[list[ReplicaRow], dict[str, Step]]:
            oldest = replicas.longest_unverified(connection, tiers, before, _MOST_CANDIDATES)
            return oldest, steps_named(connection, SCRUB) if oldest else {}

        oldest, known = await self._queries.read(look)
        if any(map(_is_open, known.values())):
            return
        for row in oldest:
            if await self._request(row.pack, SCRUB, known):
                return

    def _report_unknown(self, archives: Sequence[Archive]) -> None:
        """Log once which tiers policies name and TIERS does not."""
        named = {tier for archive in archives for tier in archive.tiering.archive_to}
        for tier in sorted(named - self._mover.tiers.keys() - self._reported):
            self._reported.add(tier)
            log.warning("batches should be copied to tier %r, which TIERS does not name", tier)


def _is_open(step: Step | None) -> bool:
    return step is not None and step.state in _OPEN
