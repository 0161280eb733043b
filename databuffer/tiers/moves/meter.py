"""The rate of all moves together, and the progress of one."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Counter

from databuffer.records.performer import Attempt

#: A move waits at most so long at a time before it looks whether it was stopped.
_LONGEST_WAIT = 5.0
#: Bytes of a move, and the pause after them while segments arrive, which need the same cores and the same disk.
PORTION, PAUSE_SECONDS = 1 << 20, 0.15


@dataclass(frozen=True)
class Progress:
    """Bytes that a move has written and read back so far, and in all."""

    done: int
    of: int


class Throttle:
    """Limits all threads together to `rate` bytes/s, 0: unlimited, and lets them give way to segments.

    `arrivals` returns the number of segments that arrived so far.
    """

    def __init__(self, rate: int, arrivals: Callable[[], int] = lambda: 0) -> None:
        self.arrivals = arrivals
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def pass_through(self, size: int, attempt: Attempt) -> None:
        """Wait until `size` bytes may be moved; raise Stopped if the attempt must end before."""
        attempt.check()
        if not self._rate:
            return
        with self._lock:
            begin = max(self._free_at, time.monotonic())
            self._free_at = begin + size / self._rate
        while (left := begin - time.monotonic()) > 0:
            attempt.wait(min(left, _LONGEST_WAIT))


def counted(chunks: Iterable[bytes], counter: Counter) -> Iterator[bytes]:
    """Yield chunks, and add their sizes to a metric."""
    for chunk in chunks:
        counter.inc(len(chunk))
        yield chunk


class Meter:
    """The progress of a move of `of` bytes."""

    def __init__(self, attempt: Attempt, throttle: Throttle, of: int) -> None:
        self.attempt = attempt
        self._throttle = throttle
        self._of = of
        self._done = 0
        self._since_pause = 0
        self._arrived = throttle.arrivals()

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks no faster than allowed, and report them; raise Stopped if the attempt must end.

        As long as segments arrive, there is a pause after each portion.
        """
        for chunk in chunks:
            self._throttle.pass_through(len(chunk), self.attempt)
            self._done += len(chunk)
            self.attempt.report(Progress(self._done, self._of))
            yield chunk
            self._give_way(len(chunk))

    def _give_way(self, size: int) -> None:
        self._since_pause += size
        if self._since_pause < PORTION:
            return
        arrived = self._throttle.arrivals()
        if arrived != self._arrived:
            self.attempt.wait(PAUSE_SECONDS * self._since_pause / PORTION)
        self._since_pause, self._arrived = 0, self._throttle.arrivals()
