"""Threads for calls of a tier that may not answer: they delay no other request, and no stop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """Do some work in a new thread: a tier that hangs takes no thread of other requests, and no time of a stop."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that a stop cancels only who waits for it

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 (it is raised where the future is awaited)
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return asyncio.wrap_future(future)


class OwnThreads:
    """Limits the threads that work for one tier; one counts until its work has ended, also if nobody waits for it."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of some work, which is done in a thread of its own as soon as one is free."""
        await self._free.acquire()
        result = in_own_thread(self._name, work)
        result.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(result)
