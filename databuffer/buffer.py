"""The buffer: append, freeze, thaw, flush, stats. The only room that knows the order of things."""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from databuffer import meters
from databuffer.committer import Committer
from databuffer.coverage import CoverageKeeper, coverage
from databuffer.errors import (
    BatchChanged,
    BatchClaimed,
    BatchNotArchived,
    BatchNotFrozen,
    BufferFrozen,
    KeyReused,
    NotFound,
    NotHolder,
    QueueFull,
    Refused,
    VolumeError,
)
from databuffer.fingerprint import fingerprint, matches
from databuffer.quota import DailyQuota, day_of
from databuffer.settings import OnFrozen
from databuffer.staging import Outcome, Staged, stage
from databuffer.storage.catalog import BatchRow, CataloguedSegment, ClaimRow, SegmentFilter, SegmentRow
from databuffer.storage.manifest import MANIFEST, read_manifest
from databuffer.storage.metadata import stored_entry
from databuffer.storage.recovery import recover
from databuffer.storage.store import OPERATIONAL, OpenBatch, Seal, Store
from databuffer.storage.tally import counted, joined
from databuffer.storage.volume import volume_errors
from databuffer.verifier import Verifier, VerifierStopped
from databuffer.writers import Writers
from gwservice.tracing import group_span, span_in_hand
from gwwire.datastore import Description, FlushOrder, FreezeOrder
from gwwire.decoding import InvalidRequest
from gwwire.problems import ProblemError
from gwwire.public import (
    BatchState,
    ClaimOrder,
    ClaimOverview,
    Coverage,
    DatastoreState,
    ErrorOverview,
    NextOverview,
    Overview,
    Quota,
    Stats,
    ThawOrder,
    Verification,
    VerificationState,
)
from gwwire.segment import SegmentLimits

T = TypeVar("T")
log = logging.getLogger(__name__)

_LONGEST_KEY = 255
_CHANNELS_TOLD = 500
_READY_SECONDS = 1.0


@dataclass(frozen=True)
class Stored:
    """A segment's file: durable, named and counted."""

    name: str
    size: int


@dataclass(frozen=True)
class Frozen:
    """A frozen batch: its counts, taken in the same step as the freeze, who holds it, and its identity."""

    stats: Stats
    holder: str
    batch: str
    digest: str


@dataclass(frozen=True)
class Archived:
    """An archived batch: its counts, and its folder; None where there was nothing to archive."""

    stats: Stats
    folder: Path | None


@dataclass(frozen=True)
class _Arrival:
    """A segment whose turn to be stored has not come yet.

    Attributes:
        body: the segment as it came, where it is not being written because the batch was frozen.
        path: where it is being written.
        key: the Idempotency-Key it came with.
        group: whose quota it counts for.
        ready: what becomes of it before its turn.
        span: of the request that it came with, where traces are made.

    """

    body: bytes
    path: Path | None
    key: str | None
    group: str | None
    ready: asyncio.Future[Outcome]
    span: Any


@dataclass(frozen=True)
class _Prepared:
    """A valid segment whose turn has come."""

    staged: Staged
    body: bytes
    key: str | None
    group: str | None


