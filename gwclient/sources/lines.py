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
    parts: list[bytes] = []  # of a line without an end so far; it may come in very many chunks
    while True:
        ready, _, _ = select.select([descriptor], [], [], 0)
        if not ready:
            yield None
            continue
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            raise InvalidSource(f"standard input cannot be read: {error.strerror}") from error
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end))
            parts.clear()
            if line.strip():
                yield line
        parts.append(rest)
        if not chunk:
            if (line := b"".join(parts)).strip():
                yield line
            return


def pieces_of_lines(lines: Iterator[bytes | None], length: Length, unread: list[str]) -> Iterator[Piece | None]:
    """Yield the segments in the lines, cut to `length`; raise InvalidSource if no line is a segment.

    Lines that are no segment are left out; `unread` gets their numbers and reasons.
    """
    number = 0
    for line in lines:
        if line is None:
            yield None
            continue
        number += 1
        try:
            run = _run_of(line)
        except InvalidSource as error:
            unread.append(f"line {number} of standard input is no segment: {error}")
            continue
        yield from cut(run, length)
    if number and len(unread) == number:
        raise InvalidSource(unread[0] + (f"; and {number - 1} more" if number > 1 else ""))


def _run_of(line: bytes) -> Run:
    try:
        segment = validate_segment(line)
    except ProblemError as error:
        raise InvalidSource(error.detail) from error
    meta = dict(segment.meta) if isinstance(segment.meta, dict) else {}
    channel = meta.pop("channel", None) or ""
    return Run(np.array(segment.h), segment.t0, segment.dt, channel, meta)
