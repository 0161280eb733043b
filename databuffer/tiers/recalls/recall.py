"""Recalls: what is on tape only is brought to the cache of the tape, whole and once, however many ask for it.

Each asker has a pin, which keeps the pack in the cache until it is released or expires. The step `recall` on the record
of the pack does the work; one runs at a time, in the order in which they were asked for.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

import sqlalchemy as sa

from databuffer.errors import MoveFailed, NoReplica, RecallTooLarge, TierFailed
from databuffer.queries import Queries
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.records import Records
from databuffer.records.table import steps_named
from databuffer.storage.clock import steady_ns
from databuffer.storage.store import Store
from databuffer.tiers.ledger import pins, replicas
from databuffer.tiers.ledger.locality import AT_ONCE, is_whole, locality_of, tapes_of
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.ledger.wanted import is_to_be_requested
from databuffer.tiers.moves.meter import Progress
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.moves.staged_reading import Staging
from databuffer.tiers.packs.batch_pack import has_pack
from databuffer.tiers.packs.packs import Packs, is_of_files, public_name, record_of
from databuffer.tiers.recalls.cache import TapeCache
from databuffer.tiers.recalls.recall_queue import any_waits, durations, estimate, position
from databuffer.tiers.tier import TierError
from gwwire.records import ARCHIVED, RECALL, Record, Step, StepState
from gwwire.tiering import DISK, BatchLocality, Recall, RecallState, ReplicaState

#: The asker of those who read a segment without having asked for its recall.
READERS = "readers"
_SECOND = 10**9
#: The time for which a recall that reading has caused is kept for the readers.
_READING = 600 * _SECOND
#: The part of a recall, in percent, that bringing the bytes online at the tape counts for.
_STAGING = 40
#: The recalls from which the time of the next one is estimated.
_RECENT = 20
_OPEN = frozenset({StepState.WAITING, StepState.RUNNING})


@dataclass(frozen=True)
class Recalled:
    """The result of a recall: where the pack can be read; it is not `moved` if it was there, or nobody needs it."""

    tier: str | None
    moved: bool
    bytes: int


@dataclass(frozen=True)
class Standing:
    """The state of a recall, and the reason of a failure."""

    state: RecallState
    reason: str | None = None


@dataclass(frozen=True)
class _Subject:
    """The object of a recall: the id of its record, its name, and its bytes before there is a pack."""

    record: str
    name: str
    text: str
    size: int
    has_pack: bool


@dataclass(frozen=True)
class _Seen:
    """The state of the object in the catalog, from one read.

    `refusal` is why a recall cannot be made, `unreadable` why what needs no recall cannot be read.
    """

    size: int
    locality: BatchLocality
    step: Step | None = None
    position: int | None = None
    pinned: int | None = None
    others: Mapping[str, int] = field(default_factory=dict)
    refusal: str | None = None
    unreadable: str | None = None
    rows: Sequence[ReplicaRow] = ()


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
        self._performer = performer
        self._mover = mover
        self._cache = cache
        self._pin = round(pin * _SECOND)
        self._asking = asyncio.Lock()
        #: Seconds of the last recalls, also of earlier processes.
        self._took: deque[float] = deque(maxlen=_RECENT)
        self.has_tape = bool(tapes_of(mover.tiers))
        if self.has_tape:
            step = OwnStep(RECALL, self._perform, (ARCHIVED,), on_request=True, ended=lambda _record: mover.on_change())
            performer.add(step)

    async def open(self) -> None:
        """Shorten the pins that an earlier process made too long, because its clock was ahead."""
        longest = self.pinned_until(steady_ns())
        if self.has_tape and await self._queries.read(pins.latest) > longest:
            await self._ledger.change(partial(pins.shorten_all, until=longest), with_reserve=True)

    # ---- orders and questions

    async def ask(self, batch: str, asker: str, *, again: bool = False) -> Recall:
        """Keep a batch, or a pack of files by its id, readable for an asker; begin its recall if it is on tape only.

        A recall that failed for good is begun again after an hour, or `again`. Raise NotFound, RecallTooLarge,
        NoReplica, or TierFailed.
        """
        subject = await self._subject(batch)
        async with self._asking:
            seen = await self._look(subject, asker)
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
        return await self.get(batch, asker)

    async def get(self, batch: str, asker: str) -> Recall:
        """Return how far the recall of a batch is; raise NotFound."""
        subject = await self._subject(batch)
        return self._describe(subject, await self._look(subject, asker))

    async def standings(self, names: Iterable[str]) -> dict[str, Standing]:
        """Return how far the recalls of some batches, or packs of files by their ids, are; begin none."""
        found = await self._look_at_all(names)
        return {public_name(pack): Standing(_state(seen), self._reason(pack, seen)) for pack, seen in found.items()}

    async def begin_all(self, askers: Mapping[str, str], *, again: bool) -> None:
        """Begin the recalls of packs on tape only, by name, whose askers still have pins; also failed ones `again`."""
        to_begin = {RecallState.NEARLINE, RecallState.FAILED} if again else {RecallState.NEARLINE}
        async with self._asking:
            kept = await self._queries.read(partial(pins.kept, askers=askers.values(), now=steady_ns()))
            found = await self._look_at_all(name for name, asker in askers.items() if asker in kept)
            on_tape = {pack: seen for pack, seen in found.items() if seen.locality is BatchLocality.TAPE}
            packs = [pack for pack, seen in on_tape.items() if _state(seen) in to_begin and not seen.refusal]
            await self._records.request_all(packs, RECALL)
            self._mover.on_change()

    async def release(self, batch: str, asker: str) -> Recall:
        """Release the pin of an asker on a batch, if there is one; raise NotFound."""
        subject = await self._subject(batch)
        await self._ledger.change(partial(pins.release, asker=asker, pack=subject.record))
        self.on_release()
        return await self.get(batch, asker)

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

    async def nearline(self, batches: Iterable[str]) -> dict[str, int]:
        """Return those of some batches that are on tape only, with the bytes of their packs."""
        if not self.has_tape:
            return {}
        wanted = {record_of(batch): batch for batch in batches}
        found = await self._queries.read(lambda c: replicas.of_packs(c, wanted))
        return {
            wanted[pack]: rows[0].size
            for pack, rows in found.items()
            if locality_of(rows, self._mover.tiers) is BatchLocality.TAPE
        }

    async def ask_for_all(self, batches: Iterable[str], asker: str, *, again: bool = False) -> Sequence[Recall]:
        """Do `ask` for some batches, which have to fit into the cache together; return those that are not ONLINE."""
        batches = list(batches)
        nearline = await self.nearline(batches)
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

    async def _subject(self, name: str) -> _Subject:
        """Return what has a name, or raise NotFound."""
        if is_of_files(name):
            pack = await asyncio.to_thread(self._packs.get, name)
            return _Subject(name, name, pack.text, 0, has_pack=True)
        row = await self._queries.batch(name)
        return _Subject(record_of(name), name, f"batch {name}", row.buff_size, has_pack=has_pack(row))

    async def _look(self, subject: _Subject, asker: str) -> _Seen:
        record = subject.record
        if not subject.has_pack:
            return _Seen(subject.size, BatchLocality.DISK, None, None, None)

        def look(connection: sa.Connection) -> _Seen:
            if not self._took:
                self._took.extend(durations(connection, _RECENT))
            seen, now = self._seen(connection, [record])[record], steady_ns()
            return replace(
                seen,
                size=seen.size or subject.size,
                position=position(connection, record) if seen.step and seen.step.state in _OPEN else None,
                pinned=pins.until(connection, record, asker, now),
                others=pins.others(connection, record, asker, now),
            )

        seen = await self._queries.read(look)
        whole = {row.tier for row in seen.rows if is_whole(row)}
        if seen.locality in AT_ONCE and DISK not in whole:
            await self._mover.access.ask(whole.difference(tapes_of(self._mover.tiers)))
            return replace(seen, unreadable=self._unreadable(seen.rows))
        return seen

    async def _look_at_all(self, names: Iterable[str]) -> dict[str, _Seen]:
        """Return the state of some packs, with the reason why one that is on tape is refused."""
        packs = list(map(record_of, names))
        found = await self._queries.read(partial(self._seen, packs=packs))
        on_tape = {pack: seen for pack, seen in found.items() if seen.locality is BatchLocality.TAPE}
        not_begun = {pack: seen.size for pack, seen in on_tape.items() if not seen.step or seen.step.state not in _OPEN}
        refusals = await asyncio.to_thread(self._refusals, not_begun)
        return {pack: replace(seen, refusal=refusals.get(pack)) for pack, seen in found.items()}

    def _seen(self, connection: sa.Connection, packs: Sequence[str]) -> dict[str, _Seen]:
        known, steps = replicas.of_packs(connection, packs), steps_named(connection, RECALL, packs)
        return {pack: self._seen_one(known.get(pack, []), steps.get(pack)) for pack in packs}

    def _seen_one(self, rows: Sequence[ReplicaRow], step: Step | None) -> _Seen:
        size = max((each.size for each in rows), default=0)
        locality = locality_of(rows, self._mover.tiers) if rows else BatchLocality.DISK
        unreadable = self._unreadable(rows) if rows and locality is not BatchLocality.TAPE else None
        return _Seen(size, locality, step, unreadable=unreadable, rows=rows)

    def _unreadable(self, rows: Sequence[ReplicaRow]) -> str | None:
        """Return why a pack cannot be read without a recall, as far as is known, or None if it can."""
        tapes = tapes_of(self._mover.tiers)
        return self._mover.access.problems([row for row in rows if row.tier not in tapes] or rows)

    def _refusals(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """Return why packs with some sizes cannot be recalled now; called in a thread."""
        found = {}
        for pack, size in sizes.items():
            try:
                self._cache.check_size(size)
            except (RecallTooLarge, TierError) as error:
                found[pack] = str(error)
        return found

    def _describe(self, subject: _Subject, seen: _Seen) -> Recall:
        state = _state(seen)
        percent = (
            100 if state is RecallState.ONLINE else self._percent(subject.record) if state is RecallState.RUNNING else 0
        )
        return Recall(
            batch=subject.name,
            state=state,
            percent=percent,
            position=seen.position if state in {RecallState.QUEUED, RecallState.RUNNING} else None,
            bytes=seen.size,
            tier=self._mover.cache if self.has_tape else None,
            pinned=seen.pinned / _SECOND if seen.pinned else None,
            others={asker: until / _SECOND for asker, until in seen.others.items()},
            seconds=0 if state is RecallState.ONLINE else estimate(self._took, seen.position or 1, percent),
            measured=bool(self._took),
            reason=self._reason(subject.record, seen) if state is not RecallState.ONLINE else None,
        )

    def _reason(self, record: str, seen: _Seen) -> str | None:
        if seen.locality is not BatchLocality.TAPE:  # whatever earlier attempts failed with
            return f"no replica can be read: {seen.unreadable}" if seen.unreadable else None
        if seen.refusal:
            return seen.refusal
        if seen.step and seen.step.state in _OPEN and (full := self._cache.full.get(record)):
            return str(full)
        if seen.step and seen.step.reason:
            return seen.step.reason
        return None

    def _percent(self, record: str) -> int:
        attempt = self._performer.attempt(RECALL, record)
        match attempt and attempt.progress:
            case Staging(percent):
                return _STAGING * percent // 100
            case Progress(done, of):
                return min(_STAGING + (100 - _STAGING) * done // max(of, 1), 99)
            case _:
                return 0

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
        self._took.append(monotonic() - began)
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


def _state(seen: _Seen) -> RecallState:
    if seen.unreadable or seen.refusal:
        return RecallState.FAILED
    if seen.locality is not BatchLocality.TAPE:
        return RecallState.ONLINE
    match seen.step and seen.step.state:
        case StepState.RUNNING:
            return RecallState.RUNNING
        case StepState.WAITING:
            return RecallState.QUEUED
        case StepState.FAILED:
            return RecallState.FAILED
        case _:
            return RecallState.NEARLINE
