"""Tiers that are another place than before, that were away, or from which a copy cannot be read."""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest

from databuffer.buffer import Buffer
from databuffer.records import steps
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.moves import probe
from databuffer.tiers.tier import Capacity, TierError
from databuffer.tiers.upkeep import sweep, watch
from gwwire.records import StepState
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import AT_ONCE, FOREVER, CountingTier, OpenBuffer, archive, step_in, until

pytestmark = pytest.mark.anyio

VERIFIED, LOST = ReplicaState.VERIFIED, ReplicaState.LOST


class FullTier(CountingTier):
    """A tier that has `free` bytes left, and may say so."""

    free, says_so = 1, True

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        if size > self.free:
            raise TierError("tier object: it has no space")
        super().write(key, size, chunks)

    def capacity(self) -> Capacity:
        return Capacity(10**9, 10**9 - self.free) if self.says_so else Capacity()


@pytest.fixture
def other(tmp_path: Path) -> CountingTier:
    """Return an empty folder under the name of the first tier."""
    return CountingTier(tmp_path / "other")


async def test_the_error_of_a_tier_that_a_copy_is_read_from_is_not_that_of_its_target(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, tmp_path: Path
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await archive(buffer, Tiering(("object", "tape"), 0))
    await until(buffer, batch, {"object": VERIFIED, "tape": VERIFIED})
    await buffer.close()
    tier.file(batch).unlink()
    (tmp_path / "tape" / "faults").write_text("stage batches/* the tape is torn\n")
    buffer = await opening(tier, tape)
    failed = await step_in(buffer, batch, "copy:object", StepState.WAITING)
    async with asyncio.timeout(60):  # if the comparison at the start ends only now, the error is back with the retry
        while (tiers := (await buffer.tier_overview.overview()).tiers)[2].error is None:  # noqa: ASYNC110 (a client)
            await asyncio.sleep(0.02)
    [_, target, origin] = tiers
    assert (target.name, target.error) == ("object", None)
    assert (origin.name, origin.error) == ("tape", failed.reason)
    assert "the tape is torn" in (failed.reason or "")


async def test_a_tier_that_is_another_place_after_a_start_gets_its_copies_again(
    opening: OpenBuffer, tier: CountingTier, other: CountingTier, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, FOREVER)
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    buffer = await opening(other)
    while not other.written:
        await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    assert other.file(batch).read_bytes() == tier.file(batch).read_bytes()
    [told] = [each for each in caplog.records if getattr(each, "event", "") == "replicas-lost"]
    assert told.levelno == logging.WARNING
    assert told.getMessage() == (
        f"tier object does not have 1 of 1 packs any more, such as batches/{batch}.tar; "
        "they are LOST, and are copied again from another replica if there is one"
    )


async def test_the_only_copy_counts_again_when_its_tier_is_the_former_place(
    opening: OpenBuffer, tier: CountingTier, other: CountingTier
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.close()
    buffer = await opening(other)
    await until(buffer, batch, {"object": LOST})
    await step_in(buffer, batch, "copy:object", StepState.WAITING)
    await buffer.close()
    buffer = await opening(tier)
    await buffer.records.redo(f"batch/{batch}", "copy:object")  # sooner than its pause ends
    await until(buffer, batch, {"object": VERIFIED})
    assert tier.written == [f"batches/{batch}.tar"]


async def test_a_tier_that_does_not_answer_at_a_start_loses_nothing_and_is_reported_once(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier)
    batch, _ = await archive(buffer, AT_ONCE)
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.close()
    tier.root.rename(tmp_path / "unmounted")
    buffer = await opening(tier)
    [_, found] = (await buffer.tier_overview.overview()).tiers
    assert "there is no folder" in (found.error or "")
    await buffer._sweep.sweep()  # noqa: SLF001 (one more)
    await until(buffer, batch, {"object": VERIFIED})
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [found.error]


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_FIRST_BACK_OFF", 10**6)
    monkeypatch.setattr(sweep, "_PAUSE_SECONDS", 0.005)
    for name in ("_INTERVAL_SECONDS", "_FAILED_SECONDS"):
        monkeypatch.setattr(watch, name, 0.02)
    monkeypatch.setattr(watch, "_UNKNOWN_SPACE_SECONDS", 0.02)
    monkeypatch.setattr(probe, "_FRESH_SECONDS", 0.01)


async def until_failing(buffer: Buffer, *tiers: str) -> None:
    """Wait until some tiers were asked, and failed."""
    async with asyncio.timeout(60):
        while not all(buffer._watch._access.probes[name].failure for name in tiers):  # noqa: ASYNC110, SLF001 (as it knows)
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("says_so", [True, False], ids=["known space", "unknown space"])
async def test_copies_to_a_full_tier_are_made_when_it_has_space_for_them_again(
    opening: OpenBuffer, tmp_path: Path, *, says_so: bool
) -> None:
    tier = FullTier(tmp_path / "object")
    tier.says_so = says_so
    buffer = await opening(tier)
    while not buffer._watch.outages:  # noqa: SLF001 (it answered)
        await buffer.tier_overview.overview()
    batch, _ = await archive(buffer, AT_ONCE)
    failed = await step_in(buffer, batch, "copy:object", StepState.FAILED)
    assert failed.reason == "tier object: it has no space"
    tier.free = 1_000_000
    await until(buffer, batch, {"object": VERIFIED})


@pytest.mark.usefixtures("_quick")
async def test_copies_that_failed_with_their_tier_are_made_when_it_answers_again(
    opening: OpenBuffer, tier: CountingTier, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await opening(tier)
    while not buffer._watch.outages:  # noqa: SLF001 (it answered)
        await buffer.tier_overview.overview()
    caplog.set_level(logging.INFO, watch.__name__)
    tier.down = True
    batch, _ = await archive(buffer, AT_ONCE)
    await step_in(buffer, batch, "copy:object", StepState.FAILED)
    await until_failing(buffer, "object")
    tier.down = False
    await until(buffer, batch, {"object": VERIFIED})
    assert [each.getMessage() for each in caplog.records if getattr(each, "event", "").startswith("tier-")] == [
        "tier object: it is down",
        "tier object answers again",
    ]


@pytest.mark.usefixtures("_quick")
async def test_a_tier_that_answers_again_begins_no_copy_to_another_one_that_fails(
    opening: OpenBuffer, tier: CountingTier, other: CountingTier
) -> None:
    other.name = "second"
    buffer = await opening(tier, other)
    while len(buffer._watch.outages) < 2:  # noqa: SLF001 (both answered)
        await buffer.tier_overview.overview()
    tier.down = other.down = True
    batch, _ = await archive(buffer, Tiering(("object", "second")))
    for name in ("object", "second"):
        await step_in(buffer, batch, f"copy:{name}", StepState.FAILED)
    await until_failing(buffer, "object", "second")
    tier.down = False
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    await buffer._sweep.sweep()  # noqa: SLF001 (the next one, now)
    assert (await step_in(buffer, batch, "copy:second", *StepState)).state is StepState.FAILED
