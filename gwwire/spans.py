"""Half-open GPS spans on sample grids: their ends, joining them, and the gaps between them.

One rule decides everywhere whether samples follow each other: positions are compared on the sample grid, and a
difference of up to `TOLERANCE` samples, or of what float64 resolves at that GPS time if that is more, is rounding.
Two sample spacings that differ by rounding are the same sampling (`sampling`). The segments of one channel and sampling
are a series; `series_period` decides which spacing its samples really have.

A span is `(start, stop, segments)`: it covers [start, stop) and was joined from so many segments. Its bounds are GPS
seconds, or places on a sample grid.
"""

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

Number = TypeVar("Number", int, float)

#: Samples by which a position may differ from a whole number. At 16384 Hz, float64 holds GPS seconds to 0.002 samples.
TOLERANCE = 0.01
#: Relative difference of two sample spacings that are the same: 0.00024414 s is 4096 Hz.
SAMPLING_TOLERANCE = 1e-5
#: The same as a difference of rates in Hz (of spacings in s, beyond 1 s): larger rates are not rounded further.
MOST_ROUNDED = 0.2


@lru_cache(maxsize=1024, typed=True)  # typed: a Fraction is equal to the float of the same value
def sample_period(dt: float | Fraction) -> Fraction:
    """Return the exact sample spacing in s that `dt` stands for.

    This is 1/rate or a whole number of seconds if `dt` is one of them, rounded; else `dt` itself, as is any Fraction.
    """
    if isinstance(dt, Fraction):
        return dt
    rate = 1 / dt
    if math.isfinite(rate) and _is_rounded(rate):
        return Fraction(1, round(rate))
    return Fraction(round(dt)) if _is_rounded(dt) else Fraction(dt)


def _is_rounded(value: float) -> bool:
    whole = round(value)
    return whole > 0 and abs(value - whole) <= min(SAMPLING_TOLERANCE * whole, MOST_ROUNDED)


def sampling(dt: float) -> float:
    """Return the sample spacing in s that `dt` stands for; it is equal for two that are the same sampling."""
    return float(sample_period(dt))


def series_period(segments: Iterable[tuple[float, float]]) -> Fraction:
    """Return the exact sample spacing in s of a series, whose segments are given as (t0, dt)."""
    return SeriesPeriod(segments).period


class SeriesPeriod:
    """The sample spacing of a series, whose segments are given as (t0, dt), also some after the others.

    This is what `dt` stands for, unless the times were computed with the rounded `dt`: then it is `dt` itself. The two
    are compared by how far the steps from each segment to the next one are from whole numbers of samples. Segments that
    are added cost a search for their neighbours, unless they are more than those before, or change the usual `dt`.
    """

    def __init__(self, segments: Iterable[tuple[float, float]]) -> None:
        self._times: list[float] = []
        self._written: Counter[float] = Counter()
        self._spacings = 0.0, 0.0  # what `dt` usually stands for, and that `dt`
        self._missed = 0.0, 0.0
        self.add(segments)

    def __len__(self) -> int:
        return len(self._times)

    def add(self, segments: Iterable[tuple[float, float]]) -> None:
        """Add segments."""
        ordered = sorted(segments)
        self._written.update(dt for _, dt in ordered)
        common = min(self._written, key=lambda dt: (-self._written[dt], dt))
        spacings = float(sample_period(common)), common
        if spacings == self._spacings and len(ordered) < len(self._times):
            for t0, _ in ordered:
                self._insert(t0)
            return
        self._spacings = spacings
        self._times = sorted([*self._times, *(t0 for t0, _ in ordered)])
        self._missed = self._steps_missed(self._times)

    @property
    def period(self) -> Fraction:
        """The exact sample spacing, s."""
        _, common = self._spacings
        missed, missed_as_written = self._missed
        # The times themselves are rounded: less than half a tolerance says nothing.
        return Fraction(common) if missed_as_written < missed - TOLERANCE / 2 else sample_period(common)

    def _insert(self, t0: float) -> None:
        at = bisect_right(self._times, t0)
        neighbours = self._times[max(at - 1, 0) : at + 1]
        before, after = self._steps_missed(neighbours), self._steps_missed(sorted([*neighbours, t0]))
        missed, missed_as_written = self._missed
        self._missed = missed + after[0] - before[0], missed_as_written + after[1] - before[1]
        self._times.insert(at, t0)

    def _steps_missed(self, times: Sequence[float]) -> tuple[float, float]:
        """Return how far the steps between times are from whole numbers of samples, for both spacings."""
        nominal, common = self._spacings
        if nominal == common:
            return 0.0, 0.0
        steps = [after - before for before, after in pairwise(times) if after - before < math.inf]
        return _missed(steps, nominal), _missed(steps, common)


