"""Threads beside the one that moves a pack: hashing and writing release the interpreter, so that cores are used."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self


class Lane:
    """A thread, or several, that take pieces of work in the order in which they were given.

    At most `depth` pieces of work wait: giving one more waits for the first of them, and raises what it raised.
    """

    def __init__(self, depth: int = 2, threads: int = 1) -> None:
        self._depth = depth
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lane")
        self._waiting: deque[Future[Any]] = deque()

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Do some work later."""
        while len(self._waiting) >= self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._threads.submit(work, *arguments))

    def wait(self) -> None:
        """Wait until all work is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Forget the work that waits, and end the threads."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
