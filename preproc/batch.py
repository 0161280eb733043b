"""Read a batch of segments from a directory of `gwb*.json` files; other files are ignored.

The strain is never in memory as a whole: each file is described when the batch is read, and the samples are
read again when they are needed. A batch may therefore be larger than the memory.
"""

import errno
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gwservice.regular_file import read_regular
from gwwire.channel_names import UNNAMED_TYPE
from gwwire.manifest import MANIFEST, batch_digest, decode_manifest
from gwwire.problems import ProblemError
from gwwire.public import Manifest, ManifestEntry
from gwwire.segment import decode_segment
from gwwire.spans import TOLERANCE, sampling, stop_of
from preproc.errors import UnusableBatch
from preproc.findings import Finding, Reason, about_file
from preproc.progress import Progress

PATTERN = "gwb*.json"
#: Strain that is constant for this many seconds is that of a dead channel.
CONSTANT_SECONDS = 0.1
#: The channel name of all segments without a channel in `meta`; it is reserved, so no channel has it.
UNNAMED = UNNAMED_TYPE

_CHANNEL_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_NOT_FINITE = re.compile(rb"[\[,:]\s*-?(NaN|Infinity)\b")
#: Neighbouring windows read the same segments again; up to this many bytes of them are cached.
_CACHED_BYTES = 64_000_000
#: No segment and no manifest has so many bytes.
_LARGEST = 2**32

#: A function that returns the samples of a file, by its name.
Load = Callable[[str], NDArray[np.float64]]


@dataclass(frozen=True)
class Piece:
    """The description of the samples of one file."""

    channel: str
    t0: float  # GPS seconds of the first sample
    dt: float  # sample spacing in s, as written until `preproc.runs.most_sampled_rate` decides what it means
    samples: int
    file: str
    fingerprint: bytes  # SHA-256 of the samples' bits
    # Stretches of equal samples as (first, one after the last, value): the first and the last stretch, however short,
    # and every one of at least `CONSTANT_SECONDS`.
    constant: tuple[tuple[int, int, float], ...]

    @property
    def stop(self) -> float:
        """GPS seconds after the last sample."""
        return stop_of(self.t0, self.samples, self.dt)


@dataclass(frozen=True)
class Batch:
    """The content of a directory: usable segments, the files that were read, and what cannot be used."""

    load: Load  # for the file names of `pieces`; the samples are dimensionless
    pieces: list[Piece] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)  # the SHA-256 of every file that was read, by its name
    rejected: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    manifest: Manifest | None = None  # the manifest, or None if the batch is not sealed

    @property
    def digest(self) -> str:
        """The digest of the batch (see `gwwire.manifest.batch_digest`)."""
        return batch_digest(self.sources.items())


def digest_directory(directory: Path, progress: Progress) -> str:
    """Return the digest of the segment files of a directory without decoding them; raises as `list_files` does."""
    sources = {}
    for path in progress(list_files(directory), "comparing"):
        # As in `read_batch`, a file that cannot be opened is not among the sources.
        with suppress(OSError):
            sources[path.name] = hashlib.sha256(_content(path)).hexdigest()
    return batch_digest(sources.items())


def read_batch(directory: Path, progress: Progress) -> Batch:
    """Describe every segment file of a directory; those that cannot be used are in `rejected`.

    If there is a manifest, files that are missing, that differ from it or that it does not list are rejected too.
    Raises UnusableBatch as `list_files` does, or if no file can be used.
    """
    paths = list_files(directory)
    manifest = read_manifest(directory)
    listed = None if manifest is None else {entry.name: entry for entry in manifest.segments}
    loader = _Loader(directory)
    batch = Batch(loader, manifest=manifest)
    for path in progress(paths, "reading"):
        _read_file(path, listed, batch)
    loader.sha256.update(batch.sources)
    for name, entry in sorted((listed or {}).items()):
        if name not in {path.name for path in paths}:
            stop, detail = stop_of(entry.t0, entry.n, entry.dt), f"{name} is in MANIFEST.json, but not in the directory"
            batch.rejected.append(Finding(entry.channel or UNNAMED, entry.t0, stop, Reason.MISSING, detail))
    if not batch.pieces:
        count, first = len(batch.rejected), batch.rejected[0]
        raise UnusableBatch(f"none of the {count} segment files in {directory} can be used: {first.detail}")
    return batch


def describe(channel: str, t0: float, dt: float, h: NDArray[np.float64], file: str) -> Piece:
    """Describe the samples of one file."""
    fingerprint = hashlib.sha256(h.tobytes()).digest()
    return Piece(channel, t0, dt, len(h), file, fingerprint, _constant(h, constant_samples(dt)))


def constant_samples(dt: float) -> int:
    """Return the number of equal samples that make a constant stretch."""
    return max(2, math.ceil(CONSTANT_SECONDS / sampling(dt)))


