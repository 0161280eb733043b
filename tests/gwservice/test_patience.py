import asyncio
from collections.abc import AsyncIterator

import pytest
from gwservice.patience import BodyLate, Patience

pytestmark = pytest.mark.anyio


async def test_what_comes_in_time_is_given_and_what_does_not_is_late() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.05)
            yield b"piece"
        await asyncio.Event().wait()

    pieces = Patience(0.15).each(chunks())
    assert [await anext(pieces) for _ in range(4)] == [b"piece"] * 4, "each piece has its own time"
    with pytest.raises(BodyLate, match=r"0\.15 s \(BODY_TIMEOUT\)"):
        await anext(pieces)


async def test_many_waits_end_each_in_its_time() -> None:
    patience = Patience(0.2)

    async def wait(seconds: float) -> bool:
        try:
            with patience.wait():
                await asyncio.sleep(seconds)
        except BodyLate:
            return False
        return True

    assert await asyncio.gather(*(wait(0.01 if number % 2 else 30) for number in range(40))) == [False, True] * 20
    assert await wait(0)


async def test_who_is_cancelled_is_not_told_of_lateness() -> None:
    patience = Patience(30)

    async def wait() -> None:
        with patience.wait():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_sender_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Patience(30).wait():
        raise ZeroDivisionError
