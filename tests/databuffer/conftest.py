from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.settings import BufferSettings

OpenBuffer = Callable[[], Awaitable[Buffer]]


@pytest.fixture
def settings(tmp_path: Path) -> BufferSettings:
    return BufferSettings(
        DTVOLROOT=tmp_path / "datavar",
        DATAROOT=tmp_path / "datavar" / "data",
        ADMROOT=tmp_path / "appdata" / "adm",
        LOGROOT=tmp_path / "appdata" / "log",
    )


@pytest.fixture
async def open_buffer(settings: BufferSettings) -> AsyncIterator[OpenBuffer]:
    """Return a function that opens the buffer of `settings`; every buffer is closed when the test ends."""
    opened = []

    async def open_one() -> Buffer:
        buffer = create_buffer(settings)
        await buffer.open()
        opened.append(buffer)
        return buffer

    yield open_one
    for buffer in opened:
        await buffer.close()


@pytest.fixture
async def buffer(open_buffer: OpenBuffer) -> Buffer:
    return await open_buffer()
