"""Puts stored segments together again: which of them lie side by side, and what has to be left out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from gwclient.strain import LeftOut, Span, first_sample, sample_period
from gwwire.public import SegmentRecord

#: Samples that a segment may lie beside the grid of the one before it.
_OFF_GRID = 0.01


@dataclass(frozen=True)
class Placed:
    """A segment's samples [first, last), and where they go in the stretch."""

    record: SegmentRecord
    at: int
    first: int
    last: int


@dataclass
class Stretch:
    """Segments of one channel side by side, without a gap.

    Attributes:
        channel: `DET:NAME`; empty where the segments do not say.
        t0: GPS seconds of the first sample.
        dt: sample spacing, s.
        count: the number of samples.
        placed: the segments, in order.

    """

    channel: str
    t0: float
    dt: float
    count: int = 0
    placed: list[Placed] = field(default_factory=list)


def assemble(records: Iterable[SegmentRecord], start: float, stop: float) -> tuple[list[Stretch], list[LeftOut]]:
    """Find what lies side by side in [start, stop), GPS seconds.

    Returns:
        The stretches, by channel and time; and the spans of segments that overlap others, which are in none.

    """
    stretches: list[Stretch] = []
    dropped: list[LeftOut] = []
    ordered = sorted(records, key=lambda each: (each.channel or "", each.dt, each.t0, -each.n, each.seq))
    for (channel, dt), group in groupby(ordered, key=lambda each: (each.channel or "", each.dt)):
        current: Stretch | None = None
        for record in group:
            first, last = (first_sample(edge, record.t0, dt, record.n) for edge in (start, stop))
            if first >= last:
                continue
            position = 0.0 if current is None else (record.t0 - current.t0) / dt + first
            if current is None or position > current.count + _OFF_GRID:
                current = Stretch(channel, record.t0 + float(first * sample_period(dt)), dt)
                stretches.append(current)
            elif position < current.count - _OFF_GRID:
                twin = any(each.record.sha256 == record.sha256 for each in current.placed[-2:])
                reason = "stored twice" if twin else "overlaps another segment"
                span = Span(channel, record.t0, record.t0 + float(record.n * sample_period(dt)))
                dropped.append(LeftOut(span, reason))
                continue
            current.placed.append(Placed(record, current.count, first, last))
            current.count += last - first
    return stretches, dropped
