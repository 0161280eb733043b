"""Strain from files of all formats that can be read; files in a folder are found by their names."""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from os.path import realpath  # `Path.resolve` raises an error for a link to itself
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np

from gwclient.errors import InvalidSource
from gwclient.sources import segments
from gwclient.sources.arrays import Grid, SamplesOfFile, is_array, read_array
from gwclient.sources.frames import read_frames
from gwclient.sources.hdf5 import read_hdf5
from gwclient.sources.probe import PROBE
from gwclient.sources.recording import CHANGED, NothingWanted, Recording, extension
from gwclient.strain import Exclusion, Quality, Run, recorded_name, stretches, window_text
from gwfiles.stretches import LeftOut, Span
from gwwire.names import printable
from gwwire.spans import distance, first_sample, gaps, join_pairs, sampling

FRAME_SUFFIX = ".gwf"
_SUFFIXES = frozenset({".hdf5", ".h5", FRAME_SUFFIX})
#: After LIGO-T050017.
_NAME = re.compile(r"[A-Z]+-[\w+#]+-(-?\d+)-(\d+)\.\w+")
#: The name of a stored segment, in an archived batch or a simulated one.
_SEGMENT = re.compile(r"gwb\d{19}\.json")


def span_of_name(name: str) -> tuple[int, int] | None:
    """Parse a name OBS-TYPE-GPSSTART-DURATION.ext; return start and stop in GPS seconds, or None if it is another."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[1]) + int(match[2])) if match else None


def strain_files(folder: Path, start: float, stop: float) -> tuple[list[Path], list[str]]:
    """Return the strain files in a folder tree that overlap [start, stop), and the names that have no span.

    Files of single segments are among them, whatever their spans are, and so are folders that cannot be read: they fail
    as files do that cannot be read.
    """
    there, unreadable = _tree(folder)
    spans = [(span_of_name(path.name), path) for path in there if extension(path) in _SUFFIXES]
    unnamed = [path for span, path in spans if not span]
    wanted = sorted((span[0], path) for span, path in spans if span and span[0] < stop and start < span[1])
    found = [path for _, path in wanted] + [path for path in there if _SEGMENT.fullmatch(path.name)]
    found += unreadable
    if not found:
        named = f"{folder} has no strain file named as OBS-TYPE-GPSSTART-DURATION.hdf5 or .gwf"
        more = f"; name the files themselves: gwclient push {unnamed[0].parent}/*{unnamed[0].suffix}" if unnamed else ""
        raise InvalidSource(f"{named}{window_text(start, stop)}, and no segments{more}")
    return found, [path.name for path in unnamed]


def _tree(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return all that is in a folder tree, and the folders that cannot be read; links are not followed."""
    unreadable: list[Path] = []
    there: list[Path] = []
    for at, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename))):
        there += [Path(at, name) for name in (*folders, *files)]
    return sorted(there), sorted(unreadable)


