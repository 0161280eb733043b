"""Segments as strain files, HDF5 in GWOSC's layout or frames: one for each stretch without a gap.

The HDF5 files are those that `gwclient get` writes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from databuffer.storage.catalog import CataloguedSegment
from databuffer.storage.files import open_stored, sha256_of
from databuffer.tar import Member
from gwfiles import gwf, gwosc
from gwfiles.gwosc import quality_of
from gwfiles.layout import NotDescribable, file_name
from gwfiles.stretches import LeftOut, Placed, Span, Stretch, assemble
from gwwire.bundles import BundleFormat
from gwwire.segment import Segment

#: Returns the segment of a name.
Read = Callable[[str], Segment]


@dataclass(frozen=True)
class StrainFormat:
    """A format of strain files.

    `check_times` raises NotDescribable if a file cannot describe when a stretch is; `write` returns the reasons why a
    part of what is stored is not in the file.
    """

    extension: str
    check_times: Callable[[Stretch], None]
    write: Callable[[Stretch, Path, Read], list[str]]


@dataclass(frozen=True)
class Written:
    """The files that were written, and the spans that are in none of them."""

    files: list[Member]
    left_out: list[LeftOut]


def write_files(
    segments: Iterable[CataloguedSegment], span: tuple[float, float], folder: Path, read: Read, strain: StrainFormat
) -> Written:
    """Write the samples in a span of GPS seconds, bit for bit, to files with T050017 names in an existing folder.

    `read` may raise any exception to end the work.
    """
    stretches, left_out = assemble(segments, *span)
    files: list[Member] = []
    taken: set[str] = set()
    for stretch in stretches:
        whole = Span(stretch.channel, stretch.t0, stretch.stop)
        try:
            strain.check_times(stretch)
        except NotDescribable as error:
            left_out.append(LeftOut(whole, str(error)))
            continue
        path = folder / file_name(stretch, taken, strain.extension)
        taken.add(path.name.casefold())
        left_out += [LeftOut(whole, reason) for reason in strain.write(stretch, path, read)]
        files.append(_member(path))
    return Written(files, left_out)


def _write_hdf5(stretch: Stretch, path: Path, read: Read) -> list[str]:
    quality: list[Sequence[str]] = []
    with gwosc.writing(path, stretch) as (strain, check):
        for placed in stretch.placed:
            segment = read(placed.record.name)
            quality += quality_of(segment)
            strain[placed.at : placed.at + placed.last - placed.first] = _samples(segment, placed)
            check()
        complete = len(quality) == len(stretch.placed) and any(quality)
        others = gwosc.write_quality(strain, stretch, quality) if complete else []
    return [f"data-quality bits beyond the 32 of a mask: {', '.join(others)}"] if others else []


def _write_gwf(stretch: Stretch, path: Path, read: Read) -> list[str]:
    names: dict[str, None] = {}
    with gwf.writing(path, stretch) as append:
        for placed in stretch.placed:
            segment = read(placed.record.name)
            names |= dict.fromkeys(chain.from_iterable(quality_of(segment)))
            append(_samples(segment, placed))
    return [f"data-quality bits, which only HDF5 has: {', '.join(names)}"] if names else []


#: The formats of bundles whose files are built.
FORMATS = {
    BundleFormat.HDF5: StrainFormat(gwosc.EXTENSION, gwosc.check_times, _write_hdf5),
    BundleFormat.GWF: StrainFormat(gwf.EXTENSION, gwf.check_times, _write_gwf),
}


def _samples(segment: Segment, placed: Placed) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array(segment.h)[placed.first : placed.last]


def _member(path: Path) -> Member:
    with open_stored(path) as file:
        digest = sha256_of(file)
    return Member(path.name, path.stat().st_size, digest)
