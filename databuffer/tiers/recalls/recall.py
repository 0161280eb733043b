"""Recalls: what is on tape only is brought to the cache of the tape, whole and once, however many ask for it.

Each asker has a pin, which keeps the pack in the cache until it is released or expires. The step `recall` on the record
of the pack does the work; one runs at a time, in the order in which they were asked for.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from databuffer.errors import MoveFailed, NoReplica, TierFailed
from databuffer.queries import Queries
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.records import Records
from databuffer.storage.clock import steady_ns
from databuffer.storage.store import Store
from databuffer.tiers.ledger import pins, replicas
from databuffer.tiers.ledger.locality import AT_ONCE, locality_of
from databuffer.tiers.ledger.wanted import is_to_be_requested
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.packs import Packs, record_of
from databuffer.tiers.recalls.cache import TapeCache
from databuffer.tiers.recalls.recall_queue import any_waits
from databuffer.tiers.recalls.states import RecallStates, state_of
from databuffer.tiers.tier import TierError
from gwwire.records import ARCHIVED, RECALL, Record, Step, StepState
from gwwire.tiering import DISK, BatchLocality, Recall, RecallState, ReplicaState

#: The asker of those who read a segment without having asked for its recall.
READERS = "readers"
_SECOND = 10**9
#: The time for which a recall that reading has caused is kept for the readers.
_READING = 600 * _SECOND


@dataclass(frozen=True)
class Recalled:
    """The result of a recall: where the pack can be read; it is not `moved` if it was there, or nobody needs it."""

    tier: str | None
    moved: bool
    bytes: int


class Recalls:
    """Brings batches from tape, and keeps them readable for those who asked for `pin` seconds."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self,
        store: Store,
        packs: Packs,
        queries: Queries,
        records: Records,
        ledger: ReplicaLedger,
        performer: Performer,
        mover: Mover,
        cache: TapeCache,
        pin: float,
    ) -> None:
        self._store = store
        self._packs = packs
        self._queries = queries
        self._records = records
        self._ledger = ledger
        self._mover = mover
        self._cache = cache
        self._pin = round(pin * _SECOND)
        self._asking = asyncio.Lock()
        #: The states of the recalls.
        self.states = RecallStates(packs, queries, performer, mover, cache)
        self.has_tape = self.states.has_tape
        if self.has_tape:
            step = OwnStep(RECALL, self._perform, (ARCHIVED,), on_request=True, ended=lambda _record: mover.on_change())
            performer.add(step)

    async def open(self) -> None:
        """Shorten the pins that an earlier process made too long, because its clock was ahead."""
        longest = self.pinned_until(steady_ns())
        if self.has_tape and await self._queries.read(pins.latest) > longest:
            await self._ledger.change(partial(pins.shorten_all, until=longest), with_reserve=True)

    # ---- orders

    async def ask(self, batch: str, asker: str, *, again: bool = False) -> Recall:
        """Keep a batch, or a pack of files by its id, readable for an asker; begin its recall if it is on tape only.

        A recall that failed for good is begun again after an hour, or `again`. Raise NotFound, RecallTooLarge,
        NoReplica, or TierFailed.
        """
        subject = await self.states.subject(batch)
        async with self._asking:
            seen = await self.states.look(subject, asker)
            if seen.locality is BatchLocality.TAPE:
                # READERS are many, who do not need their packs together.
                look = partial(self._cache.kept_for, asker=asker, besides=subject.record)
                kept = 0 if asker == READERS else await self._queries.read(look)
                await self._in_thread(partial(self._cache.check_size, seen.size, kept=kept))
            elif seen.unreadable:
                failure = TierFailed if seen.locality in AT_ONCE else NoReplica
                raise failure(f"no replica of {subject.text} can be read: {seen.unreadable}")
            now, keeps = steady_ns(), self.has_tape and subject.has_pack
            if keeps and (seen.pinned is None or seen.pinned < now + self._pin // 2):
                until = self.pinned_until(now)
                await self._ledger.change(partial(pins.put, pack=subject.record, asker=asker, until=until, now=now))
            if seen.locality is BatchLocality.TAPE and _is_to_begin(seen.step, again=again):
                await self._records.request(subject.record, RECALL)
                self._mover.on_change()
        return await self.states.get(batch, asker)

    async def begin_all(self, askers: Mapping[str, str], *, again: bool) -> None:
        """Begin the recalls of packs on tape only, by name, whose askers still have pins; also failed ones `again`."""
        to_begin = {RecallState.NEARLINE, RecallState.FAILED} if again else {RecallState.NEARLINE}
        async with self._asking:
            kept = await self._queries.read(partial(pins.kept, askers=askers.values(), now=steady_ns()))
            found = await self.states.look_at_all(name for name, asker in askers.items() if asker in kept)
            on_tape = {pack: seen for pack, seen in found.items() if seen.locality is BatchLocality.TAPE}
            packs = [pack for pack, seen in on_tape.items() if state_of(seen) in to_begin and not seen.refusal]
            await self._records.request_all(packs, RECALL)
            self._mover.on_change()

    async def release(self, batch: str, asker: str) -> Recall:
        """Release the pin of an asker on a batch, if there is one; raise NotFound."""
        subject = await self.states.subject(batch)
        await self._ledger.change(partial(pins.release, asker=asker, pack=subject.record))
        self.on_release()
        return await self.states.get(batch, asker)

    async def release_all(self, asker: str) -> None:
        """Release all pins of an asker."""
        if self.has_tape:
            await self._ledger.change(partial(pins.release, asker=asker))
            self.on_release()

    def on_release(self) -> None:
        """Check soon which packs may leave the cache, because pins were released."""
        self._mover.on_change()

    @property
    def full_since(self) -> float | None:
        """Since when the recall that has waited longest for space in the cache waits, in Unix seconds, or None."""
        return min((each.since for each in list(self._cache.full.values())), default=None)

    def pinned_until(self, now: int) -> int:
        """Return until when a pack is kept for somebody who asks now."""
        return now + self._pin

    async def ask_for_all(self, batches: Iterable[str], asker: str, *, again: bool = False) -> Sequence[Recall]:
        """Do `ask` for some batches, which have to fit into the cache together; return those that are not ONLINE."""
        batches = list(batches)
        nearline = await self.states.nearline(batches)
        if nearline:
            there = await self._queries.read(lambda c: replicas.of_packs(c, map(record_of, batches)))
            cached = [row.size for rows in there.values() for row in rows if self._cache.has(row)]
            await self._in_thread(partial(self._cache.check_size, *cached, *nearline.values()))
        asked = [await self.ask(batch, asker, again=again) for batch in batches] if nearline else []
        return [each for each in asked if each.state is not RecallState.ONLINE]

    async def _in_thread(self, work: partial[None]) -> None:
        try:
            await asyncio.to_thread(work)
        except TierError as error:
            raise TierFailed(str(error)) from error

    # ---- the step

    def _perform(self, record: Record, attempt: Attempt) -> Recalled:
        """Bring a pack to the cache, if somebody needs it; called in a thread."""
        self._mover.on_change()  # it waits no longer
        began, source = monotonic(), self._packs.get(record.id)
        try:
            rows = self._ledger.of(source)
            if locality_of(rows.values(), self._mover.tiers) is not BatchLocality.TAPE:
                return Recalled(None, moved=False, bytes=source.pack.size)
            if not self._is_pinned(source.id):
                self._cache.full.pop(source.id, None)
                return Recalled(None, moved=False, bytes=0)
            cache = self._mover.cache
            if cache in rows and cache != DISK and rows[cache].state is ReplicaState.DELETING:
                self._mover.evict(source, attempt)  # it was begun
            self._cache.free_space(source, attempt, self._others_wait)
            moved = self._mover.bring_to_cache(source, attempt).moved
        except TierError as error:
            raise MoveFailed(str(error)) from error
        self.states.took.append(monotonic() - began)
        until = steady_ns() + _READING
        self._ledger.write(partial(pins.shorten, pack=source.id, asker=READERS, until=until))
        return Recalled(cache, moved=moved, bytes=source.pack.size)

    def _is_pinned(self, pack: str) -> bool:
        with self._store.catalog.database.reading() as connection:
            return pins.is_pinned(connection, pack, steady_ns())

    def _others_wait(self) -> bool:
        with self._store.catalog.database.reading() as connection:
            return any_waits(connection, steady_ns())


def _is_to_begin(step: Step | None, *, again: bool) -> bool:
    if again and step and step.state is StepState.FAILED:
        return True
    return is_to_be_requested(step, steady_ns() / _SECOND)
