"""Cuts runs of strain into segments: every finite sample exactly once, each segment's t0 on the sample grid."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from gwclient.strain import Run, Span
from gwwire.segment import Segment, encode_segment


@dataclass(frozen=True, eq=False)
class Piece:
    """The samples [first, last) of a run: a segment that is not written out yet, because most have to wait."""

    run: Run
    first: int
    last: int

    @property
    def span(self) -> Span:
        """The channel and the GPS span that the piece covers."""
        return Span(self.run.channel, self.run.gps(self.first), self.run.gps(self.last))

    @property
    def seconds(self) -> float:
        """How much strain this is, in s."""
        return (self.last - self.first) * self.run.dt

    def segment(self) -> Segment:
        """Give the segment as it goes over the wire."""
        h = self.run.strain[self.first : self.last].tolist()
        return Segment(h, (self.run.gps(self.first), self.run.dt), self._meta())

    def body(self) -> bytes:
        """Give the segment's compact JSON."""
        return encode_segment(self.segment())

    def _meta(self) -> dict[str, Any]:
        meta = {"channel": self.run.channel, **self.run.meta}
        _, start, stop = self.span
        if glitches := [glitch for glitch in self.run.glitches if glitch.overlaps(start, stop)]:
            meta["glitches"] = msgspec.to_builtins(glitches)
        return meta


def cut(run: Run, seconds: float) -> Iterator[Piece]:
    """Cut a run into pieces of `seconds`; the last one before a gap, or before the end, may be shorter."""
    length = max(1, round(seconds / run.dt))
    for start, stop in _stretches(np.isfinite(run.strain)):
        for first in range(start, stop, length):
            yield Piece(run, first, min(first + length, stop))


def gaps(run: Run) -> list[Span]:
    """Give the spans of a run whose samples are not finite; no segment covers them."""
    return [Span(run.channel, run.gps(i), run.gps(j)) for i, j in _stretches(~np.isfinite(run.strain))]


def in_time_order(runs: Iterable[Run], seconds: float, on_gap: Callable[[Span], object]) -> Iterator[Piece]:
    """Cut many runs, given in the order of their t0, and give the pieces of all of them in the order of time.

    A batch that is frozen halfway then holds the same span of every detector. No more runs are held
    at a time than overlap. `on_gap` hears of every span that is left out.
    """
    waiting: list[tuple[float, int, Piece, Iterator[Piece]]] = []
    for number, run in enumerate(runs):
        while waiting and waiting[0][0] < run.t0:
            yield _advance(waiting)
        for gap in gaps(run):
            on_gap(gap)
        _enqueue(waiting, number, cut(run, seconds))
    while waiting:
        yield _advance(waiting)


def _advance(waiting: list[tuple[float, int, Piece, Iterator[Piece]]]) -> Piece:
    _, number, piece, rest = heapq.heappop(waiting)
    _enqueue(waiting, number, rest)
    return piece


def _enqueue(waiting: list[tuple[float, int, Piece, Iterator[Piece]]], number: int, pieces: Iterator[Piece]) -> None:
    if (piece := next(pieces, None)) is not None:
        heapq.heappush(waiting, (piece.span.start, number, piece, pieces))


def _stretches(wanted: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Give the half-open index ranges over which `wanted` holds."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
