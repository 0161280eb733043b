"""The bytes of files on the volume: each content once, under its SHA-256, and what has arrived of others.

`.holdings/incoming/` has the files that are being received, `.holdings/objects/` the complete ones. A file enters
`objects/` by a rename, after it was synced. `.holdings/packs/` has the manifests of transactions whose files are a pack
in tiers.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from databuffer.errors import VolumeFull
from databuffer.storage.files import (
    Space,
    make_own_folder,
    move_aside,
    open_stored,
    volume_errors,
    write_all,
    write_stored,
)
from gwservice.atomic import sync as sync_folder
from gwservice.regular_file import UnusableFile, open_checked

#: The folder of the manifests of packs.
PACKS_FOLDER = "packs"
_PORTION = 1024 * 1024
_READ_AND_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: The end of the name of a file that is being restored: no upload has the number 0.
_RESTORED = "-0"


class Contents:
    """The folder of all contents; its methods are called in threads, and raise VolumeError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self.objects = root / "objects"
        #: The manifests of packs, each in the folder of its transaction.
        self.packs = root / PACKS_FOLDER
        self._lock = Lock()
        #: Contents that become a file's now: they must not be removed.
        self._publishing: Counter[str] = Counter()

    def open(self) -> None:
        """Create the folders."""
        with volume_errors():
            for folder in (self._incoming, self.objects, self.packs):
                make_own_folder(folder)

    def leftovers(self) -> list[str]:
        """Return the names of the files of which some bytes have arrived."""
        with volume_errors():
            return os.listdir(self._incoming)  # noqa: PTH208 (names, not paths)

    def receive(self, name: str, size: int) -> "Arriving":
        """Return what has arrived of a file of `size` bytes that is received under a name."""
        return Arriving(self._incoming / name, size)

    def received(self, name: str) -> int:
        """Return how many bytes have arrived of a file that is received under a name."""
        with volume_errors():
            try:
                return (self._incoming / name).stat().st_size
            except FileNotFoundError:
                return 0

    def drop(self, *names: str) -> None:
        """Remove what has arrived of files."""
        with volume_errors():
            for name in names:
                (self._incoming / name).unlink(missing_ok=True)

    @contextmanager
    def publishing(self, digest: str) -> Iterator[None]:
        """Keep a content until the block ends, which makes it a file's."""
        with self._lock:
            self._publishing[digest] += 1
        try:
            yield
        finally:
            with self._lock:
                self._publishing[digest] -= 1
                self._publishing += Counter()  # drops what is zero

    def publish(self, files: Sequence[tuple["Arriving", str]]) -> None:
        """Move files that have arrived to the complete ones, durably, by their SHA-256; call it in `publishing`."""
        with volume_errors():
            for arrived, _ in files:
                arrived.sync()
            folders = set()
            for arrived, digest in files:
                path = self.path(digest)
                make_own_folder(path.parent)
                arrived.path.rename(path)  # also if there is one: it may be damaged, or not durable yet
                folders.add(path.parent)
            for folder in folders:
                sync_folder(folder)

    def file(self, digest: str, size: int) -> BinaryIO | None:
        """Open a content, or return None if it is not there, or has another size."""
        with volume_errors():
            try:
                found = open_stored(self.path(digest))
            except (FileNotFoundError, UnusableFile):
                return None
            if os.fstat(found.fileno()).st_size == size:
                return found
            found.close()
        return None

    def put(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Write a content, durably, in place of what is there; nothing is changed if `chunks` raises an error."""
        path, temporary = self.path(digest), self._incoming / f"{digest}{_RESTORED}"
        try:
            with volume_errors(), write_stored(temporary) as file:
                for chunk in chunks:
                    self.check_space(len(chunk))
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            with volume_errors():
                make_own_folder(path.parent)
                temporary.replace(path)
                sync_folder(path.parent)
        finally:
            with volume_errors():
                temporary.unlink(missing_ok=True)

    def remove(self, digest: str, is_wanted: Callable[[str], bool]) -> None:
        """Remove a content unless a file has it, or gets it now."""
        with self._lock:
            if not (self._publishing[digest] or is_wanted(digest)):
                with volume_errors():
                    self.path(digest).unlink(missing_ok=True)

    def check_space(self, size: int) -> None:
        """Raise VolumeFull if more bytes would take space that is kept for segments."""
        space = Space.of(self.root)
        if space.free < size + space.margin:
            kept = f"of which {space.margin:,} are kept for segments"
            raise VolumeFull(f"the file needs {size:,} bytes more; {space.free:,} bytes are free on the volume, {kept}")

    def path(self, digest: str) -> Path:
        """Return where a content is, if it is there."""
        return self.objects / digest[:2] / digest


class Arriving:
    """The bytes of a file that have arrived, and their SHA-256; used by one thread at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.received = 0
        self._digest = sha256()
        self._descriptor: int | None = None

    def open(self) -> None:
        """Open the file for writing; what an earlier process received is read again."""
        if self._descriptor is not None:
            return
        with volume_errors():
            try:
                self._descriptor = open_checked(self.path, _READ_AND_WRITE)
            except UnusableFile:
                move_aside(self.path)
                self._descriptor = open_checked(self.path, _READ_AND_WRITE)
            there = os.fstat(self._descriptor).st_size
            if there == self.received:
                return
            self.received, self._digest = 0, sha256()
            if there > self.size:
                os.ftruncate(self._descriptor, 0)
            while portion := os.pread(self._descriptor, _PORTION, self.received):
                self._digest.update(portion)
                self.received += len(portion)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, portion: bytes) -> None:
        """Append bytes; if that fails, none of them has arrived."""
        descriptor = self._opened()
        with volume_errors():
            os.lseek(descriptor, self.received, os.SEEK_SET)
            try:
                write_all(descriptor, portion, self.path)
            except OSError:
                os.ftruncate(descriptor, self.received)
                raise
        self._digest.update(portion)
        self.received += len(portion)

    def cut(self, size: int) -> None:
        """Drop the bytes after `size`."""
        with volume_errors():
            os.ftruncate(self._opened(), size)
        self.close()
        self.received, self._digest = -1, sha256()  # so that `open` reads it again
        self.open()

    def sync(self) -> None:
        """Write all bytes to the disk."""
        os.ftruncate(self._opened(), self.size)
        os.fsync(self._opened())

    def digest(self) -> bytes:
        """Return the SHA-256 of what has arrived."""
        return self._digest.digest()

    def _opened(self) -> int:
        assert self._descriptor is not None  # noqa: S101 (`open` was called)
        return self._descriptor
