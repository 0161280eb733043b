"""Opening files that another program may have replaced by a link, a pipe, a device, a folder or an endless file.

A read of a pipe waits for its writer, one of `/dev/zero` never ends, and a link may lead out of the folder: what is
opened here is a regular file, and what is read has a limit. Standard library only: the client imports this module too.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

#: The errors of opening a link, a socket or a device without a driver.
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}


class UnusableFile(OSError):
    """The path is not a regular file, or the file is larger than any that was written there."""


def open_regular(path: Path | str, *, follow: bool = False, pipes: bool = False, buffering: int = -1) -> BinaryIO:
    """Open a regular file, without waiting; raise UnusableFile if the path is something else, or OSError.

    `follow`: it may be a link to one. `pipes`: it may be a pipe whose writer has opened it, as `<(command)` in a shell.
    """
    # Without O_NONBLOCK, a pipe that nobody writes to would be waited for.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    return os.fdopen(open_checked(path, flags, pipes=pipes), "rb", buffering)


def read_regular(path: Path | str, most: int, *, follow: bool = False, pipes: bool = False) -> bytes:
    """Return the content of a file of at most `most` bytes; see `open_regular`."""
    with open_regular(path, follow=follow, pipes=pipes) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            content = file.read(most + 1) if pipes else file.read()
            if len(content) <= most:
                return content
        named = f"{size:,} bytes" if size > most else "more bytes"
        raise UnusableFile(errno.EFBIG, f"it has {named}; the limit is {most:,}", os.fspath(path))


def append_regular(path: Path | str) -> BinaryIO:
    """Open a file to be continued, or create it; raise UnusableFile if the path is something else, or OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(open_checked(path, flags), "ab")


def open_checked(path: Path | str, flags: int, *, pipes: bool = False) -> int:
    """Return the descriptor of a regular file, opened with these flags; see `open_regular`."""
    try:
        descriptor = os.open(path, flags, 0o666)
    except BlockingIOError:
        descriptor = _open_leased(path, flags)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise not_regular(path) from error
        raise
    try:
        _check(descriptor, path, pipes=pipes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_leased(path: Path | str, flags: int) -> int:
    """Open a file on which another process, such as a file server, has a lease, which ends soon."""
    there = os.open(path, os.O_PATH | flags & os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(there, path, pipes=False)
        return os.open(f"/proc/self/fd/{there}", flags & ~(os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CREAT))
    finally:
        os.close(there)


def _check(descriptor: int, path: Path | str, *, pipes: bool) -> None:
    mode = os.fstat(descriptor).st_mode
    if pipes and stat.S_ISFIFO(mode):
        os.set_blocking(descriptor, True)
    elif not stat.S_ISREG(mode):
        raise not_regular(path)


def not_regular(path: Path | str) -> UnusableFile:
    """Return the error for a path that is not a regular file."""
    return UnusableFile(errno.EINVAL, "not a regular file", os.fspath(path))
