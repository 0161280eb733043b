"""A tier in a plain folder: a second disk, or a file system of the network."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from databuffer.tiers.always_online import AlwaysOnline
from databuffer.tiers.exactly import exactly
from databuffer.tiers.incoming import INCOMING, is_abandoned
from databuffer.tiers.keys import check_key
from databuffer.tiers.lanes import Lane
from databuffer.tiers.tier import Capacity, NotThere, Stored, TierError
from gwservice.atomic import sync

#: Bytes of a chunk that is read.
CHUNK = 1 << 20
#: Bytes that are written before they are synced.
_SYNC_BYTES = 32 << 20
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
                self._write(file.fileno(), key, size, chunks)
            with self._errors(key):
                sync(temporary)
                make_folders(path.parent, self._root)
                temporary.rename(path)  # replaces it
                sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _write(self, descriptor: int, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write every chunk; large files are synced meanwhile, so that the disk is not idle until the last one came."""
        unsynced = 0
        with ExitStack() as stack:
            lane = stack.enter_context(Lane(1)) if size > _SYNC_BYTES else None
            for chunk in exactly(chunks, size):
                with self._errors(key):
                    write_all(descriptor, chunk)
                    unsynced += len(chunk)
                    if lane and unsynced >= _SYNC_BYTES and lane.is_idle:
                        lane.do(os.fdatasync, descriptor)
                        unsynced = 0
            if lane:
                with self._errors(key):
                    lane.wait()

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
        with self._looking_up(key), open(self.path(key), "rb", opener=_open_at_once) as file:
            if not S_ISREG((found := os.fstat(file.fileno())).st_mode):
                raise NotThere(f"tier {self.name}: {key} is not a file")
            size = found.st_size
            left = max(min(size if stop is None else stop, size) - start, 0)
            yield b""
            file.seek(start)
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise TierError(f"tier {self.name}: {key} ended {left} bytes early")
                left -= len(chunk)
                yield chunk

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


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write every byte of a chunk; `os.write` may write fewer."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
