"""Bundles over batches on tape wait for their recalls, and fail only if one of these has failed for good."""

import asyncio
import dataclasses
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from databuffer.buffer import Buffer
from databuffer.errors import BundleNotReady, OnTape, RecallTooLarge
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.ledger import replicas
from databuffer.tiers.packs.pack import key_of
from gwwire.bundles import Bundle, BundleFormat, BundleOrder, BundleState
from gwwire.query import Query
from gwwire.records import StepState
from gwwire.tiering import ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer, archive, performed, step_in, until

pytestmark = pytest.mark.anyio

VERIFIED = ReplicaState.VERIFIED


async def on_tape(buffer: Buffer) -> str:
    batch, _ = await archive(buffer, Tiering(("tape",), 0))
    await until(buffer, batch, {"tape": VERIFIED})
    return batch


async def never() -> bool:
    return False


async def ready(buffer: Buffer, bundle: Bundle) -> Bundle:
    async with asyncio.timeout(60):
        while bundle.state is BundleState.BUILDING:
            bundle = await buffer.bundles.next_state(bundle.id, None, 20, never)
    return bundle


async def bundle_step_done(buffer: Buffer, bundle: str) -> None:
    async with asyncio.timeout(60):
        while (await buffer.records.get(f"bundle/{bundle}")).steps[0].state is not StepState.DONE:  # noqa: ASYNC110 (what a client does)
            await asyncio.sleep(0.01)


async def content(buffer: Buffer, bundle: Bundle) -> bytes:
    archived = await buffer.bundles.archive(bundle.id)
    return b"".join(await asyncio.to_thread(list, archived.read(0, archived.size, 4096)))


def order_of(kind: BundleFormat, *batches: str) -> BundleOrder:
    return BundleOrder(kind, Query(batch=batches))