def _missed(steps: Iterable[float], dt: float) -> float:
    return sum(min(abs(math.remainder(step, dt)) / dt, TOLERANCE) for step in steps)


def stop_of(t0: float, samples: int, dt: float | Fraction) -> float:
    """Return the end of a segment in GPS seconds; it is finite, because JSON has no infinity."""
    period = sample_period(dt)
    try:
        return min(t0 + samples * period.numerator / period.denominator, sys.float_info.max)
    except OverflowError:
        return sys.float_info.max


def first_sample(gps: float, t0: float, dt: float | Fraction, count: int) -> int:
    """Return the index of the first of `count` samples, from `t0` on, that is at or after `gps`; else `count`.

    A sample that is before `gps` by no more than what float64 resolves is at `gps`, rounded.
    """
    if math.isinf(gps):
        return count if gps > 0 else 0
    place = (Fraction(gps - math.ulp(gps)) - Fraction(t0)) / sample_period(dt)
    return min(max(math.ceil(place), 0), count)


def distance(stop: Number, start: Number, dt: float = 0.0) -> Number:
    """Return the gap from the end of a span to the start of another; negative if they overlap.

    A difference within the tolerance is 0. If the sample spacing `dt` is unknown (0), only float64 rounding is.
    """
    gap = start - stop
    return type(gap)(0) if abs(gap) <= max(TOLERANCE * dt, math.ulp(stop)) else gap


def join(
    spans: Iterable[tuple[Number, Number, int]], dt: float = 0.0, largest: float = 0.0
) -> list[tuple[Number, Number, int]]:
    """Return the spans in order, those that overlap or follow each other joined; gaps up to `largest` are closed."""
    joined: list[tuple[Number, Number, int]] = []
    for start, stop, segments in sorted(spans):
        if joined and distance(joined[-1][1], start, dt) <= largest:
            first, reached, count = joined[-1]
            joined[-1] = first, max(reached, stop), count + segments
        else:
            joined.append((start, stop, segments))
    return joined


def join_pairs(spans: Iterable[tuple[Number, Number]], dt: float = 0.0) -> list[tuple[Number, Number]]:
    """Return the (start, stop) pairs in order, joined as by `join`."""
    return [(start, stop) for start, stop, _ in join(((start, stop, 1) for start, stop in spans), dt)]


def gaps(spans: Iterable[Sequence[Number]], dt: float = 0.0) -> Iterator[tuple[Number, Number]]:
    """Return the gaps between spans that are in order."""
    for before, after in pairwise(spans):
        if distance(before[1], after[0], dt) > 0:
            yield before[1], after[0]


def close_gaps(spans: Sequence[tuple[float, float, int]], limit: int) -> tuple[list[tuple[float, float, int]], float]:
    """Return joined spans with the smallest gaps closed until `limit` are left, and the largest gap closed."""
    if len(spans) <= limit:
        return list(spans), 0.0
    largest = sorted(after[0] - before[1] for before, after in pairwise(spans))[len(spans) - limit - 1]
    return join(spans, largest=largest), min(largest, sys.float_info.max)
