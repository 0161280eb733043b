"""The reader of arrays without metadata: NPY, and CSV or text with one column of samples, or with time and value."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, one_line
from gwclient.sources.recording import (
    Recording,
    as_float64,
    check_grid,
    check_readable,
    even_grids,
    extension,
    name_channel,
)
from gwclient.sources.text_table import read_table

#: Bytes of float64, and of the shortest integers that it cannot hold.
_WIDE = 8
#: Samples that are in memory at a time.
_BLOCK = 1 << 20
_NPY, _MANY, _TEXT = ".npy", ".npz", frozenset({".csv", ".txt", ".dat"})


@dataclass(frozen=True)
class Grid:
    """The sampling of an array file, given by the user."""

    rate: float | None = None  # Hz
    t0: float | None = None  # GPS seconds of the first sample


def is_array(path: Path) -> bool:
    """Return whether a file has samples alone, so that rate, start and channel have to be given."""
    return extension(path) in {_NPY, _MANY, *_TEXT}


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
        strain, spans = table, [(slice(0, len(table)), *_given(path, grid))]
    elif is_text and table.ndim == 2 and table.shape[1] == 2:  # noqa: PLR2004 (time and value)
        strain = table[:, 1]
        if grid.t0 is not None:
            raise InvalidSource(f"{path} has times in its first column; leave out --t0")
        spans = even_grids(str(path), table[:, 0], None if grid.rate is None else 1 / grid.rate)
    else:
        wanted = "one column of samples, or time and value" if is_text else "one list of samples"
        raise InvalidSource(f"{path} has the shape {table.shape}; it has to be {wanted}")
    return [_recording(path, channel, strain[span], t0, dt) for span, t0, dt in spans]


def _recording(path: Path, channel: str, strain: NDArray[Any], t0: float, dt: float) -> Recording:
    check_grid(str(path), t0, dt, ("the first sample", "the sample spacing"))

    def read(first: int, last: int) -> NDArray[np.floating[Any]]:
        # The samples stay in the file, which may be larger than the memory, until they are sent.
        if strain.itemsize >= _WIDE and strain.dtype != np.float64:  # float64 may not hold them exactly
            for start in range(first, last, _BLOCK):
                as_float64(str(path), strain[start : min(start + _BLOCK, last)], start)
        return strain[first:last]

    return Recording(path, channel[:2], channel, t0, dt, len(strain), None, read)


def _given(path: Path, grid: Grid) -> tuple[float, float]:
    if grid.rate is None or grid.t0 is None:
        raise InvalidSource(f"{path} has no times; --rate HZ and --t0 GPS give them")
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
