"""Segments are read wherever their bytes are; what is only on tape is recalled once, however many ask for it."""

import asyncio
import hashlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from databuffer.buffer import Buffer
from databuffer.errors import OnTape, RecallTooLarge, TierFailed
from databuffer.records.scan import Scan
from databuffer.search.segment_files import SegmentFiles
from databuffer.settings import BufferSettings
from databuffer.storage.catalog.schema import REPLICAS, STEPS
from databuffer.storage.clock import steady_ns
from databuffer.storage.dropped import read_dropped
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners, TapeRobot
from databuffer.tiers.packs.pack import key_of
from databuffer.tiers.packs.read_back import Written
from databuffer.tiers.recalls import cache, recall
from databuffer.tiers.tier import Locality, Staged, StageState, Tier, TierError
from databuffer.tiers.upkeep.census import waiting_recalls
from gwwire.public import VerificationState
from gwwire.records import StepState
from gwwire.tiering import DISK, BatchLocality, RecallState, ReplicaState, Tiering
from tests.support.archives import (
    CountingTier,
    OpenBuffer,
    archive,
    performed,
    states,
    step_in,
    until,
)
from tests.support.recalls import names_of, online, read, read_in_the_end, there_and_back

pytestmark = pytest.mark.anyio

ON_TAPE = Tiering(("tape",), 0)
BOTH = Tiering(("object", "tape"), 0)
VERIFIED, EVICTED, LOST = ReplicaState.VERIFIED, ReplicaState.EVICTED, ReplicaState.LOST


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr("databuffer.tiers.moves.staged_reading._POLL_SECONDS", 0.01)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys that the robot brought online."""
    found: list[str] = []
    real = TapeRobot._bring_online  # noqa: SLF001 (what is counted)

    def counted(robot: TapeRobot, key: str) -> None:
        found.append(key)
        real(robot, key)

    monkeypatch.setattr(TapeRobot, "_bring_online", counted)
    return found


async def on_tape(buffer: Buffer, count: int = 3) -> tuple[str, dict[str, str]]:
    """Archive a batch that is on tape only; return its id, and the SHA-256 of its segments by name."""
    batch, _ = await archive(buffer, ON_TAPE, count)
    await until(buffer, batch, {"tape": VERIFIED})
    with buffer._store.catalog.database.reading() as connection:  # noqa: SLF001 (faster than pages)
        rows = connection.exec_driver_sql("SELECT name, sha256 FROM segments WHERE batch = ?", (batch,)).fetchall()
    return batch, dict(map(tuple, rows))


async def test_a_hundred_readers_of_a_batch_on_tape_cause_one_recall(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, mounts: list[str]
) -> None:
    buffer = await opening(tier, tape)
    batch, digests = await on_tape(buffer)
    mounts.clear()
    names = sorted(digests) * 34
    with pytest.raises(OnTape, match=rf"batch {batch} is on tape; its recall is (number 1 of|\d+ % done)") as refused:
        await read(buffer, names[0])
    assert refused.value.retry_after
    found = await asyncio.gather(*(read_in_the_end(buffer, name) for name in names[:100]))
    assert found == [digests[name] for name in names[:100]]
    await online(buffer, batch)
    assert mounts == [key_of(batch)]
    assert tier.written == [key_of(batch)]
    assert (await buffer.recalls.states.get(batch, "readers")).pinned
    assert (await buffer.recalls.release(batch, "alice")).others.keys() == {"readers"}
    locality = await buffer.tiers.localities_of([batch])
    assert locality == {batch: BatchLocality.DISK_AND_TAPE}


async def test_nobody_waits_for_a_recall_that_is_to_run_again_after_its_pack_has_arrived(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, digests = await on_tape(buffer)
    await read_in_the_end(buffer, min(digests))
    await step_in(buffer, batch, "recall", StepState.DONE)
    tiers: dict[str, Tier] = {"object": tier, "tape": tape}
    with buffer._store.catalog.database.writing_synced() as connection:  # noqa: SLF001 (as it is for a moment)
        again = sa.update(STEPS).where(STEPS.c.name == "recall").values(state=StepState.WAITING, reason="away")
        connection.execute(again)
        assert not waiting_recalls(connection, tiers)
        connection.execute(sa.update(REPLICAS).where(REPLICAS.c.tier == "object").values(state=EVICTED))
        assert [(each.batch, each.reason) for each in waiting_recalls(connection, tiers)] == [(batch, "away")]


async def test_what_was_on_disk_and_in_both_tiers_comes_back_with_the_same_bytes(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    await there_and_back(await opening(tier, tape), tier)


async def test_the_reader_of_meta_in_the_background_recalls_nothing(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, digests = await on_tape(buffer)
    files = SegmentFiles(buffer.queries, recalls=False)
    files.begin()
    with pytest.raises(OnTape, match=f"batch {batch} is on tape; nobody has asked for its recall"):
        await asyncio.to_thread(files.open, min(digests))
    assert not await buffer.records.steps_named("recall")


async def test_an_evicted_pack_is_not_copied_back_until_it_is_read(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, folder = await archive(buffer, BOTH)
    await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    await performed(buffer, batch, "drop:object")
    await until(buffer, batch, {"object": EVICTED, "tape": VERIFIED})
    for _ in range(3):
        await buffer._sweep.sweep()  # noqa: SLF001 (the next ones, now)
    await performed(buffer, batch, "scrub")
    assert states(await buffer.tiers.replicas(batch)) == {"object": EVICTED, "tape": VERIFIED}
    assert tier.written == [key_of(batch)]
    dropped = read_dropped(folder)
    assert dropped
    assert {each.tier: each.state for each in dropped.replicas} == {"object": EVICTED, "tape": VERIFIED}


async def test_a_pack_that_goes_offline_while_it_is_opened_is_on_tape(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    _, digests = await on_tape(buffer)
    real, looks = tape.locality, [Locality.ONLINE]

    def locality(keys: Sequence[str]) -> dict[str, Locality]:
        return dict.fromkeys(keys, looks.pop()) if looks else real(keys)

    def refuse(*_: object) -> Any:
        raise TierError("access denied (403)")

    monkeypatch.setattr(tape, "locality", locality)
    with monkeypatch.context() as offline:
        offline.setattr(tape, "read", refuse)
        with pytest.raises(OnTape):
            await read(buffer, min(digests))
    assert await read_in_the_end(buffer, min(digests)) == digests[min(digests)]


async def test_wrong_bytes_in_the_object_store_are_never_served(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier, tape)
    batch, digests = await on_tape(buffer)
    name = sorted(digests)[1]
    assert await read_in_the_end(buffer, name) == digests[name]
    await online(buffer, batch)
    whole = tier.file(batch).read_bytes()
    tier.file(batch).write_bytes(whole.replace(b"1.0", b"2.0"))
    with pytest.raises(OnTape):
        await read(buffer, name)
    assert "differs in sha256" in caplog.text
    assert await read_in_the_end(buffer, name) == digests[name]
    await online(buffer, batch)
    assert tier.file(batch).read_bytes() == whole, "the replica was written again"
    (tape._root / "library" / key_of(batch)).unlink()  # noqa: SLF001 (where it lies)
    tier.file(batch).unlink()
    async with asyncio.timeout(60):
        while (await buffer.recalls.states.get(batch, "a")).reason is None:
            with pytest.raises((OnTape, TierFailed)):
                await read(buffer, name)
            await asyncio.sleep(0.02)
    with pytest.raises((OnTape, TierFailed), match="tape"):
        await read(buffer, name)


async def test_a_pack_larger_than_the_cache_is_refused_and_nothing_leaves_it(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier, mounts: list[str]
) -> None:
    small = CountingTier(tmp_path / "object", capacity=25_000)
    buffer = await opening(small, tape, high_water=0.5)
    kept, digests = await on_tape(buffer)
    await read_in_the_end(buffer, min(digests))
    large, digests = await on_tape(buffer, 40)
    mounts.clear()
    for _ in range(3):
        with pytest.raises(RecallTooLarge, match=r"bytes: packs in tier object may have 12,500 \(OBJECT_HIGH_WATER\)$"):
            await buffer.recalls.ask(large, "me")
        with pytest.raises(RecallTooLarge):
            await read(buffer, min(digests))
    assert (await buffer.recalls.states.get(large, "me")).state is RecallState.NEARLINE
    assert (await buffer.recalls.states.get(kept, "me")).state is RecallState.ONLINE
    assert mounts == []


async def test_the_pack_that_was_used_least_recently_leaves_the_cache_and_pinned_ones_stay(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_TURN_SECONDS", 3600.0)
    small = CountingTier(tmp_path / "object", capacity=13_000)  # of packs with some 5600 bytes
    buffer = await opening(small, tape, high_water=1.0)
    batches = [await on_tape(buffer) for _ in range(4)]
    sizes = [(await buffer.recalls.states.get(batch, "a")).bytes for batch, _ in batches]
    assert 2 * max(sizes) < 13_000 < 3 * min(sizes)
    first, second, third, fourth = (batch for batch, _ in batches)

    def there() -> set[str]:
        return {batch for batch, _ in batches if small.file(batch).exists()}

    for batch in (first, second):
        await buffer.recalls.ask(batch, "a")
        await online(buffer, batch)
    for batch in (first, second):
        assert (await buffer.recalls.release(batch, "a")).pinned is None
    await read(buffer, min(batches[0][1]))  # later than the second
    await performed(buffer, second, "copy:object")  # it is only compared, which is no use
    await buffer.recalls.ask(third, "a")
    await online(buffer, third)
    assert there() == {first, third}
    await buffer.recalls.ask(first, "b")
    await buffer.recalls.ask(fourth, "c")
    queued = await buffer.recalls.ask(second, "d")
    assert (queued.state, queued.position) == (RecallState.QUEUED, 2)
    async with asyncio.timeout(60):
        # The state is read before the reason: a recall that began in between is QUEUED once more.
        states = buffer.recalls.states
        while (waiting := await states.get(fourth, "a")).state is RecallState.QUEUED or not waiting.reason:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert waiting.state is RecallState.RUNNING
    assert re.fullmatch(r"[\d,]+ bytes of tier object have to be released or evicted .*", waiting.reason)
    [move] = buffer.tier_overview.added_to(await buffer.queries.overview()).moves
    assert (move.batch, move.reason) == (fourth, waiting.reason)
    assert there() == {first, third}
    await buffer.recalls.release(second, "d")
    await buffer.recalls.release(third, "a")
    await online(buffer, fourth)
    await step_in(buffer, second, "recall", StepState.DONE)
    assert there() == {first, fourth}


async def test_a_sweep_during_a_recall_does_not_compare_its_replica_once_more(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await on_tape(buffer)
    loop, real, seen = asyncio.get_running_loop(), Written.compare, []  # the moment after the write

    def swept(*arguments: Any) -> None:
        seen.append(states(asyncio.run_coroutine_threadsafe(buffer.tiers.replicas(batch), loop).result())["object"])
        asyncio.run_coroutine_threadsafe(buffer._sweep.sweep(), loop).result()  # noqa: SLF001 (now)
        real(*arguments)

    monkeypatch.setattr(Written, "compare", swept)
    await buffer.recalls.ask(batch, "a")
    await step_in(buffer, batch, "recall", StepState.DONE)
    assert seen == [ReplicaState.WRITTEN]
    assert not await buffer.records.steps_named("copy:object")


async def test_a_store_above_its_high_water_mark_is_relieved_of_what_is_on_tape_too(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier
) -> None:
    small = CountingTier(tmp_path / "object", capacity=20_000)
    buffer = await opening(small, tape, high_water=0.5)
    only, _ = await archive(buffer, Tiering(("object",), 0))
    await until(buffer, only, {"object": VERIFIED})
    both, _ = await archive(buffer, BOTH)
    await until(buffer, both, {"object": EVICTED, "tape": VERIFIED})
    assert states(await buffer.tiers.replicas(only)) == {"object": VERIFIED}, "its last replica stays"


async def test_a_recall_that_nobody_needs_any_more_is_not_made(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, mounts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await on_tape(buffer)
    mounts.clear()
    real = recall.Recalls._is_pinned  # noqa: SLF001 (to release it just before)

    def released(recalls: recall.Recalls, pack: str) -> bool:
        asyncio.run_coroutine_threadsafe(recalls.release(batch, "a"), loop).result()
        return real(recalls, pack)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(recall.Recalls, "_is_pinned", released)
    await buffer.recalls.ask(batch, "a")
    await step_in(buffer, batch, "recall", StepState.DONE)
    assert mounts == []
    assert (await buffer.recalls.states.get(batch, "a")).state is RecallState.NEARLINE


async def test_without_an_object_store_the_disk_is_the_cache_of_the_tape(
    opening: OpenBuffer, tape: TapeTier, settings: BufferSettings
) -> None:
    buffer = await opening(tape)
    batch, digests = await on_tape(buffer)
    asked = await buffer.recalls.ask(batch, "a")
    assert asked.tier == DISK
    assert {name: await read_in_the_end(buffer, name) for name in digests} == digests
    await online(buffer, batch)
    await until(buffer, batch, {DISK: VERIFIED, "tape": VERIFIED})
    for asker in ("a", "readers"):
        await buffer.recalls.release(batch, asker)
    await until(buffer, batch, {"tape": VERIFIED})
    assert not list(settings.DTVOLROOT.glob("2*/gwb*.json"))


async def test_a_drop_while_a_segment_is_read_does_not_break_the_reader(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, Tiering(("object",)))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    names = names_of(folder)
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    stop = False

    async def reader() -> int:
        number = 0
        while not stop or number < 30:
            for name, digest in zip(names, digests, strict=True):
                assert await read(buffer, name) == digest
                number += 1
        return number

    readers = [asyncio.create_task(reader()) for _ in range(4)]
    with await buffer.queries.segment_file(names[0]) as opened:
        await buffer.tiers.set_tiering(batch, Tiering(("object",), 0))
        await until(buffer, batch, {"object": VERIFIED})
        assert hashlib.sha256(opened.read()).hexdigest() == digests[0]
    stop = True
    assert min(await asyncio.gather(*readers)) >= 30


async def test_a_tier_that_is_down_is_reported_and_the_disk_is_asked_first(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, Tiering(("object",)))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    [first, *_] = names_of(folder)
    tier.down = True
    assert await read(buffer, first)
    tier.down = False
    await buffer.tiers.set_tiering(batch, Tiering(("object",), 0))
    await until(buffer, batch, {"object": VERIFIED})
    tier.down = True
    with pytest.raises(TierFailed, match=f"segment {first} cannot be read: .*tier object: it is down"):
        await read(buffer, first)
    assert states(await buffer.tiers.replicas(batch)) == {"object": VERIFIED}


async def test_a_cache_that_is_down_is_named_instead_of_a_recall_that_would_not_begin(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, folder = await archive(buffer, Tiering(("object", "tape")))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED, "tape": VERIFIED})
    [first, *_] = names_of(folder)
    await buffer.tiers.set_tiering(batch, BOTH)
    await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    tier.down = True
    with pytest.raises(TierFailed, match=f"segment {first} cannot be read: tier object: it is down"):
        await read(buffer, first)
    tier.down = False
    assert await read(buffer, first)


class SlowTape(TapeTier):
    """A tape that brings nothing online before it may."""

    slow = False

    def staged(self, request: str) -> dict[str, Staged]:
        found = super().staged(request)
        return {key: Staged(StageState.STARTED) for key in found} if self.slow else found


async def test_a_verification_that_waits_for_the_tape_has_read_no_file_yet(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    (tmp_path / "tape").mkdir()
    tape = SlowTape("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))
    buffer = await opening(tier, tape)
    batch, _ = await on_tape(buffer)
    tape.slow = True
    await buffer.verifier.request(batch)
    async with asyncio.timeout(60):
        while not ((attempt := buffer.performer.attempt("verify", f"batch/{batch}")) and attempt.progress):  # noqa: ASYNC110 (the same)
            await asyncio.sleep(0.02)
    row = await buffer.queries.batch(batch)
    found = (await buffer.verifier.verifications([row]))[batch]
    assert (found.state, found.checked) == (VerificationState.RUNNING, 0)
    tape.slow = False
    await step_in(buffer, batch, "verify", StepState.DONE)


class BusyTape(TapeTier):
    """A tape that stages nothing while its drives are taken."""

    def __init__(self, name: str, root: Path, manners: TapeManners) -> None:
        super().__init__(name, root, manners)
        self.drives = threading.Event()
        self.drives.set()

    def stage(self, keys: Sequence[str]) -> str:
        self.drives.wait(100)
        return super().stage(keys)


async def test_a_recall_that_runs_and_one_that_waits_are_reported(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    (tmp_path / "tape").mkdir()
    tape = BusyTape("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))
    buffer = await opening(tier, tape)
    first, second = [(await archive(buffer, ON_TAPE))[0] for _ in range(2)]
    for batch in (first, second):
        await until(buffer, batch, {"tape": VERIFIED})
        await step_in(buffer, batch, "drop:disk", StepState.DONE)  # else the disk has it
    tape.drives.clear()
    for batch in (first, second):
        await buffer.recalls.ask(batch, "a")
    async with asyncio.timeout(60):
        while True:
            found = buffer.tier_overview.added_to(await buffer.queries.overview())
            moves = [(move.batch, move.step) for move in found.moves]
            if moves == [(first, "recall")] and [each.batch for each in found.recalls] == [second]:
                break  # what waits is seen a moment later
            await asyncio.wait([buffer.records.next_change(Scan(()))], timeout=0.05)
    [waiting] = found.recalls
    assert waiting.reason is None
    assert waiting.since == pytest.approx(found.time, abs=60)
    tape.drives.set()
    await online(buffer, second)


async def test_a_recall_that_fails_for_good_says_why_to_its_readers_and_once_a_minute_in_the_log(
    opening: OpenBuffer,
    tape: TapeTier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("databuffer.records.steps._FIRST_BACK_OFF", 10**7)
    buffer = await opening(tape)
    batch, digests = await on_tape(buffer)
    (tmp_path / "tape" / "faults").write_text("stage batches/* the tape is torn\n")
    with pytest.raises(OnTape):
        await read(buffer, min(digests))
    step = await step_in(buffer, batch, "recall", StepState.FAILED)
    assert step.attempt == 5
    with pytest.raises(TierFailed, match=f"batch {batch} is on tape; its recall failed: .*the tape is torn"):
        await read(buffer, min(digests))
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert re.fullmatch(f"attempt 1 at step recall of record batch/{batch} failed: .*the tape is torn", line)


async def test_a_pin_that_a_wrong_clock_made_too_long_ends_a_pin_after_the_next_start(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await on_tape(buffer)
    ahead = steady_ns() + 365 * 86_400 * 10**9
    with monkeypatch.context() as wrong:
        wrong.setattr(recall, "steady_ns", lambda: ahead)
        assert (await buffer.recalls.ask(batch, "a")).pinned
    await buffer.close()
    buffer = await opening(tier, tape)
    pinned = (await buffer.recalls.states.get(batch, "a")).pinned
    assert pinned
    assert pinned * 10**9 <= buffer.recalls.pinned_until(steady_ns())


async def test_the_time_of_a_recall_is_estimated_from_those_before_the_start_too(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    first, second = [(await on_tape(buffer))[0] for _ in range(2)]
    guess = await buffer.recalls.states.get(second, "a")
    assert (guess.seconds, guess.measured) == (60, False)
    await buffer.recalls.ask(first, "a")
    await online(buffer, first)
    await buffer.close()
    buffer = await opening(tier, tape)
    estimate = await buffer.recalls.states.get(second, "a")
    assert 0 < estimate.seconds < 60
    assert estimate.measured
