"""The GPS spans that segments cover, by channel and sample spacing, and the gaps between them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol

from gwwire.public import ChannelCoverage, ChannelGaps, Coverage, Span
from gwwire.query import Query
from gwwire.spans import close_gaps, distance, gaps, join, sampling, series_period, stop_of

#: The most spans in an answer.
_MOST_SPANS = 100_000

#: A channel, and its sample spacing in s (see `gwwire.spans.series_period`).
Series = tuple[str | None, float]


class Extent(Protocol):
    """The channel and the times of a segment."""

    @property
    def channel(self) -> str | None: ...  # noqa: D102 (see `gwwire.public.SegmentRecord`)
    @property
    def t0(self) -> float: ...  # noqa: D102
    @property
    def dt(self) -> float: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102


def spans_of(segments: Iterable[Extent]) -> dict[Series, list[Span]]:
    """Return the spans of some segments, in order."""
    read: dict[Series, list[tuple[float, int]]] = {}
    for segment in segments:
        read.setdefault((segment.channel, segment.dt), []).append((segment.t0, segment.n))
    return joined([spans_of_extents(read)])


def spans_of_extents(read: Mapping[Series, list[tuple[float, int]]]) -> dict[Series, list[Span]]:
    """Return a span for each segment, whose (t0, samples) are given by channel and dt as written."""
    series: dict[Series, list[tuple[float, list[tuple[float, int]]]]] = {}
    for (channel, dt), extents in read.items():
        series.setdefault((channel, sampling(dt)), []).append((dt, extents))
    spans: dict[Series, list[Span]] = {}
    for (channel, _), parts in series.items():
        period = series_period((t0, dt) for dt, extents in parts for t0, _ in extents)
        spans[channel, float(period)] = [(t0, stop_of(t0, n, period), 1) for _, extents in parts for t0, n in extents]
    return spans


def joined(parts: Iterable[Mapping[Series, list[Span]]]) -> dict[Series, list[Span]]:
    """Return the spans of several parts together."""
    found: dict[Series, list[list[Span]]] = {}
    for part in parts:
        for series, spans in part.items():
            found.setdefault(series, []).append(spans)
    return {series: join(chain.from_iterable(lists), series[1]) for series, lists in found.items()}


def channel_coverage(spans: Mapping[Series, Sequence[Span]], limit: int) -> list[ChannelCoverage]:
    """Return spans as the public API describes them, by channel, at most `limit` of each."""
    return [
        ChannelCoverage(channel, dt, *close_gaps(of_one, limit))
        for (channel, dt), of_one in sorted(spans.items(), key=_by_channel)
    ]


def coverage(spans: Mapping[Series, Sequence[Span]], query: Query, limit: int) -> Coverage:
    """Return the coverage of a query by the spans that it selects, at most `limit` of a channel."""
    shown = dict(sorted(spans.items(), key=_by_channel)[:_MOST_SPANS])
    covered = channel_coverage(shown, min(limit, max(_MOST_SPANS // max(len(shown), 1), 1)))
    batch = query.batch[0] if len(query.batch) == 1 else None
    return Coverage(batch, covered, list(channel_gaps(covered, query)), len(spans) - len(shown))


def channel_gaps(covered: Sequence[ChannelCoverage], query: Query) -> Iterator[ChannelGaps]:
    """Yield the gaps of each channel that has some: between its spans, and to the ends of the query's span."""
    for channel in covered:
        spans = [(start, stop) for start, stop, _ in channel.spans]
        found = list(gaps(spans, channel.dt))
        first, last = spans[0][0], spans[-1][1]
        if query.start is not None and distance(query.start, first, channel.dt) > 0:
            found.insert(0, (query.start, first))
        if query.stop is not None and distance(last, query.stop, channel.dt) > 0:
            found.append((last, query.stop))
        if found:
            yield ChannelGaps(channel.channel, channel.dt, found)


def _by_channel(item: tuple[Series, object]) -> tuple[str, float]:
    (channel, dt), _ = item
    return channel or "", dt
