"""The state of recalls: who waits for a pack, how far it is, and why it cannot be had.

Nothing here begins a recall.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import sqlalchemy as sa

from databuffer.errors import RecallTooLarge
from databuffer.queries import Queries
from databuffer.records.performer import Performer
from databuffer.records.table import steps_named
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import pins, replicas
from databuffer.tiers.ledger.locality import AT_ONCE, is_whole, locality_of, tapes_of
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.meter import Progress
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.staged_reading import Staging
from databuffer.tiers.packs.batch_pack import has_pack
from databuffer.tiers.packs.packs import Packs, is_of_files, public_name, record_of
from databuffer.tiers.recalls.cache import TapeCache
from databuffer.tiers.recalls.recall_queue import durations, estimate, position
from databuffer.tiers.tier import TierError
from gwwire.records import RECALL, Step, StepState
from gwwire.tiering import DISK, BatchLocality, Recall, RecallState

_SECOND = 10**9
#: The part of a recall, in percent, that bringing the bytes online at the tape counts for.
_STAGING = 40
#: The recalls from which the time of the next one is estimated.
_RECENT = 20
_OPEN = frozenset({StepState.WAITING, StepState.RUNNING})


@dataclass(frozen=True)
class Standing:
    """The state of a recall, and the reason of a failure."""

    state: RecallState
    reason: str | None = None


@dataclass(frozen=True)
class Subject:
    """The object of a recall: the id of its record, its name, and its bytes before there is a pack."""

    record: str
    name: str
    text: str
    size: int
    has_pack: bool


@dataclass(frozen=True)
class Seen:
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


class RecallStates:
    """Reads how far the recalls of packs are."""

    def __init__(self, packs: Packs, queries: Queries, performer: Performer, mover: Mover, cache: TapeCache) -> None:
        self._packs = packs
        self._queries = queries
        self._performer = performer
        self._mover = mover
        self._cache = cache
        #: Seconds of the last recalls, also of earlier processes.
        self.took: deque[float] = deque(maxlen=_RECENT)
        self.has_tape = bool(tapes_of(mover.tiers))

    async def get(self, batch: str, asker: str) -> Recall:
        """Return how far the recall of a batch, or of a pack of files by its id, is; raise NotFound."""
        subject = await self.subject(batch)
        return self._describe(subject, await self.look(subject, asker))

    async def standings(self, names: Iterable[str]) -> dict[str, Standing]:
        """Return how far the recalls of some batches, or packs of files by their ids, are."""
        found = await self.look_at_all(names)
        return {public_name(pack): Standing(state_of(seen), self._reason(pack, seen)) for pack, seen in found.items()}

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

    async def subject(self, name: str) -> Subject:
        """Return what has a name, or raise NotFound."""
        if is_of_files(name):
            pack = await asyncio.to_thread(self._packs.get, name)
            return Subject(name, name, pack.text, 0, has_pack=True)
        row = await self._queries.batch(name)
        return Subject(record_of(name), name, f"batch {name}", row.buff_size, has_pack=has_pack(row))

    async def look(self, subject: Subject, asker: str) -> Seen:
        """Return the state of a pack, and who has pinned it."""
        record = subject.record
        if not subject.has_pack:
            return Seen(subject.size, BatchLocality.DISK, None, None, None)

        def look(connection: sa.Connection) -> Seen:
            if not self.took:
                self.took.extend(durations(connection, _RECENT))
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

    async def look_at_all(self, names: Iterable[str]) -> dict[str, Seen]:
        """Return the state of some packs, with the reason why one that is on tape is refused."""
        packs = list(map(record_of, names))
        found = await self._queries.read(partial(self._seen, packs=packs))
        on_tape = {pack: seen for pack, seen in found.items() if seen.locality is BatchLocality.TAPE}
        not_begun = {pack: seen.size for pack, seen in on_tape.items() if not seen.step or seen.step.state not in _OPEN}
        refusals = await asyncio.to_thread(self._refusals, not_begun)
        return {pack: replace(seen, refusal=refusals.get(pack)) for pack, seen in found.items()}

    def _seen(self, connection: sa.Connection, packs: Sequence[str]) -> dict[str, Seen]:
        known, steps = replicas.of_packs(connection, packs), steps_named(connection, RECALL, packs)
        return {pack: self._seen_one(known.get(pack, []), steps.get(pack)) for pack in packs}

    def _seen_one(self, rows: Sequence[ReplicaRow], step: Step | None) -> Seen:
        size = max((each.size for each in rows), default=0)
        locality = locality_of(rows, self._mover.tiers) if rows else BatchLocality.DISK
        unreadable = self._unreadable(rows) if rows and locality is not BatchLocality.TAPE else None
        return Seen(size, locality, step, unreadable=unreadable, rows=rows)

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

    def _describe(self, subject: Subject, seen: Seen) -> Recall:
        state = state_of(seen)
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
            seconds=0 if state is RecallState.ONLINE else estimate(self.took, seen.position or 1, percent),
            measured=bool(self.took),
            reason=self._reason(subject.record, seen) if state is not RecallState.ONLINE else None,
        )

    def _reason(self, record: str, seen: Seen) -> str | None:
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


def state_of(seen: Seen) -> RecallState:
    """Return the state of the recall of a pack."""
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
