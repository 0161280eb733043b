"""A query as SQL: which segments, batches and other things it selects by what they are, and which by conditions.

Status, run and last step are those of records; see `databuffer.records.selection`.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from databuffer.storage.catalog.schema import BATCHES, RECORD_CONDITIONS, RECORDS, SEGMENT_CONDITIONS, SEGMENTS, TOTALS
from databuffer.storage.catalog.spans import stop_column
from gwwire.detectors import detectors_with
from gwwire.public import BatchState
from gwwire.query import LISTS, Comparison, Query

Clause = sa.ColumnElement[bool]
#: The id of a segment's record is this and the name of the segment.
SEGMENT_RECORD = "segment/"

#: The columns of a table, or of an alias of it.
Columns = Any
_SEGMENT = SEGMENTS.alias("segment")
_LATER = SEGMENTS.alias("later")
#: Segments that are joined to TOTALS.
INSIDE = SEGMENTS.alias("inside")


def of_segments(query: Query, columns: Columns = SEGMENTS.c) -> Iterator[Clause]:
    """Yield the clauses that select segments by channel, span and batch."""
    yield from of_channels(query, columns.channel)
    if query.start is not None:
        yield stop_column(columns) > query.start
    if query.stop is not None:
        yield columns.t0 < query.stop
    if query.batch:
        yield sa.or_(*(columns.batch == batch for batch in query.batch))


def of_channels(query: Query, channel: sa.ColumnElement[Any]) -> Iterator[Clause]:
    """Yield the clauses that select channels, by their names and by their detectors."""
    if query.channel:
        yield sa.or_(*(_matches(channel, pattern) for pattern in query.channel))
    chosen = [detectors_with(name, values) for name in LISTS[:3] if (values := getattr(query, name))]
    if query.detector:
        chosen.append(set(query.detector))
    if chosen:
        detectors = sorted(set.intersection(*chosen))
        yield sa.or_(sa.false(), *(_starts_with(channel, f"{detector}:") for detector in detectors))


def of_totals(query: Query) -> Iterator[Clause]:
    """Yield the clauses that select the rows of TOTALS with segments that can match."""
    columns = TOTALS.c
    yield from of_channels(query, sa.func.nullif(columns.channel, ""))
    if query.batch:
        yield columns.batch.in_(query.batch)
    if query.start is not None:
        yield columns.stop > query.start
    if query.stop is not None:
        yield columns.start < query.stop


def inside_of_totals(query: Query) -> Iterator[Clause]:
    """Yield the clauses that join segments to rows of TOTALS by index; some end before the start."""
    columns = TOTALS.c
    yield INSIDE.c.batch == columns.batch
    yield INSIDE.c.channel.is_not_distinct_from(sa.func.nullif(columns.channel, ""))
    if query.start is not None:
        yield INSIDE.c.t0 > query.start - columns.longest
    if query.stop is not None:
        yield INSIDE.c.t0 < query.stop


def of_batches(query: Query) -> Iterator[Clause]:
    """Yield the clauses that select batches by their ids, and sealed batches by the segments they contain.

    An open batch does not match by what it contains: no change of the batch itself would report that it does now.
    """
    if query.batch:
        yield BATCHES.c.id.in_(query.batch)
    if query.selects_segments:
        yield BATCHES.c.state != BatchState.OPEN
        in_batch = (TOTALS.c.batch == BATCHES.c.id, *of_totals(query))
        if query.start is not None or query.stop is not None:
            in_batch += (*inside_of_totals(query), *of_segments(query, INSIDE.c))
        yield sa.exists().where(*in_batch)


def of_other_records(query: Query) -> Iterator[Clause]:
    """Yield the clauses that select records of things that the datastore does not hold, by conditions of these names.

    Their conditions `start` and `stop` are a span; without one of them it has no end in that direction.
    """
    for name in LISTS:
        if values := getattr(query, name):
            yield _record_has(name, sa.or_(*(_matches(RECORD_CONDITIONS.c.text, value) for value in values)))
    number = RECORD_CONDITIONS.c.number
    if query.start is not None or query.stop is not None:
        yield sa.or_(_record_has("start"), _record_has("stop"))
    if query.stop is not None:
        yield sa.or_(~_record_has("start"), _record_has("start", number < query.stop))
    if query.start is not None:
        yield sa.or_(~_record_has("stop"), _record_has("stop", number > query.start))


def written_segment(query: Query, name: sa.ColumnElement[str]) -> Clause:
    """Return the clause that the newest segment with a name is one that a query selects."""
    return sa.exists().where(_SEGMENT.c.name == name, is_newest(_SEGMENT.c), *of_segments(query, _SEGMENT.c))


def is_newest(columns: Columns) -> Clause:
    """Return the clause that no later segment has the same name."""
    return ~sa.exists().where(_LATER.c.name == columns.name, _LATER.c.seq > columns.seq)


def written_fields(query: Query) -> Iterator[Clause]:
    """Yield the clauses that select written records by status, run and last step."""
    if query.status is not None:
        yield RECORDS.c.status == query.status
    if query.run is not None:
        yield RECORDS.c.run == query.run
    if query.last is not None:
        yield RECORDS.c.last == query.last


def record_conditions(query: Query) -> Iterator[Clause]:
    """Yield the clauses that written records satisfy the conditions."""
    for name, bounds in query.conditions.items():
        columns = RECORD_CONDITIONS.c
        yield sa.exists().where(columns.record == RECORDS.c.id, *satisfying(columns, name, bounds))


def segment_conditions(query: Query, columns: Columns = SEGMENTS.c) -> Iterator[Clause]:
    """Yield the clauses that the `meta` of segments satisfies the conditions."""
    found = SEGMENT_CONDITIONS.c
    for name, bounds in query.conditions.items():
        if name == "channel":
            yield sa.and_(columns.channel.is_not(None), *_text_within(columns.channel, bounds))
        else:
            yield sa.exists().where(found.segment == columns.seq, *satisfying(found, name, bounds))


def written_segment_conditions(query: Query, name: sa.ColumnElement[str]) -> Clause:
    """Return the clause that the `meta` of the newest segment with a name satisfies the conditions."""
    clauses = (_SEGMENT.c.name == name, is_newest(_SEGMENT.c), *segment_conditions(query, _SEGMENT.c))
    return sa.exists().where(*clauses)


def satisfying(columns: Columns, name: str, bounds: Comparison) -> Iterator[Clause]:
    """Yield the clauses that select the scalars of a name within bounds, in either table of conditions."""
    yield columns.name == name
    yield from _within(columns, bounds)


class _Like(FunctionElement[bool]):
    """The condition that a text is like a pattern, given as SQLite's GLOB, and as the standard's LIKE."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Like, "sqlite")
