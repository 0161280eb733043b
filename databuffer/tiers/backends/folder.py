"""A tier in a plain folder: a second disk, or a file system of the network."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from databuffer.tiers.backends.always_online import AlwaysOnline
from databuffer.tiers.backends.exactly import exactly
from databuffer.tiers.backends.incoming import INCOMING, is_abandoned
from databuffer.tiers.backends.keys import check_key
from databuffer.tiers.backends.uncached import UncachedWriter, read_uncached
from databuffer.tiers.tier import Capacity, NotThere, Stored, TierError
from gwservice.atomic import sync

#: Bytes of a chunk that is read.
CHUNK = 1 << 20
#: Errors of a file system without hard links, or of folders on two file systems.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK})


class FolderTier(AlwaysOnline):
    """Files below `root`, which has to exist; each is replaced in one step and is on the disk when `write` returns."""

    kind = "disk"

    def __init__(self, name: str, root: Path, capacity: int | None = None) -> None:
        self.name = name
        self._root = root
        self._capacity = capacity

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key; see `Tier`."""
        path = self.path(key)
        with self._errors(key):
            self._check_root()
            incoming = self._root / INCOMING
            incoming.mkdir(exist_ok=True)
            self._delete_abandoned(incoming)
            temporary = incoming / uuid4().hex
        try:
            with self._errors(key):
                temporary.touch(exist_ok=False)
            with temporary.open("wb", buffering=0) as file:
                self._write(file.fileno(), key, exactly(chunks, size))
            with self._errors(key):
                make_folders(path.parent, self._root)
                temporary.rename(path)  # replaces it
                sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _write(self, descriptor: int, key: str, chunks: Iterable[bytes]) -> None:
        """Write every chunk, durably; an error of the chunks is not one of the tier."""
        with UncachedWriter(descriptor) as writer:
            for chunk in chunks:
                with self._errors(key):
                    writer.add(chunk)
            with self._errors(key):
                writer.finish()

    def link(self, key: str, other: "FolderTier", source: str) -> None:
        """Make a key another name of a file in another folder, or a copy of it if the file system has no such names."""
        path, target = self.path(key), other.path(source)
        with self._errors(key), suppress(FileExistsError):
            self._check_root()
            make_folders(path.parent, self._root)
            try:
                os.link(target, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.write(key, target.stat().st_size, other.read(source))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key; see `Tier`."""
        chunks = self._read(key, start, stop)
        next(chunks)  # opens the file, so that errors are raised by the call
        return chunks

    def _read(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        with self._looking_up(key), open(self.path(key), "rb", buffering=0, opener=_open_at_once) as file:
            if not S_ISREG((found := os.fstat(file.fileno())).st_mode):
                raise NotThere(f"tier {self.name}: {key} is not a file")
            stop = found.st_size if stop is None else min(stop, found.st_size)
            yield b""
            for chunk in self._chunks(file, start, stop):
                start += len(chunk)
                yield chunk
            if start < stop:
                raise TierError(f"tier {self.name}: {key} ended {stop - start} bytes early")

    @staticmethod
    def _chunks(file: FileIO, start: int, stop: int) -> Iterator[bytes]:
        """Yield what a move or a comparison reads past the page cache, and the short ranges of readers out of it."""
        if stop - start > CHUNK:
            yield from read_uncached(file.fileno(), start, stop)
        elif start < stop:
            file.seek(start)
            yield file.read(stop - start)

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        path = self.path(key)
        try:
            with self._looking_up(key):
                found = path.stat()
        except NotThere:
            return None
        return Stored(key, found.st_size, found.st_mtime) if S_ISREG(found.st_mode) else None

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""
        path = self.path(key)
        with self._errors(key):
            try:
                path.unlink()
            except FileNotFoundError:
                self._check_root()
                return
            sync(path.parent)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys."""
        with self._errors(prefix):
            self._check_root()
            yield from self._below(self._root, "", prefix)

    def _below(self, folder: Path, place: str, prefix: str) -> Iterator[Stored]:
        entries = [
            (place + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""), entry)
            for entry in os.scandir(folder)
            if not entry.name.startswith(".")
        ]
        for key, entry in sorted(entries, key=lambda pair: pair[0]):
            if key.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._below(Path(entry.path), key, prefix)
            elif key.startswith(prefix):
                found = _stat(entry)
                if found and S_ISREG(found.st_mode):
                    yield Stored(key, found.st_size, found.st_mtime)

    def capacity(self) -> Capacity:
        """Return the bytes that the file system can hold and holds, or the capacity that was given.

        Blocks that are kept for the administrator are neither, so that a full file system has as much as it can hold.
        """
        if self._capacity is not None:
            return Capacity(self._capacity)
        with self._errors(""):
            usage = shutil.disk_usage(self._root)
        return Capacity(usage.used + usage.free, usage.used)

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        return self._root / check_key(key)

    @staticmethod
    def _delete_abandoned(incoming: Path) -> None:
        """Delete files that a crash left behind."""
        for file in incoming.iterdir():
            with suppress(FileNotFoundError):  # finished meanwhile
                if is_abandoned(file.stat().st_mtime):
                    file.unlink()

    def _check_root(self) -> None:
        """Raise TierError if the folder is missing, such as a file system that is not mounted."""
        if not self._root.is_dir():
            raise TierError(f"tier {self.name}: there is no folder {self._root}")

    @contextmanager
    def _looking_up(self, key: str) -> Iterator[None]:
        """Raise NotThere if there is no such file, and TierError instead of another OSError."""
        with self._errors(key):
            try:
                yield
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                raise NotThere(f"tier {self.name}: there is no {key}") from None

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Raise TierError instead of OSError."""
        try:
            yield
        except OSError as error:
            raise TierError(f"tier {self.name}: {key or self._root}: {error.strerror or error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that somebody put in its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what an entry is, or None if it was deleted meanwhile, or is a link that leads nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return None
        raise


def make_folders(folder: Path, root: Path) -> None:
    """Create a folder below an existing `root`, durably."""
    if folder == root or folder.is_dir():
        return
    make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
