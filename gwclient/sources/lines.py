"""Segments from standard input, one JSON object a line (NDJSON), as they come."""

import os
import select
from collections.abc import Iterator

import numpy as np

from gwclient.errors import InvalidSource
from gwclient.pieces import Length, Piece, cut
from gwclient.strain import Run
from gwwire.problems import ProblemError
from gwwire.segment import validate_segment

_CHUNK = 2**18


def read_lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield the lines of a file descriptor without their ends, and None while there is none; never block."""
    rest = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], 0)
        if not ready:
            yield None
            continue
        chunk = os.read(descriptor, _CHUNK)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
        if not chunk:
            if rest.strip():
                yield rest
            return


def pieces_of_lines(lines: Iterator[bytes | None], length: Length) -> Iterator[Piece | None]:
    """Yield the segments in the lines, cut to `length`, or raise InvalidSource for a line that is no segment."""
    number = 0
    for line in lines:
        if line is None:
            yield None
            continue
        number += 1
        try:
            segment = validate_segment(line)
        except ProblemError as error:
            raise InvalidSource(f"line {number} of standard input is no segment: {error.detail}") from error
        meta = dict(segment.meta) if isinstance(segment.meta, dict) else {}
        channel = meta.pop("channel", None) or ""
        yield from cut(Run(np.array(segment.h), segment.t0, segment.dt, channel, meta), length)
