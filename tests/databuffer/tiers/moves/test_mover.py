"""Archived batches reach the tiers of their policy, leave the disk, and are repaired, without any order."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from databuffer.__main__ import main
from databuffer.buffer import Buffer
from databuffer.errors import BatchNotArchived, NotFound
from databuffer.records.scan import Scan
from databuffer.settings import BufferSettings
from databuffer.storage.volume import Volume
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.packs.pack import SegmentPack, key_of, read_head, read_members, tier_range
from databuffer.tiers.tier import TierError
from databuffer.tiers.upkeep.metrics import tier_gauges
from databuffer.verifier import since_repaired
from gwwire.decoding import InvalidRequest
from gwwire.records import StepState
from gwwire.tiering import DISK, BatchLocality, ReplicaState, Tiering, TierOverview
from tests.support.archives import (
    AT_ONCE,
    FOREVER,
    CountingTier,
    OpenBuffer,
    archive,
    performed,
    states,
    step_in,
    until,
)
from tests.support.files import contents_of

pytestmark = pytest.mark.anyio

VERIFIED, LOST = ReplicaState.VERIFIED, ReplicaState.LOST


@pytest.fixture
def _no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a step that has failed waiting until the test ends: a second attempt would have another result."""
    monkeypatch.setattr("databuffer.records.steps._FIRST_BACK_OFF", 3600 * 10**9)


async def verified(buffer: Buffer, batch: str) -> Any:
    """Verify a batch; return `verification` of GET /batches."""
    await buffer.verifier.request(batch)
    await step_in(buffer, batch, "verify", StepState.DONE, StepState.FAILED)
    return (await buffer.verifier.verifications([await buffer.queries.batch(batch)])).get(batch)


async def test_a_batch_is_copied_dropped_and_read_from_the_tier_with_the_same_bytes(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, AT_ONCE)
    files = {path.name: path.read_bytes() for path in folder.glob("gwb*.json")}
    assert len(files) == 3
    [found] = (await until(buffer, batch, {"object": VERIFIED})).replicas
    assert not list(folder.glob("gwb*.json"))
    assert {"MANIFEST.json", "TIERS.json", "LogStream.json"} == {path.name for path in folder.iterdir()}
    assert hashlib.sha256(tier.file(batch).read_bytes()).hexdigest() == found.sha256
    pack = read_head(tier_range(tier, found.key))
    members = read_members(tier, found.key, pack, pack.names)
    assert {name: b"".join(chunks) for name, chunks in members} == files
    assert tier.written == [key_of(batch)], "it is moved once"


async def test_the_disk_keeps_a_batch_as_long_as_the_policy_says(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, FOREVER)
    found = await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert found.tiering == FOREVER
    assert len({each.sha256 for each in found.replicas}) == 1, "the folder is the same pack"
    assert len(list(folder.glob("gwb*.json"))) == 3
    changed = await buffer.tiers.set_tiering(batch, AT_ONCE)
    assert changed.tiering == AT_ONCE
    await until(buffer, batch, {"object": VERIFIED})


async def test_without_a_policy_nothing_is_copied_until_there_is_one(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, None)
    assert states(await buffer.tiers.replicas(batch)) == {DISK: ReplicaState.WRITTEN}
    with pytest.raises(InvalidRequest, match="TIERS names object"):
        await buffer.tiers.set_tiering(batch, Tiering(("tape",)))
    with pytest.raises(NotFound):
        await buffer.tiers.set_tiering("nothing", FOREVER)
    with pytest.raises(BatchNotArchived):
        await buffer.tiers.set_tiering((await buffer.queries.overview()).batch, FOREVER)
    assert tier.written == []
    await buffer.tiers.set_tiering(batch, FOREVER)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})


