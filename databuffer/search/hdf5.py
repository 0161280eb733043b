"""Segments as HDF5 files in GWOSC's layout: one for each stretch without a gap, as `gwclient get` writes them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from databuffer.storage.catalog import CataloguedSegment
from databuffer.tar import Member
from gwfiles.gwosc import NotDescribable, check_times, file_name, quality_of, write_quality, writing
from gwfiles.stretches import LeftOut, Placed, Span, Stretch, assemble
from gwwire.segment import Segment


@dataclass(frozen=True)
class Written:
    """The files that were written, and the spans that are in none of them."""

    files: list[Member]
    left_out: list[LeftOut]


def write_files(
    segments: Iterable[CataloguedSegment],
    span: tuple[float, float],
    folder: Path,
    read: Callable[[str], Segment],
) -> Written:
    """Write the samples in a span of GPS seconds, bit for bit, to files with T050017 names in an existing folder.

    `read` returns the segment of a name; it may raise any exception to end the work.
    """
    stretches, left_out = assemble(segments, *span)
    files: list[Member] = []
    taken: set[str] = set()
    for stretch in stretches:
        try:
            check_times(stretch)
        except NotDescribable as error:
            left_out.append(LeftOut(Span(stretch.channel, stretch.t0, stretch.stop), str(error)))
            continue
        path = folder / file_name(stretch, taken)
        taken.add(path.name.casefold())
        if bits := _write(stretch, path, read):
            reason = f"data-quality bits beyond the 32 of a mask: {', '.join(bits)}"
            left_out.append(LeftOut(Span(stretch.channel, stretch.t0, stretch.stop), reason))
        files.append(_member(path))
    return Written(files, left_out)


def _write(stretch: Stretch, path: Path, read: Callable[[str], Segment]) -> list[str]:
    """Write one file; return the names of the data-quality bits that it cannot hold."""
    quality: list[Sequence[str]] = []
    with writing(path, stretch) as (strain, check):
        for placed in stretch.placed:
            segment = read(placed.record.name)
            quality += quality_of(segment)
            strain[placed.at : placed.at + placed.last - placed.first] = _samples(segment, placed)
            check()
        complete = len(quality) == len(stretch.placed) and any(quality)
        return write_quality(strain, stretch, quality) if complete else []


def _samples(segment: Segment, placed: Placed) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array(segment.h)[placed.first : placed.last]


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(path.name, path.stat().st_size, digest)
