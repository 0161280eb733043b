"""Strain files in the layout of the Gravitational Wave Open Science Center (GWOSC): HDF5, named by LIGO-T050017."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gwclient.errors import FolderError
from gwclient.stretches import Stretch
from gwservice.atomic import replacing
from gwwire.gps import utc_of_gps

_MASK_BITS = 32


def file_name(stretch: Stretch) -> str:
    """Return the name `OBS-TYPE-GPSSTART-DURATION.hdf5`, in whole seconds that contain the stretch."""
    kind = re.sub(r"\W+", "_", stretch.channel)
    return f"{stretch.channel[0]}-{kind}-{stretch.start}-{stretch.seconds}.hdf5"


@contextmanager
def writing(path: Path, stretch: Stretch) -> Iterator[Any]:
    """Yield the dataset, float64 of shape [samples], of a file that appears at `path` when the block succeeds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as temporary, h5py.File(temporary, "w") as file:
            yield _lay_out(file, stretch)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror or error}") from error


def write_quality(strain: Any, stretch: Stretch, told: Sequence[Sequence[str]]) -> None:
    """Write the data-quality bits of a stretch, unless they are more than a mask of GWOSC's layout has.

    A bit is set if all segments of that second have it. `told` has the names of the bits that each segment has.
    """
    names = list(dict.fromkeys(name for of_segment in told for name in of_segment))
    if len(names) > _MASK_BITS:
        return
    mask = np.full(stretch.seconds, (1 << len(names)) - 1, dtype=np.uint32)
    for placed, holding in zip(stretch.placed, told, strict=True):
        begin = stretch.t0 + placed.at * stretch.dt - stretch.start
        end = begin + (placed.last - placed.first) * stretch.dt
        mask[math.floor(begin) : math.ceil(end)] &= sum(1 << names.index(name) for name in holding)
    group = strain.file.create_group("quality/simple")
    group["DQmask"] = mask
    group["DQmask"].attrs.update(Xstart=stretch.start, Xspacing=1.0, Npoints=stretch.seconds, Bits=len(names))
    group["DQShortnames"] = np.array([name.encode() for name in names])
    group["DQDescriptions"] = np.array([f"passes {name}".encode() for name in names])


def _lay_out(file: h5py.File, stretch: Stretch) -> Any:
    detector, _, name = stretch.channel.partition(":")
    strain = file.create_dataset("strain/Strain", shape=(stretch.count,), dtype="<f8")
    strain.attrs.update(
        Npoints=stretch.count, Xstart=stretch.t0, Xspacing=stretch.dt,
        Xlabel="GPS time", Xunits="second", Ylabel="Strain", Yunits="",
    )  # fmt: skip
    file["strain/GWOSCmeta"] = name
    file["meta/Description"] = "Strain data time series"
    file["meta/Detector"] = detector
    file["meta/Observatory"] = detector[:1]
    file["meta/GPSstart"] = stretch.start
    file["meta/Duration"] = stretch.seconds
    file["meta/Type"] = "StrainTimeSeries"
    file["meta/UTCstart"] = f"{utc_of_gps(stretch.start):%Y-%m-%dT%H:%M:%S}"
    return strain
