"""The limit of simultaneous transfers, and the threads in which they use shared files."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


class Slots:
    """Limits the transfers of one transaction at the same time, and those of all transactions.

    `shared` is fair, and few of one transaction wait for it: a file of another one soon follows. The threads are none
    of those that the rest of the gateway uses: a file system of the network may block them.
    """

    def __init__(self, shared: asyncio.Semaphore, own: int, threads: Executor) -> None:
        self._shared, self._own, self._threads = shared, asyncio.Semaphore(own), threads

    async def __aenter__(self) -> None:
        """Wait until a transfer may run."""
        await self._own.acquire()
        try:
            await self._shared.acquire()
        except BaseException:
            self._own.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Allow another transfer."""
        self._shared.release()
        self._own.release()

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Call a function that uses shared files."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
