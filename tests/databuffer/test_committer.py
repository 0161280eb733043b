import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from databuffer import committer as room
from databuffer.committer import Committer
from databuffer.errors import QueueFull

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Item:
    number: int
    ready: asyncio.Future[None]


class Orders:
    """A committer that writes down what it carries out; each group takes as long as the test wants."""

    def __init__(self, capacity: int = 100) -> None:
        self.done: list[list[int] | str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.committer: Committer[Item, int] = Committer(self.store, capacity)
        self.committer.start()
        self.items: list[Item] = []

    async def store(self, group: Sequence[Item]) -> list[int]:
        assert all(item.ready.done() for item in group)
        await self.go_on.wait()
        self.done.append([item.number for item in group])
        return [item.number for item in group]

    def append(self, *, ready: bool = False, size: int = 1) -> asyncio.Future[int]:
        def begin() -> Item:
            item = Item(len(self.items), asyncio.get_running_loop().create_future())
            self.items.append(item)
            if ready:
                item.ready.set_result(None)
            return item

        return self.committer.append(begin, size)

    async def step(self) -> str:
        async def perform() -> str:
            self.done.append("step")
            return "performed"

        return await self.committer.perform(perform)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_group_is_stored_when_the_last_of_it_is_ready() -> None:
    orders = Orders()
    answers = [orders.append() for _ in range(3)]
    await settle()
    for number in (2, 0):
        orders.items[number].ready.set_result(None)
        await settle()
        assert orders.done == []
    orders.items[1].ready.set_result(None)
    assert await asyncio.gather(*answers) == [0, 1, 2]
    assert orders.done == [[0, 1, 2]]


async def test_what_gets_ready_meanwhile_comes_along_and_what_does_not_is_not_waited_for() -> None:
    orders = Orders()
    first = orders.append()
    await settle()
    second, third = orders.append(ready=True), orders.append()
    orders.items[0].ready.set_result(None)
    assert [await first, await second] == [0, 1]
    assert orders.done == [[0, 1]]
    orders.items[2].ready.set_result(None)
    assert await third == 2


async def test_a_step_keeps_its_place_though_segments_behind_it_are_ready_first() -> None:
    orders = Orders()
    before = orders.append()
    step = asyncio.create_task(orders.step())
    await settle()
    after = orders.append(ready=True)
    await settle()
    assert orders.done == []
    orders.items[0].ready.set_result(None)
    await asyncio.gather(before, step, after)
    assert orders.done == [[0], "step", [1]]


async def test_a_segment_that_finds_no_place_is_not_begun() -> None:
    orders = Orders(capacity=2)
    answers = [orders.append(ready=True) for _ in range(2)]
    with pytest.raises(QueueFull):
        orders.append(ready=True)
    assert len(orders.items) == 2
    assert await asyncio.gather(*answers) == [0, 1]


@pytest.mark.parametrize("full_of", ["segments", "bytes"])
async def test_who_can_wait_waits_for_room(full_of: str) -> None:
    capacity, size = (2, 1) if full_of == "segments" else (100, room._MOST_BYTES // 2)  # noqa: SLF001 (its own limit)
    orders = Orders(capacity)
    orders.go_on.clear()
    stored = orders.append(ready=True, size=size)
    await settle()
    waiting = [orders.append(ready=True, size=size) for _ in range(2)]
    waiter = asyncio.create_task(orders.committer.wait_for_room())
    await settle()
    assert not waiter.done()
    orders.go_on.set()
    await waiter
    assert await asyncio.gather(stored, *waiting) == [0, 1, 2]
