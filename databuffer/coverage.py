"""What stretches of time are stored: read once from the catalog, and kept up by what was stored since."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

from databuffer.storage.catalog import Catalog, SegmentFilter
from gwwire.public import ChannelCoverage, Coverage, Span

#: Spans that are kept of all batches together, some 100 bytes each.
_MOST_SPANS = 500_000

#: A segment may claim any time that is a float64; JSON has no word for what is more.
_MOST = sys.float_info.max

#: A channel, and its sample spacing in s.
Series = tuple[str | None, float]


@dataclass(frozen=True)
class _Known:
    """The spans of a batch, up to the segment `seq`."""

    seq: int = 0
    spans: Mapping[Series, list[Span]] = field(default_factory=dict)


class CoverageKeeper:
    """Tells what the batches of a catalog cover.

    A batch is read once, and again from where it was left; one that got no segment since costs a look. Segments that
    are taken out of a batch are not noticed: whoever does that makes a new keeper.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, batches: Sequence[str]) -> Mapping[Series, list[Span]]:
        """Give the spans of some batches together, in order."""
        with self._lock:
            parts = [self._of(batch) for batch in batches]
            while len(self._known) > 1 and sum(map(_size, self._known.values())) > _MOST_SPANS:
                self._known.popitem(last=False)
        return parts[0] if len(parts) == 1 else joined(parts)

    def _of(self, batch: str) -> Mapping[Series, list[Span]]:
        known = self._known.get(batch, _Known())
        fresh: dict[Series, list[Span]] = {}
        seq = known.seq
        for channel, dt, t0, n, seq in self._catalog.extents(batch, known.seq):  # noqa: B007 (the last one counts)
            fresh.setdefault((channel, dt), []).append((t0, min(t0 + n * dt, _MOST), 1))
        if fresh:
            known = _Known(seq, joined([known.spans, fresh]))
        self._known[batch] = known
        self._known.move_to_end(batch)
        return known.spans


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
    return {series: contiguous(chain.from_iterable(lists), series[1]) for series, lists in found.items()}


def contiguous(spans: Iterable[Span], dt: float) -> list[Span]:
    """Make one span of all that overlap or follow each other; less than half a sample is no gap."""
    return _bridged(sorted(spans), dt / 2)


def closed(spans: Sequence[Span], limit: int) -> tuple[list[Span], float]:
    """Close the smallest gaps until there are `limit` spans at most; gives those, and the largest gap closed."""
    if len(spans) <= limit:
        return list(spans), 0.0
    gaps = sorted(later[0] - earlier[1] for earlier, later in pairwise(spans))
    largest = gaps[len(spans) - limit - 1]
    return _bridged(spans, largest), min(largest, _MOST)


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
