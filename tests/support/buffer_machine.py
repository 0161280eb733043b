"""A buffer and its model: orders arrive, calls fail, the process dies, and both must hold the same after each step."""

import asyncio
import errno
import hashlib
import json
import queue
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from databuffer import fingerprint
from databuffer.app import create_store
from databuffer.batches import Archived, Frozen
from databuffer.buffer import Buffer
from databuffer.errors import BatchChanged, BufferFrozen, KeyReused, NotHolder, QueueFull, VolumeError
from databuffer.ingest.incoming import Incoming
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import BatchRow, SegmentFilter
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from gwwire.datastore import FlushOrder, FreezeOrder
from gwwire.manifest import batch_digest
from gwwire.overview import ChannelOverview
from gwwire.problems import ProblemError
from gwwire.public import BatchState, Stats, ThawOrder
from gwwire.segment import Segment, decode_segment
from tests.support.buffer_settings import settings_in
from tests.support.faulty_volume import Crash, Fault, FaultyDatabase, FaultyVolume
from tests.support.model import Files, Layout, Model
from tests.support.segments import BAD_BODIES, segment_body

ALICE, BOB = FreezeOrder("alice", "secret"), FreezeOrder("bob", "other")
QUEUE = 4

#: Few bodies and few keys, so that they are repeated often.
bodies = st.integers(0, 4).map(lambda number: _body(number, channel=(None, "H1:A", "L1:A")[number % 3]))
keys = st.none() | st.sampled_from(["k1", "k2", "k3"])
users = st.sampled_from([ALICE, BOB])
faults = st.none() | st.builds(
    Fault,
    call=st.integers(0, 24),
    number=st.sampled_from([None, None, errno.ENOSPC, errno.EIO, errno.EROFS]),
    late=st.booleans(),
    times=st.sampled_from([1, 1, 2, 1000]),
)


class LostState(Enum):
    """The state that a crash loses."""

    NOTHING = auto()
    CATALOG = auto()
    UNSYNCED = auto()


Outcome = Any
Order = Callable[[Buffer], Coroutine[Any, Any, Any]]


def make_home() -> tuple[Path, BufferSettings]:
    """Make a folder, and return it with the settings of a buffer in it."""
    home = Path(tempfile.mkdtemp())
    return home, settings_in(home)


