"""Show the progress of the work on a terminal."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")

_BAR = 30
_CLEAR = "\r\x1b[K"
_SECONDS_BETWEEN = 0.1


class Progress(Protocol):
    """Wraps the items of one step of the work; `step` is its name, e.g. "whitening"."""

    def __call__(self, items: Sequence[Item], step: str, /) -> Iterable[Item]:
        """Return the items one by one."""


def silent(items: Sequence[Item], _step: str, /) -> Iterable[Item]:
    """Show nothing."""
    return items


def bar(items: Sequence[Item], step: str, /) -> Iterator[Item]:
    """Draw a bar with the rate and the time left on standard error, and remove it at the end."""
    began, shown = time.monotonic(), -math.inf
    try:
        for done, item in enumerate(items):
            if (now := time.monotonic()) - shown > _SECONDS_BETWEEN:
                line = f"{step:>12} {bar_text(done, len(items), now - began)}"
                print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)  # noqa: T201 (on a terminal only)
                shown = now
            yield item
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)  # noqa: T201


def bar_text(done: int, count: int, seconds: float) -> str:
    """Return the bar after some seconds, as `███░░░ 2/4, 0.5/s, 0:04 left`; without rate until something is done."""
    full = _BAR * done // count
    text = f"{'█' * full}{'░' * (_BAR - full)} {done}/{count}"
    if not done or not seconds:
        return text
    minutes, rest = divmod(round((count - done) * seconds / done), 60)
    return f"{text}, {done / seconds:.3g}/s, {minutes}:{rest:02} left"
