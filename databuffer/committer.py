"""One order of things: segments, freezes and flushes wait in one queue and are carried out one after the other.

Segments that wait next to each other are carried out as one group, so that they share one durable step. While a group
is stored, the one after it is prepared already: two pairs of hands, one order.
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
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")
T = TypeVar("T")

#: What can be done for a group before its turn has come.
PrepareGroup = Callable[[Sequence[Item]], Awaitable[Sequence[Prepared]]]
#: What becomes of a prepared group: a result or an error for each of its segments, in their order.
StoreGroup = Callable[[Sequence[Prepared]], Awaitable[Sequence[Result | ProblemError]]]


@dataclass(frozen=True)
class _Append:
    content: Any
    answer: asyncio.Future[Any]


@dataclass(frozen=True)
class _Step:
    perform: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


@dataclass(frozen=True)
class _Group:
    appends: list[_Append]
    prepared: Sequence[Any]


class Committer(Generic[Item, Prepared, Result]):
    """Carries out what is asked of the buffer, in the order it was asked.

    Args:
        prepare: prepares a group of segments, while the one before it may still be stored.
        store: stores a prepared group.
        capacity: how many segments may wait.

    """

    def __init__(
        self, prepare: PrepareGroup[Item, Prepared], store: StoreGroup[Prepared, Result], capacity: int
    ) -> None:
        self._prepare = prepare
        self._store = store
        self._capacity = capacity
        self._waiting: deque[_Append | _Step] = deque()
        self._appends_waiting = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ready: asyncio.Queue[_Group | _Step | None] = asyncio.Queue(maxsize=1)
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin carrying out orders."""
        self._tasks = [
            asyncio.create_task(self._prepare_all(), name="preparer"),
            asyncio.create_task(self._carry_out_all(), name="committer"),
        ]

    async def close(self) -> None:
        """Carry out what is waiting, then stop."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._tasks)

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

    async def _prepare_all(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            elif appends := self._take_appends():
                await self._prepare_group(appends)
            else:
                order = self._waiting.popleft()
                assert isinstance(order, _Step)  # noqa: S101 (what is no append is a step)
                await self._ready.put(order)
        await self._ready.put(None)

    def _take_appends(self) -> list[_Append]:
        group = []
        while self._waiting and isinstance(order := self._waiting[0], _Append):
            self._waiting.popleft()
            group.append(order)
        self._appends_waiting -= len(group)
        self._room.set()
        return group

    async def _prepare_group(self, appends: list[_Append]) -> None:
        try:
            prepared = await self._prepare([order.content for order in appends])
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
            _fail(appends, error)
        else:
            await self._ready.put(_Group(appends, prepared))

    async def _carry_out_all(self) -> None:
        while (order := await self._ready.get()) is not None:
            if isinstance(order, _Group):
                await self._store_group(order)
            else:
                await self._perform_step(order)

    async def _store_group(self, group: _Group) -> None:
        try:
            results = await self._store(group.prepared)
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
            _fail(group.appends, error)
            return
        for order, result in zip(group.appends, results, strict=True):
            if isinstance(result, ProblemError):
                _fail([order], result)
            else:
                _answer(order.answer, result)

    async def _perform_step(self, step: _Step) -> None:
        try:
            _answer(step.answer, await step.perform())
        except Exception as error:  # noqa: BLE001 (whatever it is, the one who waits must hear of it)
            _fail([step], error)


def _answer(future: asyncio.Future[T], result: T) -> None:
    with suppress(asyncio.InvalidStateError):  # the one who asked went away
        future.set_result(result)


def _fail(orders: Sequence[_Append | _Step], error: Exception) -> None:
    for order in orders:
        with suppress(asyncio.InvalidStateError):
            order.answer.set_exception(error)
