"""The counts (StatDesc.json), the state (Dsstat.json) and the log (LogStream.json), in the original formats.

Counts and log can be rebuilt from the volume; the state and its holder cannot: only Dsstat.json is synced to the disk.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from databuffer.errors import VolumeFull
from databuffer.storage.files import (
    FILE_MODE,
    move_unusable_aside,
    open_stored,
    read_stored,
    remove,
    replace_file,
    unfinished,
    volume_errors,
    write_all,
)
from gwservice.atomic import sync as sync_folder
from gwservice.regular_file import UnusableFile
from gwwire.datastore import Description
from gwwire.decoding import parse_json
from gwwire.public import LogEntry, Stats

T = TypeVar("T")

_PORTION = 64 * 1024
#: Padded for two numbers of 19 digits, so that the files keep their length.
_STATS_LENGTH = 64
#: Number of files that take turns: a reader would have to wait for this many groups to see a half-written one.
_TURNS = 8
#: Neither a link that another program put there is followed, nor a pipe waited for.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class BatchCounts(msgspec.Struct, frozen=True):
    """The content of StatDesc.json: the number of segments in the current batch, and the bytes of their files."""

    n_itm: int
    buff_size: int


def stored_entries(files: Iterable[tuple[str, int]], unix_ns: int) -> list[LogEntry]:
    """Return the log lines of files, given by name and size, that were stored at `unix_ns`."""
    time = datetime.fromtimestamp(unix_ns // 10**9, UTC).isoformat()
    return [LogEntry("info", 0, size, name, time, "Write file") for name, size in files]


class Metadata:
    """StatDesc.json and Dsstat.json."""

    def __init__(self, stats: Path, description: Path) -> None:
        self._stats = stats
        self._description = description
        self._turns = [stats.with_name(f".{stats.name}.{turn}") for turn in range(_TURNS)]
        self._turn = 0
        self._linked = unfinished(stats)

    @property
    def path(self) -> Path:
        """The path of the file with the state."""
        return self._description

    @property
    def folders(self) -> set[Path]:
        """The folders of the two files."""
        return {self._stats.parent, self._description.parent}

    def prepare(self) -> None:
        """Create the rotating files, so that counting needs no new inode, and delete what a crash left behind.

        Raise VolumeError if a folder cannot be synced, as a freeze needs it.
        """
        with volume_errors():
            for folder in self.folders:
                sync_folder(folder)
            for path in (unfinished(self._description), self._linked, *self._turns):
                remove(path)
        for path in (self._stats, self._description):
            move_unusable_aside(path)
        with suppress(VolumeFull), volume_errors():
            for path in self._turns:
                path.touch(FILE_MODE)

    def read_stats(self) -> Stats | None:
        """Return the counts, or None if the file is missing or malformed."""
        return _read(self._stats, Stats)

    def write_stats(self, stats: Stats) -> None:
        """Replace the counts in one step: a reader sees the old counts or the new ones.

        A few files take turns, and a link to the newest replaces the last one. A new file for each group would cost
        an inode each time, which ext4 does not reuse for minutes; one that is overwritten could be read half-written.
        """
        self._turn = (self._turn + 1) % _TURNS
        content = msgspec.json.encode(BatchCounts(stats.n_itm, stats.buff_size)).ljust(_STATS_LENGTH - 1) + b"\n"
        with volume_errors():
            descriptor = os.open(self._turns[self._turn], _WRITE, FILE_MODE)
            try:
                write_all(descriptor, content, self._stats)
            finally:
                os.close(descriptor)
            os.link(self._turns[self._turn], self._linked)
            os.rename(self._linked, self._stats)  # noqa: PTH104 (as short as the calls around it)

    def read_description(self) -> Description | None:
        """Return the state, or None if the file is missing or malformed."""
        return _read(self._description, Description)

    def write_description(self, description: Description) -> None:
        """Replace the state, durably."""
        with volume_errors():
            replace_file(self._description, msgspec.json.encode(description), durable=True)


class LogStream:
    """LogStream.json: one JSON line for each segment of a batch; a missing file is an empty log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def size(self) -> int:
        """Return the size in bytes."""
        with volume_errors():
            return self.path.stat().st_size if self.path.exists() else 0

    def content(self) -> bytes:
        """Return the content of the file."""
        with volume_errors():
            return read_stored(self.path) if self.path.exists() else b""

    def lines(self, last: int | None = None) -> list[bytes]:
        """Return the lines, or the newest `last` of them without reading the others; malformed ones are left out."""
        if last is None:
            return list(filter(_entry, _whole_lines(self.content())))
        if not self.path.exists():
            return []
        tail = b""
        with volume_errors(), open_stored(self.path) as file:
            place = file.seek(0, os.SEEK_END)
            while place and tail.count(b"\n") <= last:  # one more than the lines: the first may be half a line
                start = max(0, place - _PORTION)
                file.seek(start)
                tail = file.read(place - start) + tail
                place = start
        return list(filter(_entry, _whole_lines(tail)[-last:]))

    def entries(self) -> list[LogEntry]:
        """Return the entries of the lines that are not malformed."""
        return list(filter(None, map(_entry, self.content().splitlines())))

    def append(self, entries: Iterable[LogEntry]) -> None:
        """Append lines: all of them or, if that fails, none."""
        with volume_errors():
            descriptor = os.open(self.path, _WRITE | os.O_APPEND, FILE_MODE)
            try:
                length = os.lseek(descriptor, 0, os.SEEK_END)
                try:
                    write_all(descriptor, _lines(entries), self.path)
                except OSError:
                    os.ftruncate(descriptor, length)
                    raise
            finally:
                os.close(descriptor)

    def take_over(self, other: "LogStream") -> None:
        """Replace this log by another one, which is removed; do nothing if the other does not exist."""
        with volume_errors(), suppress(FileNotFoundError):
            other.path.rename(self.path)

    def remove(self) -> None:
        """Remove the file."""
        with volume_errors():
            self.path.unlink(missing_ok=True)

    def replace(self, entries: Iterable[LogEntry]) -> None:
        """Replace the log by one with these entries."""
        with volume_errors():
            replace_file(self.path, _lines(entries), durable=False)


def _entry(line: bytes) -> LogEntry | None:
    """Return the entry in a line, or None if a crash cut it short or another program changed it."""
    try:
        return parse_json(line.decode(), LogEntry)  # the decoder itself does not check the UTF-8 of what it skips
    except ValueError:
        return None


def _whole_lines(content: bytes) -> list[bytes]:
    """Skip a line that is still being written, or that a crash cut short."""
    return content[: content.rfind(b"\n") + 1].splitlines()


def _lines(entries: Iterable[LogEntry]) -> bytes:
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def _read(path: Path, shape: type[T]) -> T | None:
    with volume_errors():
        try:
            return parse_json(read_stored(path), shape)
        except (FileNotFoundError, UnusableFile, ValueError):
            return None