@pytest.mark.parametrize("kind", [BundleFormat.TAR, BundleFormat.HDF5])
async def test_a_bundle_waits_for_the_recall_of_its_batches(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, kind: BundleFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batches = [await on_tape(buffer) for _ in range(2)]
    real, may_stage = tape.stage, threading.Event()

    def stage(keys: Sequence[str]) -> str:
        assert may_stage.wait(60)
        return real(keys)

    monkeypatch.setattr(tape, "stage", stage)
    made, _ = await buffer.bundles.make(order_of(kind, *batches))
    assert (made.state, made.reason) == (BundleState.BUILDING, "its batches are recalled from tape")
    again, _ = await buffer.bundles.make(order_of(kind, *batches))
    assert (again.id, again.state) == (made.id, BundleState.BUILDING)
    may_stage.set()
    done = await ready(buffer, made)
    assert (done.state, done.n) == (BundleState.READY, 6)
    assert len(await content(buffer, done)) == done.size
    assert sorted(tier.written) == sorted(map(key_of, batches)), "each was recalled once"
    if kind is BundleFormat.HDF5:  # its batches are released when the end of the step is stored, or before
        await bundle_step_done(buffer, made.id)
    pinned = [(await buffer.recalls.states.get(batch, f"bundle/{made.id}")).pinned for batch in batches]
    assert all(pinned) == (kind is BundleFormat.TAR), "an archive of stored files is read later"


async def test_a_bundle_goes_on_waiting_after_a_restart(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch = await on_tape(buffer)
    tier.down = True
    made, _ = await buffer.bundles.make(order_of(BundleFormat.TAR, batch))
    failed = await step_in(buffer, batch, "recall", StepState.WAITING)
    assert failed.reason == "tier object: it is down"
    await buffer.close()
    tier.down = False
    buffer = await opening(tier, tape)
    await buffer.records.redo(f"batch/{batch}", "recall")  # sooner than the pause ends
    done = await ready(buffer, await buffer.bundles.get(made.id))
    assert done.state is BundleState.READY
    assert len(await content(buffer, done)) == done.size


async def test_a_bundle_fails_with_the_reason_of_its_recall_and_can_be_ordered_again(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("databuffer.records.steps._FIRST_BACK_OFF", 10**7)
    buffer = await opening(tier, tape)
    batches = [await on_tape(buffer) for _ in range(2)]
    tier.refuses_writes = True
    order = order_of(BundleFormat.HDF5, *batches)
    made, _ = await buffer.bundles.make(order, "ligo")
    failed = await ready(buffer, made)
    assert failed.state is BundleState.FAILED
    assert failed.reason in {
        f"batch {batch} is on tape; its recall failed: tier object: it is read-only" for batch in batches
    }
    assert [(await buffer.recalls.states.get(batch, f"bundle/{made.id}")).pinned for batch in batches] == [None, None]
    assert await buffer.bundles.space.held() == {}
    with pytest.raises(BundleNotReady, match=re.escape(f"is FAILED; make it again: {failed.reason}")):
        await buffer.bundles.archive(made.id)
    await buffer.close()
    buffer = await opening(tier, tape)
    assert (await buffer.bundles.get(made.id)) == failed
    tier.refuses_writes = False
    made, _ = await buffer.bundles.make(order, "ligo")
    assert (made.id, made.state) == (failed.id, BundleState.BUILDING)
    assert (await ready(buffer, made)).state is BundleState.READY


async def test_a_bundle_fails_if_one_of_its_batches_is_lost_while_it_waits(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, other = [await on_tape(buffer) for _ in range(2)]
    tier.down = True
    made, _ = await buffer.bundles.make(order_of(BundleFormat.TAR, batch, other))
    assert made.state is BundleState.BUILDING

    def lose(connection: sa.Connection) -> None:
        for row in replicas.of_pack(connection, f"batch/{batch}"):
            replicas.put(connection, dataclasses.replace(row, state=ReplicaState.LOST))

    await asyncio.to_thread(tape.delete, key_of(batch))  # else it would be found whole again
    await buffer._replicas.change(lose)  # noqa: SLF001 (as a scrub does)
    failed = await ready(buffer, made)
    assert failed.state is BundleState.FAILED
    assert re.search(f"batch {batch} .*can be read: tape: LOST", failed.reason or "")


async def test_an_archive_whose_batch_went_back_to_tape_is_recalled_when_it_is_read(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch = await on_tape(buffer)
    made, _ = await buffer.bundles.make(order_of(BundleFormat.TAR, batch))
    done = await ready(buffer, made)
    before = await content(buffer, done)
    await buffer.recalls.release(batch, f"bundle/{made.id}")
    assert (await performed(buffer, batch, "drop:object"))["stays"] is None
    with pytest.raises(OnTape):
        await buffer.bundles.archive(made.id)
    await step_in(buffer, batch, "recall", StepState.DONE)
    async with asyncio.timeout(60):
        while await buffer.recalls.states.nearline([batch]):  # noqa: ASYNC110 (what a client does)
            await asyncio.sleep(0.02)
    assert await content(buffer, done) == before


async def test_a_bundle_larger_than_the_cache_of_the_tape_is_refused(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier
) -> None:
    buffer = await opening(CountingTier(tmp_path / "object", capacity=8000), tape, high_water=1.0)
    batches = [await on_tape(buffer) for _ in range(2)]
    too_large = r"packs in tier object may have 8,000 \(OBJECT_HIGH_WATER\); ask for fewer batches at once$"
    with pytest.raises(RecallTooLarge, match=too_large):
        await buffer.bundles.make(order_of(BundleFormat.HDF5, *batches))
    made, _ = await buffer.bundles.make(order_of(BundleFormat.MANIFEST, *batches))
    assert made.state is BundleState.READY, "it needs no bytes"
    made, _ = await buffer.bundles.make(order_of(BundleFormat.HDF5, batches[0]))
    assert (await ready(buffer, made)).state is BundleState.READY
    with pytest.raises(RecallTooLarge, match=too_large):  # although one of them is there now
        await buffer.bundles.make(order_of(BundleFormat.TAR, *batches))
