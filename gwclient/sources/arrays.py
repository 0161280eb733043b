"""The reader of arrays without metadata: NPY, and CSV or text with one column of samples, or with time and value."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, one_line, why_unread
from gwclient.sources.recording import Recording, as_float64, check_grid, check_readable, even_grid, name_channel

#: A number as C, NumPy and spreadsheets write it, and the beginning of what is meant as one, so that it is no title.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
_BEGINS_NUMBER = re.compile(r"[\"']*([+\-\u2212.\d]|(nan|inf)$)", re.IGNORECASE)
#: Bytes of the shortest integers that float64 cannot hold.
_WIDE = 8
_NPY, _TEXT = ".npy", frozenset({".csv", ".txt", ".dat"})


@dataclass(frozen=True)
class Grid:
    """The sampling of an array file, given by the user."""

    rate: float | None = None  # Hz
    t0: float | None = None  # GPS seconds of the first sample


def is_array(path: Path) -> bool:
    """Return whether a file has samples alone, so that rate, start and channel have to be given."""
    return path.suffix == _NPY or path.suffix in _TEXT


def read_array(path: Path, grid: Grid, channels: Sequence[str]) -> list[Recording]:
    """Return the recording in a file, or raise InvalidSource if it has no samples or something is not given.

    The only one of `channels` is the name of the channel. Times in a text file take the place of `grid`.
    """
    channel = name_channel(path, channels)
    check_readable(path)
    table = _load(path) if path.suffix == _NPY else _parse(path)
    if table.dtype.kind not in "iuf":
        raise InvalidSource(f"{path} is of type {table.dtype}; it has to be real numbers")
    if table.ndim == 1 and len(table):
        strain = table
        t0, dt = _given(path, grid)
    elif path.suffix != _NPY and table.ndim == 2 and table.shape[1] == 2:  # noqa: PLR2004 (time and value)
        strain = table[:, 1]
        if grid.t0 is not None:
            raise InvalidSource(f"{path} has times in its first column; leave out --t0")
        t0, dt = even_grid(str(path), table[:, 0], None if grid.rate is None else 1 / grid.rate)
    else:
        wanted = "one list of samples" if path.suffix == _NPY else "one column of samples, or time and value"
        raise InvalidSource(f"{path} has the shape {table.shape}; it has to be {wanted}")
    check_grid(str(path), t0, dt, ("the first sample", "the sample spacing"))

    def read(first: int, last: int) -> NDArray[np.floating[Any]]:
        part = strain[first:last]
        # What float64 holds exactly stays in the file, which may be larger than the memory, until it is sent.
        return part if np.can_cast(part.dtype, np.float64) and part.itemsize < _WIDE else as_float64(str(path), part)

    return [Recording(path, channel[:2], channel, t0, dt, len(strain), None, read)]


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
    except MemoryError:
        raise
    except Exception as error:  # NumPy reads the header as Python code, with errors of all kinds
        reason = one_line(error) if isinstance(error, OSError | ValueError | EOFError) else "its header is damaged"
        raise InvalidSource(f"{path} is not an array in NumPy's format NPY: {reason}") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise InvalidSource(f"{path} is a file of many arrays (NPZ); write one with numpy.save")
    return found


def _parse(path: Path) -> NDArray[np.float64]:
    """Return the numbers of a text file, shape [rows] or [rows, columns]; `#` begins a comment, and one title may."""
    rows: list[list[float]] = []
    titled = False
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not (cells := line.partition("#")[0].replace(",", " ").split()):
                    continue
                if not (rows or titled or _BEGINS_NUMBER.match(cells[0])):
                    titled = True
                    continue
                rows.append(_numbers(f"line {number} of {path}", cells, len(rows[0]) if rows else len(cells)))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSource(f"{path} cannot be read: {why_unread(error)}") from error
    table = np.array(rows, dtype=np.float64)
    return table[:, 0] if table.ndim == 2 and table.shape[1] == 1 else table  # noqa: PLR2004 (rows and columns)


def _numbers(where: str, cells: Sequence[str], count: int) -> list[float]:
    """Return the `count` numbers of a line, or raise InvalidSource."""
    if len(cells) != count:
        raise InvalidSource(f"{where} has another number of values ({len(cells)}) than the lines before ({count})")
    for cell in cells:
        if not _NUMBER.fullmatch(cell):
            raise InvalidSource(f"{where}: {cell[:40]!r} is not a number; commas or spaces separate numbers as 1.5e-21")
    return [float(cell) for cell in cells]
