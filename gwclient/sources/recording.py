"""Recordings, one channel of a strain file each, and the reader of those in GWOSC's HDF5 layout.

The layout is described at https://gwosc.org/tutorials: `strain/Strain` with Xstart and Xspacing, `meta/Detector`, and
`quality/simple/DQmask` with the names of its bits beside it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.strain import Quality, gps_of
from gwwire.segment import MAX_SPACING, MAX_TIME, MIN_SPACING
from gwwire.spans import first_sample, sampling

#: What h5py raises for a file that is truncated or damaged.
_BROKEN = (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError)
_CHANNEL = re.compile(r"[A-Z]\d:\S+")
_KILOHERTZ = 1024  # Hz, in GWOSC's channel names
#: Data-quality bits that are read of a mask.
MOST_BITS = 63


@dataclass(frozen=True, eq=False)
class Recording:
    """One channel of a strain file; `read` returns its samples [first, last), float64, invalid ones as NaN."""

    path: Path
    detector: str  # as "L1"
    channel: str  # `DET:NAME`; empty if unknown
    t0: float  # GPS seconds of the first sample
    dt: float  # s
    count: int  # of samples
    quality: Quality | None
    read: Callable[[int, int], NDArray[np.floating[Any]]]

    def first_sample(self, gps: float) -> int:
        """Return the index of the first sample at or after a GPS time; from 0 to `count`."""
        return first_sample(gps, self.t0, self.dt, self.count)

    def gps(self, k: int) -> float:
        """Return the GPS seconds of sample `k`."""
        return gps_of(self.t0, k, self.dt)


def gwosc_channel(name: str, detector: str, rate: float) -> str:
    """Return the channel of open data: `name`, but GWOSC's convention if that is only "Strain", for `rate` in Hz."""
    if _CHANNEL.fullmatch(name) and not name.endswith(":Strain"):
        return name
    kilohertz, rest = divmod(round(rate, 6), _KILOHERTZ)
    told = f"{rate:.9g}HZ" if rest else f"{kilohertz:.0f}KHZ"
    return f"{detector}:GWOSC-{told}_R1_STRAIN"


def check_readable(path: Path, signature: bytes = b"") -> bool:
    """Return whether a file begins with a signature, or raise InvalidSource if it is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(max(1, len(signature)))
    except OSError as error:
        raise InvalidSource(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise InvalidSource(f"{path} is empty")
    return head.startswith(signature)


def check_grid(where: str, t0: float, dt: float, names: tuple[str, str]) -> None:
    """Raise InvalidSource, which names the value, if a GPS time or a sample spacing is none."""
    least, most = MIN_SPACING, MAX_SPACING
    if not -MAX_TIME < t0 < MAX_TIME:
        raise InvalidSource(f"{where}: {names[0]} is {t0!r}; a GPS time in s is below {MAX_TIME:g}")
    if not least <= dt <= most:
        raise InvalidSource(f"{where}: {names[1]} is {dt!r}; a sample spacing in s is from {least:g} to {most:g}")


def read_hdf5(path: Path) -> list[Recording]:
    """Return the recording in a file, which has one channel, or raise InvalidSource if it has another layout."""
    with _opened(path) as file:
        strain = _dataset(file, "strain/Strain")
        t0, dt = _grid(strain, path)
        count = strain.shape[0]
        detector, channel = _source(file, 1 / sampling(dt))
        quality = _read_quality(file)

    def read(first: int, last: int) -> NDArray[np.floating[Any]]:
        with _opened(path) as file:
            return np.asarray(file["strain/Strain"][first:last], dtype=np.float64)

    return [Recording(path, detector, channel, t0, dt, count, quality, read)]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield an open HDF5 file; raise h5py's errors as InvalidSource, in words of our own."""
    check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BlockingIOError as error:
        raise InvalidSource(f"{path} is locked by the program that writes it; push it when that has ended") from error
    except _BROKEN as error:
        if "signature" in str(error):
            reason = "it is no HDF5 file"
        elif "truncated" in str(error):
            reason = "it is truncated, or still being written"
        else:
            reason = "it is damaged"
        raise InvalidSource(f"{path} is not a strain file in the layout of GWOSC: {reason}") from error


def _member(file: Any, name: str) -> Any:
    """Return a dataset by its name."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        what = "is no dataset" if found is not None else "is missing"
        raise InvalidSource(f"{file.filename} is not a strain file in the layout of GWOSC: {name} {what}")
    return found


def _dataset(file: Any, name: str, kinds: str = "iuf") -> Any:
    """Return a dataset of one dimension that has numbers; `kinds` are those of NumPy."""
    found = _member(file, name)
    if found.dtype.kind not in kinds:
        wanted = "real numbers" if "f" in kinds else "whole numbers"
        raise InvalidSource(f"{file.filename}: {name} is of type {found.dtype}; it has to be {wanted}")
    if found.shape is None or len(found.shape) != 1 or not found.shape[0]:
        raise InvalidSource(f"{file.filename}: {name} has the shape {found.shape}; it has to be a list of samples")
    return found


def _source(file: Any, rate: float) -> tuple[str, str]:
    """Return detector and channel; `gwclient get` writes the exact channel, GWOSC only parts of one."""
    detector = _text(file, "meta/Detector").strip()
    if "meta/Channel" in file:
        return detector, _text(file, "meta/Channel")
    if not re.fullmatch(r"\w+", detector):
        raise InvalidSource(f"{file.filename}: meta/Detector is {detector!r}; a detector is named like H1")
    name = _text(file, "strain/GWOSCmeta").strip() if "strain/GWOSCmeta" in file else ""
    return detector, gwosc_channel(f"{detector}:{name}", detector, rate)


def _text(file: Any, name: str) -> str:
    value = np.asarray(_member(file, name)[()])
    one = value.item() if value.size == 1 else value
    try:
        return str(one.decode() if isinstance(one, bytes) else one)
    except UnicodeDecodeError:
        raise InvalidSource(f"{file.filename}: {name} is {one!r}, which is no UTF-8") from None


def _grid(dataset: Any, path: Path) -> tuple[float, float]:
    """Return the GPS seconds of the first sample of a dataset, and the spacing in s."""
    where = f"{path}: {dataset.name[1:]}"
    start, spacing = (_number(dataset, name, where) for name in ("Xstart", "Xspacing"))
    check_grid(where, start, spacing, ("Xstart", "Xspacing"))
    return start, spacing


def _number(dataset: Any, name: str, where: str) -> float:
    if name not in dataset.attrs:
        raise InvalidSource(f"{where} has no attribute {name}")
    value = np.asarray(dataset.attrs[name])
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise InvalidSource(f"{where}: {name} is {repr(value.tolist())[:80]}; it has to be one number")
    return float(value.item())


def _read_quality(file: Any) -> Quality | None:
    """Return the data-quality bits by the names that the file gives, or None if it gives none."""
    if "quality/simple/DQmask" not in file or "quality/simple/DQShortnames" not in file:
        return None
    mask = _dataset(file, "quality/simple/DQmask", "iu")
    names = np.atleast_1d(_member(file, "quality/simple/DQShortnames")[()]).ravel()[:MOST_BITS]
    told = (name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names)
    start, spacing = _grid(mask, Path(file.filename))
    return Quality(tuple(name.strip() for name in told), mask[()], start, spacing)
