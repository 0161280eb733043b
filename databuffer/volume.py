"""Files on the data volume: written whole, listed, archived, set aside.

Every move is a rename, because `.incoming/`, the batch in hand, its archives and `quarantine/` lie on one file
system. A file in the data folder is whole or not there.
"""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from databuffer.errors import volume_error

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


@contextmanager
def volume_errors() -> Iterator[None]:
    """Turn the operating system's errors into the buffer's own; the one place where that happens."""
    try:
        yield
    except OSError as error:
        raise volume_error(error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte, in as many calls as the system wants."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def write_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write a new file, readable by everybody; `durable`: its bytes are on the disk on return."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
    try:
        os.fchmod(descriptor, _FILE_MODE)  # whatever the umask: preprocessing reads as another user
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file in one step: a reader sees the old content or the new."""
    temporary = path.with_name(f".{path.name}.new")
    write_file(temporary, content, durable=durable)
    temporary.rename(path)
    if durable:
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, open to readers whatever the umask."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir()
    folder.chmod(_FOLDER_MODE)
    sync_folder(folder.parent)


class Volume:
    """The data volume.

    Args:
        root: the mount point.
        data: the folder of the batch in hand, directly in `root`.
        prefix: what the names of segment files begin with.

    """

    def __init__(self, root: Path, data: Path, prefix: str) -> None:
        self.root = root
        self.data = data
        self.incoming = root / ".incoming"
        self.quarantine = root / "quarantine"
        self._prefix = prefix
        self._segment_name = re.compile(rf"{re.escape(prefix)}(\d+)\.json")
        self._staged = itertools.count()

    def make_folders(self) -> None:
        """Make whatever folder is missing."""
        with volume_errors():
            for folder in (self.root, self.incoming, self.quarantine, self.data):
                make_folder(folder)

    def check(self) -> None:
        """Raise VolumeFailed where the batch's folder is not there or cannot be written to."""
        with volume_errors():
            if not os.access(self.data, os.W_OK | os.X_OK):
                raise PermissionError(f"{self.data} cannot be written to")

    def name(self, number: int) -> str:
        """Give the file name of the segment stored at `number` nanoseconds of Unix time."""
        return f"{self._prefix}{number}.json"

    def number(self, name: str) -> int | None:
        """Give the number in a segment's file name, None where the name is no segment's."""
        match = self._segment_name.fullmatch(name)
        return int(match[1]) if match else None

    def stage(self, content: bytes) -> Path:
        """Write a file beside the batch, durably."""
        path = self.incoming / f"{next(self._staged)}.json"
        with volume_errors():
            try:
                write_file(path, content, durable=True)
            except OSError:
                with suppress(OSError):
                    path.unlink()
                raise
        return path

    def publish(self, staged: Path, name: str) -> None:
        """Move a staged file into the batch; it is durable after the next `sync`."""
        with volume_errors():
            staged.rename(self.data / name)

    def sync(self) -> None:
        """Make the batch's names durable."""
        with volume_errors():
            sync_folder(self.data)

    def discard(self, path: Path) -> None:
        """Remove a file that was never acknowledged."""
        with volume_errors():
            path.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Give the segment files of the batch and their sizes in bytes, in the order they were stored."""
        with volume_errors(), os.scandir(self.data) as entries:
            found = [
                (number, entry.name, entry.stat().st_size)
                for entry in entries
                if (number := self.number(entry.name)) is not None
            ]
        return {name: size for _, name, size in sorted(found)}

    def archive(self, when: datetime, papers: dict[str, bytes]) -> Path:
        """Move the batch into the folder `DAY HOUR MIN`, with its papers beside its segments.

        The move is one rename of the whole folder: there is no moment at which half of a batch is archived.
        The data folder is gone afterwards; `make_folders` makes the next batch's.
        """
        with volume_errors():
            for name, content in papers.items():
                write_file(self.data / name, content, durable=True)
            sync_folder(self.data)
            folder = self._free_name(f"{when:%Y-%m-%d %H %M}")
            self.data.rename(folder)
            sync_folder(self.root)
        return folder

    def set_aside(self, path: Path, reason: str) -> Path:
        """Move a file that cannot be trusted into `quarantine/`, with the reason beside it."""
        with volume_errors():
            target = self._free_name(path.name, self.quarantine)
            write_file(target.with_name(f"{target.name}.reason"), f"{path}: {reason}\n".encode(), durable=True)
            path.rename(target)
            sync_folder(self.quarantine)
            sync_folder(path.parent)
        return target

    def _free_name(self, name: str, parent: Path | None = None) -> Path:
        parent = parent or self.root
        candidates = itertools.chain((name,), (f"{name} {count}" for count in itertools.count(2)))
        return next(path for candidate in candidates if not (path := parent / candidate).exists())