class Buffer:
    """The batch in hand, and the next one while that is frozen.

    Whatever changes them is done by one committer, one step after the other, in a worker thread; what the buffer
    tells about itself are snapshots replaced at the end of a step, so that no reader waits and none sees half a step.
    """

    def __init__(
        self,
        store: Store,
        *,
        queue_size: int,
        on_frozen: OnFrozen = OnFrozen.REJECT,
        limits: SegmentLimits | None = None,
        group_quota: int = 0,
    ) -> None:
        self._store = store
        self._on_frozen = on_frozen
        self._queue_size = queue_size
        self._committer: Committer[_Arrival, Stored] = Committer(self._store_in_order, queue_size)
        self._writers = Writers(limits)
        self._quota = DailyQuota(group_quota)
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="syncer")
        self._hand: OpenBatch | None = None
        self._next: OpenBatch | None = None
        self._description = OPERATIONAL
        self._last_number = 0
        self._last_seq = 0
        self._last_error: ErrorOverview | None = None
        self._claimed_by: ClaimRow | None = None
        self._archived = 0
        self._quarantined = 0
        self._coverage = CoverageKeeper(store.catalog)
        self._verifier = Verifier(store)
        self._verifying: set[asyncio.Task[None]] = set()
        self._recovered: frozenset[str] = frozenset()
        self._trusted = False
        self._suspect = True  # nobody has written anything yet

    # ---- what it tells

    @property
    def stats(self) -> Stats:
        """The counts of the batch in hand, and of the next one where there is one."""
        hand = self._in_hand.stats
        if self._next is None:
            return hand
        return Stats(hand.n_itm, hand.buff_size, self._next.stats.n_itm, self._next.stats.buff_size)

    @property
    def description(self) -> Description:
        """The state, and who froze the batch."""
        return self._description

    async def overview(self) -> Overview:
        """Tell everything at a glance; it costs the same however many segments are stored."""
        ready = await self._is_ready()
        free, size = await asyncio.to_thread(self._space)
        now, hand, following, description = time.time(), self._in_hand, self._next, self._description
        frozen = description.dstatus is DatastoreState.FROZEN
        tally = joined(hand.tally, following.tally) if following else hand.tally
        told = sorted(tally.values(), key=lambda channel: channel.latest, reverse=True)[:_CHANNELS_TOLD]
        claim = self._claimed_by if frozen else None
        return Overview(
            time=now,
            state=description.dstatus,
            since=(hand.seal.at if hand.seal else hand.mark.opened) / 10**9,
            holder=description.user if frozen else None,
            batch=hand.id,
            digest=hand.seal.digest if hand.seal else None,
            n_itm=hand.stats.n_itm,
            buff_size=hand.stats.buff_size,
            seq=self._last_seq,
            queue=self._committer.waiting,
            queue_size=self._queue_size,
            next=NextOverview(following.id, following.stats.n_itm, following.stats.buff_size) if following else None,
            claim=ClaimOverview(claim.worker, claim.expires / 10**9) if claim and claim.expires > now * 10**9 else None,
            channels=sorted(told, key=lambda channel: channel.channel or ""),
            more_channels=len(tally) - len(told),
            archived=self._archived,
            quarantined=self._quarantined,
            free=free,
            size=size,
            last_error=self._last_error,
            ready=ready,
        )

    def quota(self, group: str | None) -> Quota | None:
        """Give a group's quota of today; None where there is none."""
        return self._quota.told(group, time.time_ns())

    async def names(self) -> list[str]:
        """Give the file names of the batch in hand, in the order they were stored."""
        hand = self._in_hand
        names = await asyncio.to_thread(self._store.catalog.sizes, hand.id)
        return list(names)[: hand.stats.n_itm]

    async def log_lines(self, last: int | None = None) -> list[bytes]:
        """Give the lines of LogStream.json, the newest `last` of them where that is said; the oldest come first."""
        return await asyncio.to_thread(self._store.hand.log.lines, last)

    async def batches(self) -> list[BatchRow]:
        """Give all batches, the oldest first."""
        return [self._counted(row) for row in await asyncio.to_thread(self._store.catalog.batches)]

    async def batch(self, batch: str) -> BatchRow:
        """Give one batch.

        Raises:
            NotFound: there is none of that id.

        """
        row = await asyncio.to_thread(self._store.catalog.batch, batch)
        if row is None:
            raise NotFound(f"there is no batch {batch!r}")
        return self._counted(row)

    def verification(self, batch: str) -> Verification | None:
        """Tell how far a batch is verified, or what was found; None where nobody has asked."""
        return self._verifier.of(batch)

    async def manifest(self, batch: str) -> BinaryIO:
        """Open the manifest of a sealed batch.

        Raises:
            NotFound: there is no such batch, or it has no manifest because it is open or older than manifests.

        """
        row = await self.batch(batch)
        sealed = row.state is not BatchState.OPEN
        file = await self._open_file(lambda: self._place(batch, MANIFEST)) if sealed else None
        if file is None:
            raise NotFound(f"batch {batch!r} has no manifest; it is {row.state}")
        return file

    async def segments(self, wanted: SegmentFilter) -> list[CataloguedSegment]:
        """Give the segments asked for, by growing seq; with `before` by falling seq."""
        return await asyncio.to_thread(self._store.catalog.segments, wanted)

    async def coverage(self, wanted: SegmentFilter) -> Coverage:
        """Tell the spans without a gap that a batch covers, or all of them together.

        Raises:
            NotFound: there is no such batch.

        """
        batches = [await self.batch(wanted.batch)] if wanted.batch is not None else await self.batches()
        keeper, ids = self._coverage, [batch.id for batch in batches]
        return await asyncio.to_thread(lambda: coverage(keeper.of(ids), wanted))

    async def segment(self, name: str) -> CataloguedSegment:
        """Give a segment.

        Raises:
            NotFound: there is none of that name.

        """
        found = await asyncio.to_thread(self._store.catalog.segment, name)
        if found is None:
            raise NotFound(f"there is no segment {name!r}")
        return found

    async def segment_file(self, name: str) -> BinaryIO:
        """Open a segment's file, wherever its batch is or is being moved.

        Raises:
            NotFound: there is no segment of that name, or its file was taken away.

        """
        await self.segment(name)
        file = await self._open_file(lambda: self._segment_place(name))
        if file is None:
            raise NotFound(f"the file of segment {name!r} is not where it should be")
        return file

    async def check(self) -> None:
        """Raise VolumeError while the volume cannot be used."""
        if not self._trusted:
            await self._in_order(lambda: None)
        await asyncio.to_thread(self._store.volume.check)
        if self._suspect:
            await self._committer.perform(lambda: asyncio.to_thread(self._probe))

    # ---- its life

    def recover(self) -> None:
        """Make everything agree with the volume, saying in the log what had to be put right.

        Raises:
            VolumeError: the volume cannot be used, or another buffer has it.

        """
        self._store.open()
        meters.RECOVERIES.inc()
        for repair in recover(self._store):
            meters.REPAIRS.inc()
            log.warning("repaired: %s", repair, extra={"event": "repair"})
        self._description = self._store.metadata.read_description() or OPERATIONAL
        self._hand = self._store.load(self._store.hand)
        self._next = self._store.load(self._store.next) if self._store.next.folder.exists() else None
        for batch in filter(None, (self._hand, self._next)):
            last = self._store.catalog.last_name(batch.id)
            self._last_number = max(self._last_number, self._store.volume.number(last or "") or 0)
        self._recovered = self._store.catalog.recovered()
        self._quota.spending = self._store.catalog.spending(day_of(time.time_ns()))
        self._last_seq = self._store.catalog.last_seq()
        self._coverage = CoverageKeeper(self._store.catalog)
        self._verifier.load()
        self._claimed_by = self._store.catalog.claim_on(self._in_hand.id)
        self._archived = self._store.catalog.archived()
        self._quarantined = self._store.volume.quarantined()
        self._trusted = True

    async def open(self) -> None:
        """Begin to take segments.

        Raises:
            VolumeError: the volume cannot be used, or another buffer has it.

        """
        if not self._trusted:
            await asyncio.to_thread(self.recover)
        self._committer.start()
        stats, state = self._in_hand.stats, self._description.dstatus
        told = {"event": "open", "state": state, **_counts(self._in_hand)}
        log.info("%s, %s in %s", state, _size(stats), self._store.hand.folder, extra=told)

    async def close(self) -> None:
        """Finish what was accepted, note that everything agrees, and let go of the volume."""
        await asyncio.to_thread(self._verifier.close)
        await asyncio.gather(*self._verifying, return_exceptions=True)
        await self._committer.close()
        self._writers.close()
        self._syncer.shutdown()
        if self._trusted:
            with suppress(VolumeError):
                self._store.catalog.note_clean_stop(self._store.trace())
        self._store.close()

    # ---- orders

    async def append(self, body: bytes, key: str | None = None, group: str | None = None) -> Stored:
        """Store one segment; on return its file is durable and counted.

        Args:
            body: the segment as JSON.
            key: the Idempotency-Key it came with: the same key and bytes again get the first answer.
            group: whose quota it counts for.

        Raises:
            MalformedJson, InvalidSegment: the body is no segment.
            InvalidRequest: the key is none.
            BufferFrozen: the batch is frozen.
            QuotaExceeded: the group has stored enough for today.
            KeyReused: the key came with other bytes before.
            QueueFull: too many segments are waiting.
            VolumeError: the volume did not take it.

        """
        _check_key(key)
        return await self._accept(body, key, group)

    async def accept(self, body: bytes, key: str | None = None, group: str | None = None) -> asyncio.Future[Stored]:
        """Give one segment its place in the order of things, once there is room for it.

        What is returned can be awaited as `append` can, and is done by itself.

        Raises:
            InvalidRequest: the key is none.

        """
        _check_key(key)
        await self._committer.wait_for_room()
        return self._accept(body, key, group)

    async def freeze(self, order: FreezeOrder) -> Frozen:
        """Freeze and seal the batch in hand; a batch that is frozen already stays its holder's.

        Raises:
            BatchChanged: there are fewer bytes in hand than the order was meant for.
            VolumeError: the state could not be written.

        """
        return await self._in_order(lambda: self._freeze(order))

    async def thaw(self, order: ThawOrder) -> Stats:
        """Open the frozen batch again, for its holder; what the next batch has comes to it.

        Raises:
            NotHolder: somebody else froze it.
            VolumeError: the state could not be written.

        """
        # Looked at beside the order of things: whoever guesses tokens must not hold up the segments.
        held = self._description
        theirs = await asyncio.to_thread(_is_holder, held, order)
        return await self._in_order(lambda: self._thaw(order, held, theirs=theirs))

    async def flush(self, order: FlushOrder = FlushOrder()) -> Archived:  # noqa: B008 (it never changes)
        """Archive the batch in hand; the next one takes its place, or an empty one.

        Raises:
            BatchChanged: the batch in hand is not the one that the order is about.
            VolumeError: the volume did not let it; the batch is still in hand.

        """
        return await self._in_order(lambda: self._flush(order))

    async def claim(self, batch: str, order: ClaimOrder) -> ClaimRow:
        """Give a frozen batch to one worker until its lease ends; the same worker asking again renews it.

        Raises:
            NotFound: there is no such batch.
            BatchNotFrozen: it does not hold still.
            BatchClaimed: another worker has it.
            VolumeError: the claim could not be written.

        """
        await self.batch(batch)
        return await self._in_order(lambda: self._claim_batch(batch, order))

    async def release(self, batch: str, worker: str) -> None:
        """End a worker's claim to a batch; one that has none is told so only while another worker has it.

        Raises:
            NotFound: there is no such batch.
            BatchClaimed: another worker has it.
            VolumeError: it could not be written.

        """
        await self.batch(batch)
        await self._in_order(lambda: self._release_batch(batch, worker))

    async def verify(self, batch: str) -> Verification:
        """Begin to compare an archived batch with its manifest, byte for byte; `verification` tells what becomes of it.

        Raises:
            NotFound: there is no such batch, or it never had a manifest.
            BatchNotArchived: it is in hand.

        """
        row = await self.batch(batch)
        if row.state is not BatchState.ARCHIVED:
            raise BatchNotArchived(f"batch {batch!r} is {row.state}")
        if row.frozen is None:
            raise NotFound(f"batch {batch!r} never had a manifest")
        verifying = self._verifier.begin(row)
        if verifying is not None:
            log.info("batch %s is being verified", batch, extra={"event": "verify", "batch": batch})
            task = asyncio.create_task(self._note_verification(batch, verifying))
            self._verifying.add(task)
            task.add_done_callback(self._verifying.discard)
        told = self._verifier.of(batch)
        assert told is not None  # noqa: S101 (it is under way)
        return told

    async def _note_verification(self, batch: str, verifying: Future[Verification]) -> None:
        found = None
        try:
            found = kept = await asyncio.wrap_future(verifying)
            _tell_verified(batch, kept)
            await self._in_order(lambda: self._store.catalog.put_verification(batch, kept))
        except VerifierStopped:
            log.info("batch %s was being verified when the buffer stopped", batch)
        except VolumeError as error:
            log.warning("what was found of batch %s could not be kept: %s", batch, error.detail)
        finally:
            self._verifier.end(batch, found)

    async def _in_order(self, step: Callable[[], T]) -> T:
        asking = copy_context()  # the committer's own does not know whose order it carries out
        try:
            return await self._committer.perform(lambda: asyncio.to_thread(asking.run, self._trustworthy, step))
        except VolumeError as error:
            self._note(error)
            raise

    def _accept(self, body: bytes, key: str | None, group: str | None) -> asyncio.Future[Stored]:
        try:
            return self._committer.append(lambda: self._begin(body, key, group), len(body))
        except QueueFull as error:
            meters.count_refused(error)
            raise

    async def _store_in_order(self, group: Sequence[_Arrival]) -> Sequence[Stored | ProblemError]:
        began = time.perf_counter()
        with group_span("commit", [arrival.span for arrival in group], segments=len(group)):
            results = await asyncio.to_thread(self._store_arrivals, group)
        meters.count_group(results, time.perf_counter() - began)
        return results

    def _trustworthy(self, step: Callable[[], T]) -> T:
        """Take a step from a known state; after a step that failed half-way the volume is read anew."""
        self._store.volume.check_identity()
        if not self._trusted:
            self.recover()
        try:
            return step()
        except Refused:
            raise
        except Exception:
            self._trusted = False
            with suppress(ProblemError):
                self._store.volume.check_identity()
                self.recover()
            raise

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.check()
        except (VolumeError, TimeoutError):
            return False
        return True

    def _space(self) -> tuple[int | None, int | None]:
        try:
            return self._store.volume.space()
        except VolumeError:
            return None, None

    def _note(self, error: VolumeError) -> None:
        self._last_error = ErrorOverview(time.time(), error.code, error.detail)

    def _probe(self) -> None:
        self._store.probe()
        self._suspect = False

    # ---- segments

    def _begin(self, body: bytes, key: str | None, group: str | None) -> _Arrival:
        """Have a segment's bytes written to the disk, unless it is plain that they will not be taken."""
        if self._description.dstatus is DatastoreState.FROZEN and self._on_frozen is OnFrozen.REJECT:
            return _Arrival(body, None, key, group, self._writers.stage(body, None), span_in_hand())
        path = self._store.volume.staging_path()
        return _Arrival(b"", path, key, group, self._writers.stage(body, path), span_in_hand())

    def _store_arrivals(self, arrivals: Sequence[_Arrival]) -> list[Stored | ProblemError]:
        """Store those that are segments, and tell the others what is wrong with them."""
        try:
            outcomes = [arrival.ready.result() for arrival in arrivals]
            prepared = [
                _Prepared(outcome, arrival.body, arrival.key, arrival.group)
                for arrival, outcome in zip(arrivals, outcomes, strict=True)
                if isinstance(outcome, Staged)
            ]
            results = self._store_prepared(prepared)
            if errors := [result for result in results if isinstance(result, VolumeError)]:
                self._note(errors[-1])
            stored = iter(results)
            return [next(stored) if isinstance(outcome, Staged) else outcome for outcome in outcomes]
        except Exception:
            self._discard(arrival.path for arrival in arrivals)
            raise

    def _store_prepared(self, group: Sequence[_Prepared]) -> list[Stored | ProblemError]:
        if not group:
            return []
        if any(isinstance(each.staged.place, VolumeError) for each in group):
            self._suspect = True
        try:
            return self._trustworthy(lambda: self._store_group(group))
        except ProblemError as error:
            self._discard(each.staged.place for each in group)
            return [error] * len(group)

    def _discard(self, places: Iterable[Path | VolumeError | None]) -> None:
        """Remove what was written of segments that were not stored; what cannot be removed, a start-up sets aside."""
        for place in places:
            if isinstance(place, Path):
                with suppress(VolumeError):
                    self._store.volume.discard(place)

    def _store_group(self, group: Sequence[_Prepared]) -> list[Stored | ProblemError]:
        """Store segments turn by turn: one whose key came before has to see what became of the first."""
        answers: dict[int, Stored | ProblemError] = {}
        waiting = list(range(len(group)))
        while waiting:
            turn, later = _one_of_each_key(group, waiting)
            try:
                stored = self._store_turn([group[index] for index in turn])
            except VolumeError as error:
                if not answers:
                    raise
                # The turns before are stored and stay so; what is left is refused, and the volume read anew.
                self._trusted = False
                self._discard(group[index].staged.place for index in waiting)
                answers.update(dict.fromkeys(waiting, error))
                break
            answers.update(zip(turn, stored, strict=True))
            waiting = later
        return [answers[index] for index in range(len(group))]

    def _store_turn(self, group: Sequence[_Prepared]) -> list[Stored | ProblemError]:
        answers = self._answered_before(group)
        self._discard(group[index].staged.place for index in answers)
        fresh = [index for index in range(len(group)) if index not in answers]
        answers.update(zip(fresh, self._store_fresh([group[index] for index in fresh]), strict=True))
        return [answers[index] for index in range(len(group))]

    def _answered_before(self, group: Sequence[_Prepared]) -> dict[int, Stored | ProblemError]:
        """Give the answers to segments whose Idempotency-Key is known."""
        keyed = {index: each.key for index, each in enumerate(group) if each.key is not None}
        if not keyed:
            return {}
        known = self._store.catalog.by_key(keyed.values())
        answers: dict[int, Stored | ProblemError] = {}
        for index, key in keyed.items():
            sha256 = group[index].staged.sha256
            first = known.get(key) or self._claim(sha256, key)
            if first is not None:
                answers[index] = Stored(first.name, first.bytes) if first.sha256 == sha256 else _key_reused(key)
        return answers

    def _claim(self, sha256: str, key: str) -> CataloguedSegment | None:
        """Give a segment that start-up found on the volume to the key that comes with its very bytes.

        It was stored right before a crash and never acknowledged, and this is its sender trying again.
        """
        if sha256 not in self._recovered:
            return None
        claimed = self._store.catalog.claim(sha256, key)
        self._recovered = self._store.catalog.recovered()
        return claimed

    def _store_fresh(self, group: Sequence[_Prepared]) -> list[Stored | ProblemError]:
        batch = self._batch_to_fill()
        if batch is None:
            self._discard(each.staged.place for each in group)
            return [BufferFrozen(f"the batch is frozen by {self._description.user}") for _ in group]
        refusals = self._quota.refusals([(each.group, each.staged.size) for each in group], time.time_ns())
        admitted = [each for each, refusal in zip(group, refusals, strict=True) if not refusal]
        self._discard(each.staged.place for each, refusal in zip(group, refusals, strict=True) if refusal)
        stored = iter(self._store_admitted(batch, admitted))
        return [refusal or next(stored) for refusal in refusals]

    def _store_admitted(self, batch: OpenBatch, group: Sequence[_Prepared]) -> list[Stored | VolumeError]:
        # What met a frozen batch when it came, and an open one now, is not written yet.
        written = [each if each.staged.place else self._write(each) for each in group]
        published = iter(self._publish(batch, [each for each in written if isinstance(each.staged.place, Path)]))
        self._suspect = self._suspect or any(isinstance(each.staged.place, VolumeError) for each in written)
        return [
            each.staged.place if isinstance(each.staged.place, VolumeError) else next(published) for each in written
        ]

    def _write(self, segment: _Prepared) -> _Prepared:
        [staged] = stage([(segment.body, self._store.volume.staging_path())])
        assert isinstance(staged, Staged)  # noqa: S101 (it was a segment before)
        return replace(segment, staged=staged)

    def _batch_to_fill(self) -> OpenBatch | None:
        """Give the batch that takes segments now, None where none does."""
        if self._description.dstatus is DatastoreState.OPERATIONAL:
            return self._in_hand
        if self._on_frozen is OnFrozen.REJECT:
            return None
        if self._next is None:
            self._next = self._store.begin(self._store.next)
        return self._next

    def _publish(self, batch: OpenBatch, written: Sequence[_Prepared]) -> list[Stored]:
        """Name, catalogue and count written segments in one step: all of them or, where anything fails, none."""
        if not written:
            return []
        folder, now = batch.slot.folder, time.time_ns()
        stored = [Stored(self._next_name(), each.staged.size) for each in written]
        rows = [_row(each, segment.name, now) for each, segment in zip(written, stored, strict=True)]
        spent = self._quota.spent([(each.group, each.staged.size) for each in written], now)
        entered = False
        try:
            for each, segment in zip(written, stored, strict=True):
                assert isinstance(each.staged.place, Path)  # noqa: S101 (what was written lies somewhere)
                self._store.volume.publish(each.staged.place, folder, segment.name)
            synced = self._syncer.submit(self._store.volume.sync, folder)
            self._store.catalog.add(batch.id, rows, spent)
            entered = True
            synced.result()
            self._count(batch, rows, now)
            self._suspect = False
        except VolumeError:
            self._suspect = True
            self._discard(each.staged.place for each in written)
            self._discard(folder / segment.name for segment in stored)
            if entered:
                with suppress(VolumeError):
                    self._store.catalog.take_back(spent)
            raise
        self._quota.spending = self._quota.spending.with_more(spent)
        return stored

    def _count(self, batch: OpenBatch, rows: Sequence[SegmentRow], now: int) -> None:
        size = sum(row.bytes for row in rows)
        stats = Stats(batch.stats.n_itm + len(rows), batch.stats.buff_size + size)
        batch.slot.log.append(stored_entry(row.name, row.bytes, now) for row in rows)
        grown = replace(batch, stats=stats, tally=counted(batch.tally, rows))
        if batch.slot is self._store.hand:
            self._store.metadata.write_stats(stats)
            self._hand = grown
        else:
            self._next = grown
        meters.count_stored(len(rows), size)
        self._last_seq += len(rows)  # the catalog counts them without a gap

    def _next_name(self) -> str:
        self._last_number = max(self._last_number + 1, time.time_ns())
        return self._store.volume.name(self._last_number)

    # ---- batches

    def _freeze(self, order: FreezeOrder) -> Frozen:
        hand = self._in_hand
        if self._description.dstatus is DatastoreState.FROZEN:
            manifest = read_manifest(hand.slot.folder)
            return Frozen(hand.stats, self._description.user, hand.id, manifest.digest)
        if hand.stats.buff_size < order.at_least:
            raise BatchChanged(f"the batch has {hand.stats.buff_size} bytes, not {order.at_least} any more")
        now = time.time_ns()
        manifest = self._store.seal(hand, order.user, now)
        description = Description(DatastoreState.FROZEN, order.user, fingerprint(order.token))
        self._store.metadata.write_description(description)
        self._hand, self._description = replace(hand, seal=Seal(now, manifest.digest)), description
        told = {"event": "freeze", "user": order.user, "digest": manifest.digest, **_counts(hand)}
        log.info("frozen by %s: %s", order.user, _size(hand.stats), extra=told)
        return Frozen(hand.stats, order.user, hand.id, manifest.digest)

    def _thaw(self, order: ThawOrder, held: Description, *, theirs: bool) -> Stats:
        if self._description.dstatus is DatastoreState.OPERATIONAL:
            return self._in_hand.stats
        if self._description != held:  # frozen anew while the token was looked at
            theirs = _is_holder(self._description, order)
        if not theirs:
            raise NotHolder(f"the batch is held by {self._description.user}; user or token is not theirs")
        self._store.metadata.write_description(OPERATIONAL)
        self._store.unseal(self._in_hand)
        hand = replace(self._in_hand, seal=None)
        if self._next is not None:
            hand = self._store.merge()
            self._store.metadata.write_stats(hand.stats)
        self._hand, self._next, self._description = hand, None, OPERATIONAL
        told = {"event": "thaw", "user": order.user, **_counts(hand)}
        log.info("thawed by %s: %s", order.user, _size(hand.stats), extra=told)
        return hand.stats

    def _claim_batch(self, batch: str, order: ClaimOrder) -> ClaimRow:
        if self._description.dstatus is not DatastoreState.FROZEN or batch != self._in_hand.id:
            raise BatchNotFrozen(f"batch {batch!r} is not frozen")
        now = time.time_ns()
        claim = self._store.catalog.claim_batch(ClaimRow(batch, order.worker, now + int(order.lease * 10**9)), now)
        if claim.worker != order.worker:
            raise _claimed(claim, now)
        self._claimed_by = claim
        told = {"event": "claim", "batch": batch, "worker": order.worker, "lease": order.lease}
        log.info("batch %s claimed by %s for %g s", batch, order.worker, order.lease, extra=told)
        return claim

    def _release_batch(self, batch: str, worker: str) -> None:
        now = time.time_ns()
        claim = self._store.catalog.release_batch(batch, worker, now)
        if claim is not None:
            raise _claimed(claim, now)
        if self._claimed_by and self._claimed_by.batch == batch:
            self._claimed_by = None
        log.info("batch %s released by %s", batch, worker, extra={"event": "release", "batch": batch, "worker": worker})

    def _flush(self, order: FlushOrder) -> Archived:
        hand, now = self._in_hand, time.time_ns()
        if order.batch not in {None, hand.id}:
            raise BatchChanged(f"the batch in hand is {hand.id!r}, not {order.batch!r}")
        folder = None
        if hand.stats.n_itm:
            frozen = self._description.dstatus is DatastoreState.FROZEN
            manifest = read_manifest(hand.slot.folder) if frozen else self._store.seal(hand, "", now)
            folder = self._store.archive(hand, manifest, now)
        else:
            self._store.drop_empty(hand)
            self._quarantined = self._store.volume.quarantined()
        self._hand, self._next, self._description = self._store.advance(), None, OPERATIONAL
        self._claimed_by = None
        self._archived += folder is not None
        told = {"event": "flush", "folder": folder and folder.name, **_counts(hand)}
        log.info("archived %s%s", _size(hand.stats), f" in {folder}" if folder else "", extra=told)
        return Archived(hand.stats, folder)

    async def _open_file(self, place: Callable[[], Path | None]) -> BinaryIO | None:
        """Open a file that an archiving may be moving: a second look is taken when no step is under way."""

        def look() -> BinaryIO | None:
            path = place()
            with volume_errors():
                try:
                    return path.open("rb") if path else None
                except FileNotFoundError:
                    return None

        return await asyncio.to_thread(look) or await self._in_order(look)

    def _segment_place(self, name: str) -> Path | None:
        segment = self._store.catalog.segment(name)
        return self._place(segment.batch, name) if segment else None

    def _place(self, batch: str, name: str) -> Path | None:
        row = self._store.catalog.batch(batch)
        return self._store.volume.root / row.path / name if row else None

    def _counted(self, row: BatchRow) -> BatchRow:
        """Give what the catalog says of an open batch with the counts of this moment."""
        for batch in filter(None, (self._hand, self._next)):
            if batch.id == row.id:
                return replace(row, n_itm=batch.stats.n_itm, buff_size=batch.stats.buff_size)
        return row

    @property
    def _in_hand(self) -> OpenBatch:
        if self._hand is None:
            raise RuntimeError("the buffer was not opened")
        return self._hand


