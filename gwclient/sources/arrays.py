"""The reader of arrays without metadata: NPY, and CSV or text with one column of samples, or with time and value."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, one_line
from gwclient.sources.recording import (
    CHANGED,
    Recording,
    as_float64,
    check_grid,
    check_readable,
    even_grids,
    extension,
    name_channel,
)
from gwclient.sources.text_table import read_table
from gwclient.strain import Samples

#: The extension of an array of NumPy, which has no times.
NPY = ".npy"
#: The end of a line about a file of samples alone.
NO_TIMES = "has no times; gwclient push sends it with --rate HZ and --t0 GPS"
#: Bytes of float64, and of the shortest integers that it cannot hold.
_WIDE = 8
#: Samples that are in memory at a time.
_BLOCK = 1 << 20
_MANY, _TEXT = ".npz", frozenset({".csv", ".txt", ".dat"})


class SamplesOfFile:
    """The samples of an NPY file, which stay there until they are sent: it may be larger than the memory.

    A program that shortens a file would end this one if it were mapped into memory. Samples that cannot be read are
    zeros, and never sent: `check` raises InvalidSource from then on.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, count: int) -> None:
        self._path, self.dtype, self._offset, self._count = path, dtype, offset, count
        self._version = _version(path)
        self._failure = ""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice, /) -> NDArray[Any]:
        first, last, _ = part.indices(self._count)
        try:
            found = np.fromfile(self._path, self.dtype, last - first, offset=self._offset + first * self.dtype.itemsize)
        except OSError as error:
            self._failure = f"{self._path} cannot be read: {error.strerror}"
            found = np.zeros(0, self.dtype)
        return found if len(found) == last - first else np.zeros(last - first, self.dtype)

    def part(self, first: int, last: int) -> Self:
        """Return the samples [first, last), which stay in the file too."""
        return type(self)(self._path, self.dtype, self._offset + first * self.dtype.itemsize, last - first)

    def check(self) -> None:
        """Raise InvalidSource if samples could not be read, or the file has changed since it was opened."""
        if self._failure or _version(self._path) != self._version:
            raise InvalidSource(self._failure or f"{self._path} {CHANGED}")


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Grid:
    """The sampling of an array file, given by the user."""

    rate: float | None = None  # Hz
    t0: float | None = None  # GPS seconds of the first sample


def is_array(path: Path) -> bool:
    """Return whether a file has samples alone, so that rate, start and channel have to be given."""
    return extension(path) in {NPY, _MANY, *_TEXT}


def read_array(path: Path, grid: Grid, channels: Sequence[str]) -> list[Recording]:
    """Return the recording in a file, or raise InvalidSource if it has no samples or something is not given.

    The only one of `channels` is the name of the channel. Times in a text file take the place of `grid`; a gap between
    them begins another recording.
    """
    channel = name_channel(path, channels)
    check_readable(path)
    is_text = extension(path) in _TEXT
    table, doubt = read_table(path) if is_text else (_load(path), "")
    try:
        return _recordings(path, table, grid, channel, is_text=is_text)
    except InvalidSource as error:
        raise InvalidSource(f"{error}{doubt}") from error


def _recordings(path: Path, table: NDArray[Any], grid: Grid, channel: str, *, is_text: bool) -> list[Recording]:
    if table.dtype.kind not in "iuf":
        raise InvalidSource(f"{path} is of type {table.dtype}; it has to be real numbers")
    if table.ndim == 1 and len(table):
        samples = SamplesOfFile(path, table.dtype, table.offset, len(table)) if isinstance(table, np.memmap) else table
        return [_recording(path, channel, samples, *_given(path, grid))]
    if is_text and table.ndim == 2 and table.shape[1] == 2:  # noqa: PLR2004 (time and value)
        strain = table[:, 1]
        if grid.t0 is not None:
            raise InvalidSource(f"{path} has times in its first column; leave out --t0")
        spans = even_grids(str(path), table[:, 0], None if grid.rate is None else 1 / grid.rate)
        return [_recording(path, channel, strain[span], t0, dt) for span, t0, dt in spans]
    wanted = "one column of samples, or time and value" if is_text else "one list of samples"
    raise InvalidSource(f"{path} has the shape {table.shape}; it has to be {wanted}")


def _recording(path: Path, channel: str, strain: NDArray[Any] | SamplesOfFile, t0: float, dt: float) -> Recording:
    check_grid(str(path), t0, dt, ("the first sample", "the sample spacing"))

    def read(first: int, last: int) -> Samples:
        if strain.dtype.itemsize >= _WIDE and strain.dtype != np.float64:  # float64 may not hold them exactly
            for start in range(first, last, _BLOCK):
                as_float64(str(path), strain[start : min(start + _BLOCK, last)], start)
        return strain.part(first, last) if isinstance(strain, SamplesOfFile) else strain[first:last]

    return Recording(path, channel[:2], channel, t0, dt, len(strain), None, read)


def _given(path: Path, grid: Grid) -> tuple[float, float]:
    if grid.rate is None or grid.t0 is None:
        raise InvalidSource(f"{path} {NO_TIMES}")
    return grid.t0, 1 / grid.rate


def _load(path: Path) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # the shape overflows
            found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
            size = path.stat().st_size
    except MemoryError:
        raise
    except Exception as error:  # NumPy reads the header as Python code, with errors of all kinds
        if "Python objects" in str(error):
            raise InvalidSource(f"{path} is of type object; it has to be real numbers") from error
        raise InvalidSource(f"{path} is not an array in NumPy's format NPY: {_why_no_array(error)}") from error
    if not isinstance(found, np.memmap):
        found.close()
        raise InvalidSource(f"{path} is a file of many arrays (NPZ); write one with numpy.save")
    if more := size - found.offset - found.nbytes:
        raise InvalidSource(f"{path} has {more} bytes after its array; write one array with numpy.save")
    return found


def _why_no_array(error: Exception) -> str:
    """Return the reason for an error of NumPy."""
    words = one_line(error)
    if words.startswith(("EOF:", "mmap length")):
        return "it is truncated, or still being written"
    if "pickle" in words:
        return "it does not begin as one"
    return (isinstance(error, OSError) and error.strerror) or "its header is damaged"
