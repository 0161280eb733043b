"""Strain files in the layout of the Gravitational Wave Open Science Center (GWOSC), HDF5.

The layout is described at https://gwosc.org/tutorials: `strain/Strain` with Xstart and Xspacing, `meta/Detector`, and
`quality/simple/DQmask` with the names of its bits beside it.
"""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.sources.recording import Recording, gwosc_channel, one_line
from gwclient.strain import Quality

#: What h5py raises for a file that is not HDF5, is truncated, or has another layout.
_BROKEN = (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError)


def read_hdf5(path: Path) -> list[Recording]:
    """Return the recording in a file, which has one channel.

    Raises:
        InvalidSource: it is not in GWOSC's layout.

    """
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