def list_files(directory: Path) -> list[Path]:
    """List the segment files of a directory by name; raise UnusableBatch if there is no such directory or file."""
    try:
        names = sorted(path.name for path in directory.iterdir() if path.match(PATTERN))
    except OSError as error:
        raise UnusableBatch(f"cannot read the directory {directory}: {error.strerror}") from error
    if not names:
        raise UnusableBatch(f"no segment file ({PATTERN}) in {directory}")
    return [directory / name for name in names]


class _Loader:
    """Reads the samples of files, and caches those read last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # In the order of their last use.
        self._kept: dict[str, NDArray[np.float64]] = {}
        self._bytes = 0
        self.sha256: dict[str, str] = {}

    def __call__(self, file: str) -> NDArray[np.float64]:
        h = self._kept.pop(file, None)
        if h is None:
            h = self._read(file)
            self._bytes += h.nbytes
        self._kept[file] = h
        while self._bytes > _CACHED_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return h

    def _read(self, file: str) -> NDArray[np.float64]:
        try:
            body = read_regular(self._directory / file, _LARGEST, follow=True)
        except OSError as error:
            raise UnusableBatch(f"cannot read {file} a second time: {error.strerror}") from error
        if hashlib.sha256(body).hexdigest() != self.sha256[file]:
            raise UnusableBatch(f"{file} changed while the batch was read")
        return np.array(decode_segment(body).h, dtype=np.float64)


def read_manifest(directory: Path) -> Manifest | None:
    """Read the manifest in a directory; return None if there is none, or raise UnusableBatch if it cannot be read."""
    path = directory / MANIFEST
    try:
        return decode_manifest(read_regular(path, _LARGEST, follow=True))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableBatch(f"cannot read the manifest {path}: {error.strerror}") from error
    except ValueError as error:
        raise UnusableBatch(f"cannot read the manifest {path}: {error}") from error


def _read_file(path: Path, listed: Mapping[str, ManifestEntry] | None, batch: Batch) -> None:
    try:
        body = _content(path)
    except OSError as error:
        batch.rejected.append(about_file(path.name, Reason.UNREADABLE, str(error.strerror)))
        return
    batch.sources[path.name] = hashlib.sha256(body).hexdigest()
    if listed is not None and path.name not in listed:
        found: Piece | Finding = about_file(path.name, Reason.UNLISTED, "MANIFEST.json does not list it")
    elif listed is not None and listed[path.name].sha256 != batch.sources[path.name]:
        found = about_file(path.name, Reason.ALTERED, "its SHA-256 is not that in MANIFEST.json")
    else:
        found = _decode(path.name, body)
    if isinstance(found, Piece):
        batch.pieces.append(found)
    else:
        batch.rejected.append(found)


def _content(path: Path) -> bytes:
    """Return the content of a segment file, or raise OSError, also if the dataset cannot hold its name."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "the name is not UTF-8") from None
    return read_regular(path, _LARGEST, follow=True)


def _decode(file: str, body: bytes) -> Piece | Finding:
    try:
        segment = decode_segment(body)
    except ProblemError as error:
        reason = Reason.NOT_FINITE if _NOT_FINITE.search(body) else Reason.UNREADABLE
        return about_file(file, reason, error.detail)
    h = np.array(segment.h, dtype=np.float64)
    channel = segment.channel or UNNAMED
    stop = segment.t0 + len(h) * segment.dt
    if segment.channel == UNNAMED or not _CHANNEL_NAME.fullmatch(channel):
        return about_file(file, Reason.UNREADABLE, f"meta.channel: {channel!r} is not a valid channel name")
    # The decoder rejects these as well; a single NaN would make the power spectrum of the channel NaN.
    if not (np.isfinite(h).all() and math.isfinite(stop) and math.isfinite(1 / segment.dt)):
        return about_file(file, Reason.NOT_FINITE, "not every number is finite")
    if math.ulp(segment.t0) / 2 > TOLERANCE * segment.dt:
        detail = f"{file}: at t0 = {segment.t0:g} s, float64 cannot resolve steps of {segment.dt:g} s"
        return Finding(channel, segment.t0, stop, Reason.OFF_GRID, detail)
    return describe(channel, segment.t0, segment.dt, h, file)


def _constant(h: NDArray[np.float64], least: int) -> tuple[tuple[int, int, float], ...]:
    changes = np.flatnonzero(h[1:] != h[:-1]) + 1
    bounds = np.concatenate([[0], changes, [len(h)]])
    kept = np.diff(bounds) >= least
    kept[[0, -1]] = True
    return tuple((int(bounds[i]), int(bounds[i + 1]), float(h[bounds[i]])) for i in np.flatnonzero(kept))
