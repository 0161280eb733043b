"""The reader of segment files: one JSON object (`.json`), or one a line (`.ndjson`, as `gwclient get` writes)."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.sources.lines import MAX_LINE, run_of_line
from gwclient.sources.recording import Recording, check_readable, choose, extension

_WHOLE, _LINES = ".json", frozenset({".ndjson", ".jsonl"})
SUFFIXES = _LINES | {_WHOLE}


def read_segments(path: Path, channels: Sequence[str], report: Callable[[str], object]) -> list[Recording]:
    """Return the segments in a file, each with its own meta, those of wanted channels if any are named.

    `report` is called with a message for each line that is not a segment. Raise InvalidSource if no line is one.
    """
    check_readable(path)
    found: list[Recording] = []
    failures: list[str] = []
    for number, offset, body in _bodies(path):
        try:
            run = run_of_line(body)
        except InvalidSource as error:
            where = str(path) if extension(path) == _WHOLE else f"line {number} of {path}"
            failures.append(f"{where} is not a segment: {error}")
            continue
        detector = str(run.meta.get("detector") or run.channel.partition(":")[0])
        read = partial(_read, path, offset, len(body))
        digest = hashlib.sha256(body.strip()).hexdigest()
        series = detector, run.channel, run.t0, run.dt, len(run.strain)
        found.append(Recording(path, *series, None, read, run.meta, digest))
    if not found:
        raise InvalidSource(failures[0] if failures else f"{path} has no segment")
    for line in failures:
        report(line)
    if channels:
        chosen = choose(path, sorted({each.channel for each in found}), channels)
        found = [each for each in found if each.channel in chosen]
    return found


def _bodies(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number of the line, offset in the file, body) of each segment; one that is too long is cut off."""
    with path.open("rb") as file:
        if extension(path) == _WHOLE:
            yield 1, 0, file.read(MAX_LINE + 1)
            return
        number = offset = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if line.strip():
                yield number, offset, line
            while len(line) >= MAX_LINE and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            offset = file.tell()


def _read(path: Path, offset: int, size: int, first: int, last: int) -> NDArray[np.floating[Any]]:
    with path.open("rb") as file:
        file.seek(offset)
        return run_of_line(file.read(size)).strain[first:last]
