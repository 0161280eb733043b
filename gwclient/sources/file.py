"""Strain from files: GWOSC's HDF5 layout, and frames."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np

from gwclient.errors import InvalidSource
from gwclient.sources.frames import read_frames
from gwclient.sources.hdf5 import read_hdf5
from gwclient.sources.names import FRAME_SUFFIXES
from gwclient.sources.recording import Recording, gwosc_channel
from gwclient.strain import Exclusion, Quality, Run
from gwwire.spans import first_sample, sample_period, sampling

__all__ = ["FileSource", "gwosc_channel"]

#: The data-quality bits that have to be set by default, if the file has them.
DEFAULT_BITS = ("DATA",)


@dataclass(frozen=True)
class _Part:
    """The samples [first, last) of a recording that are in the window and in no earlier file."""

    recording: Recording
    first: int
    last: int
    told_before: Exclusion | None

    @property
    def t0(self) -> float:
        return _on_grid(self.recording, self.first)


@dataclass(frozen=True)
class FileSource:
    """Reads strain files, one run from each channel of each.

    Where two files of a channel overlap, the samples are taken from the one that begins first.

    Attributes:
        paths: the files, in any order.
        start: GPS seconds; samples before it are left out.
        stop: GPS seconds; samples from it on are left out.
        bits: data-quality bits that have to be set; None: DATA, if the file has it.
        channels: names or patterns of channels wanted from frames, which have many.
        meta: metadata of all runs, as the event; part of the meta of each segment.
        name: what its cursor is named after; by default the files' paths.

    """

    paths: tuple[Path, ...]
    start: float = -math.inf
    stop: float = math.inf
    bits: tuple[str, ...] | None = None
    channels: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all files together.

        Raises:
            InvalidSource: a file is invalid.

        """
        return sum((part.last - part.first) * part.recording.dt for part in self._parts)

    @property
    def identity(self) -> str:
        """The files."""
        return self.name or "files " + ", ".join(sorted(str(path.resolve()) for path in self.paths))

    def runs(self) -> Iterator[Run]:
        """Read one run from each channel that has samples in [start, stop), ordered by t0, one at a time.

        Raises:
            InvalidSource: a file is invalid, or none has samples there.

        """
        if not self._parts:
            raise InvalidSource(f"no file has strain in GPS [{self.start!r}, {self.stop!r})")
        return map(self._run, self._parts)

    @cached_property
    def _parts(self) -> list[_Part]:
        recordings = [each for path in self.paths for each in _recordings(path, self.channels)]
        recordings.sort(key=lambda each: (each.channel, sampling(each.dt), each.t0))
        parts: list[_Part] = []
        for _, of_channel in groupby(recordings, key=lambda each: (each.channel, sampling(each.dt))):
            covered = self.start
            for recording in of_channel:
                first = first_sample(self.start, recording.t0, recording.dt, recording.count)
                last = first_sample(self.stop, recording.t0, recording.dt, recording.count)
                unread = first_sample(covered, recording.t0, recording.dt, recording.count)
                covered = max(covered, _on_grid(recording, last))
                if unread < last:
                    told = Exclusion(0, unread - first, "in another file too") if unread > first else None
                    parts.append(_Part(recording, first, last, told))
        return sorted(parts, key=lambda part: part.t0)

    def _run(self, part: _Part) -> Run:
        recording = part.recording
        strain = recording.read(part.first, part.last)
        exclusions = [] if part.told_before is None else [part.told_before]
        if recording.quality is not None:
            exclusions += vetoes(recording.quality, self._bits_of(recording), part.t0, recording.dt, len(strain))
        elif self.bits:
            raise InvalidSource(f"{recording.path} has no data-quality bits to choose from")
        meta = {
            "detector": recording.detector,
            **dict(self.meta),
            "source": recording.path.name,
            "source_sha256": _sha256(recording.path),
        }
        quality = recording.quality
        return Run(
            strain, part.t0, recording.dt, recording.channel, meta, exclusions=tuple(exclusions), quality=quality
        )

    def _bits_of(self, recording: Recording) -> tuple[str, ...]:
        names = recording.quality.names if recording.quality else ()
        if self.bits is None:
            return tuple(bit for bit in DEFAULT_BITS if bit in names)
        if unknown := [bit for bit in self.bits if bit not in names]:
            raise InvalidSource(
                f"{recording.path} has no data-quality bit {', '.join(unknown)}, only {', '.join(names)}"
            )
        return self.bits


def vetoes(quality: Quality, bits: Sequence[str], t0: float, dt: float, count: int) -> list[Exclusion]:
    """Return the samples for which a wanted bit is not set, or not known.

    Args:
        quality: the bits.
        bits: names of those that have to be set.
        t0: GPS seconds of the first sample.
        dt: sample spacing, s.
        count: the number of samples.

    """
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


def _recordings(path: Path, channels: Sequence[str]) -> list[Recording]:
    if path.suffix in FRAME_SUFFIXES:
        return read_frames(path, channels)
    return read_hdf5(path)


def _on_grid(recording: Recording, k: int) -> float:
    return float(Fraction(recording.t0) + k * sample_period(recording.dt))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidSource(f"{path} cannot be read: {error.strerror}") from error
