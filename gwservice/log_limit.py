"""A limit for repeated log lines: a full disk fails every request, and its log must stay readable."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

#: So many lines of a kind are written in so many seconds.
MOST = 20
SECONDS = 10.0


@dataclass
class _Window:
    began: float
    written: int = 0
    omitted: int = 0


class LogLimit:
    """Decides which lines are written, kind by kind; every kind is remembered, so there should be few.

    Args:
        clock: seconds that never go back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were omitted since the last one, or None to omit this one too."""
        now = self._clock()
        window = self._windows.setdefault(kind, _Window(now))
        if now - window.began >= SECONDS:
            window.began, window.written = now, 0
        if window.written == MOST:
            window.omitted += 1
            return None
        window.written += 1
        omitted, window.omitted = window.omitted, 0
        return omitted
