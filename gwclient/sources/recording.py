"""Recordings, one channel of a strain file each, and the reader of those in GWOSC's HDF5 layout.

The layout is described at https://gwosc.org/tutorials: `strain/Strain` with Xstart and Xspacing, `meta/Detector`, and
`quality/simple/DQmask` with the names of its bits beside it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, one_line
from gwclient.strain import Quality, gps_of
from gwwire.spans import first_sample

#: What h5py raises for a file that is not HDF5, is truncated, or has another layout.
_BROKEN = (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError)
_CHANNEL = re.compile(r"[A-Z]\d:\S+")


@dataclass(frozen=True, eq=False)
class Recording:
    """One channel of a strain file; `read` returns its samples [first, last), float64, invalid ones as NaN."""

    path: Path
    detector: str  # as "L1"
    channel: str  # `DET:NAME`
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
    return f"{detector}:GWOSC-{round(rate / 1024)}KHZ_R1_STRAIN"


def read_hdf5(path: Path) -> list[Recording]:
    """Return the recording in a file, which has one channel, or raise InvalidSource if it has another layout."""
    try:
        with h5py.File(path, "r") as file:
            strain = file["strain/Strain"]
            t0, dt = float(strain.attrs["Xstart"]), float(strain.attrs["Xspacing"])
            detector = file["meta/Detector"][()].decode()
            name = file["strain/GWOSCmeta"][()].decode() if "strain/GWOSCmeta" in file else ""
            count = len(strain)
            quality = _read_quality(file)
    except _BROKEN as error:
        raise InvalidSource(f"{path} is not a strain file in the layout of GWOSC: {one_line(error)}") from error
    if not (math.isfinite(t0) and math.isfinite(dt) and dt > 0):
        raise InvalidSource(f"{path}: Xstart {t0!r} and Xspacing {dt!r} are no sample grid")
    channel = gwosc_channel(f"{detector}:{name}", detector, 1 / dt)

    def read(first: int, last: int) -> NDArray[np.floating[Any]]:
        try:
            with h5py.File(path, "r") as file:
                return np.asarray(file["strain/Strain"][first:last], dtype=np.float64)
        except _BROKEN as error:
            raise InvalidSource(f"{path} cannot be read: {one_line(error)}") from error

    return [Recording(path, detector, channel, t0, dt, count, quality, read)]


def _read_quality(file: h5py.File) -> Quality | None:
    if "quality/simple/DQmask" not in file:
        return None
    mask = file["quality/simple/DQmask"]
    names = tuple(name.decode() for name in file["quality/simple/DQShortnames"][()])
    return Quality(names, mask[()], float(mask.attrs["Xstart"]), float(mask.attrs["Xspacing"]))
