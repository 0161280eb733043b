"""Show on a terminal how far the work is."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TextIO, TypeVar

Item = TypeVar("Item")

_BAR = 30
_SECONDS_BETWEEN = 0.1


class Progress(Protocol):
    """Wraps what is worked through; `step` names the work, e.g. "whitening"."""

    def __call__(self, items: Sequence[Item], step: str, /) -> Iterable[Item]:
        """Return the items one by one."""


def silent(items: Sequence[Item], _step: str, /) -> Iterable[Item]:
    """Show nothing."""
    return items


def bar(items: Sequence[Item], step: str, /) -> Iterator[Item]:
    """Draw a bar on standard error, and wipe it out at the end."""
    stream, shown = sys.stderr, 0.0
    try:
        for done, item in enumerate(items):
            if (now := time.monotonic()) - shown > _SECONDS_BETWEEN:
                _draw(stream, step, done, len(items))
                shown = now
            yield item
    finally:
        stream.write("\r\x1b[K")
        stream.flush()


def _draw(stream: TextIO, step: str, done: int, total: int) -> None:
    full = _BAR * done // total
    stream.write(f"\r\x1b[K{step:>12} {'█' * full}{'░' * (_BAR - full)} {done}/{total}")
    stream.flush()
