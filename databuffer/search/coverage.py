"""The spans that the segments of a query cover, from the index of the catalog and from what is kept of its batches."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.records.selection import segments_matching
from databuffer.search.clauses import INSIDE, inside_of_totals, of_segments
from databuffer.search.pieces import Count, Piece, counts
from databuffer.search.plan import is_inside, plan
from databuffer.storage.catalog.schema import SEGMENTS, TOTALS
from gwwire.coverage import Series, joined, spans_of_extents
from gwwire.public import Span
from gwwire.query import Query

Spans = Mapping[Series, list[Span]]


def spans_of_segments(connection: sa.Connection, query: Query) -> Spans:
    """Return the spans of the segments that a query selects; each of them is read."""
    columns = SEGMENTS.c
    wanted = sa.select(columns.channel, columns.dt, columns.t0, columns.n)
    return _spans(connection.execute(wanted.where(*plan(connection, query), *segments_matching(query))))


def spans_of_totals(
    connection: sa.Connection, query: Query, rows: Sequence[sa.Row[Any]], kept: Mapping[str, Spans]
) -> Spans:
    """Return the spans of the segments in rows of TOTALS that a query selects by its span.

    `kept` has the spans of each batch; few segments are read, where spans begin before or end after the query's.
    """
    by_channel: dict[tuple[str, str], dict[Series, list[Span]]] = defaultdict(dict)
    for batch, spans in kept.items():
        for series, of_one in spans.items():
            by_channel[batch, series[0] or ""][series] = of_one
    found = [_of_row(connection, query, row, by_channel[row.batch, row.channel]) for row in rows]
    cut = [each for of_row in found for spans in of_row.values() for each in spans if isinstance(each, _CutSpan)]
    counted = iter(counts(connection, [each.piece for each in cut]))
    return joined({series: list(_covered(spans, counted)) for series, spans in of_row.items()} for of_row in found)


@dataclass(frozen=True)
class _CutSpan:
    """A span of which a query selects only the segments in a piece of it."""

    span: Span
    piece: Piece

    def covered(self, count: Count) -> Span:
        """Return what those segments cover."""
        start, stop, _ = self.span
        is_cut = self.piece.start is not None and start < self.piece.start
        first = count.first if is_cut and count.first is not None else start
        is_cut = self.piece.stop is not None and stop > self.piece.stop
        return first, count.stop if is_cut and count.stop is not None else stop, count.number


def _covered(spans: Iterable[Span | _CutSpan], counted: Iterator[Count]) -> Iterator[Span]:
    """Yield spans, with what is left of those that are cut, whose counts are the next of `counted`."""
    for span in spans:
        if not isinstance(span, _CutSpan):
            yield span
        elif (count := next(counted)).number:
            yield span.covered(count)


def _of_row(
    connection: sa.Connection, query: Query, row: sa.Row[Any], kept: Spans
) -> Mapping[Series, Sequence[Span | _CutSpan]]:
    if is_inside(row, query):
        return kept
    if len(kept) != 1:  # of several sample spacings, the index does not say which segments have which
        columns = INSIDE.c
        some = sa.select(columns.channel, columns.dt, columns.t0, columns.n)
        return _spans(connection.execute(_inside(some, query, row)))
    ((series, spans),) = kept.items()
    return {series: [_cut(query, row, span) for span in spans if _overlaps(span, query)]}


def _cut(query: Query, row: sa.Row[Any], span: Span) -> Span | _CutSpan:
    """Return a span, with the piece of it that the query selects if that is not all."""
    start, stop, _ = span
    is_before = query.start is not None and start < query.start
    is_after = query.stop is not None and stop > query.stop
    if not (is_before or is_after):
        return span
    piece = Piece(row.batch, row.channel, query.start if is_before else start, query.stop if is_after else stop)
    return _CutSpan(span, piece)


def _inside(wanted: sa.Select[Any], query: Query, row: sa.Row[Any]) -> sa.Select[Any]:
    """Return a statement for the segments of a row of TOTALS that a query selects by its span."""
    span = Query(start=query.start, stop=query.stop)  # the row was selected by the rest
    of_row = (TOTALS.c.batch == row.batch, TOTALS.c.channel == row.channel)
    table = TOTALS.join(INSIDE, sa.and_(*inside_of_totals(span)))
    return wanted.select_from(table).where(*of_row, *of_segments(span, INSIDE.c))


def _overlaps(span: Span, query: Query) -> bool:
    return (query.start is None or span[1] > query.start) and (query.stop is None or span[0] < query.stop)


def _spans(rows: Iterable[Any]) -> Spans:
    """Return the joined spans of segments, given as (channel, dt, t0, samples)."""
    read: dict[Series, list[tuple[float, int]]] = defaultdict(list)
    for channel, dt, t0, n in rows:
        read[channel, dt].append((t0, n))
    return joined([spans_of_extents(read)])
