"""Frames of the detectors (GWF, LIGO-T970130), read by gwframe, which comes with the extra `frames`.

gwpy reads frames too, but not which of their samples are marked as invalid.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.sources.recording import (
    MOST_BITS,
    Recording,
    as_float64,
    check_grid,
    check_readable,
    choose,
    name_channel,
    usable_quality,
)
from gwclient.strain import Quality, gps_of, window_text
from gwwire.spans import distance, sampling

_SIGNATURE = b"IGWD"
#: Bytes that are copied at a time.
_CHUNK = 1 << 20
#: Bytes of a file's header, with those that show the byte order, and of the shortest structure, which begins with its
#: length (LIGO-T970130, version 6 and later).
_HEADER, _ORDER, _LITTLE, _STRUCTURE = 40, slice(12, 14), b"\x34\x12", 14
#: Default channels: GWOSC's, and the calibrated strain of the detectors themselves.
_STRAIN = re.compile(r"[A-Z]\d:\S*(STRAIN|[Hh]oft)\S*")
#: The name of a bit in the unit of a DQMASK channel.
_BIT = re.compile(r"\b(\d{1,2}):\s*(\w+)")


def read_frames(
    path: Path, channels: Sequence[str], report: Callable[[str], object], *, bits_needed: bool = False
) -> list[Recording]:
    """Return the recordings of channels in a frame file, by names or shell patterns, by default those of strain.

    A gap between frames begins another recording. `report` is called with a line for each frame without a channel, and
    with `bits_needed` for each whose data-quality bits cannot be used.
    Raises InvalidSource if it is not a frame file, has none of the channels, or no library for frames is installed.
    """
    if not check_readable(path, _SIGNATURE):
        raise InvalidSource(f"{path} is not a frame file")
    if not find_spec("gwframe"):
        raise InvalidSource(f"{path}: reading frames requires gwframe; install the extra glitchflow-datastore[frames]")
    if not _is_text(path):
        raise InvalidSource(f"{path} cannot be read: its path is not UTF-8, which gwframe requires; rename it")
    return _by_gwframe(_File(path, path, bits_needed), channels, report)


def _is_text(path: Path) -> bool:
    try:
        bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of one channel in one frame; `read` returns its samples."""

    t0: float  # GPS seconds of the first sample
    dt: float  # s
    count: int
    quality: Quality | None
    read: Callable[[], NDArray[np.floating[Any]]]

    def follows(self, other: "_Part") -> bool:
        """Return whether samples and data-quality bits continue those of another part."""
        on_grid = sampling(self.dt) == sampling(other.dt)
        on_grid = on_grid and distance(gps_of(other.t0, other.count, other.dt), self.t0, self.dt) == 0
        if self.quality is None or other.quality is None:
            return on_grid and self.quality is other.quality
        before, after = other.quality, self.quality
        ends = before.t0 + len(before.mask) * before.dt
        return on_grid and (before.names, before.dt, ends) == (after.names, after.dt, after.t0)


@dataclass(frozen=True)
class _File:
    """A frame file: its path in messages, and the path to read, which may be a copy of its beginning."""

    path: Path
    frames: Path
    bits_needed: bool  # data-quality bits that cannot be used are an error

    def read(self, channel: str, index: int, failure: str) -> Any:
        """Return the series of a channel in a frame, or raise InvalidSource with the failure."""
        try:
            return import_module("gwframe").read(self.frames, channel, index, allow_invalid=True, aux_mask=True)
        except Exception as error:
            raise InvalidSource(failure) from error


def _by_gwframe(file: _File, channels: Sequence[str], report: Callable[[str], object]) -> list[Recording]:
    path = file.path
    try:
        return _read_file(file, channels, report)
    except _Damaged:
        whole, size = _whole_structures(path), path.stat().st_size
        if whole == size:
            raise
    try:
        recordings = _read_beginning(file, whole, channels, report)
    except OSError as error:
        where = f"{path}: {size - whole} bytes after the last frame are no frame; the frames before them"
        raise InvalidSource(f"{where} cannot be copied to a temporary folder: {error.strerror or error}") from error
    report(f"{path}: {size - whole} bytes after the last frame are no frame")
    return recordings


def _read_beginning(
    file: _File, size: int, channels: Sequence[str], report: Callable[[str], object]
) -> list[Recording]:
    """Return the recordings in the first `size` bytes of a file, in memory."""
    with TemporaryDirectory() as folder, file.path.open("rb") as whole:
        beginning = Path(folder, "whole.gwf")
        with beginning.open("wb") as copy:
            while chunk := whole.read(min(size - copy.tell(), _CHUNK)):
                copy.write(chunk)
        return [_in_memory(each) for each in _read_file(replace(file, frames=beginning), channels, report)]


