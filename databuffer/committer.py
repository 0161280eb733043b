"""One order of things: segments, freezes and flushes wait in one queue and are carried out one after the other.

Segments that wait next to each other are carried out as one group, so that they share one durable step. Each gets
ready from the moment it comes; a group is stored when all of it is ready, however early the first was: a group costs
nearly the same however many are in it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from databuffer.errors import QueueFull
from gwwire.problems import ProblemError


class Preparing(Protocol):
    """A segment on which something is done before its turn comes; `ready` once that is done."""

    @property
    def ready(self) -> asyncio.Future[Any]:
        """Done when the segment is ready for its turn."""


Item = TypeVar("Item", bound=Preparing)
Result = TypeVar("Result")
T = TypeVar("T")

#: What becomes of a group that is ready: a result or an error for each of its segments, in their order.
StoreGroup = Callable[[Sequence[Item]], Awaitable[Sequence[Result | ProblemError]]]

#: Bytes that wait to be stored before those who wait for room have to: with those being stored, what is in memory.
_MOST_BYTES = 16_000_000


@dataclass(frozen=True)
class _Append:
    item: Any
    size: int
    answer: asyncio.Future[Any]


@dataclass(frozen=True)
class _Step:
    perform: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


class Committer(Generic[Item, Result]):
    """Carries out what is asked of the buffer, in the order it was asked.

    Args:
        store: stores a group of segments that are ready.
        capacity: how many segments may wait.

    """

    def __init__(self, store: StoreGroup[Item, Result], capacity: int) -> None:
        self._store = store
        self._capacity = capacity
        self._waiting: deque[_Append | _Step] = deque()
        self._appends_waiting = 0
        self._bytes_waiting = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many segments wait."""
        return self._appends_waiting

    def start(self) -> None:
        """Begin carrying out orders."""
        self._task = asyncio.create_task(self._carry_out_all(), name="committer")

    async def close(self) -> None:
        """Carry out what is waiting, then stop."""
        self._closing = True
        self._wake.set()
        if self._task:
            await self._task

    async def wait_for_room(self) -> None:
        """Return when the next segment finds room."""
        while self._appends_waiting >= self._capacity or self._bytes_waiting >= _MOST_BYTES:
            self._room.clear()
            await self._room.wait()

    def append(self, begin: Callable[[], Item], size: int) -> asyncio.Future[Result]:
        """Give a segment its place in the order; done when it is stored, or not stored for a ProblemError.

        Args:
            begin: begins to get it ready, once there is a place for it.
            size: its bytes.

        Raises:
            QueueFull: too many segments are waiting; nothing was done.

        """
        if self._appends_waiting >= self._capacity:
            raise QueueFull(f"{self._capacity} segments are waiting to be stored already", retry_after=1)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._appends_waiting += 1
        self._bytes_waiting += size
        self._enqueue(_Append(begin(), size, answer))
        return answer

    async def perform(self, step: Callable[[], Awaitable[T]]) -> T:
        """Carry out a step between the segments asked for before it and those asked for after it."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Step(step, answer))
        return await answer

    def _enqueue(self, order: _Append | _Step) -> None:
        self._waiting.append(order)
        self._wake.set()

    async def _carry_out_all(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            elif isinstance(order := self._waiting[0], _Append):
                await self._store_group(await self._next_group())
            else:
                self._waiting.popleft()
                await self._perform_step(order)

    async def _next_group(self) -> list[_Append]:
        """Take the segments that wait next to each other once all are ready, and those that got ready meanwhile."""
        group = self._take_appends(lambda _: True)
        for order in group:
            if not order.item.ready.done():
                await asyncio.wait([order.item.ready])
        return group + self._take_appends(lambda order: order.item.ready.done())

    def _take_appends(self, wanted: Callable[[_Append], bool]) -> list[_Append]:
        group = []
        while self._waiting and isinstance(order := self._waiting[0], _Append) and wanted(order):
            self._waiting.popleft()
            group.append(order)
        self._appends_waiting -= len(group)
        self._bytes_waiting -= sum(order.size for order in group)
        self._room.set()
        return group

    async def _store_group(self, group: list[_Append]) -> None:
        try:
            results = await self._store([order.item for order in group])
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
            _fail(group, error)
            return
        for order, result in zip(group, results, strict=True):
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
