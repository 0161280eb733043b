"""Segments from standard input, one JSON object a line (NDJSON), as they come."""

import os
import select
import time
from collections.abc import Iterator

import numpy as np

from gwclient.errors import InvalidSource
from gwclient.pieces import Length, Piece, cut
from gwclient.strain import Run
from gwwire.problems import ProblemError
from gwwire.segment import validate_segment

_CHUNK = 2**18
#: Bytes in a line.
MAX_LINE = 64_000_000
#: Bytes after which a line is taken for one without an end, such as a binary stream.
_ENDLESS = 256_000_000
#: s after which lines without a segment are interrupted by None.
_TURN_S = 0.1


def read_lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield the lines of a file descriptor without their ends, and None while there is none; never block.

    A line of more than MAX_LINE bytes is cut off, some bytes after them. Raise InvalidSource if the descriptor cannot
    be read, or a line does not end.
    """
    parts: list[bytes] = []  # of a line without an end so far; it may come in very many chunks
    size = 0
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
            size = 0
            yield line
        if size <= MAX_LINE:
            parts.append(rest)
        size += len(rest)
        if size > _ENDLESS:
            raise InvalidSource(f"standard input cannot be read: a line does not end within {_ENDLESS // 10**6} MB")
        if not chunk:
            yield b"".join(parts)
            return


def pieces_of_lines(lines: Iterator[bytes | None], length: Length, unread: list[str]) -> Iterator[Piece | None]:
    """Yield the segments in the lines, cut to `length`; raise InvalidSource if no line is a segment.

    Other lines are left out; `unread` gets their numbers and reasons. None comes where `lines` has it, and now and then
    while no line is a segment.
    """
    number = segments = 0
    turn = time.monotonic()
    for line in lines:
        if line is None or time.monotonic() - turn > _TURN_S:
            yield None
            turn = time.monotonic()
        if line is None:
            continue
        number += 1
        if not line.strip():
            continue
        segments += 1
        try:
            run = run_of_line(line)
        except InvalidSource as error:
            unread.append(f"line {number} of standard input is not a segment: {error}")
            continue
        yield from cut(run, length)
        turn = time.monotonic()
    if segments and len(unread) == segments:
        raise InvalidSource(unread[0] + (f"; and {segments - 1} more" if segments > 1 else ""))


def run_of_line(line: bytes) -> Run:
    """Return the run that a segment's JSON describes, or raise InvalidSource."""
    if len(line) > MAX_LINE:
        raise InvalidSource(f"it is longer than {MAX_LINE // 10**6} MB")
    try:
        segment = validate_segment(line)
    except ProblemError as error:
        raise InvalidSource(error.detail) from error
    meta = dict(segment.meta) if isinstance(segment.meta, dict) else {}
    channel = meta.pop("channel", None) or ""
    return Run(np.array(segment.h), segment.t0, segment.dt, channel, meta)
