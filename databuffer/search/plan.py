"""Narrow the segments that a query may select, so that few of a million are read.

The clauses of a query (`databuffer.search.clauses`) say what it selects. A plan adds clauses that change nothing about
that, but which an index serves: it knows from TOTALS in which batches and channels matching segments can be, and where
the first of them is.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from operator import not_
from typing import Any

import sqlalchemy as sa

from databuffer.search.clauses import (
    INSIDE,
    SEGMENT_RECORD,
    Clause,
    inside_of_totals,
    of_totals,
    satisfying,
    written_fields,
)
from databuffer.search.pieces import Piece, least_seq, numbers, sizes
from databuffer.storage.catalog.schema import RECORD_CONDITIONS, RECORDS, SEGMENT_CONDITIONS, SEGMENTS, TOTALS
from gwwire.query import Query
from gwwire.records import GOOD

#: So many segments are looked up one by one; if more can match, they are found by reading on.
_FEW = 50_000
#: The bytes of so many segments that a span cuts off a batch and channel are summed.
_SUMMED = 2000


def totals_of(connection: sa.Connection, query: Query) -> Sequence[Any]:
    """Return the rows of TOTALS with segments that can match."""
    return connection.execute(sa.select(TOTALS).where(*of_totals(query))).all()


def plan(connection: sa.Connection, query: Query, after: int = 0, before: int | None = None) -> tuple[Clause, ...]:
    """Return clauses that narrow the reading of a page of segments with a seq above `after`, or below `before`."""
    if clauses := (*_by_conditions(connection, query, _FEW), *_by_record(query)):
        return clauses
    if not query.selects_segments:
        return ()
    totals = totals_of(connection, query)
    if not totals:
        return (sa.false(),)
    if sum(_expected(row, query) for row in totals) <= _FEW:
        return (SEGMENTS.c.seq.in_(_matching(query, INSIDE.c.seq)),)
    first, last = min(row.first_seq for row in totals), max(row.last_seq for row in totals)
    has_span = query.start is not None or query.stop is not None
    if has_span and before is None and after < first:
        first = _first(connection, query, totals)
    if has_span and before is not None and before > last:
        last = -_first(connection, query, totals, sign=-1)
    return (SEGMENTS.c.seq.between(first, last),)


def few_of(connection: sa.Connection, query: Query, most: int) -> tuple[Clause, ...]:
    """Return clauses by which at most about `most` segments are looked up, or none if more can match."""
    if clauses := tuple(_by_conditions(connection, query, most)):
        return clauses
    written = sa.select(RECORDS.c.id).where(is_of_segment(RECORDS.c.id), *written_fields(query))
    if (by_record := tuple(_by_record(query))) and _has_few(connection, written, most):
        return by_record
    totals = totals_of(connection, query)
    if query.selects_segments and sum(_expected(row, query) for row in totals) <= most:
        return (SEGMENTS.c.seq.in_(_matching(query, INSIDE.c.seq)),)
    return ()


def count_inside(connection: sa.Connection, query: Query, rows: Sequence[Any]) -> list[tuple[int, int | None]]:
    """Return how many segments of each row of TOTALS a query selects by its span, and their bytes.

    Few of them are read: the bytes of many are not summed, but None.
    """
    few = [_expected(row, query) <= _SUMMED for row in rows]
    pieces = [_cut(row, query) for row in rows]
    summed = iter(sizes(connection, list(compress(pieces, few))))
    counted = iter(numbers(connection, list(compress(pieces, map(not_, few)))))
    return [next(summed) if is_few else (next(counted), None) for is_few in few]


def _first(connection: sa.Connection, query: Query, totals: Sequence[Any], sign: int = 1) -> int:
    """Return the smallest seq of the segments that rows of TOTALS and the span select; with `sign` -1, of the negated.

    Rows that are inside of the span are not read, nor those that have only later segments than what was found.
    """
    found, width = 2**62, 1
    edges = sorted(((row.first_seq if sign > 0 else -row.last_seq, row) for row in totals), key=lambda pair: pair[0])
    while edges and edges[0][0] < found:
        some, edges, width = edges[:width], edges[width:], width * 4
        found = min([found, *(edge for edge, row in some if is_inside(row, query))])
        cut = [_cut(row, query) for edge, row in some if edge < found and not is_inside(row, query)]
        exact = least_seq(connection, cut, sign)
        found = found if exact is None else min(found, exact)
    return found


def _cut(row: Any, query: Query) -> Piece:
    return Piece(row.batch, row.channel, query.start, query.stop)


def is_inside(row: Any, query: Query) -> bool:
    """Return whether all segments of a row of TOTALS are inside of the span of a query."""
    is_after = query.start is None or row.start >= query.start
    return is_after and (query.stop is None or row.stop <= query.stop)


def _matching(query: Query, wanted: sa.ColumnElement[Any], *clauses: Clause) -> sa.Select[Any]:
    joined = TOTALS.join(INSIDE, sa.and_(*inside_of_totals(query)))
    return sa.select(wanted).select_from(joined).where(*of_totals(query), *clauses)


def _expected(row: Any, query: Query) -> float:
    """Return how many segments of a row match about, if they are spread evenly over its time."""
    start = row.start if query.start is None else max(row.start, query.start - row.longest)
    stop = row.stop if query.stop is None else min(row.stop, query.stop)
    whole = row.stop - row.start
    share: float = min((stop - start) / whole, 1.0) if whole > 0 else 1.0
    return float(row.segments) * share


def _by_conditions(connection: sa.Connection, query: Query, most: int) -> Iterator[Clause]:
    """Yield the clauses that select by a condition that at most so many segments satisfy."""
    for name, bounds in query.conditions.items():
        if name == "channel":
            continue
        stored = sa.select(SEGMENT_CONDITIONS.c.segment).where(*satisfying(SEGMENT_CONDITIONS.c, name, bounds))
        record = RECORD_CONDITIONS.c.record
        records = sa.select(name_of(record)).where(
            is_of_segment(record), *satisfying(RECORD_CONDITIONS.c, name, bounds)
        )
        either = stored.union_all(named(records))
        if _has_few(connection, either, most):
            yield SEGMENTS.c.seq.in_(either)


def _has_few(connection: sa.Connection, rows: sa.Select[Any] | sa.CompoundSelect[Any], most: int) -> bool:
    counted = sa.select(sa.func.count()).select_from(rows.limit(most + 1).subquery())
    return bool(connection.execute(counted).scalar_one() <= most)


def _by_record(query: Query) -> Iterator[Clause]:
    """Yield the clause that selects segments with a written record, if no other can match."""
    if query.run is not None or query.last is not None or query.status not in {None, GOOD}:
        records = sa.select(name_of(RECORDS.c.id)).where(is_of_segment(RECORDS.c.id), *written_fields(query))
        yield SEGMENTS.c.seq.in_(named(records))


def named(names: sa.Select[Any]) -> sa.Select[Any]:
    """Return the query for the seqs of the segments with these names."""
    return sa.select(INSIDE.c.seq).where(INSIDE.c.name.in_(names))


def is_of_segment(record: sa.ColumnElement[str]) -> Clause:
    """Return the clause that a record is about a segment, as a range of its id: `0` follows `/`."""
    return sa.and_(record >= SEGMENT_RECORD, record < SEGMENT_RECORD[:-1] + "0")


def name_of(record: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the name of the segment that a record is about."""
    return sa.func.substr(record, len(SEGMENT_RECORD) + 1)
