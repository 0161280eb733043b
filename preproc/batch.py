"""Read a batch of segments from a directory of `gwb*.json` files; other files are not looked at."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gwwire.problems import ProblemError
from gwwire.segment import Segment, decode_segment
from preproc.errors import UnusableBatch
from preproc.findings import Finding, Reason
from preproc.progress import Progress

PATTERN = "gwb*.json"
#: How far off the sample grid a segment may lie, in samples. Float64 holds GPS seconds to 0.002 samples at 16384 Hz.
TOLERANCE = 0.01
#: The name of the one channel that all segments without a channel in `meta` belong to.
UNNAMED = "unnamed"

# The name becomes the name of an HDF5 object, where "/" separates groups and "." is the group itself.
_CHANNEL_NAME = re.compile(r"(?!\.+$)[^/\x00-\x1f\x7f]+")


@dataclass(frozen=True, eq=False)
class Strain:
    """The samples of one file.

    Attributes:
        channel: whose strain it is.
        t0: GPS seconds of the first sample.
        dt: sample spacing in s.
        h: strain, dimensionless, float64, shape [samples].
        file: the name of the file it was read from.

    """

    channel: str
    t0: float
    dt: float
    h: NDArray[np.float64]
    file: str

    @property
    def stop(self) -> float:
        """GPS seconds after the last sample."""
        return self.t0 + len(self.h) * self.dt


@dataclass(frozen=True, order=True)
class Source:
    """One file of the batch, with the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Batch:
    """What a directory holds: usable segments, the files they came from, and what could not be read."""

    segments: list[Strain]
    sources: list[Source]
    rejected: list[Finding]

    @property
    def digest(self) -> str:
        """One SHA-256 that stands for the content of all files.

        It is taken over the lines `SHA256  NAME`, each ended by a newline, sorted by the file's name: what
        `cd DIR && LC_ALL=C sha256sum gwb*.json | sha256sum` prints.
        """
        lines = "".join(f"{source.sha256}  {source.file}\n" for source in sorted(self.sources))
        return hashlib.sha256(lines.encode()).hexdigest()


def read_batch(directory: Path, progress: Progress) -> Batch:
    """Read every segment file of a directory; one that cannot be read is reported among the rejected.

    Args:
        directory: where the files are.
        progress: wraps the files to be read, to show how far it is.

    Raises:
        UnusableBatch: there is no such directory, no segment file, or none that can be read.

    """
    batch = Batch([], [], [])
    for path in progress(_list_files(directory), "reading"):
        _read_file(path, batch)
    if not batch.segments:
        first = batch.rejected[0]
        raise UnusableBatch(
            f"none of the {len(batch.rejected)} segment files in {directory} can be used: {first.detail}"
        )
    return batch


def _list_files(directory: Path) -> list[Path]:
    try:
        names = sorted(path.name for path in directory.iterdir() if path.match(PATTERN))
    except OSError as error:
        raise UnusableBatch(f"cannot read the directory {directory}: {error.strerror}") from error
    if not names:
        raise UnusableBatch(f"no segment file ({PATTERN}) in {directory}")
    return [directory / name for name in names]


def _read_file(path: Path, batch: Batch) -> None:
    try:
        body = path.read_bytes()
    except OSError as error:
        batch.rejected.append(_unreadable(path.name, str(error.strerror)))
        return
    batch.sources.append(Source(path.name, hashlib.sha256(body).hexdigest()))
    try:
        segment = decode_segment(body)
    except ProblemError as error:
        batch.rejected.append(_unreadable(path.name, error.detail))
        return
    _sort_in(segment, path.name, batch)


def _sort_in(segment: Segment, file: str, batch: Batch) -> None:
    h = np.array(segment.h, dtype=np.float64)
    strain = Strain(segment.channel or UNNAMED, segment.t0, segment.dt, h, file)
    if not _CHANNEL_NAME.fullmatch(strain.channel):
        batch.rejected.append(_unreadable(file, f"meta.channel: {strain.channel!r} cannot be the name of a channel"))
    # The validator refuses these today; one NaN that got past it would make a channel's whole spectrum NaN.
    elif not (np.isfinite(h).all() and math.isfinite(strain.stop) and math.isfinite(1 / strain.dt)):
        batch.rejected.append(_unreadable(file, "not every number is finite"))
    elif math.ulp(strain.t0) / 2 > TOLERANCE * strain.dt:
        detail = f"{file}: at t0 = {strain.t0:g} s steps of {strain.dt:g} s are below what a float can tell apart"
        batch.rejected.append(Finding(strain.channel, strain.t0, strain.stop, Reason.OFF_GRID, detail))
    else:
        batch.segments.append(strain)


def _unreadable(file: str, why: str) -> Finding:
    return Finding("", math.nan, math.nan, Reason.UNREADABLE, f"{file}: {why}")
