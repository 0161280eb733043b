"""Strain files in the layout of the Gravitational Wave Open Science Center (GWOSC): HDF5, named by LIGO-T050017."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gwfiles.hdf5 import created
from gwfiles.layout import check_within
from gwfiles.stretches import Stretch
from gwwire.gps import utc_of_gps
from gwwire.segment import Segment

_MASK_BITS = 32
#: Seconds that a mask may have, a year; strain of one sample in many seconds would need gigabytes.
_MASK_SECONDS = 2**25
#: GPS seconds of all times, and s between two samples, that a file can describe.
_TIMES, _SPACINGS = (-1e10, 1e10), (1e-9, 1e6)
EXTENSION = "hdf5"


def check_times(stretch: Stretch) -> None:
    """Raise NotDescribable if a file in this layout cannot describe when the stretch is."""
    check_within(stretch, _TIMES, _SPACINGS)


@contextmanager
def writing(path: Path, stretch: Stretch) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield the dataset, float64 of shape [samples], of a new file, and a function that raises OSError.

    It does so if a write failed so far; it is called at the end of the block, too.
    """
    with created(path) as (file, check):
        yield _lay_out(file, stretch), check


def quality_of(segment: Segment) -> list[Sequence[str]]:
    """Return the names of a segment's data-quality bits in a list, which is empty if it names none."""
    names = segment.meta.get("quality") if isinstance(segment.meta, dict) else None
    return [names] if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


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
