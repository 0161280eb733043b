"""Reading and writing single files and folders, and the space of their file system."""

import hashlib
import itertools
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from databuffer.errors import volume_error
from gwservice.atomic import sync as sync_folder
from gwservice.regular_file import open_regular, read_regular

log = logging.getLogger(__name__)

PROBE = ".probe"
#: Free bytes and inodes below which a probe has to find out whether a segment can be stored.
PROBE_SIZE = 64 * 1024
_SPARE_INODES = 64
#: Files that can be made again leave this fraction of the file system to segments, or these bytes if that is less.
_MARGIN, _LARGEST_MARGIN = 0.1, 10**10
FILE_MODE = 0o644
#: No manifest, log or segment has so many bytes: a file that another program put there may be larger than the memory.
LARGEST_FILE = 2**32
_PORTION = 2**20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextmanager
def volume_errors() -> Iterator[None]:
    """Raise VolumeError in place of the operating system's errors."""
    try:
        yield
    except OSError as error:
        raise volume_error(error) from error


def write_all(descriptor: int, content: bytes, path: Path | str) -> None:
    """Write every byte, because one system call may write only a part; an error names the folder of `path`."""
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, memoryview(content)[written:])
    except OSError as error:
        error.filename = os.path.dirname(path)  # noqa: PTH120 (it may be a text)
        raise


def open_stored(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file of the buffer; raise UnusableFile if another program put a link, a pipe or a device in its place."""
    return open_regular(path, buffering=buffering)


def read_stored(path: Path, *, follow: bool = False) -> bytes:
    """Return the content of a file of the buffer; raise UnusableFile as `open_stored`, or if it is too large.

    `follow`: it may be a link.
    """
    return read_regular(path, LARGEST_FILE, follow=follow)


def write_stored(path: Path) -> BinaryIO:
    """Open a new file to be written, in place of what a crash or another program left there."""
    remove(path)
    return os.fdopen(os.open(path, _CREATE, FILE_MODE), "wb")


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while portion := file.read(_PORTION):
        digest.update(portion)
    return digest.hexdigest()


def create_file(path: Path | str, content: bytes) -> int:
    """Write a file that must not exist; return its open descriptor, to be synced and closed."""
    descriptor = os.open(path, _CREATE, FILE_MODE)
    try:
        write_all(descriptor, content, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write a file, in place of what a crash left there; if `durable`, its bytes are on the disk on return."""
    remove(path)
    descriptor = create_file(path, content)
    try:
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file in one step: a reader sees the old content or the new."""
    temporary = unfinished(path)
    write_file(temporary, content, durable=durable)
    temporary.rename(path)
    if durable:
        sync_folder(path.parent)


def unfinished(path: Path) -> Path:
    """Return the temporary path of a file's new content."""
    return path.with_name(f".{path.name}.new")


@contextmanager
def probe_file(folder: Path, size: int = PROBE_SIZE) -> Iterator[None]:
    """Write and sync a file and an empty one in a folder, and remove them at the end of the block."""
    path, second = folder / PROBE, folder / f"{PROBE}.2"
    try:
        write_file(path, bytes(size), durable=True)
        write_file(second, b"", durable=False)
        yield
    finally:
        remove(path)
        remove(second)


@dataclass(frozen=True)
class Space:
    """Total, free and used bytes and inodes of a file system; some file systems do not count inodes.

    Bytes that are kept for the administrator are neither `free` nor `used`.
    """

    free: int
    size: int
    used: int
    free_inodes: int | None
    total_inodes: int | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the space of a folder's file system."""
        with volume_errors():
            found = os.statvfs(folder)
        inodes = (found.f_favail, found.f_files) if found.f_files else (None, None)
        sizes = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks, found.f_blocks - found.f_bfree))
        return cls(*sizes, *inodes)

    @property
    def scarce(self) -> bool:
        """Return whether a group of segments may not fit."""
        return self.free < PROBE_SIZE or (self.free_inodes is not None and self.free_inodes < _SPARE_INODES)

    @property
    def margin(self) -> int:
        """The free bytes that files which can be made again leave to segments."""
        return min(int(self.size * _MARGIN), _LARGEST_MARGIN)

    def __str__(self) -> str:
        """Return the free bytes and inodes, in words."""
        inodes = "" if self.free_inodes is None else f" and {self.free_inodes:,} inodes"
        return f"{self.free:,} bytes{inodes} are free"


def remove(path: Path) -> None:
    """Remove a file that can be made again, if it exists; a folder in its place is moved aside."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        move_unusable_aside(path)


def access_error(path: Path, mode: int = os.R_OK | os.W_OK) -> str | None:
    """Return why an existing path cannot be used as a file that is read and written, or None; `mode`: other access."""
    if not path.is_file():
        return "it is not a file"
    if os.access(path, mode):
        return None
    return "it cannot be read and written" if mode & os.W_OK else "it cannot be read"


def move_aside(path: Path) -> Path:
    """Rename a path to `*.unreadable`, and replace a file of that name; return the new path."""
    target = path.with_name(f"{path.name}.unreadable")
    with volume_errors():
        if path.is_dir() or target.is_dir():
            target = free_name(path.parent, target.name)
        path.rename(target)
    return target


def move_unusable_aside(path: Path, mode: int = os.R_OK) -> None:
    """Rename an existing path that cannot be used as a file; the file itself need not be writable to be replaced."""
    if os.path.lexists(path) and (reason := why_not_ours(path) or access_error(path, mode)):
        log.warning("%s cannot be used: %s; it is moved aside as %s", path, reason, move_aside(path).name)


def move_no_folder_aside(path: Path) -> None:
    """Rename an existing path that is not a folder."""
    if os.path.lexists(path) and not path.is_dir():
        log.warning("%s is not a folder; it is moved aside as %s", path, move_aside(path).name)


def why_not_ours(path: Path) -> str | None:
    """Return why a file cannot be one that the buffer wrote, or None."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    return f"it has {found.st_size:,} bytes" if found.st_size > LARGEST_FILE else None


def free_name(parent: Path, name: str) -> Path:
    """Return an unused path in a folder: the name, or the name with a number if it is taken."""
    candidates = itertools.chain((name,), (f"{name} {count}" for count in itertools.count(2)))
    return next(path for candidate in candidates if not os.path.lexists(path := parent / candidate))


def make_own_folder(folder: Path) -> None:
    """Create a folder that only the buffer uses, as `make_folder`, in place of what is not a folder."""
    move_no_folder_aside(folder)
    make_folder(folder)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)  # another thread may make it too
    sync_folder(folder.parent)
