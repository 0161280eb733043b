"""Bounds what is said over and over: a full disk fails every request, and its log must stay readable."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock

#: So many lines of a kind are told in so many seconds.
MOST = 20
SECONDS = 10.0


@dataclass
class _Window:
    began: float
    told: int = 0
    untold: int = 0


class Repeats:
    """Decides of what happens whether it is told, kind by kind; for any thread.

    There are to be few kinds: each is remembered.

    Args:
        clock: seconds that never go back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}
        self._lock = Lock()

    def tell(self, kind: Hashable) -> int | None:
        """Give how many of this kind went untold since the last that was told; None: this one is not told either."""
        now = self._clock()
        with self._lock:
            window = self._windows.setdefault(kind, _Window(now))
            if now - window.began >= SECONDS:
                window.began, window.told = now, 0
            if window.told == MOST:
                window.untold += 1
                return None
            window.told += 1
            untold, window.untold = window.untold, 0
            return untold
