"""Totals of the segments in many pieces of batches and channels, with few statements.

A query may cut thousands of channels by its span. One statement for each would take longer than what it reads.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from databuffer.search.clauses import INSIDE, Clause, inside_of_totals
from databuffer.storage.catalog.schema import TOTALS
from databuffer.storage.catalog.spans import stop_column
from gwwire.query import Query

#: Pieces in one statement.
_PORTION = 500


class Piece(NamedTuple):
    """The segments of a batch and channel, which is empty for none, between two times; None: without end."""

    batch: str
    channel: str
    start: float | None
    stop: float | None


class Count(NamedTuple):
    """The number of segments, when the first of them starts, and when those at the end stop."""

    number: int = 0
    first: float | None = None
    stop: float | None = None


_COUNT, _FIRST, _LAST = sa.func.count(), sa.func.min(INSIDE.c.t0), sa.func.max(stop_column(INSIDE.c))


def counts(connection: sa.Connection, pieces: Sequence[Piece]) -> list[Count]:
    """Return the counts of some pieces. What begins inside is counted by index, however much it is."""
    parts = [_read(connection, pieces, part, _COUNT, _FIRST) for part in (_beginning_before, _beginning_inside)]
    last = _read(connection, pieces, _ending_after, _LAST)
    found = []
    for each in pieces:
        of_parts = [part[each] for part in parts if each in part]
        first = min((first for _, first in of_parts), default=None)
        found.append(Count(sum(number for number, _ in of_parts), first, last[each][0] if each in last else None))
    return found


def numbers(connection: sa.Connection, pieces: Sequence[Piece]) -> list[int]:
    """Return the number of segments in some pieces, as `counts`."""
    parts = [_read(connection, pieces, part, _COUNT) for part in (_beginning_before, _beginning_inside)]
    return [sum(part[each][0] for part in parts if each in part) for each in pieces]


def sizes(connection: sa.Connection, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Return the number and the bytes of the segments in some pieces; each of them is read."""
    found = _read(connection, pieces, _stopping_inside, _COUNT, sa.func.sum(INSIDE.c.bytes))
    return [(int(number), int(size)) for number, size in (found.get(each, (0, 0)) for each in pieces)]


def least_seq(connection: sa.Connection, pieces: Sequence[Piece], sign: int) -> int | None:
    """Return the smallest seq of the segments in some pieces, with `sign` -1 of the negated, or None.

    Segments that stop before the start may be among them.
    """
    # As an expression: SQLite would look for the smallest seq in the order of all seqs, and not by time.
    found = _read(connection, pieces, lambda _: (), sa.func.min(INSIDE.c.seq * sign))
    return min((int(seq) for [seq] in found.values()), default=None)


def _stopping_inside(span: Query) -> Iterable[Clause]:
    return () if span.start is None else (stop_column(INSIDE.c) > span.start,)


def _beginning_before(span: Query) -> Iterable[Clause]:
    return (sa.false(),) if span.start is None else (INSIDE.c.t0 <= span.start, *_stopping_inside(span))


def _beginning_inside(span: Query) -> Iterable[Clause]:
    return () if span.start is None else (INSIDE.c.t0 > span.start,)


def _ending_after(span: Query) -> Iterable[Clause]:
    """Select the segments that may reach the stop; without one, none."""
    if span.stop is None:
        return (sa.false(),)
    return (INSIDE.c.t0 >= span.stop - TOTALS.c.longest, *_stopping_inside(span))


def _read(
    connection: sa.Connection,
    pieces: Sequence[Piece],
    clauses: Callable[[Query], Iterable[Clause]],
    *wanted: sa.ColumnElement[Any],
) -> dict[Piece, Sequence[Any]]:
    """Return what is wanted of each piece with segments; most pieces have the same times."""
    found: dict[Piece, Sequence[Any]] = {}
    of_span = defaultdict(list)
    for batch, channel, *times in pieces:
        of_span[tuple(times)].append((batch, channel))
    row = (TOTALS.c.batch, TOTALS.c.channel)
    for (start, stop), rows in of_span.items():
        span = Query(start=start, stop=stop)
        joined = TOTALS.join(INSIDE, sa.and_(*inside_of_totals(span)))
        statement = sa.select(*row, *wanted).select_from(joined).where(*clauses(span)).group_by(*row)
        for first in range(0, len(rows), _PORTION):
            some = statement.where(sa.tuple_(*row).in_(rows[first : first + _PORTION]))
            for batch, channel, *values in connection.execute(some):
                found[Piece(batch, channel, start, stop)] = values
    return found
