"""Show on a terminal how far the work is."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")

_BAR = 30
_CLEAR = "\r\x1b[K"
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
    shown = 0.0
    try:
        for done, item in enumerate(items):
            if (now := time.monotonic()) - shown > _SECONDS_BETWEEN:
                full = _BAR * done // len(items)
                line = f"{step:>12} {'█' * full}{'░' * (_BAR - full)} {done}/{len(items)}"
                print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)  # noqa: T201 (on a terminal only)
                shown = now
            yield item
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)  # noqa: T201