@dataclass(frozen=True)
class _File:
    """A file, and what `stat` said of it before it was read."""

    path: Path
    stat: tuple[int, int, int]

    @cached_property
    def changed(self) -> float:
        """The Unix time at which the file, or something that is known about it, was changed last."""
        try:
            return self.path.stat().st_ctime
        except OSError as error:
            raise InvalidSource(f"{self.path} cannot be read: {error.strerror}") from error

    @cached_property
    def sha256(self) -> str:
        """The digest of the file."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidSource(f"{self.path} cannot be read: {error.strerror}") from error

    def check_unchanged(self) -> None:
        """Raise InvalidSource if the file was written to, or replaced, since."""
        if _stat(self.path) != self.stat:
            raise InvalidSource(f"{self.path} {CHANGED}")


@dataclass(frozen=True)
class _Part:
    """The samples [first, last) of a recording that are in the window."""

    file: _File
    recording: Recording
    first: int
    last: int
    seen_before: Exclusion | None = None  # the samples that an earlier recording has too; maybe all
    digest: str = ""  # of a stored segment that overlaps others of its channel

    @property
    def t0(self) -> float:
        return self.recording.gps(self.first)

    @property
    def is_seen_before(self) -> bool:
        return self.seen_before is not None and self.seen_before.last == self.last - self.first


@dataclass(frozen=True)
class FileSource:
    """Reads strain files, one run from each channel of each, and one more after each gap in a file.

    Where two files of a channel overlap, the samples are taken from the one that begins first. Stored segments are all
    taken, each once. What cannot be read is left out and described in `failures`; it is an error only if nothing can be
    read.
    """

    paths: tuple[Path, ...]  # the files, in any order
    start: float = -math.inf  # GPS seconds; samples before it are left out
    stop: float = math.inf  # GPS seconds; samples from it on are left out
    bits: tuple[str, ...] | None = None  # data-quality bits that have to be set; None: DATA, if the file has it
    channels: tuple[str, ...] = ()  # names or patterns of wanted channels; a file that names none gets the only name
    meta: tuple[tuple[str, str], ...] = ()  # metadata of all runs, as the event; part of the meta of each segment
    name: str = ""  # what its cursor is named after; by default the files' paths
    grid: Grid = field(default_factory=Grid)  # the sampling of arrays, which do not have it
    are_downloads: bool = False  # files of other bytes would have other paths
    #: One line for each file, or GPS span of one, that could not be read so far, with its path.
    failures: dict[str, Path] = field(default_factory=dict, init=False, compare=False)
    #: The files that have none of the wanted channels; they are no failures if another file has one.
    skipped: list[Path] = field(default_factory=list, init=False, compare=False)

    @property
    def seconds(self) -> float:
        """Return the length of the strain of all files in s."""
        return sum((part.last - part.first) * part.recording.dt for part in self._parts)

    @property
    def identity(self) -> str:
        """The files, and the sampling that was given for them."""
        files = "files " + ", ".join(sorted({realpath(path) for path in self.paths}))
        grid = {"rate": self.grid.rate, "t0": self.grid.t0}
        return self.name or files + "".join(f", {name} {value!r}" for name, value in grid.items() if value is not None)

    def changed_since(self, when: float) -> list[tuple[Path, Span]]:
        """Return the files that were written, or replaced, after a Unix time, each with what a cursor records of it.

        Downloads are not among them.
        """
        return [
            (file.path, Span(recorded_name(each.channel, each.dt), each.t0, each.gps(each.count)))
            for file, each in self._recordings
            if not self.are_downloads and file.changed > when
        ]

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """The spans in the window that are in no run: missing within a file, or in another recording too."""
        found = [
            LeftOut(Span(part.recording.channel, part.t0, part.recording.gps(part.last)), part.seen_before.reason)
            for part in self._all_parts
            if part.seen_before and part.is_seen_before
        ]
        for (path, channel), recordings in groupby(self._recordings, key=lambda each: (each[0].path, each[1].channel)):
            of_channel = [each for _, each in recordings]
            dt = of_channel[0].dt
            for before, after in gaps(join_pairs(((each.t0, each.gps(each.count)) for each in of_channel), dt), dt):
                start, stop = max(before, self.start), min(after, self.stop)
                if distance(start, stop, dt) > 0:
                    found.append(LeftOut(Span(channel, start, stop), f"missing in {path.name}"))
        return found

    def runs(self) -> Iterator[Run]:
        """Read one run from each channel that has samples in [start, stop), ordered by t0, one at a time."""
        if not self._parts:
            raise InvalidSource(f"no file has strain{window_text(self.start, self.stop)}")
        return self._readable_runs()

    def _readable_runs(self) -> Iterator[Run]:
        readable = False
        for part in self._parts:
            try:
                run = self._run(part)
            except InvalidSource as error:
                stop = part.recording.gps(part.last)
                self._fail(f"{error} ({part.recording.channel}{window_text(part.t0, stop)})", part.file.path)
                continue
            readable = True
            yield run
        if not readable:
            raise self._nothing_readable()

    @cached_property
    def _recordings(self) -> list[tuple[_File, Recording]]:
        """The recordings in all files, those of a file by channel and time."""
        found: list[tuple[_File, Recording]] = []
        unwanted: list[NothingWanted] = []
        for path in {realpath(path): path for path in self.paths}.values():
            try:
                file = _File(path, _stat(path))
                with _fits_memory(path):
                    of_file = self._read(path)
            except NothingWanted as error:
                unwanted.append(error)
                self.skipped.append(path)
            except InvalidSource as error:
                span = span_of_name(path.name)
                self._fail(f"{error} (GPS [{span[0]}, {span[1]}))" if span else str(error), path)
            else:
                found += [(file, each) for each in sorted(of_file, key=lambda each: (each.channel, each.t0))]
        if not found:
            for each, path in zip(unwanted, self.skipped, strict=True):
                self._fail(str(each), path)
            raise self._nothing_readable()
        return found

    def _read(self, path: Path) -> list[Recording]:
        if extension(path) == FRAME_SUFFIX:
            PROBE.check(path, self.channels)
            return read_frames(path, self.channels, lambda line: self._fail(line, path), bits_needed=self.bits != ())
        if extension(path) in segments.SUFFIXES:
            return segments.read_segments(path, self.channels, lambda line: self._fail(line, path))
        if is_array(path):
            return read_array(path, self.grid, self.channels)
        PROBE.check(path, self.channels)
        return read_hdf5(path, self.channels, lambda line: self._fail(line, path), bits_needed=self.bits != ())

    def _fail(self, line: str, path: Path) -> None:
        self.failures[printable(line)] = path

    def _nothing_readable(self) -> InvalidSource:
        first, *others = self.failures
        return InvalidSource(f"{first}; and {len(others)} more like this" if others else first)

    @cached_property
    def _parts(self) -> list[_Part]:
        return [part for part in self._all_parts if not part.is_seen_before]

    @cached_property
    def _all_parts(self) -> list[_Part]:
        parts = list(self._segments())
        series = [each for each in self._recordings if not each[1].digest]
        ordered = sorted(series, key=lambda each: (*_series(each), each[1].t0))
        for _, of_channel in groupby(ordered, key=_series):
            covered, by = self.start, Path()
            for file, recording in of_channel:
                first, last, unread = map(recording.first_sample, (self.start, self.stop, covered))
                if first >= last:
                    continue
                reason = f"in {'the same' if by == file.path else 'another'} file too"
                twice = Exclusion(0, min(unread, last) - first, reason) if unread > first else None
                parts.append(_Part(file, recording, first, last, twice))
                if unread < last:
                    covered, by = recording.gps(last), file.path
        return sorted(parts, key=lambda part: part.t0)

    def _segments(self) -> Iterator[_Part]:
        """Yield the stored segments in the window, those of the same bytes once."""
        segments = {each.digest: (file, each) for file, each in self._recordings if each.digest}
        for of_channel in _overlapping(segments.values()):
            for file, each in of_channel:
                first, last = map(each.first_sample, (self.start, self.stop))
                if first < last:
                    yield _Part(file, each, first, last, digest=each.digest if len(of_channel) > 1 else "")

    def _run(self, part: _Part) -> Run:
        recording = part.recording
        with _fits_memory(recording.path):
            strain = recording.read(part.first, part.last)
        exclusions = [] if part.seen_before is None else [part.seen_before]
        if recording.quality is not None:
            exclusions += vetoes(recording.quality, self._bits_of(recording), part.t0, recording.dt, len(strain))
        elif self.bits:
            raise InvalidSource(f"{recording.path} has no data-quality bits to choose from")
        meta = recording.meta
        if meta is None:
            meta = {
                "detector": recording.detector,
                **dict(self.meta),
                "source": recording.path.name.encode(errors="backslashreplace").decode(),
                "source_sha256": part.file.sha256,
            }
        if isinstance(strain, np.ma.MaskedArray):
            marked = stretches(np.ma.getmaskarray(strain))
            exclusions += [Exclusion(*ends, "marked as invalid in the file") for ends in marked]
            strain = strain.data
        part.file.check_unchanged()
        series = strain, part.t0, recording.dt, recording.channel
        run = Run(*series, meta, (), tuple(exclusions), recording.quality, part.digest)
        return replace(run, check=strain.check) if isinstance(strain, SamplesOfFile) else run

    def _bits_of(self, recording: Recording) -> tuple[str, ...]:
        names = recording.quality.names if recording.quality else ()
        if self.bits is None:
            return ("DATA",) if "DATA" in names else ()
        if unknown := [bit for bit in self.bits if bit not in names]:
            missing, there = ", ".join(unknown), ", ".join(filter(None, names))
            raise InvalidSource(f"{recording.path} has no data-quality bit {missing}, only {there}")
        return self.bits


@contextmanager
def _fits_memory(path: Path) -> Iterator[None]:
    """Convert MemoryError to InvalidSource."""
    try:
        yield
    except MemoryError as error:
        raise InvalidSource(f"{path} is larger than the memory") from error


def vetoes(quality: Quality, bits: Sequence[str], t0: float, dt: float, count: int) -> list[Exclusion]:
    """Return which of `count` samples, from GPS second t0 on and dt s apart, have a wanted bit not set, or unknown."""
    if not bits:
        return []
    wanted = sum(1 << quality.names.index(bit) for bit in bits)
    missing = wanted & ~quality.mask.astype(np.int64)
    edges = [quality.t0 + i * quality.dt for i in range(len(missing) + 1)]
    at = [first_sample(edge, t0, dt, count) for edge in edges]
    found = [Exclusion(0, at[0], "no data quality is known"), Exclusion(at[-1], count, "no data quality is known")]
    for value, group in groupby(range(len(missing)), key=lambda i: int(missing[i])):
        intervals = list(group)
        if value:
            names = [name for bit, name in enumerate(quality.names) if value >> bit & 1]
            found.append(Exclusion(at[intervals[0]], at[intervals[-1] + 1], f"{' and '.join(names)} not set"))
    return sorted(each for each in found if each.first < each.last)


def _overlapping(recordings: Iterable[tuple[_File, Recording]]) -> list[list[tuple[_File, Recording]]]:
    """Return recordings in groups of those that overlap others of their channel; most are alone."""
    groups: list[list[tuple[_File, Recording]]] = []
    channel, reached = "", -math.inf
    for file, each in sorted(recordings, key=lambda each: (each[1].channel, each[1].t0)):
        if groups and channel == each.channel and distance(reached, each.t0, each.dt) < 0:
            groups[-1].append((file, each))
        else:
            groups.append([(file, each)])
            channel, reached = each.channel, -math.inf
        reached = max(reached, each.gps(each.count))
    return groups


def _series(each: tuple[_File, Recording]) -> tuple[str, float]:
    return each[1].channel, sampling(each[1].dt)


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
        if S_ISDIR(found.st_mode):
            os.scandir(path).close()
    except OSError as error:
        raise InvalidSource(f"{path} cannot be read: {error.strerror}") from error
    if not S_ISREG(found.st_mode):
        raise InvalidSource(f"{path} is not a regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns
