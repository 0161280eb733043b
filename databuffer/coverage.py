"""The stored GPS spans by channel."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from databuffer.storage.catalog import Catalog
from gwwire.coverage import Series, joined
from gwwire.public import Span
from gwwire.spans import SeriesPeriod, sample_period, sampling, stop_of

#: Maximum number of spans in memory, over all batches; a span takes about 100 bytes.
_MOST_SPANS = 500_000


#: (t0, samples) of segments, by channel and dt as written.
_Segments = dict[Series, list[tuple[float, int]]]


@dataclass(frozen=True)
class _Known:
    seq: int = 0
    spans: Mapping[Series, list[Span]] = field(default_factory=dict)
    #: Of series with a sample spacing that is not written in full, by channel and sampling.
    periods: dict[Series, SeriesPeriod] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of spans and of times of segments in memory."""
        return sum(map(len, self.spans.values())) + sum(map(len, self.periods.values()))


class CoverageKeeper:
    """Keeps the spans that the batches of a catalog cover.

    A batch is read once, and later only its new segments. Rounded sample spacings can only be interpreted with the
    times of all segments, which are kept. The whole batch is read again when the first of them arrives, and when they
    come to mean something else. After segments were removed, a new keeper is needed.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, batches: Iterable[str]) -> list[Mapping[Series, list[Span]]]:
        """Return the spans of each of some batches, in order."""
        with self._lock:
            parts = [self._of(batch) for batch in batches]
            while len(self._known) > 1 and sum(known.size for known in self._known.values()) > _MOST_SPANS:
                self._known.popitem(last=False)
        return parts

    def _of(self, batch: str) -> Mapping[Series, list[Span]]:
        known = self._known.pop(batch, _Known())
        fresh, seq = self._read(batch, known.seq)
        if fresh:
            added = _added(known, fresh, seq)
            if added is None:
                fresh, seq = self._read(batch, 0)
                added = _added(_Known(), fresh, seq)
            known = added or known
        self._known[batch] = known
        return known.spans

    def _read(self, batch: str, seq: int) -> tuple[_Segments, int]:
        """Return the segments after `seq`, and the last seq."""
        read: _Segments = {}
        for channel, dt, t0, n, seq in self._catalog.segments.extents(batch, seq):  # noqa: B007, B020, PLR1704 (the last one counts)
            read.setdefault((channel, dt), []).append((t0, n))
        return read, seq


def _added(known: _Known, fresh: _Segments, seq: int) -> _Known | None:
    """Return what is known with new segments, or None if that changes what sample spacing the others have."""
    by_series: dict[Series, _Segments] = {}
    for (channel, dt), extents in fresh.items():
        by_series.setdefault((channel, sampling(dt)), {})[channel, dt] = extents
    spans: dict[Series, list[Span]] = {}
    for series, segments in by_series.items():
        channel, nominal = series
        times = ((t0, dt) for (_, dt), extents in segments.items() for t0, _ in extents)
        period = known.periods.get(series)
        if period is not None:
            before = period.period
            period.add(times)
            if period.period != before:
                return None
        elif any(dt != nominal for _, dt in segments):
            if series in known.spans:
                return None
            period = known.periods[series] = SeriesPeriod(times)
        exact = sample_period(nominal) if period is None else period.period
        spans[channel, float(exact)] = [(t0, stop_of(t0, n, exact), 1) for each in segments.values() for t0, n in each]
    return _Known(seq, joined([known.spans, spans]), known.periods)