async def test_a_copy_waits_for_a_tier_that_is_down_and_the_disk_keeps_the_batch(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    tier.down = True
    batch, folder = await archive(buffer, AT_ONCE)
    failed = await step_in(buffer, batch, "copy:object", StepState.WAITING)
    assert failed.reason == "tier object: it is down"
    [_, overview] = (await buffer.tier_overview.overview()).tiers
    assert (overview.name, overview.kind, overview.error, overview.queue) == ("object", "object", failed.reason, 1)
    assert len(list(folder.glob("gwb*.json"))) == 3
    tier.down = False
    await buffer.records.redo(f"batch/{batch}", "copy:object")  # sooner than the pause ends
    await until(buffer, batch, {"object": VERIFIED})
    [disk, overview] = (await buffer.tier_overview.overview()).tiers
    assert (overview.replicas, overview.bytes, overview.error) == (1, tier.file(batch).stat().st_size, None)
    assert (disk.name, disk.replicas) == (DISK, 0)
    assert disk.total
    assert disk.used


async def test_a_replica_that_is_altered_is_lost_and_copied_again(
    opening: OpenBuffer, tier: CountingTier, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    whole = tier.file(batch).read_bytes()
    tier.file(batch).write_bytes(whole[:-2000] + b"x" + whole[-1999:])
    results = [await performed(buffer, batch, "scrub") for _ in range(2)]
    assert sorted(each["tier"] for each in results) == [DISK, "object"], "the oldest first"
    [problem] = filter(None, (each["problem"] for each in results))
    assert [record.levelname for record in caplog.records if problem in record.getMessage()] == ["ERROR"]
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert tier.file(batch).read_bytes() == whole
    assert len(tier.written) == 2


@pytest.mark.usefixtures("_no_retries")
async def test_a_replica_that_disappeared_does_not_let_the_disk_drop_the_batch(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    tier.file(batch).unlink()
    await buffer.records.request(f"batch/{batch}", "drop:disk")
    refused = await step_in(buffer, batch, "drop:disk", StepState.WAITING)
    assert "no replica outside disk is VERIFIED" in (refused.reason or "")
    assert len(list(folder.glob("gwb*.json"))) == 3
    assert not (folder / "TIERS.json").exists()
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})


@pytest.mark.usefixtures("_no_retries")
async def test_a_replica_of_the_same_size_that_was_written_since_does_not_let_the_disk_drop_the_batch(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    whole = tier.file(batch).read_bytes()
    tier.file(batch).write_bytes(whole[:-2000] + bytes(b ^ 1 for b in whole[-2000:]))
    now = time.time()
    os.utime(tier.file(batch), (now, now))  # the clock of a file system is some ms behind
    await buffer.records.request(f"batch/{batch}", "drop:disk")
    failed = await step_in(buffer, batch, "drop:disk", StepState.WAITING, StepState.FAILED)
    assert "no replica outside disk is VERIFIED" in (failed.reason or "")
    assert len(list(folder.glob("gwb*.json"))) == 3
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    now = time.time()
    os.utime(tier.file(batch), (now, now))
    before = {each.tier: each.verified for each in (await buffer.tiers.replicas(batch)).replicas}
    await buffer.records.redo(f"batch/{batch}", "drop:disk")
    [found] = (await until(buffer, batch, {"object": VERIFIED})).replicas
    assert (found.verified or 0) > (before["object"] or 0), "it was compared again"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{}")], ids=["missing", "altered"])
async def test_a_damaged_file_on_the_disk_is_restored_from_the_tier(
    opening: OpenBuffer, tier: CountingTier, damage: Callable[[Path], object]
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    path = sorted(folder.glob("gwb*.json"))[1]
    content = path.read_bytes()
    damage(path)
    assert (await verified(buffer, batch)).state == "damaged"
    step = await step_in(buffer, batch, "copy:disk", StepState.DONE)
    assert step.result["moved"] is True
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert path.read_bytes() == content
    assert (await verified(buffer, batch)).state == "intact"


@pytest.mark.usefixtures("_no_retries")
async def test_what_is_restored_on_the_disk_is_read_back(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    path = sorted(folder.glob("gwb*.json"))[1]
    content = path.read_bytes()
    path.unlink()
    put = Volume.put_files

    def put_other_bytes(volume: Volume, folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
        monkeypatch.setattr(Volume, "put_files", put)
        put(volume, folder, [(name, content.replace(b"1.0", b"2.0")) for name, content in files])

    monkeypatch.setattr(Volume, "put_files", put_other_bytes)
    await buffer.records.request(f"batch/{batch}", "copy:disk")
    step = await step_in(buffer, batch, "copy:disk", StepState.WAITING)
    assert step.reason == f"{path.name} differs on the disk after it was written"
    assert states(await buffer.tiers.replicas(batch)) == {DISK: ReplicaState.WRITING, "object": VERIFIED}
    copy = (await buffer.tiers.replicas(batch)).replicas[0]
    assert (copy.tier, copy.again, copy.error) == (DISK, step.expires, step.reason)
    await buffer.records.redo(f"batch/{batch}", "copy:disk")
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert path.read_bytes() == content


async def test_a_copy_never_spreads_damage(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, None)
    path = sorted(folder.glob("gwb*.json"))[1]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.0", b"2.0"))
    await buffer.tiers.set_tiering(batch, FOREVER)
    failed = await step_in(buffer, batch, "copy:object", StepState.WAITING, StepState.FAILED)
    assert failed.reason == f"{path.name} differs in sha256"
    assert not tier.file(batch).exists()
    assert states(await buffer.tiers.replicas(batch))[DISK] is LOST
    path.write_bytes(content)
    await buffer.records.redo(f"batch/{batch}", "copy:object")  # sooner than the pause ends
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})


async def test_a_dropped_batch_is_verified_from_the_tier(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    found = await verified(buffer, batch)
    assert (found.state, found.checked, found.segments) == ("intact", 3, 3)
    content = tier.file(batch).read_bytes()
    tier.file(batch).write_bytes(content[:-5])
    found = await verified(buffer, batch)
    assert (found.state, found.problems[0][:27]) == ("damaged", "the replica in object: it h")
    assert states(await buffer.tiers.replicas(batch)) == {"object": LOST}


async def test_a_batch_on_the_disk_is_verified_in_its_tiers_too(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    found = await verified(buffer, batch)
    assert (found.state, found.tiers) == ("intact", [DISK, "object"])
    tier.file(batch).unlink()
    found = await verified(buffer, batch)
    assert (found.state, found.problems) == ("damaged", ["the replica in object: it is not in tier object"])
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    first = min(folder.glob("gwb*.json"))
    first.write_bytes(first.read_bytes().replace(b"[0.0,", b"[1.0,"))
    found = await verified(buffer, batch)
    assert (found.state, found.tiers, found.problems) == (
        "damaged",
        [DISK, "object"],
        [f"{first.name} differs in sha256"],
    )


@pytest.mark.usefixtures("_no_retries")
async def test_a_verification_says_which_copy_could_not_be_read(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    tier.down = True
    await buffer.verifier.request(batch)
    failed = await step_in(buffer, batch, "verify", StepState.WAITING)
    assert failed.reason == "intact in disk; not read: tier object: it is down"
    [running] = (await buffer.verifier.verifications([await buffer.queries.batch(batch)])).values()
    assert (running.state, running.problems) == ("running", [failed.reason])
    assert states(await buffer.tiers.replicas(batch)) == {DISK: VERIFIED, "object": VERIFIED}


@pytest.mark.usefixtures("_no_retries")
async def test_a_verification_that_finds_damage_names_the_copies_that_could_not_be_read_too(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    tier.down = True
    first = min(folder.glob("gwb*.json"))
    first.write_bytes(first.read_bytes().replace(b"[0.0,", b"[1.0,"))
    found = await verified(buffer, batch)
    assert found.state == "damaged"
    assert found.problems == [f"{first.name} differs in sha256", "not read: tier object: it is down"]


async def test_a_manifest_that_is_another_costs_no_replica_in_a_tier(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    other, elsewhere = await archive(buffer, count=2)
    for each in (batch, other):
        await until(buffer, each, {DISK: VERIFIED, "object": VERIFIED})
    (folder / "MANIFEST.json").write_bytes((elsewhere / "MANIFEST.json").read_bytes())
    found = await verified(buffer, batch)
    assert (found.state, found.tiers) == ("damaged", [DISK])
    assert states(await buffer.tiers.replicas(batch))["object"] is VERIFIED


async def test_a_batch_that_was_repaired_and_compared_again_is_not_called_damaged(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    min(folder.glob("gwb*.json")).write_bytes(b"{}")
    found = await verified(buffer, batch)
    assert found.state == "damaged"
    repaired = await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert since_repaired(found, []) == found
    assert since_repaired(found, repaired.replicas).state == "repaired"
    assert since_repaired(found, [replace(each, state=LOST) for each in repaired.replicas]) == found


async def test_a_third_replica_is_copied_from_the_tier_when_the_disk_has_dropped_the_batch(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    (tmp_path / "tape").mkdir()
    tape = TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.01, seek=0.01))
    buffer = await opening(tier, tape)
    batch, folder = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.tiers.set_tiering(batch, Tiering(("object", "tape"), 0))
    found = await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    assert len({each.sha256 for each in found.replicas}) == 1
    await step_in(buffer, batch, "copy:tape", StepState.DONE)
    assert b'"tape"' in (folder / "TIERS.json").read_bytes()
    tier.file(batch).unlink()
    await performed(buffer, batch, "scrub")
    found = await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    assert tier.file(batch).exists(), "it was staged and copied back"


class HeldTier(CountingTier):
    """A second tier, whose writes end only when they may."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.name = "other"
        self.may_end = threading.Event()

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        super().write(key, size, chunks)
        assert self.may_end.wait(60)


async def test_a_copy_from_the_disk_that_ends_after_a_drop_does_not_count_the_disk(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    other = HeldTier(tmp_path / "other")
    buffer = await opening(tier, other)
    batch, folder = await archive(buffer, Tiering(("object", "other")))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED, "other": ReplicaState.WRITING})
    await buffer.tiers.set_tiering(batch, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED, "other": ReplicaState.WRITING})
    await buffer._sweep.close()  # noqa: SLF001 (it would drop it again)
    other.may_end.set()
    await step_in(buffer, batch, "copy:other", StepState.DONE)
    assert states(await buffer.tiers.replicas(batch)) == {"object": VERIFIED, "other": VERIFIED}
    assert b'"other"' in (folder / "TIERS.json").read_bytes()


async def test_a_drop_waits_for_the_files_that_are_being_restored(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    min(folder.glob("gwb*.json")).unlink()
    is_whole, may_end, real = threading.Event(), threading.Event(), TierAccess.known_sha256

    def held(*arguments: Any) -> str | None:
        is_whole.set()
        assert may_end.wait(60)
        return real(*arguments)

    monkeypatch.setattr(TierAccess, "known_sha256", staticmethod(held))
    await buffer.records.request(f"batch/{batch}", "copy:disk")
    assert await asyncio.to_thread(is_whole.wait, 60)
    await buffer.tiers.set_tiering(batch, AT_ONCE)
    step = await step_in(buffer, batch, "drop:disk", StepState.RUNNING, StepState.DONE)
    await buffer._sweep.close()  # noqa: SLF001 (it would drop it again)
    turn = buffer._sweep._mover.turns._turns[f"batch/{batch}", DISK]  # noqa: SLF001 (to see that the drop waits)
    while turn.moves < 2 and step.state is not StepState.DONE:
        step = await step_in(buffer, batch, "drop:disk", *StepState)
    may_end.set()
    await step_in(buffer, batch, "copy:disk", StepState.DONE)
    await step_in(buffer, batch, "drop:disk", StepState.DONE)
    assert states(await buffer.tiers.replicas(batch)) == {"object": VERIFIED}
    assert not list(folder.glob("gwb*.json"))
    assert (folder / "TIERS.json").exists()


class BreakingTier(CountingTier):
    """A tier whose writes fail after the first bytes; the errors are kept, with all that their tracebacks refer to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.breaks = False
        self.errors: list[TierError] = []

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        if not self.breaks:
            return super().write(key, size, chunks)
        next(iter(chunks))
        self.errors.append(TierError("tier object: the connection broke"))
        raise self.errors[-1]


@pytest.mark.usefixtures("_no_retries")
async def test_a_copy_from_tape_that_fails_leaves_nothing_staged(
    opening: OpenBuffer, tape: TapeTier, tmp_path: Path
) -> None:
    tier = BreakingTier(tmp_path / "object")
    buffer = await opening(tier, tape)
    batch, _ = await archive(buffer, Tiering(("object", "tape"), 0))
    await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    tier.breaks = True
    tier.file(batch).unlink()
    await performed(buffer, batch, "scrub")
    failed = await step_in(buffer, batch, "copy:object", StepState.WAITING, StepState.FAILED)
    assert failed.reason == "tier object: the connection broke"
    assert contents_of(tmp_path / "tape/online") == {}


async def test_a_lost_catalog_is_rebuilt_with_the_dropped_batches(
    opening: OpenBuffer, tier: CountingTier, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    before = await buffer.tiers.replicas(batch)
    await buffer.close()
    for path in [*settings.ADMROOT.glob("catalog.sqlite*"), *(settings.DTVOLROOT / ".ledger").glob("*")]:
        path.unlink()
    buffer = await opening(tier)
    assert (await buffer.queries.batch(batch)).n_itm == 3
    after = await until(buffer, batch, {"object": VERIFIED})
    assert (after.replicas, after.tiering) == (before.replicas, before.tiering)
    assert not list((settings.DTVOLROOT / "quarantine").iterdir())
    assert main(["verify", str(folder)]) == 0
    assert f"object as {key_of(batch)}" in capsys.readouterr().out


async def test_fsck_knows_a_dropped_batch_from_a_damaged_one(
    opening: OpenBuffer,
    tier: CountingTier,
    settings: BufferSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))
    buffer = await opening(tier)
    batch, folder = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.close()
    assert await asyncio.to_thread(main, ["fsck"]) == 0, capsys.readouterr().out
    (folder / "TIERS.json").write_bytes(b"{")
    assert await asyncio.to_thread(main, ["fsck"]) == 1
    assert "TIERS.json cannot be understood" in capsys.readouterr().out
    (folder / "TIERS.json").unlink()
    assert await asyncio.to_thread(main, ["fsck"]) == 1
    assert "is missing" in capsys.readouterr().out


async def test_batches_are_listed_with_their_replicas_and_locality(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    (tmp_path / "tape").mkdir()
    tape = TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.01, seek=0.01))
    buffer = await opening(tier, tape)
    policies = {"forever": FOREVER, "object": AT_ONCE, "tape": Tiering(("tape",), 0)}
    batches = {name: (await archive(buffer, tiering))[0] for name, tiering in policies.items()}
    await until(buffer, batches["forever"], {DISK: VERIFIED, "object": VERIFIED})
    await until(buffer, batches["object"], {"object": VERIFIED})
    await until(buffer, batches["tape"], {"tape": VERIFIED})
    rows = await buffer.queries.batches()
    found = await buffer.tiers.localities(rows)
    assert {name: found[batch][0] for name, batch in batches.items()} == {
        "forever": BatchLocality.DISK,
        "object": BatchLocality.DISK,
        "tape": BatchLocality.TAPE,
    }
    assert [each.batch for each in await buffer.tiers.all_replicas()] == list(batches.values())


async def test_the_rate_of_all_moves_is_limited_and_a_stop_does_not_wait_for_it(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier, move_rate=10)  # the pack has some 5000 bytes: written and read back in 1000 s
    batch, folder = await archive(buffer)
    size = SegmentPack((folder / "MANIFEST.json").read_bytes()).size
    while not (attempt := buffer.performer.attempt("copy:object", f"batch/{batch}")) or not attempt.progress:  # noqa: ASYNC110 (what a client does)
        await asyncio.sleep(0.01)
    assert (attempt.progress.done, attempt.progress.of) == (size, 2 * size)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await buffer.close()
    assert loop.time() - began < 60
    buffer = await opening(tier)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert len(tier.written) == 1, "what was whole was only compared"


async def test_a_stuck_tier_keeps_no_other_step_waiting(opening: OpenBuffer, tier: CountingTier) -> None:
    released = threading.Event()

    class Stuck(CountingTier):
        def stat(self, key: str) -> Any:
            released.wait()
            return super().stat(key)

    buffer = await opening(Stuck(tier.root))
    batches = [(await archive(buffer))[0] for _ in range(4)]
    try:
        await step_in(buffer, batches[0], "copy:object", StepState.RUNNING)
        assert (await verified(buffer, batches[3])).state == "intact"
    finally:
        released.set()


async def test_a_replica_is_scrubbed_when_its_time_has_come(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier, scrub_every=0)
    batch, _ = await archive(buffer)
    await step_in(buffer, batch, "scrub", StepState.DONE)


async def test_without_tiers_nothing_is_performed(opening: OpenBuffer) -> None:
    buffer = await opening()
    batch, _ = await archive(buffer, None)
    assert [tier.name for tier in (await buffer.tier_overview.overview()).tiers] == [DISK]
    assert [step.name for step in (await buffer.records.steps()).steps if ":" in step.name] == []
    assert states(await buffer.tiers.replicas(batch)) == {DISK: ReplicaState.WRITTEN}


# ---- what is told of the tiers


async def seen(buffer: Buffer, wanted: Callable[[TierOverview], bool]) -> tuple[TierOverview, dict[str, float]]:
    """Return the overview of the tier and the metrics with its label, as soon as the overview is as `wanted`."""
    async with asyncio.timeout(60):
        while True:
            overview = buffer.tier_overview.added_to(await buffer.queries.overview())
            found = next(each for each in overview.tiers if each.name == "object")
            if wanted(found):
                break
            await asyncio.sleep(0.02)
    samples = [
        sample
        for metric in tier_gauges(overview, buffer.tier_overview.census, buffer.tier_overview.scrub_every)
        for sample in metric.samples
        if sample.labels.get("tier", "object") == "object"
    ]
    return found, {" ".join([each.name, *each.labels.values()]): each.value for each in samples}


async def test_a_copy_that_is_late_and_a_tier_that_fails_are_reported(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    tier.down = True
    failures = REGISTRY.get_sample_value("glitchflow_tier_failures_total", {"tier": "object"}) or 0
    batch, _ = await archive(buffer)
    await step_in(buffer, batch, "copy:object", StepState.WAITING)
    found, metrics = await seen(buffer, lambda each: (each.missing, each.queue) == (1, 1))
    archived = (await buffer.tiers.replicas(batch)).archived
    assert (found.error, found.replicas, found.queue) == ("tier object: it is down", 0, 1)
    assert found.oldest == pytest.approx(archived)
    assert metrics["glitchflow_tier_up object"] == 0
    assert metrics["glitchflow_tier_missing_replicas object"] == 1
    assert 0 <= metrics["glitchflow_tier_oldest_missing_seconds object"] < 60
    assert (REGISTRY.get_sample_value("glitchflow_tier_failures_total", {"tier": "object"}) or 0) > failures


async def test_replicas_that_are_there_and_lost_are_counted_with_their_bytes(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    moved = {
        way: REGISTRY.get_sample_value("glitchflow_tier_moved_bytes_total", {"tier": "object", "direction": way}) or 0
        for way in ("written", "read")
    }
    buffer = await opening(tier, scrub_every=86_400)
    batch, _ = await archive(buffer)
    size = (await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})).size
    found, metrics = await seen(buffer, lambda each: each.replicas == 1)
    assert (found.bytes, found.missing, found.oldest, found.lost) == (size, 0, None, 0)
    assert found.verified == pytest.approx(time.time(), abs=60)
    assert metrics["glitchflow_replica_bytes object VERIFIED"] == size
    assert metrics["glitchflow_replicas object LOST"] == metrics["glitchflow_tier_missing_replicas object"] == 0
    assert metrics["glitchflow_scrub_interval_seconds"] == 86_400
    for way, before in moved.items():
        labels = {"tier": "object", "direction": way}
        assert REGISTRY.get_sample_value("glitchflow_tier_moved_bytes_total", labels) == before + size
    await buffer.tiers.set_tiering(batch, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    tier.file(batch).unlink()
    await performed(buffer, batch, "scrub")  # there is nothing to copy it from, so it stays LOST
    found, metrics = await seen(buffer, lambda each: each.lost == 1)
    assert (found.replicas, found.missing) == (0, 1)
    assert metrics["glitchflow_replicas object LOST"] == 1


async def test_a_move_that_is_under_way_is_reported_with_its_rate(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier, move_rate=10)  # it takes minutes
    batch, _ = await archive(buffer)
    async with asyncio.timeout(60):
        while True:
            change = buffer.records.next_change(Scan(()))
            moves = (await buffer.tier_overview.overview()).moves
            if moves and moves[0].rate is not None:
                break
            await asyncio.wait([change], timeout=0.1)
    [move] = moves
    size = (await buffer.tiers.replicas(batch)).size
    assert (move.batch, move.step, move.of) == (batch, "copy:object", 2 * size)
    assert 0 < move.done < 2 * size
    assert move.rate is not None
    assert 0 < move.rate <= move.done


async def test_without_tiers_the_overview_and_the_metrics_have_nothing_of_them(opening: OpenBuffer) -> None:
    buffer = await opening()
    overview = await buffer.queries.overview()
    assert buffer.tier_overview.added_to(overview) is overview
    assert (overview.tiers, overview.moves) == ([], [])
    assert list(tier_gauges(overview, buffer.tier_overview.census, 60)) == []
