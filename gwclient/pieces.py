"""Pieces: runs of strain cut into segments. Every good sample is in exactly one, each t0 is on the sample grid.

A sample is good if it is finite and not excluded.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from gwclient.strain import Exclusion, Run, stretches
from gwfiles.stretches import LeftOut, Span
from gwwire.segment import Segment, encode_segment
from gwwire.spans import sampling

#: Samples that are examined at a time.
_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class Piece:
    """The samples [first, last) of a run: a segment that is not encoded yet."""

    run: Run
    first: int
    last: int

    @property
    def span(self) -> Span:
        """The channel and the GPS span that the piece covers."""
        return Span(self.run.channel, self.run.gps(self.first), self.run.gps(self.last))

    @property
    def recorded(self) -> Span:
        """The span as a cursor records it."""
        return self.span._replace(channel=self.run.recorded_as)

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.last - self.first

    def segment(self) -> Segment:
        """Return the segment."""
        channel = {"channel": self.run.channel} if self.run.channel else {}
        meta: dict[str, Any] = {**channel, **self.run.meta}
        _, start, stop = self.span
        if self.run.quality is not None:
            meta["quality"] = self.run.quality.holding(start, stop)
        if glitches := [glitch for glitch in self.run.glitches if glitch.overlaps(start, stop)]:
            meta["glitches"] = msgspec.to_builtins(glitches)
        h = self.run.strain[self.first : self.last].astype(np.float64).tolist()
        return Segment(h, (start, self.run.dt), meta or msgspec.UNSET)

    def body(self) -> bytes:
        """Return the segment's compact JSON, or raise InvalidSource if its file has changed."""
        segment = self.segment()
        self.run.check()
        return encode_segment(segment)


#: The start of the next piece of a run, the number of the run, the piece, and those after it.
_Waiting = tuple[float, int, Piece, Iterator[Piece]]


@dataclass(frozen=True)
class Length:
    """The length of a segment, in s, or in samples if given."""

    seconds: float = 1.0
    samples: int | None = None

    def of(self, dt: float) -> int:
        """Return the number of samples, spaced by `dt` s, in a segment; at least one."""
        return self.samples or max(1, round(self.seconds / sampling(dt)))


def cut(run: Run, length: Length | float) -> Iterator[Piece]:
    """Cut a run into pieces of a length (a number is seconds); the last of a stretch may be shorter."""
    samples = (length if isinstance(length, Length) else Length(length)).of(run.dt)
    for start, stop, _ in _joined(_good_stretches(run)):
        for first in range(start, stop, samples):
            yield Piece(run, first, min(first + samples, stop))


def left_out(run: Run) -> list[LeftOut]:
    """Return the spans of a run that no segment covers, and why, in the order of time; they never overlap."""
    return [
        LeftOut(Span(run.channel, run.gps(first), run.gps(last)), reason)
        for first, last, reason in _joined(_bad_stretches(run))
    ]


def without(run: Run, spans: Sequence[tuple[float, float]], reason: str) -> Run:
    """Return the run with some GPS spans excluded, each half-open."""
    ranges = [(run.first_sample(start), run.first_sample(stop)) for start, stop in spans]
    excluded = tuple(Exclusion(first, last, reason) for first, last in ranges if first < last)
    return replace(run, exclusions=(*excluded, *run.exclusions)) if excluded else run


def in_time_order(
    runs: Iterable[Run], length: Length | float, on_left_out: Callable[[LeftOut], object]
) -> Iterator[Piece]:
    """Cut many runs, which are in the order of their t0, and return all pieces in the order of time.

    A batch that is frozen halfway then contains the same span of every detector. No more runs are in memory
    at a time than overlap. `on_left_out` is called with every span that is not sent.
    """
    waiting: list[_Waiting] = []
    for number, run in enumerate(runs):
        while waiting and waiting[0][0] < run.t0:
            yield _advance(waiting)
        for each in left_out(run):
            on_left_out(each)
        _enqueue(waiting, number, cut(run, length))
    while waiting:
        yield _advance(waiting)


def _advance(waiting: list[_Waiting]) -> Piece:
    _, number, piece, rest = heapq.heappop(waiting)
    _enqueue(waiting, number, rest)
    return piece


def _enqueue(waiting: list[_Waiting], number: int, pieces: Iterator[Piece]) -> None:
    if (piece := next(pieces, None)) is not None:
        heapq.heappush(waiting, (piece.span.start, number, piece, pieces))


def _blocks(run: Run) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.bool_]], list[Exclusion]]]:
    """Yield the first sample of each block, which of its samples are finite, and the exclusions relative to it.

    The strain may be a file that is larger than the memory.
    """
    for start in range(0, len(run.strain), _BLOCK):
        finite = np.isfinite(run.strain[start : start + _BLOCK])
        here = [
            Exclusion(max(0, first - start), min(last - start, len(finite)), reason)
            for first, last, reason in run.exclusions
            if first < start + len(finite) and last > start
        ]
        yield start, finite, here


def _good_stretches(run: Run) -> Iterator[Exclusion]:
    for start, good, exclusions in _blocks(run):
        for first, last, _ in exclusions:
            good[first:last] = False
        yield from (Exclusion(start + i, start + j, "") for i, j in stretches(good))


def _bad_stretches(run: Run) -> Iterator[Exclusion]:
    for start, finite, exclusions in _blocks(run):
        seen = np.zeros(len(finite), dtype=np.bool_)
        found: list[Exclusion] = []
        not_finite = [Exclusion(*stretch, "no finite samples") for stretch in stretches(~finite)]
        for first, last, reason in (*exclusions, *not_finite):
            at = start + first
            found += [Exclusion(at + i, at + j, reason) for i, j in stretches(~seen[first:last])]
            seen[first:last] = True
        yield from sorted(found)


def _joined(found: Iterable[Exclusion]) -> Iterator[Exclusion]:
    """Join what the end of a block has divided."""
    before: Exclusion | None = None
    for each in found:
        if before and before.last == each.first and each.first % _BLOCK == 0 and before.reason == each.reason:
            before = before._replace(last=each.last)
            continue
        if before:
            yield before
        before = each
    if before:
        yield before
