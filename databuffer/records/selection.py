"""Which records a filter selects, as SQL.

Segments and batches that nobody has written about have records that are computed from their tables. They are *virtual*:
their status is good, and they have no run and no searchable conditions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog.schema import BATCHES, RECORD_CONDITIONS, RECORDS, SEGMENTS, STEPS
from databuffer.storage.catalog.segments import BATCH_RECORD, BATCH_STEPS
from gwwire.public import BatchState
from gwwire.records import ARCHIVED, GOOD, SEALED, Comparison, RecordQuery, StepState

SEGMENT_RECORD = "segment/"
_EVERYTHING = RecordQuery()
Clause = sa.ColumnElement[bool]

BATCH_KIND, SEGMENT_KIND = BATCH_RECORD[:-1], SEGMENT_RECORD[:-1]
#: What the datastore itself has done on a batch, by step.
_PERFORMED: dict[str, Clause] = {
    SEALED: BATCHES.c.frozen.is_not(None),
    ARCHIVED: BATCHES.c.state == BatchState.ARCHIVED,
}
_BATCH_LAST = sa.case({state.value: step for state, step in BATCH_STEPS.items()}, value=BATCHES.c.state)
_BATCH_ID = sa.literal(BATCH_RECORD) + BATCHES.c.id
_SEGMENT_ID = sa.literal(SEGMENT_RECORD) + SEGMENTS.c.name
_LATER = SEGMENTS.alias("later")


@dataclass(frozen=True)
class Selection:
    """Selects records by kind, status, query, and steps that are done or not; None and () select all."""

    kind: str | None = None
    status: str | None = None
    query: RecordQuery = _EVERYTHING
    after: tuple[str, ...] = ()  # steps that have to be done
    before: tuple[str, ...] = ()  # steps that must not be done


@dataclass(frozen=True)
class Source:
    """A table with records: the columns of their id and seq, those to look at, and which of them are selected."""

    id: sa.ColumnElement[str]
    seq: sa.ColumnElement[int]
    present: tuple[Clause, ...]
    selected: tuple[Clause, ...]


def sources(wanted: Selection) -> Iterator[Source]:
    """Yield the tables with records that can be selected, the written ones first."""
    kind = (RECORDS.c.kind == wanted.kind,) if wanted.kind else ()
    yield Source(RECORDS.c.id, RECORDS.c.seq, kind, tuple(written(wanted)))
    query = wanted.query
    if wanted.status not in {None, GOOD} or query.run is not None or query.conditions:
        return
    if wanted.kind in {None, BATCH_KIND} and _PERFORMED.keys() >= set(wanted.after):
        last = [_BATCH_LAST.in_([query.last])] if query.last else []
        not_done = [sa.not_(_PERFORMED[step]) for step in wanted.before if step in _PERFORMED]
        clauses = (_unwritten(_BATCH_ID), *last, *(_PERFORMED[step] for step in wanted.after), *not_done)
        yield Source(_BATCH_ID, BATCHES.c.seq, (), clauses)
    if wanted.kind in {None, SEGMENT_KIND} and not wanted.after and query.last is None:
        newest: Clause = ~sa.exists().where(_LATER.c.name == SEGMENTS.c.name, _LATER.c.seq > SEGMENTS.c.seq)
        yield Source(_SEGMENT_ID, SEGMENTS.c.seq, (), (_unwritten(_SEGMENT_ID), newest))


def written(wanted: Selection) -> Iterator[Clause]:
    """Yield the conditions that select among the written records, their kind excepted."""
    query = wanted.query
    if wanted.status is not None:
        yield RECORDS.c.status == wanted.status
    if query.run is not None:
        yield RECORDS.c.run == query.run
    if query.last is not None:
        yield RECORDS.c.last == query.last
    for name, bounds in query.conditions.items():
        yield _has(name, bounds)
    for step in wanted.after:
        yield _done(step)
    for step in wanted.before:
        yield sa.not_(_done(step))


def _done(step: str) -> Clause:
    if step in _PERFORMED:
        batch = BATCHES.c.id == sa.func.substr(RECORDS.c.id, len(BATCH_RECORD) + 1)
        return sa.and_(RECORDS.c.kind == BATCH_KIND, sa.exists().where(batch, _PERFORMED[step]))
    return sa.exists().where(STEPS.c.record == RECORDS.c.id, STEPS.c.name == step, STEPS.c.state == StepState.DONE)


def _has(name: str, bounds: Comparison) -> Clause:
    columns = RECORD_CONDITIONS.c
    return sa.exists().where(columns.record == RECORDS.c.id, columns.name == name, *_within(bounds))


def _within(bounds: Comparison) -> Iterator[Clause]:
    number = RECORD_CONDITIONS.c.number
    if bounds.lt is not None:
        yield number < bounds.lt
    if bounds.le is not None:
        yield number <= bounds.le
    if bounds.gt is not None:
        yield number > bounds.gt
    if bounds.ge is not None:
        yield number >= bounds.ge
    if bounds.eq is not None:
        yield _equals(bounds.eq)
    if bounds.ne is not None:
        yield ~sa.func.coalesce(_equals(bounds.ne), sa.false())


def _equals(value: float | str) -> Clause:
    column: sa.Column[Any] = RECORD_CONDITIONS.c.text if isinstance(value, str) else RECORD_CONDITIONS.c.number
    return column == value


def _unwritten(record: sa.ColumnElement[str]) -> Clause:
    return sa.not_(sa.exists().where(RECORDS.c.id == record))
