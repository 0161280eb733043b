"""Files that are written and read past the page cache.

A pack is written once, read back once, and then left alone for months. In the page cache it would push out what
arriving segments need, and it would be read back from memory, not from the disk that is to be checked. Direct I/O needs
memory and places in the file that are multiples of `_ALIGNED` bytes (open(2), "O_DIRECT"); a file system that does not
have it is used with its cache.
"""

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from mmap import mmap
from types import TracebackType
from typing import Self, TypeVar

from databuffer.tiers.lanes import Lane

#: Suits every disk, and the pages of file systems of the network.
_ALIGNED = 4096
#: Bytes that are written or read at once, and of a chunk that is read.
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
    """Yield the bytes [start, stop) of a file, fewer if it ends before, while a thread reads ahead; raise OSError."""
    _avoid_cache(descriptor)
    free = [mmap(-1, _BLOCK), mmap(-1, _BLOCK)]
    skipped = start % _ALIGNED
    reads: deque[tuple[mmap, Future[int]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        for place in range(start - skipped, stop, _BLOCK):
            block = free.pop()
            reads.append((block, thread.submit(_read, descriptor, block, place, min(_BLOCK, stop - place))))
            if not free:
                yield from _portions(*reads[0], skipped)
                free.append(reads.popleft()[0])
                skipped = 0
        for each in reads:
            yield from _portions(*each, skipped)


def _portions(block: mmap, read: Future[int], skipped: int) -> Iterator[bytes]:
    size = read.result()
    return (block[place : min(place + _PORTION, size)] for place in range(skipped, size, _PORTION))


def _read(descriptor: int, block: mmap, place: int, size: int) -> int:
    """Read a block, or what there is of it; return its bytes."""
    found, aligned = 0, size + -size % _ALIGNED
    with memoryview(block) as view:
        while found < size:
            more = _or_cached(descriptor, partial(os.preadv, descriptor, [view[found:aligned]], place + found))
            if not more:
                break
            found += more
    return min(found, size)


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
