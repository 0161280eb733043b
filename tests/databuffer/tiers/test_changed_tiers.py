"""Tiers that TIERS names no more, or that were away for a time: nothing is lost by that, and readers are told why."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from databuffer.errors import TierFailed
from databuffer.storage.catalog import SegmentFilter
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
from databuffer.tiers.ledger import replicas
from databuffer.tiers.moves import access
from databuffer.tiers.packs.pack import SegmentPack, folder_chunks, key_of
from databuffer.tiers.tier import Tier
from gwwire.manifest import MANIFEST, decode_manifest, encode_manifest
from gwwire.records import StepState
from gwwire.tiering import DISK, BatchLocality, RecallState, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer, archive, performed, states, step_in, until
from tests.support.recalls import online

pytestmark = pytest.mark.anyio

VERIFIED = ReplicaState.VERIFIED
MISSING = "tape: TIERS does not name it"


@pytest.fixture
def other(tmp_path: Path) -> FolderTier:
    (tmp_path / "other").mkdir()
    return FolderTier("other", tmp_path / "other")


async def test_the_disk_drops_nothing_whose_only_copy_is_in_a_tier_that_is_gone(
    opening: OpenBuffer, tier: CountingTier, other: FolderTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, Tiering(("object",), 3600))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    buffer = await opening(other)
    await buffer.records.request(f"batch/{batch}", "drop:disk")  # the sweep, which has to wait for an hour, does not
    failed = await step_in(buffer, batch, "drop:disk", StepState.WAITING)
    assert failed.reason == (
        f"batch/{batch}: no replica outside disk is VERIFIED in a tier that TIERS names, only in object"
    )
    assert len(list(folder.glob("gwb*"))) == 3
    found = (await buffer.tiers.replicas(batch)).replicas
    assert {each.tier: each.in_tiers for each in found} == {DISK: True, "object": False}
    await buffer._sweep.sweep()  # noqa: SLF001 (the next one, now)
    assert buffer._sweep.census["object"].missing == 1  # noqa: SLF001 (what the metrics and alerts have)


async def test_a_batch_that_only_a_tier_has_that_is_gone_is_not_missing_but_unavailable(
    opening: OpenBuffer, other: FolderTier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tape").mkdir()
    tape = TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))
    buffer = await opening(tape, other)
    batch, _ = await archive(buffer, Tiering(("tape",), 0))
    await until(buffer, batch, {"tape": VERIFIED})
    name = (await buffer.queries.segments(SegmentFilter(batch=batch)))[0].name
    await buffer.close()
    assert "packs-unreadable" not in {getattr(each, "event", "") for each in caplog.records}
    for tiers in ((other,), ()):
        caplog.clear()
        buffer = await opening(*tiers)
        [told] = [each for each in caplog.records if getattr(each, "event", "") == "packs-unreadable"]
        assert told.levelno == logging.WARNING
        assert told.getMessage().endswith("cannot be read, because TIERS does not name their tiers: 1 in tape")
        with pytest.raises(TierFailed, match="tape: TIERS does not name it"):
            await buffer.queries.segment_file(name)
        with pytest.raises(TierFailed, match="tape: TIERS does not name it"):
            await buffer.recalls.ask(batch, "me")
        found = await buffer.recalls.states.get(batch, "me")
        assert (found.state, found.reason) == (RecallState.FAILED, f"no replica can be read: {MISSING}")
        assert states(await buffer.tiers.replicas(batch)) == {"tape": VERIFIED}
        where = await buffer.tiers.localities(await buffer.queries.batches())
        assert {each: locality for each, (locality, _) in where.items()} == {batch: BatchLocality.UNAVAILABLE}
        overview = (await buffer.tier_overview.overview()).tiers[-1]
        assert (overview.name, overview.in_tiers, overview.replicas, overview.unreadable) == ("tape", False, 1, 1)
        await buffer.verifier.request(batch)
        failed = await step_in(buffer, batch, "verify", StepState.WAITING, StepState.FAILED)
        assert failed.reason == f"batch {batch} was dropped from the disk, and no replica can be read: {MISSING}"
        assert failed.state is StepState.FAILED, "another attempt would find the same"
        await buffer.close()


async def test_without_tiers_a_comparison_of_what_is_on_the_disk_counts_if_tiers_were_given_it(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, Tiering(("object",)))
    found = await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    buffer = await opening()
    other, _ = await archive(buffer, None)
    await buffer._replicas.change(  # noqa: SLF001 (as a damaged file was found before)
        lambda c: replicas.note_lost(c, replicas.of_pack(c, f"batch/{batch}")[0], "a file is missing")
    )
    for name in (batch, other):
        await performed(buffer, name, "verify")
    assert states(await buffer.tiers.replicas(batch)) == states(found)
    where = await buffer.tiers.localities(await buffer.queries.batches())
    assert {each: locality for each, (locality, _) in where.items()} == {batch: BatchLocality.DISK}


async def test_a_recall_of_what_needs_none_names_the_tier_that_does_not_answer(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_JUST_NOW_SECONDS", 0.0)
    buffer = await opening(tier)
    batch, _ = await archive(buffer, Tiering(("object",), 0))
    await until(buffer, batch, {"object": VERIFIED})
    tier.down = True
    async with asyncio.timeout(60):  # a probe from before may be under way
        while (found := await buffer.recalls.states.get(batch, "me")).state is RecallState.ONLINE:  # noqa: ASYNC110 (a client)
            await asyncio.sleep(0.02)
    assert (found.state, found.reason) == (RecallState.FAILED, "no replica can be read: tier object: it is down")
    with pytest.raises(TierFailed, match=f"no replica of batch {batch} can be read: tier object: it is down"):
        await buffer.recalls.ask(batch, "me")
    assert (await buffer.recalls.states.standings([batch]))[batch].state is RecallState.FAILED
    tier.down = False
    await online(buffer, batch)


async def test_a_replica_that_was_away_counts_again_when_it_is_back_and_whole(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, Tiering(("object",), 0))
    await until(buffer, batch, {"object": VERIFIED})
    name = (await buffer.queries.segments(SegmentFilter(batch=batch)))[0].name
    tier.root.rename(tmp_path / "unmounted")
    tier.root.mkdir()  # the empty mount point
    with pytest.raises(TierFailed):
        await buffer.queries.segment_file(name)
    await until(buffer, batch, {"object": ReplicaState.LOST})
    tier.root.rmdir()
    (tmp_path / "unmounted").rename(tier.root)
    await buffer.records.redo(f"batch/{batch}", "copy:object")
    await until(buffer, batch, {"object": VERIFIED})
    (await buffer.queries.segment_file(name)).close()
    assert len(tier.written) == 1


async def test_a_damaged_replica_that_is_the_last_is_not_read_again_and_again(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, Tiering(("object",), 0))
    await until(buffer, batch, {"object": VERIFIED})
    whole = tier.file(batch).read_bytes()
    tier.file(batch).write_bytes(whole.replace(b"1.0", b"2.0"))
    await performed(buffer, batch, "scrub")
    failed = await step_in(buffer, batch, "copy:object", StepState.FAILED)
    assert f"no replica of batch {batch} is whole; in tier object" in (failed.reason or "")
    assert tier.file(batch).read_bytes() != whole


def foreign_pack(folder: Path) -> bytes:
    """Return the pack that a copy of this datastore could have made, which another user has frozen."""
    manifest = decode_manifest((folder / MANIFEST).read_bytes())
    return b"".join(folder_chunks(folder, SegmentPack(encode_manifest(structs.replace(manifest, holder="eve")))))


@pytest.mark.parametrize("kind", ["object", "tape"])
@pytest.mark.parametrize(
    "damage", [lambda _: b"garbage", lambda pack: pack[:-3000] + b"?" + pack[-2999:]], ids=["no pack", "one byte"]
)
async def test_the_whole_pack_of_another_datastore_is_not_replaced_and_a_damaged_one_is(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    target: Tier = tier if kind == "object" else tape
    buffer = await opening(target)
    taken, folder = await archive(buffer, None)
    content = foreign_pack(folder)
    target.write(key_of(taken), len(content), [content])
    await buffer.tiers.set_tiering(taken, Tiering((kind,), 0))
    failed = await step_in(buffer, taken, f"copy:{kind}", StepState.WAITING)
    assert f"tier {kind} has another pack as {key_of(taken)} (batch {taken}, 3 segments)" in (failed.reason or "")
    assert target.stat(key_of(taken)) is not None
    assert len(list(folder.glob("gwb*.json"))) == 3
    damaged = damage(content)
    target.write(key_of(taken), len(damaged), [damaged])
    await buffer.records.redo(f"batch/{taken}", f"copy:{kind}")
    await until(buffer, taken, {kind: VERIFIED})


async def test_the_pack_of_another_datastore_is_not_replaced_where_a_replica_was_lost(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, folder = await archive(buffer, Tiering(("object",)))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    content = foreign_pack(folder)
    tier.file(batch).write_bytes(content)
    for _ in range(2):  # the oldest replica first: that of the disk
        await performed(buffer, batch, "scrub")
    failed = await step_in(buffer, batch, "copy:object", StepState.WAITING)
    assert "tier object has another pack as" in (failed.reason or "")
    assert tier.file(batch).read_bytes() == content