class BufferMachine(RuleBasedStateMachine):
    on_frozen: ClassVar[OnFrozen]

    def __init__(self) -> None:
        super().__init__()
        self.home, self.settings = make_home()
        self.model = Model()
        self.seqs: dict[str, int] = {}
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda *_: None)  # unfinished tasks after a crash are expected
        self.faults = FaultyVolume().__enter__()
        self.cost, fingerprint.LOG_COST = fingerprint.LOG_COST, 1  # the cost of a guess is not tested here

    def teardown(self) -> None:
        self.faults.heal()
        self._await(self.buffer.close())
        self.faults.__exit__()
        fingerprint.LOG_COST = self.cost
        self.runner.close()
        shutil.rmtree(self.home)

    # ---- orders

    @initialize()
    def start_on_an_empty_volume(self) -> None:
        self._open()
        self._check([Layout()])

    @rule(body=bodies, key=keys, fault=faults)
    def append(self, body: bytes, key: str | None, fault: Fault | None) -> None:
        self._append([(key, body)], fault)

    @rule(sent=st.lists(st.tuples(keys, bodies), min_size=2, max_size=QUEUE + 2), fault=faults)
    def append_at_once(self, sent: list[tuple[str | None, bytes]], fault: Fault | None) -> None:
        self._append(sent, fault)

    @rule(body=st.sampled_from([bad for bad, *_ in BAD_BODIES.values()]), key=keys)
    def append_invalid_segment(self, body: bytes, key: str | None) -> None:
        [outcome] = self._carry_out([lambda buffer: buffer.ingest.append(body, key)], None)
        assert isinstance(outcome, ProblemError)
        assert not isinstance(outcome, VolumeError)
        self._check([self.model.layout])

    @rule(user=users, fault=faults)
    def freeze(self, user: FreezeOrder, fault: Fault | None) -> None:
        before = self.model.layout
        [outcome] = self._carry_out([lambda buffer: buffer.batches.freeze(user)], fault)
        if isinstance(outcome, Frozen):
            assert outcome.stats == _stats(before.hand)
            assert outcome.holder == (before.holder or user).user
            assert outcome.digest == _digest(before.hand)
        self._check(_possible(outcome, before, before.frozen(user)))

    @rule(user=users)
    def freeze_more_than_there_is(self, user: FreezeOrder) -> None:
        order = FreezeOrder(user.user, user.token, self.model.layout.size + 1)
        [outcome] = self._carry_out([lambda buffer: buffer.batches.freeze(order)], None)
        assert isinstance(outcome, Frozen if self.model.layout.holder else BatchChanged)
        self._check([self.model.layout])

    @rule(user=users, fault=faults)
    def thaw(self, user: FreezeOrder, fault: Fault | None) -> None:
        before = self.model.layout
        [outcome] = self._carry_out([lambda buffer: buffer.batches.thaw(ThawOrder(user.user, user.token))], fault)
        if before.holder not in {None, user}:
            assert isinstance(outcome, NotHolder | VolumeError | Crash)
            self._check([before])
            return
        if before.holder is None:
            assert outcome is None
        elif isinstance(outcome, Stats):
            assert outcome == _stats(before.open_files)
        else:
            assert isinstance(outcome, VolumeError | Crash)
        self._check(_possible(outcome, before, before.thawed()))

    @rule(fault=faults)
    def flush(self, fault: Fault | None) -> None:
        before = self.model.layout
        [outcome] = self._carry_out([lambda buffer: buffer.batches.flush()], fault)
        if isinstance(outcome, Archived):
            assert outcome.stats == _stats(before.hand)
            assert (outcome.folder is None) == (not before.hand)
        self._check(_possible(outcome, before, before.flushed()))

    @rule()
    def flush_another_batch(self) -> None:
        [outcome] = self._carry_out([lambda buffer: buffer.batches.flush(FlushOrder("another"))], None)
        assert isinstance(outcome, BatchChanged)
        self._check([self.model.layout])

    @rule(fault=faults, lost=st.booleans())
    def stop_and_start(self, fault: Fault | None, *, lost: bool) -> None:
        self._carry_out([lambda buffer: buffer.close()], fault)
        self._drop()
        if lost:
            self._delete_catalog()
        self._open(fault)
        self._check([self.model.layout])

    @rule(fault=faults, lost=st.sampled_from(LostState))
    def crash_and_start(self, fault: Fault | None, lost: LostState) -> None:
        self._drop()
        match lost:
            case LostState.CATALOG:
                self._delete_catalog()
            case LostState.UNSYNCED:
                self._lose_power()
        self._open(fault)
        self._check([self.model.layout])

    # ---- execution

    def _append(self, sent: Sequence[tuple[str | None, bytes]], fault: Fault | None) -> None:
        def order(key: str | None, body: bytes) -> Order:
            return lambda buffer: buffer.ingest.append(body, key)

        outcomes = self._carry_out([order(*each) for each in sent], fault)
        told = list(zip(sent, outcomes, strict=True))
        known = set(self.model.keys)
        self.model.unanswered += [each for each, outcome in told if isinstance(outcome, VolumeError | Crash)]
        for (key, body), outcome in told:
            if isinstance(outcome, Incoming):
                assert outcome.size == len(body)
                self.model.acknowledge(outcome.name, body, key)
        for (key, body), outcome in told:
            self._check_refusal(key, body, outcome, many=len(sent) > QUEUE)
            assert not (isinstance(outcome, BufferFrozen) and key in known)
        self._check([self.model.layout])

    def _check_refusal(self, key: str | None, body: bytes, outcome: Outcome, *, many: bool) -> None:
        match outcome:
            case KeyReused():
                assert self.model.may_be_reused(key, body)
            case BufferFrozen():
                assert self.model.layout.holder
                assert self.on_frozen is OnFrozen.REJECT
            case QueueFull():
                assert many
            case VolumeError():
                assert self.faults.struck
            case _:
                assert isinstance(outcome, Incoming | Crash)

    def _carry_out(self, orders: Sequence[Order], fault: Fault | None) -> list[Outcome]:
        """Return the outcome of concurrent orders: a result, a refusal, or a Crash if there was no answer."""

        async def answers() -> list[Outcome]:
            tasks = [asyncio.create_task(order(self.buffer)) for order in orders]
            while not self.faults.crashed and not all(task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=0.01)
            for task in tasks:
                task.cancel()
            return [_outcome(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        self.faults.arm(fault)
        outcomes: list[Outcome] = self._await(answers())
        assert self.faults.struck or not any(isinstance(each, VolumeError | Crash) for each in outcomes)
        if self.faults.crashed:
            self._drop()
            self._open()
        return outcomes

    def _open(self, fault: Fault | None = None) -> None:
        """Start until it works; failures of the first attempts are temporary."""
        for each in (fault, None):
            self._make()
            self.faults.arm(each)
            try:
                self._await(self.buffer.open())
            except (VolumeError, Crash):
                assert self.faults.struck
            else:
                if not self.faults.crashed:
                    return
            self._drop()
        pytest.fail("the buffer does not start on a volume that works")

    def _make(self) -> None:
        self.executor = ThreadPoolExecutor(2)
        self.runner.get_loop().set_default_executor(self.executor)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("databuffer.app.Database", lambda path: FaultyDatabase(path, self.faults))
            self.store: Store = create_store(self.settings)
        path = self.store.catalog.database.path
        self.snapshot = path.read_bytes() if path.exists() else b""
        self.buffer = Buffer(self.store, queue_size=QUEUE, on_frozen=self.on_frozen)

    def _drop(self) -> None:
        """End the process: its threads, its lock, its connections."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._await(cancel_all())
        self.executor.shutdown()
        end_threads(self.buffer)
        self.faults.heal()
        self.store.close()

    def _lose_power(self) -> None:
        """Lose what was never synced: the catalog is an old one, the counts are empty, the log is cut short."""
        self._delete_catalog()
        if self.snapshot:
            self.store.catalog.database.path.write_bytes(self.snapshot)
        (self.settings.ADMROOT / self.settings.ADMFNM).write_bytes(b"")
        log = self.settings.LOGROOT / self.settings.LOGSTREAM
        log.write_bytes(log.read_bytes()[:-20])

    def _delete_catalog(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            path = self.store.catalog.database.path
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self.model.lose_catalog()
        self.seqs = {}

    def _await(self, awaitable: Awaitable[Outcome]) -> Outcome:
        async def wait() -> Outcome:
            return await awaitable

        return self.runner.run(wait())

    # ---- checks

    def _check(self, possible: list[Layout]) -> None:
        """Compare with the model when nothing fails any more and the buffer is ready."""
        self.faults.heal()
        self._await(self.buffer.queries.check_ready())
        observed = self._observe()
        self.model.settle(observed, possible)
        self._check_metadata(observed)
        self._check_catalog(observed)
        self._check_overview(observed)

    def _observe(self) -> Layout:
        archives = tuple(_files(folder) for folder in self.store.volume.archives())
        description = json.loads((self.settings.ADMROOT / self.settings.DSST).read_bytes())
        assert description == json.loads(json.dumps(_plain(self.buffer.queries.description)))
        frozen = description["dstatus"] == "FROZEN"
        holder = next(user for user in (ALICE, BOB) if _holds(description, user)) if frozen else None
        return Layout(_files(self.store.volume.data), _files(self.store.volume.next), archives, holder)

    def _check_metadata(self, there: Layout) -> None:
        stats, with_next = _stats(there.hand), self.store.volume.next.exists()
        following = _stats(there.next)
        told = Stats(stats.n_itm, stats.buff_size, following.n_itm, following.buff_size) if with_next else stats
        assert self.buffer.queries.stats == told
        written = json.loads((self.settings.ADMROOT / self.settings.ADMFNM).read_bytes())
        assert written == {"n_itm": stats.n_itm, "buff_size": stats.buff_size}
        assert there.holder or not with_next, "there is a next batch beside one that is not frozen"
        logged = [json.loads(line)["name"] for line in self._await(self.buffer.queries.log_lines())]
        assert logged == list(there.hand) == self._await(self.buffer.queries.names())
        assert self.store.volume.leftovers() == []
        extra = {path.name for path in self.store.volume.data.iterdir()} - there.hand.keys()
        assert extra == ({"MANIFEST.json"} if there.holder else set())
        for folder in [self.store.volume.data] * bool(there.holder) + self.store.volume.archives():
            assert list(differences(folder, read_manifest(folder))) == []

    def _check_catalog(self, there: Layout) -> None:
        volume = self.store.volume
        state = BatchState.FROZEN if there.holder else BatchState.OPEN
        folders: dict[str, tuple[BatchState, Files]] = {
            folder.name: (BatchState.ARCHIVED, _files(folder)) for folder in volume.archives()
        }
        folders[volume.data.name] = state, there.hand
        if volume.next.exists():
            folders[volume.next.name] = BatchState.OPEN, there.next
        rows: dict[str, BatchRow] = {row.path: row for row in self._await(self.buffer.queries.batches())}
        assert {path: (row.state, row.n_itm, row.buff_size) for path, row in rows.items()} == {
            path: (state, len(files), sum(map(len, files.values()))) for path, (state, files) in folders.items()
        }
        for path, row in rows.items():
            assert row.digest == (None if row.state is BatchState.OPEN else _digest(folders[path][1]))
        segments = self._await(self.buffer.queries.segments(SegmentFilter(limit=-1)))
        by_batch = {row.id: path for path, row in rows.items()}
        assert sorted((by_batch[row.batch], row.name, row.bytes) for row in segments) == sorted(
            (path, name, len(content)) for path, (_, files) in folders.items() for name, content in files.items()
        )
        self._check_order({row.name: row.seq for row in segments})

    def _check_overview(self, there: Layout) -> None:
        overview = self._await(self.buffer.queries.overview())
        assert overview.ready
        assert overview.queue == 0
        assert (overview.holder, overview.state == "FROZEN") == (there.holder and there.holder.user, bool(there.holder))
        rows: dict[str, BatchRow] = {row.path: row for row in self._await(self.buffer.queries.batches())}
        hand, following = rows["data"], rows.get("next")
        assert (overview.batch, overview.n_itm, overview.buff_size) == (hand.id, hand.n_itm, hand.buff_size)
        assert overview.digest == hand.digest
        assert overview.since == (hand.frozen or hand.opened) / 10**9
        assert (overview.next is None) == (following is None)
        if overview.next and following:
            told = overview.next
            assert (told.batch, told.n_itm, told.buff_size) == (following.id, following.n_itm, following.buff_size)
        assert max(self.seqs.values(), default=0) <= overview.seq == self.store.catalog.segments.last_seq()
        assert overview.archived == len(there.archives)
        reasons = list(self.store.volume.quarantine.glob("*.reason"))
        assert overview.quarantined == len(list(self.store.volume.quarantine.iterdir())) - len(reasons)
        assert overview.channels == _channels(self.store.volume.data, self.store.volume.next)

    def _check_order(self, seqs: dict[str, int]) -> None:
        assert list(seqs.values()) == sorted(seqs.values())
        assert {name: seqs[name] for name in self.seqs} == self.seqs, "a segment changed its place in the order"
        newest = max(self.seqs.values(), default=0)
        assert all(seq > newest for name, seq in seqs.items() if name not in self.seqs)
        self.seqs = seqs


def end_threads(buffer: Buffer) -> None:
    """End the threads that a dying process takes with it, however far they are."""
    ingest = buffer.ingest
    ingest._arrived.put(None)  # noqa: SLF001 (no part of the product ends a thread that crashed)
    for thread in ingest._threads:  # noqa: SLF001 (the same)
        while thread.is_alive():
            thread.join(0.002)
            with suppress(queue.Empty):
                if not ingest._threads[1].is_alive():  # noqa: SLF001 (nobody takes what is staged)
                    ingest._staged.get_nowait()  # noqa: SLF001 (the same)
            with suppress(queue.Full):
                if not ingest._threads[0].is_alive():  # noqa: SLF001 (nobody stages the end)
                    ingest._staged.put_nowait([None])  # noqa: SLF001 (the same)
    buffer._commit.close()  # noqa: SLF001 (the same)


def _body(number: int, channel: str | None) -> bytes:
    body = json.loads(segment_body(number, samples=3, t0=10.0 * number))
    meta = {"meta": {"channel": channel}} if channel else {}
    return json.dumps({**body, **meta}, separators=(",", ":")).encode()


def _channels(*folders: Path) -> list[ChannelOverview]:
    """Return the content of the folders by channel; spans are exact in binary, so that sums can be compared."""
    found: dict[str, list[tuple[Segment, str, int]]] = {}
    for folder in folders:
        for name, content in _files(folder).items():
            segment = decode_segment(content)
            found.setdefault(segment.channel or "", []).append((segment, name, len(content)))
    return [
        ChannelOverview(
            channel or None,
            len(of_it),
            sum(size for _, _, size in of_it),
            sum(len(segment.h) * segment.dt for segment, _, _ in of_it),
            min(segment.t0 for segment, _, _ in of_it),
            max(segment.t0 + len(segment.h) * segment.dt for segment, _, _ in of_it),
            max(name for _, name, _ in of_it),
        )
        for channel, of_it in sorted(found.items())
    ]


def _possible(outcome: Outcome, before: Layout, after: Layout) -> list[Layout]:
    return [before, after] if isinstance(outcome, VolumeError | Crash) else [after]


def _outcome(each: Outcome) -> Outcome:
    if isinstance(each, asyncio.CancelledError):
        return Crash()
    if isinstance(each, BaseException) and not isinstance(each, ProblemError | Crash):
        raise each
    return each


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("gwb*.json"))}


def _stats(files: Files) -> Stats:
    return Stats(len(files), sum(map(len, files.values())))


def _digest(files: Files) -> str:
    return batch_digest((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())


def _holds(description: dict[str, str], order: FreezeOrder) -> bool:
    return description["user"] == order.user and fingerprint.matches(description["token"], order.token)


def _plain(description: Any) -> dict[str, str]:
    return {field: getattr(description, field) for field in description.__struct_fields__}
