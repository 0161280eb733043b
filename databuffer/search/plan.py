"""Narrow the segments that a query may select, so that few of a million are read.

The clauses of a query (`databuffer.search.clauses`) say what it selects. A plan adds clauses that change nothing about
that, but which an index serves: it knows from TOTALS in which batches and channels matching segments can be, and where
the first of them is.
"""

from collections.abc import Iterator, Sequence
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
from databuffer.storage.catalog.schema import RECORD_CONDITIONS, RECORDS, SEGMENT_CONDITIONS, SEGMENTS, TOTALS
from databuffer.storage.catalog.segments import stop_column
from gwwire.query import Query
from gwwire.records import GOOD

#: So many segments are looked up one by one; if more can match, they are found by reading on.
_FEW = 50_000


def totals_of(connection: sa.Connection, query: Query) -> Sequence[Any]:
    """Return the rows of TOTALS with segments that can match."""
    return connection.execute(sa.select(TOTALS).where(*of_totals(query))).all()


def plan(connection: sa.Connection, query: Query, after: int = 0, before: int | None = None) -> tuple[Clause, ...]:
    """Return clauses that narrow the reading of a page of segments with a seq above `after`, or below `before`."""
    if clauses := (*_by_conditions(connection, query), *_by_record(query)):
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


def count_inside(connection: sa.Connection, query: Query, row: Any) -> int:
    """Return how many segments of a row of TOTALS a query selects by its span; few of them are read."""
    of_row = (TOTALS.c.batch == row.batch, TOTALS.c.channel == row.channel)
    counted = _matching(query, sa.func.count(), *of_row)
    if query.start is None:
        return int(connection.execute(counted).scalar_one())
    later = connection.execute(counted.where(INSIDE.c.t0 > query.start)).scalar_one()
    reaching = (INSIDE.c.t0 <= query.start, stop_column(INSIDE.c) > query.start)
    return int(later + connection.execute(counted.where(*reaching)).scalar_one())


def _first(connection: sa.Connection, query: Query, totals: Sequence[Any], sign: int = 1) -> int:
    """Return the smallest seq of the segments that rows of TOTALS and the span select; with `sign` -1, of the negated.

    Rows that are inside of the span are not read.
    """
    found = 2**62
    edges = [(row.first_seq if sign > 0 else -row.last_seq, row) for row in totals]
    for edge, row in sorted(edges, key=lambda pair: pair[0]):
        if edge >= found:
            break
        if is_inside(row, query):
            return int(edge)
        # As an expression: SQLite would look for the smallest seq in the order of all seqs, and not by time.
        least = _matching(query, sa.func.min(INSIDE.c.seq * sign), TOTALS.c.batch == row.batch)
        exact = connection.execute(least.where(TOTALS.c.channel == row.channel)).scalar()
        found = found if exact is None else min(found, exact)
    return found


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


def _by_conditions(connection: sa.Connection, query: Query) -> Iterator[Clause]:
    """Yield the clauses that select by a condition that few segments satisfy."""
    for name, bounds in query.conditions.items():
        if name == "channel":
            continue
        stored = sa.select(SEGMENT_CONDITIONS.c.segment).where(*satisfying(SEGMENT_CONDITIONS.c, name, bounds))
        record = RECORD_CONDITIONS.c.record
        records = sa.select(_name_of(record)).where(
            _is_of_segment(record), *satisfying(RECORD_CONDITIONS.c, name, bounds)
        )
        either = stored.union_all(_named(records))
        few = sa.select(sa.func.count()).select_from(either.limit(_FEW + 1).subquery())
        if connection.execute(few).scalar_one() <= _FEW:
            yield SEGMENTS.c.seq.in_(either)


def _by_record(query: Query) -> Iterator[Clause]:
    """Yield the clause that selects segments with a written record, if no other can match."""
    if query.run is not None or query.last is not None or query.status not in {None, GOOD}:
        records = sa.select(_name_of(RECORDS.c.id)).where(_is_of_segment(RECORDS.c.id), *written_fields(query))
        yield SEGMENTS.c.seq.in_(_named(records))


def _named(names: sa.Select[Any]) -> sa.Select[Any]:
    return sa.select(INSIDE.c.seq).where(INSIDE.c.name.in_(names))


def _is_of_segment(record: sa.ColumnElement[str]) -> Clause:
    """Return the clause that a record is about a segment, as a range of its id: `0` follows `/`."""
    return sa.and_(record >= SEGMENT_RECORD, record < SEGMENT_RECORD[:-1] + "0")


def _name_of(record: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return sa.func.substr(record, len(SEGMENT_RECORD) + 1)