def _whole_structures(path: Path) -> int:
    """Return how many bytes the whole structures at the beginning of a frame file have."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
        order, size, at = "<" if head[_ORDER] == _LITTLE else ">", path.stat().st_size, _HEADER
        while at + _STRUCTURE <= size:
            file.seek(at)
            (length,) = struct.unpack(f"{order}Q", file.read(8))
            if not _STRUCTURE <= length <= size - at:
                break
            at += length
    return at


def _in_memory(recording: Recording) -> Recording:
    strain = recording.read(0, recording.count)
    return replace(recording, read=lambda first, last: strain[first:last])


class _Damaged(InvalidSource):
    """The file is not whole."""


def _read_file(file: _File, channels: Sequence[str], report: Callable[[str], object]) -> list[Recording]:
    inspect, path = import_module("gwframe").inspect, file.path
    try:
        info = inspect.get_info(file.frames)
        # Details are not available if one of several frames lacks a channel.
        details = inspect.get_channel_details(file.frames) if len(info.frames) == 1 else []
    except Exception as error:
        raise _Damaged(f"{path} is a frame file, but truncated or damaged") from error
    single = {each.name: each for each in details}
    recordings: list[Recording] = []
    for channel in _choose(path, info.channels, channels):
        name = channel or name_channel(path, channels)
        parts: list[list[_Part]] = []
        for frame in sorted(info.frames, key=lambda each: each.start):
            try:
                part = _part(file, channel, frame, info.channels, single.get(channel))
            except InvalidSource as error:
                report(str(error))
                continue
            if parts and part.follows(parts[-1][-1]):
                parts[-1].append(part)
            else:
                parts.append([part])
        recordings += [_join(path, name, each) for each in parts]
    if not recordings:
        raise InvalidSource(f"{path}: no frame has a channel wanted")
    return recordings


def _part(file: _File, channel: str, frame: Any, names: Sequence[str], details: Any) -> _Part:
    where = f"{file.path}: {channel}{window_text(frame.start, frame.start + frame.duration)}"

    def load() -> Any:
        return file.read(channel, frame.index, f"{where} is missing or damaged")

    if not (details and details.sample_rate) or round(frame.duration * details.sample_rate) != details.n_samples:
        series = load()
        t0, dt, count = series.start, series.dt, len(series.array)
    else:  # the only frame of a file may be large, and is read later
        t0, dt, count = frame.start, 1 / details.sample_rate, details.n_samples
    check_grid(where, t0, dt, ("the first sample", "the sample spacing"))
    if not count:
        raise InvalidSource(f"{where} has no samples")

    def read() -> NDArray[np.floating[Any]]:
        series = load()
        strain = np.array(series.array)
        if strain.dtype.kind not in "iuf":
            raise InvalidSource(f"{where} is of type {strain.dtype}; it has to be real numbers")
        if len(strain) != count or series.start != t0:
            raise InvalidSource(f"{where} has {len(strain)} samples from GPS {series.start!r}, not {count}")
        return np.ma.MaskedArray(as_float64(where, strain), np.ma.nomask if series.mask is None else series.mask)

    mask = channel.removesuffix("STRAIN") + "DQMASK"
    quality = None
    if mask in names:
        quality = usable_quality(lambda: _quality(file, mask, frame.index, t0), bits_needed=file.bits_needed)
    return _Part(t0, dt, count, quality, read)


def _join(path: Path, channel: str, parts: Sequence[_Part]) -> Recording:
    """Return the recording of parts that follow each other."""
    first = parts[0]
    edges = list(accumulate((part.count for part in parts), initial=0))

    def read(start: int, stop: int) -> NDArray[np.floating[Any]]:
        inside = [(edge, part) for edge, part in zip(edges, parts, strict=False) if edge < stop]
        inside = [(edge, part) for edge, part in inside if start < edge + part.count]
        strain: Any = [part.read()[max(start - edge, 0) : stop - edge] for edge, part in inside]
        return np.ma.MaskedArray(np.concatenate(strain), np.concatenate([np.ma.getmaskarray(each) for each in strain]))

    quality = first.quality
    if quality is not None:
        mask = np.concatenate([part.quality.mask for part in parts if part.quality is not None])
        quality = replace(quality, mask=mask)
    detector = channel.partition(":")[0]
    return Recording(path, detector, channel, first.t0, first.dt, edges[-1], quality, read)


def _quality(file: _File, channel: str, index: int, t0: float) -> Quality | None:
    """Return the data-quality bits in a frame by the names in the unit, as `0:DATA 1:CBC_CAT1`, or None without."""
    try:
        series = file.read(channel, index, f"{file.path}: {channel} is missing or damaged")
    except InvalidSource:
        return Quality(("DATA",), np.zeros(0, dtype=np.uint32), t0, 1.0)  # for no sample it is known to be set
    where, named = f"{file.path}: {channel}", {(int(bit), name) for bit, name in _BIT.findall(series.unit or "")}
    names = {bit: name for bit, name in named if bit < MOST_BITS}
    if not names:
        return None
    if len(dict(named)) < len(named):
        raise InvalidSource(f"{where} has two names for a bit in its unit: {series.unit}")
    if series.array.dtype.kind not in "iu":
        raise InvalidSource(f"{where} is of type {series.array.dtype}; it has to be whole numbers")
    check_grid(where, series.start, series.dt, ("the first mask", "the spacing of masks"))
    by_bit = tuple(names.get(bit, "") for bit in range(max(names) + 1))
    mask = np.array(series.array)
    if series.mask is not None:
        mask[series.mask] = 0  # for these samples nothing is known to be set
    return Quality(by_bit, mask, series.start, series.dt)


def _choose(path: Path, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the chosen ones of the channels that are there; the only one of a file may have no name."""
    if not wanted and (strain := sorted(name for name in there if _STRAIN.fullmatch(name))):
        return strain
    if list(there) == [""]:
        return [""]
    return choose(path, list(filter(None, there)), wanted)
