"""Strain files in the layout of the Gravitational Wave Open Science Center (GWOSC): HDF5, named by LIGO-T050017."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gwclient.errors import NotAsExpected, unwritable
from gwclient.hdf5 import created
from gwclient.stretches import Stretch
from gwservice.atomic import replacing
from gwwire.channel_names import mark_of, type_of_channel
from gwwire.gps import utc_of_gps

_MASK_BITS = 32
#: Seconds that a mask may have, a year; strain of one sample in many seconds would need gigabytes.
_MASK_SECONDS = 2**25
#: GPS seconds of all times, and s between two samples, that a file can describe.
_TIMES, _SPACINGS = 1e10, (1e-9, 1e6)


def check_times(stretch: Stretch) -> None:
    """Raise NotAsExpected if a file in this layout cannot describe when the stretch is."""
    if not max(abs(stretch.t0), abs(stretch.stop)) < _TIMES:
        raise NotAsExpected(f"GPS {stretch.t0!r} is not within {_TIMES:g} s; use --format ndjson")
    least, most = _SPACINGS
    if not least <= stretch.dt <= most:
        raise NotAsExpected(f"dt {stretch.dt!r} is not within [{least:g}, {most:g}] s; use --format ndjson")


def file_name(stretch: Stretch, taken: set[str]) -> str:
    """Return the name `OBS-TYPE-GPSSTART-DURATION.hdf5`, in whole seconds that contain the stretch.

    The type has a mark if the name without it is one of those `taken`, which are casefolded: some file systems do not
    distinguish capitals.
    """
    channel = stretch.channel
    site = channel[0] if "A" <= channel[:1] <= "Z" else "X"
    span = f"{stretch.start}-{stretch.seconds}.hdf5"
    name = f"{site}-{type_of_channel(channel)}-{span}"
    if name.casefold() in taken:
        mark = mark_of(f"{channel} {stretch.t0!r} {stretch.dt!r} {stretch.count}")
        name = f"{site}-{type_of_channel(channel)}{mark}-{span}"
    return name


@contextmanager
def writing(path: Path, stretch: Stretch) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield the dataset, float64 of shape [samples], of a file that appears at `path` when the block succeeds.

    The function that is yielded with it raises OSError if a write failed so far.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as temporary, created(temporary) as (file, check):
            yield _lay_out(file, stretch), check
    except OSError as error:
        raise unwritable(error.filename or path, error) from error


def write_quality(strain: Any, stretch: Stretch, quality: Sequence[Sequence[str]]) -> list[str]:
    """Write the data-quality bits of a stretch; return the names of those beyond the 32 that a mask can have.

    A bit is set if all segments of that second have it. `quality` has the names of the bits of each segment.
    """
    found = list(dict.fromkeys(name for of_segment in quality for name in of_segment))
    if stretch.seconds > _MASK_SECONDS:
        return found
    names, others = found[:_MASK_BITS], found[_MASK_BITS:]
    bits = {name: 1 << bit for bit, name in enumerate(names)}
    mask = np.full(stretch.seconds, (1 << len(names)) - 1, dtype=np.uint32)
    for placed, holding in zip(stretch.placed, quality, strict=True):
        begin = stretch.t0 + placed.at * stretch.dt - stretch.start
        end = begin + (placed.last - placed.first) * stretch.dt
        mask[math.floor(begin) : math.ceil(end)] &= sum(bits.get(name, 0) for name in set(holding))
    group = strain.file.create_group("quality/simple")
    group["DQmask"] = mask
    group["DQmask"].attrs.update(Xstart=stretch.start, Xspacing=1.0, Npoints=stretch.seconds, Bits=len(names))
    group["DQShortnames"] = np.array([name.encode() for name in names])
    group["DQDescriptions"] = np.array([f"passes {name}".encode() for name in names])
    return others


def _lay_out(file: h5py.File, stretch: Stretch) -> Any:
    # A text in HDF5 cannot have the character NUL; the symbol for it stands in its place.
    channel = stretch.channel.replace("\0", "\u2400")
    detector, _, name = channel.partition(":")
    strain = file.create_dataset("strain/Strain", shape=(stretch.count,), dtype="<f8")
    strain.attrs.update(
        Npoints=stretch.count, Xstart=stretch.t0, Xspacing=stretch.dt,
        Xlabel="GPS time", Xunits="second", Ylabel="Strain", Yunits="",
    )  # fmt: skip
    file["strain/GWOSCmeta"] = name
    file["meta/Description"] = "Strain data time series"
    file["meta/Channel"] = channel
    file["meta/Detector"] = detector
    file["meta/Observatory"] = detector[:1]
    file["meta/GPSstart"] = stretch.start
    file["meta/Duration"] = stretch.seconds
    file["meta/Type"] = "StrainTimeSeries"
    file["meta/UTCstart"] = f"{utc_of_gps(stretch.start):%Y-%m-%dT%H:%M:%S}"
    return strain
