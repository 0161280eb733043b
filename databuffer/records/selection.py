"""The SQL that selects the records of a filter.

Segments and batches without a record of their own have records that are computed from their tables. They are *virtual*:
their status is good, and they have no run. The conditions of a segment are its `meta` until others are written; a batch
has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from databuffer.search import clauses
from databuffer.search.clauses import SEGMENT_RECORD, Clause
from databuffer.storage.catalog.batches import BATCH_RECORD, BATCH_STEPS, FILES_RECORD
from databuffer.storage.catalog.schema import BATCHES, RECORDS, SEGMENTS, STEPS
from gwwire.public import BatchState
from gwwire.query import Query
from gwwire.records import ARCHIVED, GOOD, SEALED, StepState

_EVERYTHING = Query()

BATCH_KIND, SEGMENT_KIND = BATCH_RECORD[:-1], SEGMENT_RECORD[:-1]
#: The files of a transaction have a record when their manifest is written.
FILES_KIND = FILES_RECORD[:-1]
#: The conditions under which the datastore itself has done a step on a batch.
_PERFORMED: dict[str, Clause] = {
    SEALED: BATCHES.c.frozen.is_not(None),
    ARCHIVED: BATCHES.c.state == BatchState.ARCHIVED,
}
_BATCH_LAST = sa.case({state.value: step for state, step in BATCH_STEPS.items()}, value=BATCHES.c.state)
_BATCH_ID = sa.literal(BATCH_RECORD) + BATCHES.c.id
_SEGMENT_ID = sa.literal(SEGMENT_RECORD) + SEGMENTS.c.name


@dataclass(frozen=True)
class Selection:
    """Selects records by kind, query, and steps that are done or not; the defaults select all."""

    kind: str | None = None
    query: Query = _EVERYTHING
    after: tuple[str, ...] = ()  # steps that have to be done
    before: tuple[str, ...] = ()  # steps that must not be done
    virtual_segments: bool = True


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
    if query.status not in {None, GOOD} or query.run is not None:
        return
    if wanted.kind in {None, BATCH_KIND} and not query.conditions and _PERFORMED.keys() >= set(wanted.after):
        last = [_BATCH_LAST.in_([query.last])] if query.last else []
        performed = [_PERFORMED[step] for step in wanted.after]
        left = [sa.not_(_PERFORMED[step]) for step in wanted.before if step in _PERFORMED]
        selected = (_unwritten(_BATCH_ID), *last, *performed, *left, *clauses.of_batches(query))
        yield Source(_BATCH_ID, BATCHES.c.seq, (), selected)
    if wanted.virtual_segments and wanted.kind in {None, SEGMENT_KIND} and not wanted.after and query.last is None:
        untouched = (_unwritten(_SEGMENT_ID), clauses.is_newest(SEGMENTS.c))
        matching = (*clauses.of_segments(query), *clauses.segment_conditions(query))
        yield Source(_SEGMENT_ID, SEGMENTS.c.seq, (), (*untouched, *matching))


def written(wanted: Selection) -> Iterator[Clause]:
    """Yield the clauses that select among the written records, their kind excepted."""
    yield from clauses.written_fields(wanted.query)
    if wanted.query.batch or wanted.query.selects_segments:
        yield _of_kinds(wanted.query)
    if wanted.query.conditions:
        yield _satisfies(wanted.query)
    for step in wanted.after:
        yield _done(step)
    for step in wanted.before:
        yield sa.not_(_done(step))


def segments_matching(query: Query) -> Iterator[Clause]:
    """Yield the clauses that select segments by a query, their records included."""
    yield from clauses.of_segments(query)
    record = RECORDS.c.id == _SEGMENT_ID
    virtual = _unwritten(_SEGMENT_ID) if query.status in {None, GOOD} and query.run is None else sa.false()
    if query.status is not None or query.run is not None or query.last is not None:
        has_record = sa.exists().where(record, *clauses.written_fields(query))
        yield has_record if query.last is not None else sa.or_(virtual, has_record)
    if query.conditions:
        rewritten = sa.exists().where(record, RECORDS.c.conditions.is_not(None))
        satisfied = sa.exists().where(record, *clauses.record_conditions(query))
        yield sa.or_(satisfied, sa.and_(~rewritten, *clauses.segment_conditions(query)))


def _of_kinds(query: Query) -> Clause:
    """Return the clause that written records are about things that a query selects."""
    batch = sa.exists().where(BATCHES.c.id == _name(BATCH_RECORD), *clauses.of_batches(query))
    segment = clauses.written_segment(query, _name(SEGMENT_RECORD))
    return sa.case(
        (RECORDS.c.kind == BATCH_KIND, batch),
        (RECORDS.c.kind == SEGMENT_KIND, segment),
        else_=sa.and_(*clauses.of_other_records(query)),
    )


def _satisfies(query: Query) -> Clause:
    """Return the clause that written records satisfy the conditions; those of a segment may still be its `meta`."""
    is_meta = sa.and_(RECORDS.c.kind == SEGMENT_KIND, RECORDS.c.conditions.is_(None))
    meta = clauses.written_segment_conditions(query, _name(SEGMENT_RECORD))
    return sa.or_(sa.and_(*clauses.record_conditions(query)), sa.and_(is_meta, meta))


def _name(prefix: str) -> sa.ColumnElement[str]:
    """Return what follows the prefix of a record's id, which names the thing."""
    return sa.func.substr(RECORDS.c.id, len(prefix) + 1)


def _done(step: str) -> Clause:
    if step in _PERFORMED:
        batch = sa.exists().where(BATCHES.c.id == _name(BATCH_RECORD), _PERFORMED[step])
        performed = sa.and_(RECORDS.c.kind == BATCH_KIND, batch)
        return sa.or_(performed, RECORDS.c.kind == FILES_KIND) if step == ARCHIVED else performed
    return sa.exists().where(STEPS.c.record == RECORDS.c.id, STEPS.c.name == step, STEPS.c.state == StepState.DONE)


def _unwritten(record: sa.ColumnElement[str]) -> Clause:
    return sa.not_(sa.exists().where(RECORDS.c.id == record))
