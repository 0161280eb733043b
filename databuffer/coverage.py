"""The stored GPS spans by channel."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from databuffer.storage.catalog import Catalog, SegmentFilter
from gwwire.coverage import Series, channel_coverage, joined, spans_of_extents
from gwwire.public import Coverage, Span
from gwwire.spans import sampling

#: Maximum number of spans in memory, over all batches; a span takes about 100 bytes.
_MOST_SPANS = 500_000


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
            known = _Known(seq, joined([known.spans, spans_of_extents(fresh)]), rounded)
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
    inside = {
        series: [span for span in of_one if _reaches_into(span, wanted)]
        for series, of_one in spans.items()
        if wanted.channel in {None, series[0]}
    }
    selected = {series: of_one for series, of_one in inside.items() if of_one}
    return Coverage(wanted.batch, channel_coverage(selected, wanted.limit))


def _reaches_into(span: Span, wanted: SegmentFilter) -> bool:
    return (wanted.start is None or span[1] > wanted.start) and (wanted.stop is None or span[0] < wanted.stop)


def _size(known: _Known) -> int:
    return sum(map(len, known.spans.values()))
