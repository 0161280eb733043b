"""One order of things: segments, freezes and flushes wait in one queue and are carried out one after the other.

Segments that wait next to each other are carried out as one group, so that they share one durable step.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from databuffer.errors import QueueFull
from gwwire.problems import ProblemError

Item = TypeVar("Item")
Result = TypeVar("Result")
T = TypeVar("T")

#: What becomes of a group: a result or an error for each of its segments, in their order.
StoreGroup = Callable[[Sequence[Item]], Awaitable[Sequence[Result | ProblemError]]]


@dataclass(frozen=True)
class _Append:
    content: Any
    answer: asyncio.Future[Any]


@dataclass(frozen=True)
class _Step:
    perform: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


class Committer(Generic[Item, Result]):
    """Carries out what is asked of the buffer, in the order it was asked.

    Args:
        store: stores a group of segments.
        capacity: how many segments may wait.

    """

    def __init__(self, store: StoreGroup[Item, Result], capacity: int) -> None:
        self._store = store
        self._capacity = capacity
        self._waiting: deque[_Append | _Step] = deque()
        self._appends_waiting = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin carrying out orders."""
        self._task = asyncio.create_task(self._run(), name="committer")

    async def close(self) -> None:
        """Carry out what is waiting, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def append(self, content: Item, *, patient: bool = False) -> Result:
        """Store one segment; returns when it is stored. `patient`: wait for room in the queue.

        Raises:
            QueueFull: too many segments are waiting; nothing was done.
            ProblemError: the segment was not stored.

        """
        while patient and self._appends_waiting >= self._capacity:
            self._room.clear()
            await self._room.wait()
        if self._appends_waiting >= self._capacity:
            raise QueueFull(f"{self._capacity} segments are waiting to be stored already", retry_after=1)
        self._appends_waiting += 1
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._enqueue(_Append(content, answer))
        return await answer

    async def perform(self, step: Callable[[], Awaitable[T]]) -> T:
        """Carry out a step between the segments asked for before it and those asked for after it."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Step(step, answer))
        return await answer

    def _enqueue(self, order: _Append | _Step) -> None:
        self._waiting.append(order)
        self._wake.set()

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if group := self._take_group():
                await self._store_group(group)
            else:
                await self._perform_step()

    def _take_group(self) -> list[_Append]:
        group = []
        while self._waiting and isinstance(order := self._waiting[0], _Append):
            self._waiting.popleft()
            group.append(order)
        self._appends_waiting -= len(group)
        self._room.set()
        return group

    async def _store_group(self, group: list[_Append]) -> None:
        try:
            results = await self._store([order.content for order in group])
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
            for order in group:
                _fail(order.answer, error)
            return
        for order, result in zip(group, results, strict=True):
            if isinstance(result, ProblemError):
                _fail(order.answer, result)
            else:
                _answer(order.answer, result)

    async def _perform_step(self) -> None:
        order = self._waiting.popleft()
        assert isinstance(order, _Step)  # noqa: S101 (what is no append is a step)
        try:
            _answer(order.answer, await order.perform())
        except Exception as error:  # noqa: BLE001 (whatever it is, the one who waits must hear of it)
            _fail(order.answer, error)


def _answer(future: asyncio.Future[T], result: T) -> None:
    with suppress(asyncio.InvalidStateError):  # the one who asked went away
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    with suppress(asyncio.InvalidStateError):
        future.set_exception(error)
