"""The stored GPS spans by channel."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from databuffer.storage.catalog import Catalog, CataloguedSegment, SegmentFilter
from gwwire.public import ChannelCoverage, Coverage, Span
from gwwire.spans import close_gaps, join, sampling, series_period, stop_of

#: Maximum number of spans in memory, over all batches; a span takes about 100 bytes.
_MOST_SPANS = 500_000

#: A channel, and its sample spacing in s (see `gwwire.spans.series_period`).
Series = tuple[str | None, float]


@dataclass(frozen=True)
class _Known:
    seq: int = 0
    spans: Mapping[Series, list[Span]] = field(default_factory=dict)
    rounded: bool = False  # whether a sample spacing is not written in full


class CoverageKeeper:
    """Keeps the spans that the batches of a catalog cover.

    A batch is read once, and later only its new segments. Rounded sample spacings can only be interpreted with all
    segments, so the whole batch is read again. After segments were removed, a new keeper is needed.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, batches: Sequence[str]) -> Mapping[Series, list[Span]]:
        """Return the spans of some batches together, in order."""
        with self._lock:
            parts = [self._of(batch) for batch in batches]
            while len(self._known) > 1 and sum(map(_size, self._known.values())) > _MOST_SPANS:
                self._known.popitem(last=False)
        return parts[0] if len(parts) == 1 else joined(parts)

    def _of(self, batch: str) -> Mapping[Series, list[Span]]:
        known = self._known.get(batch, _Known())
        fresh, seq = self._read(batch, known.seq)
        rounded = known.rounded or any(sampling(dt) != dt for _, dt in fresh)
        if fresh and rounded and known.seq:
            known = _Known()
            fresh, seq = self._read(batch, known.seq)
        if fresh:
            known = _Known(seq, joined([known.spans, _spans(fresh)]), rounded)
        self._known[batch] = known
        self._known.move_to_end(batch)
        return known.spans

    def _read(self, batch: str, seq: int) -> tuple[dict[Series, list[tuple[float, int]]], int]:
        """Return (t0, samples) of the segments after `seq`, by channel and dt as written, and the last seq."""
        read: dict[Series, list[tuple[float, int]]] = {}
        for channel, dt, t0, n, seq in self._catalog.segments.extents(batch, seq):  # noqa: B007, B020, PLR1704 (the last one counts)
            read.setdefault((channel, dt), []).append((t0, n))
        return read, seq


def coverage(spans: Mapping[Series, list[Span]], wanted: SegmentFilter) -> Coverage:
    """Return the spans that a filter selects, at most `limit` of a channel."""
    channels = []
    for (channel, dt), of_one in sorted(spans.items(), key=lambda item: (item[0][0] or "", item[0][1])):
        if wanted.channel not in {None, channel}:
            continue
        if inside := [span for span in of_one if _reaches_into(span, wanted)]:
            channels.append(ChannelCoverage(channel, dt, *close_gaps(inside, wanted.limit)))
    return Coverage(wanted.batch, channels)


def spans_of(segments: Iterable[CataloguedSegment]) -> dict[Series, list[Span]]:
    """Return the spans of some segments."""
    read: dict[Series, list[tuple[float, int]]] = {}
    for segment in segments:
        read.setdefault((segment.channel, segment.dt), []).append((segment.t0, segment.n))
    return joined([_spans(read)])


def joined(parts: Iterable[Mapping[Series, list[Span]]]) -> dict[Series, list[Span]]:
    """Return the spans of several parts together."""
    found: dict[Series, list[list[Span]]] = {}
    for part in parts:
        for series, spans in part.items():
            found.setdefault(series, []).append(spans)
    return {series: join(chain.from_iterable(lists), series[1]) for series, lists in found.items()}


def _spans(read: Mapping[Series, list[tuple[float, int]]]) -> dict[Series, list[Span]]:
    series: dict[Series, list[tuple[float, list[tuple[float, int]]]]] = {}
    for (channel, dt), extents in read.items():
        series.setdefault((channel, sampling(dt)), []).append((dt, extents))
    spans: dict[Series, list[Span]] = {}
    for (channel, _), parts in series.items():
        period = series_period((t0, dt) for dt, extents in parts for t0, _ in extents)
        spans[channel, float(period)] = [(t0, stop_of(t0, n, period), 1) for _, extents in parts for t0, n in extents]
    return spans


def _reaches_into(span: Span, wanted: SegmentFilter) -> bool:
    return (wanted.start is None or span[1] > wanted.start) and (wanted.stop is None or span[0] < wanted.stop)


def _size(known: _Known) -> int:
    return sum(map(len, known.spans.values()))
