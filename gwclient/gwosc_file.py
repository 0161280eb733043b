"""Writes strain as the Gravitational Wave Open Science Center (GWOSC) does: HDF5, named by LIGO-T050017."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gwclient.assembling import Stretch
from gwclient.errors import FolderError

#: GPS seconds from which on UTC is another second behind GPS time (IERS Bulletin C); how far it is before the first.
_LEAPS = (820108814, 914803215, 1025136016, 1119744017, 1167264018)
_LEAPS_BEFORE = 13
_MASK_BITS = 32
_GPS_EPOCH = datetime(1980, 1, 6, tzinfo=UTC)


def file_name(stretch: Stretch) -> str:
    """Give the name: `OBS-TYPE-GPSSTART-DURATION.hdf5`, in whole seconds that hold the stretch."""
    start = math.floor(stretch.t0)
    duration = math.ceil(stretch.t0 + stretch.count * stretch.dt) - start
    kind = re.sub(r"\W+", "_", stretch.channel)
    return f"{stretch.channel[0]}-{kind}-{start}-{duration}.hdf5"


@contextmanager
def writing(path: Path, stretch: Stretch) -> Iterator[Any]:
    """Open a file for a stretch; gives the dataset to put the samples in, float64, dimensionless, shape [samples].

    The file is there, whole, when the block is left without an exception; else it is not.

    Raises:
        FolderError: it cannot be written.

    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(unfinished, "w") as file:
            yield _lay_out(file, stretch)
        unfinished.replace(path)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_quality(strain: Any, stretch: Stretch, told: Sequence[Sequence[str]]) -> None:
    """Put the data-quality bits beside the strain: a bit is set where it holds in all segments of that second.

    More bits than a mask has are none that GWOSC's layout can tell, and are left out.

    Args:
        strain: the dataset that `writing` gave.
        stretch: the stretch.
        told: the names of the bits that hold all through each of its segments, in their order.

    """
    names = list(dict.fromkeys(name for of_segment in told for name in of_segment))
    if len(names) > _MASK_BITS:
        return
    start = math.floor(stretch.t0)
    seconds = math.ceil(stretch.t0 + stretch.count * stretch.dt) - start
    mask = np.full(seconds, (1 << len(names)) - 1, dtype=np.uint32)
    for placed, holding in zip(stretch.placed, told, strict=True):
        begin = stretch.t0 + placed.at * stretch.dt - start
        end = begin + (placed.last - placed.first) * stretch.dt
        mask[math.floor(begin) : math.ceil(end)] &= sum(1 << names.index(name) for name in holding)
    group = strain.file.create_group("quality/simple")
    group["DQmask"] = mask
    group["DQmask"].attrs.update(Xstart=start, Xspacing=1.0, Npoints=seconds, Bits=len(names))
    group["DQShortnames"] = np.array([name.encode() for name in names])
    group["DQDescriptions"] = np.array([f"passes {name}".encode() for name in names])


def _lay_out(file: h5py.File, stretch: Stretch) -> Any:
    detector, _, name = stretch.channel.partition(":")
    strain = file.create_dataset("strain/Strain", shape=(stretch.count,), dtype="<f8")
    strain.attrs.update(
        Npoints=stretch.count, Xstart=stretch.t0, Xspacing=stretch.dt,
        Xlabel="GPS time", Xunits="second", Ylabel="Strain", Yunits="",
    )  # fmt: skip
    start = math.floor(stretch.t0)
    file["strain/GWOSCmeta"] = name
    file["meta/Description"] = "Strain data time series"
    file["meta/Detector"] = detector
    file["meta/Observatory"] = detector[:1]
    file["meta/GPSstart"] = start
    file["meta/Duration"] = math.ceil(stretch.t0 + stretch.count * stretch.dt) - start
    file["meta/Type"] = "StrainTimeSeries"
    file["meta/UTCstart"] = f"{_utc(start):%Y-%m-%dT%H:%M:%S}"
    return strain


def _utc(gps: int) -> datetime:
    return _GPS_EPOCH + timedelta(seconds=gps - _LEAPS_BEFORE - bisect_right(_LEAPS, gps))
