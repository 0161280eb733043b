"""Files that are written and read past the page cache.

A pack is written once, read back once, and then left alone for months. In the page cache it would push out what
arriving segments need, and it would be read back from memory, not from the disk that is to be checked. Direct I/O needs
memory and places in the file that are multiples of `_ALIGNED` bytes (open(2), "O_DIRECT"); a file system that does not
have it is used with its cache.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from mmap import mmap
from types import TracebackType
from typing import Self, TypeVar

from databuffer.tiers.lanes import Lane

#: Suits every disk, and the pages of file systems of the network.
_ALIGNED = 4096
#: Bytes that are written at once, and read at once.
_BLOCK, _PORTION = 4 << 20, 1 << 20
_DIRECT = getattr(os, "O_DIRECT", 0)

R = TypeVar("R")


class UncachedWriter:
    """Writes chunks to the descriptor of an empty file: a thread writes a block while the next one is filled.

    Any call may raise the OSError of a block that came before; `finish` makes all of them durable.
    """

    def __init__(self, descriptor: int) -> None:
        _avoid_cache(descriptor)
        self._descriptor = descriptor
        self._block, self._other = mmap(-1, _BLOCK), mmap(-1, _BLOCK)
        self._filled = 0
        self._lane = Lane(1)

    def add(self, chunk: bytes) -> None:
        """Write the next bytes."""
        rest = memoryview(chunk)
        while rest:
            taken = rest[: _BLOCK - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rest = rest[len(taken) :]
            if self._filled == _BLOCK:
                self._lane.do(_write, self._descriptor, memoryview(self._block))  # the other one is written by then
                self._block, self._other, self._filled = self._other, self._block, 0

    def finish(self) -> None:
        """Write what is left, and return when the disk has everything."""
        self._lane.wait()
        whole = self._filled - self._filled % _ALIGNED
        with memoryview(self._block) as block:
            _write(self._descriptor, block[:whole])
            if self._filled > whole:
                _use_cache(self._descriptor)
                _write(self._descriptor, block[whole : self._filled])
        os.fsync(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lane.close()


def read_uncached(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a file, fewer if it ends before; raise OSError."""
    _avoid_cache(descriptor)
    portion = mmap(-1, _PORTION)
    while start < stop:
        skipped = start % _ALIGNED
        place = start - skipped
        found = _or_cached(descriptor, partial(os.preadv, descriptor, [portion], place))
        chunk = portion[skipped : min(found, stop - place)]
        if not chunk:
            return
        start += len(chunk)
        yield chunk


def _write(descriptor: int, rest: memoryview) -> None:
    while rest:
        rest = rest[_or_cached(descriptor, partial(os.write, descriptor, rest)) :]


def _or_cached(descriptor: int, work: Callable[[], R]) -> R:
    """Do some work with a file; once more with the page cache if the file system takes only other places or sizes."""
    try:
        return work()
    except OSError as error:
        if error.errno != errno.EINVAL or not _use_cache(descriptor):
            raise
        return work()


def _avoid_cache(descriptor: int) -> None:
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | _DIRECT)


def _use_cache(descriptor: int) -> bool:
    """Use the page cache from now on; return whether the file was used without it."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~_DIRECT)
    return bool(flags & _DIRECT)
