"""Stretches of stored segments that follow each other without a gap."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple, Protocol

from gwwire.coverage import Extent
from gwwire.spans import distance, first_sample, gaps, join_pairs, sampling, series_period, stop_of


class Span(NamedTuple):
    """The half-open span [start, stop) of one channel, in GPS seconds."""

    channel: str
    start: float
    stop: float


class LeftOut(NamedTuple):
    """A span that is left out, and why."""

    span: Span
    reason: str


class Stored(Extent, Protocol):
    """A stored segment, as the public API and the catalog describe it."""

    @property
    def seq(self) -> int: ...  # noqa: D102 (see `gwwire.public.SegmentRecord`)
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def batch(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Placed:
    """The samples [first, last) of a segment, and the index of the first of them in the stretch."""

    record: Stored
    at: int
    first: int
    last: int


@dataclass
class Stretch:
    """Segments of one channel (empty if they name none) that follow each other without a gap."""

    channel: str
    t0: float
    period: Fraction  # sample spacing in s (see `gwwire.spans.series_period`)
    count: int = 0
    placed: list[Placed] = field(default_factory=list)

    @property
    def dt(self) -> float:
        """Sample spacing in s."""
        return float(self.period)

    @property
    def stop(self) -> float:
        """GPS seconds after the last sample."""
        return stop_of(self.t0, self.count, self.period)

    @property
    def reached(self) -> float:
        """GPS seconds after the last segment, by its own t0, which may be rounded."""
        last = self.placed[-1]
        return stop_of(last.record.t0, last.last, self.period)

    def is_followed_by(self, begin: float) -> bool:
        """Return whether samples from `begin` on, in GPS seconds, continue it, within half a sample of its own grid."""
        return distance(self.reached, begin, self.dt) == 0 and abs(begin - self.stop) <= self.dt / 2

    @property
    def start(self) -> int:
        """The GPS second in which it begins."""
        return math.floor(self.t0)

    @property
    def seconds(self) -> int:
        """The number of whole seconds that contain it, at least one."""
        return max(1, math.ceil(self.stop) - self.start)


def assemble(records: Iterable[Stored], start: float, stop: float) -> tuple[list[Stretch], list[LeftOut]]:
    """Return the stretches in [start, stop) GPS seconds, by channel and time, and the segments that are in none.

    Samples that overlap an earlier segment by whole samples are left out. The rest of the segment is kept: it goes on
    with the stretch, or begins another one if its samples lie between those of the earlier segment. If the span lies
    between two samples of a channel, what the segments cover of it is left out.
    """
    stretches: list[Stretch] = []
    dropped: list[LeftOut] = []
    ordered = sorted(records, key=lambda each: (*_series(each), each.t0, -each.n, each.seq))
    for (channel, _), group in groupby(ordered, key=_series):
        series = list(group)
        period = series_period((each.t0, each.dt) for each in series)
        dt = float(period)
        current: Stretch | None = None
        has_samples = False
        for record in series:
            first, last = (first_sample(edge, record.t0, period, record.n) for edge in (start, stop))
            if first >= last:
                continue
            has_samples = True
            begin = stop_of(record.t0, first, period)
            if current and (shared := round(min(max((current.reached - begin) / dt, 0), last - first))) > 0:
                twin = any(each.record.sha256 == record.sha256 for each in current.placed[-2:])
                reason = "stored twice" if twin else "overlaps another segment"
                overlap = begin, stop_of(record.t0, first + shared, period)
                dropped.append(LeftOut(Span(channel, *overlap), reason))
                first, begin = first + shared, overlap[1]
            if first == last:
                continue
            if current is None or not current.is_followed_by(begin):
                current = Stretch(channel, begin, period)
                stretches.append(current)
            current.placed.append(Placed(record, current.count, first, last))
            current.count += last - first
        if not has_samples:
            ends = max(stop_of(each.t0, each.n, period) for each in series)
            whole = Span(channel, max(start, series[0].t0), min(stop, ends))
            dropped += [LeftOut(whole, "no sample is in this span")] if whole.start < whole.stop else []
    return stretches, dropped


def not_stored(stretches: Iterable[Stretch], start: float, stop: float) -> list[Span]:
    """Return what stretches lack of [start, stop), by channel; without a start or stop, of what is from the other on.

    If neither is given, both being infinite, nothing was asked for that could be missing.
    """
    edges = [(edge, edge) for edge in (start, stop) if math.isfinite(edge)]
    missing: list[Span] = []
    if edges:
        for channel, group in groupby(sorted(stretches, key=_channel), key=_channel):
            there = list(group)
            dt = min(each.dt for each in there)
            spans = join_pairs([*edges, *((each.t0, each.stop) for each in there)], dt)
            # Less than a sample is no sample.
            missing += [Span(channel, *gap) for gap in gaps(spans, dt) if distance(dt, gap[1] - gap[0], dt) >= 0]
    return missing


def _channel(stretch: Stretch) -> str:
    return stretch.channel


def span_of(record: Stored) -> Span:
    """Return the span of a stored segment."""
    return Span(record.channel or "", record.t0, stop_of(record.t0, record.n, record.dt))


def _series(record: Stored) -> tuple[str, float]:
    return record.channel or "", sampling(record.dt)
