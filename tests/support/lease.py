"""A file that others cannot open yet: what reads it is as slow as a test wants."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def leased(path: Path) -> int:
    """Return the descriptor of a file; until it is closed, or for 45 s, others wait when they open it (fcntl(2))."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # is ignored, unlike SIGIO
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return descriptor


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Make others wait for the end of the block, or for 45 s, when they open the file."""
    descriptor = leased(path)
    try:
        yield
    finally:
        os.close(descriptor)
