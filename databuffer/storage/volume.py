"""The folders and files of the data volume.

`.incoming/`, the batches, the archives and `quarantine/` are on one file system. Files enter a batch by a rename, so
that no file in it is half-written.
"""

import errno
import itertools
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from databuffer.errors import NO_SPACE, VolumeError, VolumeFailed
from databuffer.metrics import FSYNC_FOLDER
from databuffer.storage.files import PROBE, create_file, free_name, make_folder, read_stored, volume_errors, write_file
from databuffer.storage.marks import Marks
from databuffer.storage.open_folders import OpenFolders
from gwservice.atomic import owned
from gwservice.atomic import sync as sync_path

log = logging.getLogger(__name__)

#: Files that are open at once while they are written and synced.
_SYNCED_TOGETHER = 64
_ARCHIVE_NAME = re.compile(r"\d{4}-\d\d-\d\d \d\d \d\d( \d+)?")


class Volume:
    """The data volume at `root`, with the folder `data` of the current batch; segment names begin with `prefix`.

    `links`: segments may be links to files, as in a copy made by `shadow`.
    """

    def __init__(self, root: Path, data: Path, prefix: str, *, links: bool = False) -> None:
        self.root = root
        self.data = data
        self.next = root / "next"
        self.incoming = root / ".incoming"
        self.quarantine = root / "quarantine"
        self.bundles = root / ".bundles"
        self.holdings = root / ".holdings"
        self.marks = Marks(root)
        self._prefix = prefix
        self._links = links
        self._segment_name = re.compile(rf"{re.escape(prefix)}(\d+)\.json", re.ASCII)
        # Distinguishes the files of this process from those that an earlier one left behind.
        self._run = f"run{time.time_ns()}"
        self._staging_prefix = f"{self.incoming}/{self._run}-"
        self._staged = itertools.count()
        self._lock_file = f"{root}/.lock"
        self._lock: int | None = None
        self._unlock = ExitStack()
        self._open_folders = OpenFolders()

    def is_empty(self) -> bool:
        """Return whether the root is a folder without files of a buffer: a mount point without its volume."""
        with volume_errors():
            return self._lock is None and (
                not self.root.is_dir() or {path.name for path in self.root.iterdir()} <= {"lost+found", ".lock"}
            )

    def lock(self) -> None:
        """Lock the volume until `unlock`; raise VolumeFailed if another buffer has locked it."""
        if self._lock is not None:
            return
        with volume_errors():
            make_folder(self.root)
            try:
                self._lock = self._unlock.enter_context(owned(Path(self._lock_file)))
            except BlockingIOError as held:
                raise VolumeFailed(f"another buffer ({held.strerror}) uses {self.root}") from None

    def unlock(self) -> None:
        """Unlock the volume."""
        self._open_folders.close()
        self._unlock.close()
        self._lock = None

    def check_identity(self) -> None:
        """Raise VolumeFailed if the volume that was locked was unmounted or replaced."""
        with volume_errors():
            if self._lock is not None and not os.path.samestat(os.fstat(self._lock), os.stat(self._lock_file)):  # noqa: PTH116 (asked with each group)
                raise FileNotFoundError(errno.ENOENT, "the volume was replaced", str(self.root))

    def recognise(self, folder: Path) -> None:
        """Expect the folder of an open batch, as it is now, to stay in its place."""
        with volume_errors():
            self._open_folders.recognise(folder)

    def make_open_folder(self, folder: Path) -> None:
        """Create the folder of an open batch, durably."""
        self._open_folders.forget(folder)
        with volume_errors():
            make_folder(folder)
        self.recognise(folder)

    def check_open_folders(self) -> bool:
        """Return whether the folder of an open batch was deleted and another one is in its place.

        Raise VolumeFailed as `check_identity`, or if such a folder was moved away, or mounted over.
        """
        self.check_identity()
        with volume_errors():
            return bool([folder for folder in (self.data, self.next) if self._open_folders.is_deleted(folder)])

    def check(self) -> None:
        """Raise VolumeFailed if the data folder is missing, was replaced, or cannot be written to."""
        self.check_open_folders()
        with volume_errors():
            if not os.access(self.data, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "cannot be written to", str(self.data))

    def quarantined(self) -> int:
        """Return the number of files in quarantine."""
        with volume_errors():
            return sum(path.suffix != ".reason" for path in self.quarantine.iterdir())

    def name(self, number: int) -> str:
        """Return the file name of the segment stored at `number` nanoseconds of Unix time."""
        return f"{self._prefix}{number}.json"

    def number(self, name: str) -> int | None:
        """Return the number in a segment's file name, or None if the name is not a segment's."""
        match = self._segment_name.fullmatch(name)
        return int(match[1]) if match else None

    def staging_path(self) -> str:
        """Return the path of a new file outside the batches; a `Path` would cost more than the file's write."""
        return f"{self._staging_prefix}{next(self._staged)}.json"

    def leftovers(self) -> list[Path]:
        """Return the staged files of earlier processes."""
        with volume_errors():
            return sorted(path for path in self.incoming.iterdir() if not path.name.startswith((self._run, PROBE)))

    def publish(self, staged: Iterable[tuple[str, str]], folder: Path) -> None:
        """Move staged files, given as (path, name), into a batch; they are durable after the next `sync`."""
        target = f"{folder}/"
        with volume_errors():
            for path, name in staged:
                os.rename(path, target + name)  # noqa: PTH104 (a `Path` for each would cost more than the call)

    def sync(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        with volume_errors(), FSYNC_FOLDER.time():
            sync_path(folder)

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        with volume_errors():
            return read_stored(path, follow=self._links)

    def discard(self, path: Path) -> None:
        """Remove a file, if it exists."""
        with volume_errors():
            path.unlink(missing_ok=True)

    def sizes(self, folder: Path) -> dict[str, int]:
        """Return the segment files of a folder and their sizes in bytes, in the order they were stored."""
        with volume_errors(), os.scandir(folder) as entries:
            found = [
                (number, entry.name, _size(entry, follow=self._links))
                for entry in entries
                if (number := self.number(entry.name)) is not None
            ]
        return {name: size for _, name, size in sorted(found)}

    def set_aside(self, path: Path, reason: str) -> Path:
        """Move a file to `quarantine/`, with the reason in a second file; return the new path."""
        with volume_errors():
            target = free_name(self.quarantine, path.name)
            try:
                write_file(target.with_name(f"{target.name}.reason"), f"{path}: {reason}\n".encode(), durable=True)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                log.warning("no space left to write the reason why %s is in quarantine: %s", target, reason)
            path.rename(target)
            sync_path(self.quarantine)
            sync_path(path.parent)
        return target

    def put_file(self, folder: Path, name: str, content: bytes) -> None:
        """Write a file other than a segment into a batch, durably and in one step."""
        self.put_files(folder, [(name, content)])

    def put_files(self, folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files, given as (name, content), into a batch, durably and each in one step."""
        staged: list[tuple[str, str]] = []
        try:
            rest = iter(files)
            while some := list(islice(rest, _SYNCED_TOGETHER)):
                self._stage(some, staged)
            self.publish(staged, folder)
            self.sync(folder)
        except BaseException:
            for path, _ in staged:
                with suppress(VolumeError):
                    self.discard(Path(path))
            raise

    def _stage(self, files: Iterable[tuple[str, bytes]], staged: list[tuple[str, str]]) -> None:
        """Write files outside the batches, durably, and append their paths and names to `staged`."""
        descriptors = []
        with volume_errors(), ExitStack() as opened:
            for name, content in files:
                path = self.staging_path()
                staged.append((path, name))
                descriptors.append(create_file(path, content))
                opened.callback(os.close, descriptors[-1])
                # The disk begins to write: the first sync below then commits what all of them wait for.
                os.posix_fadvise(descriptors[-1], 0, 0, os.POSIX_FADV_DONTNEED)
            for descriptor in descriptors:
                os.fsync(descriptor)

    def archive(self, when: datetime) -> Path:
        """Rename the data folder to `DAY HOUR MIN`; return the new path."""
        with volume_errors():
            folder = free_name(self.root, archive_name(when))
            self._open_folders.forget(self.data)
            self.data.rename(folder)
            sync_path(self.root)
        return folder

    def put_archive(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Add the folder of an archive with some files, durably and in one step; return its path.

        If there is such a folder already, the new one gets a number.
        """
        staged = Path(self.staging_path()).with_suffix("")
        with volume_errors():
            make_folder(staged)
            for file, content in files.items():
                write_file(staged / file, content, durable=True)
            sync_path(staged)
            folder = free_name(self.root, name)
            staged.rename(folder)
            sync_path(self.root)
        return folder

    def archives(self) -> list[Path]:
        """Return the folders of archived batches, the oldest first."""
        with volume_errors():
            return sorted(path for path in self.root.iterdir() if _is_archive_name(path.name) and path.is_dir())

    def advance(self) -> None:
        """Rename the folder of the next batch to the data folder, which must not exist."""
        with volume_errors():
            with suppress(FileNotFoundError):
                self.marks.path(self.next).rename(self.marks.path(self.data))
            for folder in (self.data, self.next):
                self._open_folders.forget(folder)
            self.next.rename(self.data)
            self._open_folders.recognise(self.data)
            sync_path(self.root)

    def merge_next(self) -> None:
        """Move the files of the next batch to the data folder. Call `close_next` next.

        Files that it has already, as after a copy by an operator, are moved to quarantine.
        """
        with volume_errors():
            present = {path.name for path in self.data.iterdir()}
            for path in sorted(self.next.iterdir()):
                if path.name in present:
                    self.set_aside(path, "there is a file of this name in the batch that was thawed")
                else:
                    path.rename(self.data / path.name)
            sync_path(self.data)

    def close_next(self) -> None:
        """Remove the empty folder of the next batch."""
        with volume_errors():
            self._open_folders.forget(self.next)
            self.next.rmdir()
            self.marks.path(self.next).unlink(missing_ok=True)
            sync_path(self.root)

    def close_empty(self) -> None:
        """Remove the data folder of an empty batch; other files in it are moved to quarantine."""
        with volume_errors():
            for path in sorted(self.data.iterdir()):
                self.set_aside(path, "was in the folder of an empty batch, but is not a segment")
            self._open_folders.forget(self.data)
            self.data.rmdir()
            sync_path(self.root)

    def trace(self) -> str:
        """Return a text that changes whenever a file is added to or removed from the batches or the root."""
        with volume_errors():
            folders = [folder for folder in (self.root, self.data, self.next) if folder.is_dir()]
            return " ".join(f"{folder.name}:{folder.stat().st_mtime_ns}" for folder in folders)


def _size(entry: os.DirEntry[str], *, follow: bool) -> int:
    """Return the size of a file in bytes, or 0 if it was removed meanwhile."""
    try:
        return entry.stat(follow_symlinks=follow).st_size
    except FileNotFoundError:
        return 0


def archive_name(when: datetime) -> str:
    """Return the name of the folder of a batch that was archived at a time, in UTC."""
    return f"{when:%Y-%m-%d %H %M}"


def archive_time(name: str) -> datetime:
    """Return the time in the name of an archive, or raise ValueError."""
    return datetime.strptime(name[:16], "%Y-%m-%d %H %M").replace(tzinfo=UTC)


def _is_archive_name(name: str) -> bool:
    try:
        return bool(_ARCHIVE_NAME.fullmatch(name) and archive_time(name))
    except ValueError:  # the name is not a time
        return False
