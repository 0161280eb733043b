"""The sweep compares steps with replicas as they are at one moment, and follows the end of each step."""

import asyncio
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from databuffer.records.performer import Performer
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.wanted import is_to_be_requested
from gwwire.records import Step, StepState
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import FOREVER, CountingTier, OpenBuffer, archive, step_in, until
from tests.support.file_packs import put_files, until_packed

pytestmark = pytest.mark.anyio

VERIFIED = ReplicaState.VERIFIED


class WaitingTier(CountingTier):
    """A tier that writes nothing before it may."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may_write = threading.Event()

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        assert self.may_write.wait(60)
        super().write(key, size, chunks)


async def test_a_copy_that_ends_while_a_sweep_looks_is_not_requested_once_more(
    opening: OpenBuffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = WaitingTier(tmp_path / "object")
    buffer = await opening(tier)
    batch, _ = await archive(buffer)
    await step_in(buffer, batch, "copy:object", StepState.RUNNING)
    loop, real = asyncio.get_running_loop(), replicas.archives

    def archives_before(*arguments: Any) -> list[replicas.Archive]:
        monkeypatch.setattr(replicas, "archives", real)
        found = real(*arguments)
        tier.may_write.set()
        asyncio.run_coroutine_threadsafe(step_in(buffer, batch, "copy:object", StepState.DONE), loop).result()
        return found

    monkeypatch.setattr(replicas, "archives", archives_before)
    await buffer._sweep.sweep()  # noqa: SLF001 (now)
    assert (await step_in(buffer, batch, "copy:object", StepState.DONE)).attempt == 1


async def test_sweeps_at_the_same_time_follow_each_other(
    opening: OpenBuffer, tier: CountingTier, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier, holding_tiering=FOREVER)
    buffer.holdings.uploads.completions.on_ended = lambda: None
    made = await put_files(buffer, {"/data/a": b"a"})
    await asyncio.gather(*(buffer._sweep.sweep() for _ in range(4)))  # noqa: SLF001 (now)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})
    assert [each.getMessage() for each in caplog.records if each.levelname in {"WARNING", "ERROR"}] == []


async def test_a_step_whose_end_is_stored_late_is_followed_by_the_next_one(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Performer._end  # noqa: SLF001 (what takes its time)

    async def end_late(*arguments: Any) -> None:
        await asyncio.sleep(0.3)  # several sweeps
        await real(*arguments)

    buffer = await opening(tier, scrub_every=0)
    batch, _ = await archive(buffer)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    monkeypatch.setattr(Performer, "_end", end_late)
    begun = await step_in(buffer, batch, "scrub", *StepState)
    async with asyncio.timeout(60):
        while (await step_in(buffer, batch, "scrub", *StepState)).attempt < begun.attempt + 3:  # noqa: ASYNC110 (a client)
            await asyncio.sleep(0.01)


async def test_times_that_a_clock_that_was_ahead_has_written_postpone_no_drop_and_no_scrub(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, Tiering(("object",), 3600))
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})

    def be_ahead(connection: sa.Connection) -> None:
        for column in ("batches SET archived = archived", "replicas SET verified = verified"):
            connection.exec_driver_sql(f"UPDATE {column} + 31536000000000000")

    await buffer._replicas.change(be_ahead)  # noqa: SLF001 (in place of a wrong clock)
    await buffer._sweep.sweep()  # noqa: SLF001 (now)
    found = await buffer.tiers.replicas(batch)
    assert found.archived < time.time() + 86_400
    assert all(each.verified and each.verified < time.time() + 86_400 for each in found.replicas)


def test_a_step_that_failed_later_than_now_is_requested_again_at_once() -> None:
    for ended, again in ((1000.0, False), (1001.0, True), (1000.0 - 3600, True)):
        assert is_to_be_requested(Step("scrub", [], StepState.FAILED, ended=ended), 1000.0) is again
