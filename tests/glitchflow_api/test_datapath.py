"""Many segments under way at a time: as many as MAX_STREAMS, and whoever comes then waits, or is told to come again."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from glitchflow_api import datapath
from glitchflow_api.errors import TooManyStreams

pytestmark = pytest.mark.anyio


async def lines(over: asyncio.Event) -> AsyncGenerator[bytes]:
    yield b"begun"
    await over.wait()
    yield b"ended"


async def test_a_stream_has_its_turn_when_another_ends_and_is_refused_when_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams, over = asyncio.Semaphore(1), asyncio.Event()
    first = datapath._in_turn(streams, lines(over))  # noqa: SLF001 (what bounds them)
    assert await anext(first) == b"begun"

    monkeypatch.setattr(datapath, "_TURN_SECONDS", 0.05)
    with pytest.raises(TooManyStreams, match="MAX_STREAMS") as refused:
        await anext(datapath._in_turn(streams, lines(over)))  # noqa: SLF001 (see above)
    assert refused.value.retry_after == 1

    monkeypatch.setattr(datapath, "_TURN_SECONDS", 30)
    waiting = asyncio.ensure_future(anext(datapath._in_turn(streams, lines(over))))  # noqa: SLF001 (see above)
    await asyncio.sleep(0)
    assert not waiting.done()
    over.set()
    assert [line async for line in first] == [b"ended"]
    assert await waiting == b"begun"


async def test_a_stream_that_breaks_off_gives_its_place_back() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"begun"
        raise ConnectionResetError

    streams = asyncio.Semaphore(1)
    parts = datapath._in_turn(streams, broken())  # noqa: SLF001 (see above)
    assert await anext(parts) == b"begun"
    assert streams.locked()
    with pytest.raises(ConnectionResetError):
        await anext(parts)
    assert not streams.locked()
