"""What stretches of time are stored: read once from the catalog, and kept up by what was stored since."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from databuffer.catalog import Catalog, SegmentFilter
from gwwire.coverage import ChannelCoverage, Coverage, Span

#: Spans that are kept of all batches together, some 100 bytes each.
_MOST_SPANS = 500_000

#: A channel, and its sample spacing in s.
Series = tuple[str | None, float]


@dataclass
class _Known:
    """The spans of a batch, up to the segment `seq`."""

    seq: int = 0
    spans: dict[Series, list[Span]] = field(default_factory=dict)


class CoverageKeeper:
    """Tells what the batches of a catalog cover.

    A batch is read once, and again from where it was left; one that got no segment since costs a look. Segments that
    are taken out of a batch are not noticed: whoever does that makes a new keeper.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, batches: Sequence[str]) -> dict[Series, list[Span]]:
        """Give the spans of some batches together, in order."""
        with self._lock:
            return joined([self._of(batch).spans for batch in batches])

    def _of(self, batch: str) -> _Known:
        known = self._known.setdefault(batch, _Known())
        self._known.move_to_end(batch)
        fresh: dict[Series, list[Span]] = {}
        for channel, dt, t0, n, known.seq in self._catalog.extents(batch, known.seq):
            fresh.setdefault((channel, dt), []).append((t0, t0 + n * dt, 1))
        known.spans = joined([known.spans, fresh])
        while len(self._known) > 1 and sum(map(_size, self._known.values())) > _MOST_SPANS:
            self._known.popitem(last=False)
        return known


def coverage(spans: Mapping[Series, list[Span]], wanted: SegmentFilter) -> Coverage:
    """Give those spans that are asked for, `limit` at most of a channel."""
    told = []
    for (channel, dt), of_one in sorted(spans.items(), key=lambda item: (item[0][0] or "", item[0][1])):
        if wanted.channel not in {None, channel}:
            continue
        if inside := [span for span in of_one if _reaches_into(span, wanted)]:
            told.append(ChannelCoverage(channel, dt, *closed(inside, wanted.limit)))
    return Coverage(wanted.batch, told)


def joined(parts: Iterable[Mapping[Series, list[Span]]]) -> dict[Series, list[Span]]:
    """Give the spans of several parts together."""
    found: dict[Series, list[list[Span]]] = {}
    for part in parts:
        for series, spans in part.items():
            found.setdefault(series, []).append(spans)
    return {
        series: lists[0] if len(lists) == 1 and len(lists[0]) == 1 else contiguous(sum(lists, []), series[1])
        for series, lists in found.items()
    }


def contiguous(spans: Iterable[Span], dt: float) -> list[Span]:
    """Make one span of all that overlap or follow each other; less than half a sample is no gap."""
    return _bridged(sorted(spans), dt / 2)


def closed(spans: Sequence[Span], limit: int) -> tuple[list[Span], float]:
    """Close the smallest gaps until there are `limit` spans at most; gives them, and the largest gap that was closed."""
    if len(spans) <= limit:
        return list(spans), 0.0
    gaps = sorted(later[0] - earlier[1] for earlier, later in zip(spans, spans[1:], strict=False))
    largest = gaps[len(spans) - limit - 1]
    return _bridged(spans, largest), largest


def _bridged(spans: Iterable[Span], largest: float) -> list[Span]:
    """Join spans, sorted by their start, over gaps of up to `largest` seconds."""
    found: list[Span] = []
    for start, stop, segments in spans:
        if found and start - found[-1][1] <= largest:
            begun, reached, count = found[-1]
            found[-1] = begun, max(reached, stop), count + segments
        else:
            found.append((start, stop, segments))
    return found


def _reaches_into(span: Span, wanted: SegmentFilter) -> bool:
    return (wanted.start is None or span[1] > wanted.start) and (wanted.stop is None or span[0] < wanted.stop)


def _size(known: _Known) -> int:
    return sum(map(len, known.spans.values()))