def _tell_verified(batch: str, found: Verification) -> None:
    meters.count_verified(found.state)
    told = {"event": "verified", "batch": batch, "state": found.state, "problems": found.problems}
    level = logging.ERROR if found.state is VerificationState.DAMAGED else logging.INFO
    log.log(level, "batch %s is %s: %d of %d files read", batch, found.state, found.checked, found.segments, extra=told)


def _size(stats: Stats) -> str:
    return f"{stats.n_itm} segments, {stats.buff_size} bytes"


def _counts(batch: OpenBatch) -> dict[str, str | int]:
    return {"batch": batch.id, "n_itm": batch.stats.n_itm, "buff_size": batch.stats.buff_size}


def _one_of_each_key(group: Sequence[_Prepared], indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split `indices` into the first of each key, with all that have none, and those that come after them."""
    keys: set[str] = set()
    first: list[int] = []
    later: list[int] = []
    for index in indices:
        key = group[index].key
        (later if key in keys else first).append(index)
        if key is not None:
            keys.add(key)
    return first, later


def _row(prepared: _Prepared, name: str, now: int) -> SegmentRow:
    staged = prepared.staged
    return SegmentRow(
        name=name,
        bytes=staged.size,
        sha256=staged.sha256,
        channel=staged.channel,
        t0=staged.t0,
        dt=staged.dt,
        n=staged.n,
        stored=now,
        key=prepared.key,
    )


def _check_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"Idempotency-Key: expected 1 to {_LONGEST_KEY} printable ASCII characters"
        raise InvalidRequest(message, field="Idempotency-Key")


def _key_reused(key: str) -> KeyReused:
    return KeyReused(f"Idempotency-Key {key!r} came with other bytes before", field="Idempotency-Key")


def _claimed(claim: ClaimRow, now: int) -> BatchClaimed:
    seconds = math.ceil((claim.expires - now) / 10**9)
    return BatchClaimed(f"worker {claim.worker!r} has batch {claim.batch!r} for {seconds} s", retry_after=seconds)


def _is_holder(held: Description, order: ThawOrder) -> bool:
    return hmac.compare_digest(held.user.encode(), order.user.encode()) and matches(held.token, order.token)