def _compile_glob(element: _Like, compiler: SQLCompiler, **options: Any) -> str:
    column, glob, _ = element.clauses
    return f"{compiler.process(column, **options)} GLOB {compiler.process(glob, **options)}"


@compiles(_Like)
def _compile_like(element: _Like, compiler: SQLCompiler, **options: Any) -> str:
    column, _, like = element.clauses
    return f"{compiler.process(column, **options)} LIKE {compiler.process(like, **options)} ESCAPE '/'"


def _matches(column: sa.ColumnElement[Any], pattern: str) -> Clause:
    """Return the clause that a text is `pattern`, in which each `*` stands for any text."""
    if "*" not in pattern:
        return column == pattern
    glob = re.sub(r"[\[?]", r"[\g<0>]", pattern)  # SQLite's LIKE ignores case
    like = re.sub(r"[%_/]", r"/\g<0>", pattern).replace("*", "%")
    return cast("Clause", _Like(column, sa.literal(glob), sa.literal(like)))


def _starts_with(column: sa.ColumnElement[Any], text: str) -> Clause:
    return sa.func.substr(column, 1, len(text)) == text


def _record_has(name: str, *clauses: Clause) -> Clause:
    columns = RECORD_CONDITIONS.c
    return sa.exists().where(columns.record == RECORDS.c.id, columns.name == name, *clauses)


def _within(columns: Columns, bounds: Comparison) -> Iterator[Clause]:
    if bounds.lt is not None:
        yield columns.number < bounds.lt
    if bounds.le is not None:
        yield columns.number <= bounds.le
    if bounds.gt is not None:
        yield columns.number > bounds.gt
    if bounds.ge is not None:
        yield columns.number >= bounds.ge
    if bounds.eq is not None:
        yield _equals(columns, bounds.eq)
    if bounds.ne is not None:
        yield ~sa.func.coalesce(_equals(columns, bounds.ne), sa.false())


def _equals(columns: Columns, value: float | str) -> Clause:
    if isinstance(value, str):
        return sa.and_(columns.number.is_(None), columns.text == value)
    is_value: Clause = columns.number == value
    return is_value


def _text_within(column: sa.ColumnElement[Any], bounds: Comparison) -> Iterator[Clause]:
    if any(bound is not None for bound in (bounds.lt, bounds.le, bounds.gt, bounds.ge)):
        yield sa.false()
    if bounds.eq is not None:
        yield column == bounds.eq if isinstance(bounds.eq, str) else sa.false()
    if isinstance(bounds.ne, str):
        yield column != bounds.ne
