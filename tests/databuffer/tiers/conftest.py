from pathlib import Path
from typing import Any

import pytest

from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.settings import BufferSettings
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
from databuffer.tiers.tier import Tier
from databuffer.tiers.upkeep import sweep
from tests.support.archives import CountingTier


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_PAUSE_SECONDS", 0.03)


@pytest.fixture
def tier(tmp_path: Path) -> CountingTier:
    return CountingTier(tmp_path / "object")


@pytest.fixture
def tape(tmp_path: Path) -> TapeTier:
    (tmp_path / "tape").mkdir()
    return TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))


@pytest.fixture
async def opening(settings: BufferSettings) -> Any:
    """Return a function that opens the buffer with some tiers; it is closed when the test ends."""
    opened = []

    async def open_one(*tiers: Tier, **values: Any) -> Buffer:
        values = {"high_water": 1.0, **values}  # the disk of the tests may be rather full
        buffer = Buffer(create_store(settings), queue_size=64, tiers={tier.name: tier for tier in tiers}, **values)
        await buffer.open()
        opened.append(buffer)
        return buffer

    yield open_one
    for buffer in opened:
        await buffer.close()
