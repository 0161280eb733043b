"""Files that are replaced in one step, and lock files. Standard library only: the client imports this module too."""

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gwservice.regular_file import open_checked, read_regular

#: Bytes of the line that names the owner of a lock.
_LONGEST_OWNER = 1000


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an exception.

    Readers see the old content or the new; after an OSError, which names `path`, it is unchanged. If `durable`, content
    and name are on the disk on return. The umask reduces `mode`. The temporary file is `.NAME.NUMBER.part` in the same
    folder; it is removed if the block fails, and if it was left behind by a crash, when `path` is replaced again.
    """
    with _naming(path):
        temporary, descriptor = _create_temporary(path, mode)
        try:
            yield temporary
            if durable:
                sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        if durable:
            sync(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of its temporary files."""
    try:
        yield
    except OSError as error:
        if str(error.filename).startswith(str(path.with_name(f".{path.name}."))):
            error.filename, error.filename2 = str(path), None
        raise


def _create_temporary(path: Path, mode: int) -> tuple[Path, int]:
    """Create a file beside `path` that no other thread, process or container writes; return it and its descriptor."""
    names = (path.with_name(f".{path.name}.{number}.part") for number in itertools.count())
    return next((name, descriptor) for name in names if (descriptor := _create_locked(name, mode)) is not None)


def _create_locked(temporary: Path, mode: int) -> int | None:
    """Create a file, in place of one that a crash left behind; return None if another writer has it.

    The lock ends with the process. It is shared, as that of HDF5's readers, so that it does not keep them waiting.
    """
    if os.path.lexists(temporary):
        _remove_abandoned(temporary)
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return None
    with suppress(OSError):  # the file system has no locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is_at(temporary, descriptor):
        return descriptor
    os.close(descriptor)  # before it was locked, another writer took it for abandoned
    return None


def _remove_abandoned(temporary: Path) -> None:
    """Remove a temporary file unless its writer is running, or that is unknown."""
    with suppress(OSError), locked(temporary) as descriptor:
        if _is_at(temporary, descriptor):
            temporary.unlink()


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has a name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def replace_file(path: Path, content: bytes, *, durable: bool = True, mode: int = 0o666) -> None:
    """Replace the content of a file in one step, or create the file; see `replacing`."""
    with replacing(path, durable=durable, mode=mode) as temporary:
        temporary.write_bytes(content)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, folder: bool = False, wait: bool = False) -> Iterator[int]:
    """Hold an exclusive lock until the block ends, or the process; yields the open file descriptor.

    A missing file is created; a `folder` has to exist. Raise BlockingIOError if another process holds the lock, unless
    `wait`, and OSError if the path cannot be opened or the file system has no locks.
    """
    if folder:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        descriptor = open_checked(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def owned(path: Path) -> Iterator[int]:
    """Hold an exclusive lock as `locked` does, in a file that names its owner.

    `strerror` of the BlockingIOError is the owner.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locked(path))
        except BlockingIOError as held:
            owner = read_regular(path, _LONGEST_OWNER).decode(errors="replace").strip()
            raise BlockingIOError(held.errno, owner) from None
        with suppress(OSError):  # a full volume can be locked too
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield descriptor
