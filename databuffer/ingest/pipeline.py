"""The queue of the buffer: segments and orders are carried out in the order in which they arrive.

The event loop appends to the queue. The staging thread takes all waiting items, stages the segments, and passes the
list on. The commit thread stores consecutive segments as one group, runs the orders between them, and passes all
outcomes to the event loop in one call.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar

from databuffer import metrics
from databuffer.errors import QueueFull
from databuffer.ingest.incoming import Incoming, refuse_unsettled
from databuffer.ingest.keys import check_key
from gwservice.tracing import current_span

T = TypeVar("T")

#: Items that a thread takes at once; together with the staged lists, this bounds the number of open files.
_MOST_ITEMS = 64
_MOST_STAGED_LISTS = 2
#: Bytes that are staged faster than another group is stored.
_LITTLE_BYTES = 250_000
#: Bytes that may wait to be stored; at this number a stream of segments has to wait.
_MOST_BYTES = 8_000_000


@dataclass(slots=True, eq=False)
class Order(Generic[T]):
    """A call to run between segments; log lines find its request in `context`."""

    run: Callable[[], T]
    answered: asyncio.Future[T]
    context: Context = field(default_factory=copy_context)
    result: Any = None
    error: Exception | None = None

    def carry_out(self) -> None:
        """Run the call; store its result or its error."""
        try:
            self.result = self.context.run(self.run)
        except Exception as error:  # noqa: BLE001 (it is raised where the result is awaited)
            self.error = error

    def answer(self) -> None:
        """Pass the outcome to the request; call it on the event loop."""
        if self.answered.done():
            return
        if self.error is None:
            self.answered.set_result(self.result)
        else:
            self.answered.set_exception(self.error)


Item = Incoming | Order[Any]


class Ingest:
    """Stores segments and carries out orders, one after the other; at most `capacity` segments wait.

    The staging thread calls `stage` with a segment, the commit thread calls `store` with a group of staged segments.
    """

    def __init__(
        self, stage: Callable[[Incoming], None], store: Callable[[Sequence[Incoming]], None], capacity: int
    ) -> None:
        self.capacity = capacity
        self._stage = stage
        self._store = store
        self._arrived: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._staged: queue.Queue[list[Item | None]] = queue.Queue(_MOST_STAGED_LISTS)
        # Each counter has one writer, the event loop or the commit thread, so that no lock is needed.
        self._accepted = self._accepted_bytes = 0
        self._begun = self._begun_bytes = 0
        self._capacity_freed = asyncio.Event()
        #: Futures of `next_change`, by whether segments count.
        self._changes: dict[bool, asyncio.Future[None]] = {}
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """The number of segments that wait to be stored."""
        return self._accepted - self._begun

    @property
    def accepted(self) -> int:
        """The number of segments that arrived so far."""
        return self._accepted

    def start(self) -> None:
        """Start the threads."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._stage_all, name="staging", daemon=True),
            threading.Thread(target=self._commit_all, name="commit", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Finish everything that was accepted, then stop."""
        if self._threads:
            self._arrived.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    # ---- on the event loop

    async def append(self, body: bytes, key: str | None = None, group: str | None = None) -> Incoming:
        """Store one segment; on return its file is durable and counted.

        The same Idempotency-Key and bytes again return the first outcome.

        Raises:
            MalformedJson, InvalidSegment, InvalidRequest: the body is not a segment, or the key is not valid.
            BufferFrozen, QuotaExceeded, KeyReused, QueueFull, VolumeError: see `databuffer.errors`.

        """
        incoming = await self.submit(body, key, group).answered
        if incoming.error is not None:
            raise incoming.error
        return incoming

    def submit(self, body: bytes, key: str | None = None, group: str | None = None) -> Incoming:
        """Append one segment to the queue; raise InvalidRequest for an invalid key, QueueFull if the queue is full."""
        if key is not None:
            check_key(key)
        if self.waiting >= self.capacity:
            error = QueueFull(f"{self.capacity} segments are already waiting to be stored (WCHSZ)", retry_after=1)
            metrics.REFUSED.labels(error.code).inc()
            raise error
        incoming = Incoming(body, key, group, current_span(), arrived=len(body))
        self._accepted += 1
        self._accepted_bytes += len(body)
        self._arrived.put(incoming)
        return incoming

    async def wait_for_capacity(self) -> None:
        """Wait until the queue has capacity for the next segment; bounds the bytes that streams keep in memory."""
        while self.waiting >= self.capacity or self._accepted_bytes - self._begun_bytes >= _MOST_BYTES:
            self._capacity_freed.clear()
            await self._capacity_freed.wait()

    async def perform(self, run: Callable[[], T]) -> T:
        """Run a call after the segments that arrived before it, and return its result."""
        order = Order(run, asyncio.get_running_loop().create_future())
        self._arrived.put(order)
        result: T = await order.answered
        return result

    def next_change(self, *, segments: bool) -> asyncio.Future[None]:
        """Return a future of the next order that is carried out, or with `segments` also of the next group."""
        return self._changes.setdefault(segments, asyncio.get_running_loop().create_future())

    def announce_change(self, *, segments: bool) -> None:
        """Set the future of the next change."""
        if change := self._changes.pop(segments, None):
            change.set_result(None)

    def _answer(self, items: Sequence[Item]) -> None:
        for item in items:
            item.answer()
        self._capacity_freed.set()
        if self._changes:
            for segments in {True, isinstance(items[0], Incoming)}:
                self.announce_change(segments=segments)

    # ---- on the staging thread

    def _stage_all(self) -> None:
        items: list[Item | None] = []
        while None not in items:
            items = self._take_arrived()
            for item in items:
                if isinstance(item, Incoming):
                    try:
                        self._stage(item)
                    except Exception as error:  # noqa: BLE001 (the sender must be answered)
                        item.refuse(error)
            self._staged.put(items)

    def _take_arrived(self) -> list[Item | None]:
        items = [self._arrived.get()]
        with suppress(queue.Empty):
            while len(items) < _MOST_ITEMS and items[-1] is not None:
                items.append(self._arrived.get_nowait())
        return items

    # ---- on the commit thread

    def _commit_all(self) -> None:
        items: list[Item | None] = []
        while None not in items:
            items = self._take_staged()
            for is_segment, run in groupby(filter(None, items), lambda item: isinstance(item, Incoming)):
                self._carry_out(list(run), segments=is_segment)

    def _take_staged(self) -> list[Item | None]:
        items = self._staged.get()
        with suppress(queue.Empty):
            while len(items) < _MOST_ITEMS:
                items = items + self._staged.get(block=self._is_worth_waiting(items))
        return items

    def _is_worth_waiting(self, items: Sequence[Item | None]) -> bool:
        """Return whether a group should wait for all segments received so far: another group would cost more."""
        return len(items) < self.waiting and self._accepted_bytes - self._begun_bytes < _LITTLE_BYTES

    def _carry_out(self, run: list[Any], *, segments: bool) -> None:
        if segments:
            self._begun += len(run)
            self._begun_bytes += sum(item.arrived for item in run)
            try:
                self._store(run)
            except Exception as error:  # noqa: BLE001 (the thread must go on, and every sender be answered)
                refuse_unsettled(run, error)
        else:
            for order in run:
                order.carry_out()
        with suppress(RuntimeError):  # the loop is closed: no request waits
            self._loop.call_soon_threadsafe(self._answer, run)
