import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.settings import BufferSettings
from databuffer.tier_urls import parse_tiers
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.tier import Stored, TierError

pytestmark = pytest.mark.anyio

OpenBuffer = Callable[[], Awaitable[Buffer]]


class HangingTier(FolderTier):
    """A file system of the network whose server is gone."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.answers = threading.Event()

    def stat(self, key: str) -> Stored | None:
        self.answers.wait(100)
        return super().stat(key)


async def test_without_the_setting_the_disk_is_the_only_tier(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    [disk] = (await buffer.tier_overview.overview()).tiers
    assert (disk.name, disk.kind, disk.error) == ("disk", "disk", None)
    assert disk.total is not None
    assert disk.used is not None
    assert 0 < disk.used < disk.total


async def test_a_tier_that_cannot_be_reached_is_reported_and_does_not_stop_the_start(
    settings: BufferSettings, open_buffer: OpenBuffer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tape").mkdir()
    text = f"copy=file://{tmp_path}/not/mounted tape=folder://{tmp_path}/tape"
    object.__setattr__(settings, "TIERS", parse_tiers(text))
    with caplog.at_level(logging.WARNING, "databuffer.tiers"):
        buffer = await open_buffer()
        disk, copy, tape = (await buffer.tier_overview.overview()).tiers
        await asyncio.sleep(0)
    assert [tier.name for tier in (disk, copy, tape)] == ["disk", "copy", "tape"]
    assert copy.error == f"tier copy: there is no folder {tmp_path}/not/mounted"
    assert copy.total is None
    assert (tape.kind, tape.error) == ("tape", None)
    assert tape.total is not None
    told = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "tier-unreachable"]
    assert told == [copy.error]


async def test_a_tier_that_hangs_is_not_waited_for(
    settings: BufferSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("databuffer.tiers.moves.probe._WAIT_SECONDS", 0.05)
    tier = HangingTier("copy", tmp_path)
    buffer = Buffer(create_store(settings), queue_size=4, tiers={"copy": tier})
    await buffer.open()
    try:
        for _ in range(2):
            [_, copy] = (await buffer.tier_overview.overview()).tiers
            assert "tier copy has not answered since 20" in (copy.error or "")
        tier.answers.set()
        while copy.error:
            [_, copy] = (await buffer.tier_overview.overview()).tiers
        assert copy.total is not None
    finally:
        tier.answers.set()
        await buffer.close()


class SlowlyFailingTier(HangingTier):
    """A server that cannot be reached, which is known after some repetitions."""

    def stat(self, key: str) -> Stored | None:
        super().stat(key)
        raise TierError("tier copy: the server cannot be reached")


async def test_the_reason_of_a_tier_that_fails_slowly_is_logged_and_reported_while_it_is_asked_again(
    settings: BufferSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("databuffer.tiers.moves.probe._WAIT_SECONDS", 0.05)
    tier = SlowlyFailingTier("copy", tmp_path)
    buffer = Buffer(create_store(settings), queue_size=4, tiers={"copy": tier})

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if getattr(each, "event", "") == "tier-unreachable"]

    with caplog.at_level(logging.WARNING, "databuffer.tiers"):
        await buffer.open()
        try:
            while not told():
                await buffer.tier_overview.overview()
            tier.answers.set()
            while len(told()) < 2:
                await buffer.tier_overview.overview()
            tier.answers.clear()
            for _ in range(2):
                [_, copy] = (await buffer.tier_overview.overview()).tiers
                assert copy.error == "tier copy: the server cannot be reached"
        finally:
            tier.answers.set()
            await buffer.close()
    [first, second] = told()
    assert "tier copy has not answered since 20" in first
    assert second == "tier copy: the server cannot be reached"
