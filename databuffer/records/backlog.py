"""The backlog of a step: the records that wait for it, computed from their state.

Every change that can make a record wait gives it a new seq. So what was looked at once, and did not wait, is not looked
at again before it changes: a *floor* per step in memory is the seq up to which no record without a row for the step
waits. Rows with the end of a lease or a back-off are found by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.records.selection import Clause, Selection, Source, sources, written
from databuffer.storage.catalog.schema import RECORDS, STEPS
from gwwire.records import GOOD, StepClaim, StepState

_FIRST_WINDOW, _WINDOW = 50, 1000
_END = 2**63
_DECLARED = ("after", "before", "kind", "query", "since", "attempts")


@dataclass(frozen=True)
class Backlog:
    """A step with its declaration, and the seq up to which no record waits for it."""

    step: str
    declaration: StepClaim
    floor: int = 0


def declaration_of(claim: StepClaim) -> StepClaim:
    """Return the part of a claim that declares the step; other fields have their defaults."""
    declared = {name: getattr(claim, name) for name in _DECLARED}
    return StepClaim("-", **declared)


def waiting(
    connection: sa.Connection, backlog: Backlog, limit: int, *, all_of_them: bool = True
) -> tuple[list[str], int]:
    """Return the first waiting records that have no row for the step, and the new floor.

    Unless `all_of_them` may be looked at, only the next records are, and what waits may not be found.
    """
    floor, size = _floor(backlog), _FIRST_WINDOW + limit
    tables = list(_sources(backlog))
    while True:
        rows, end = _window(connection, tables, floor, size)
        if found := [row for row in rows if row.selected][:limit]:
            return [row.id for row in found], found[0].seq - 1
        if end == _END:
            return [], max([floor, *(row.seq for row in rows[-1:])])
        floor, size = end, _WINDOW
        if not all_of_them:
            return [], floor


def count_waiting(connection: sa.Connection, backlog: Backlog) -> int:
    """Return the number of waiting records that have no row for the step."""
    number = 0
    for table in _sources(backlog):
        clauses = (table.seq > _floor(backlog), *table.present, *table.selected)
        number += connection.execute(sa.select(sa.func.count()).where(*clauses)).scalar_one()
    return number


def still_waits(connection: sa.Connection, record: str, declaration: StepClaim) -> bool:
    """Return whether a record with a row for the step may be offered when its lease or back-off has ended."""
    wanted = _selection(declaration)
    kind = [RECORDS.c.kind == wanted.kind] if wanted.kind else []
    clauses = (RECORDS.c.id == record, RECORDS.c.seq > declaration.since, *kind, *written(wanted))
    return connection.execute(sa.select(RECORDS.c.id).where(*clauses)).first() is not None


def _selection(declaration: StepClaim) -> Selection:
    return Selection(declaration.kind, GOOD, declaration.query, tuple(declaration.after), tuple(declaration.before))


def _floor(backlog: Backlog) -> int:
    return max(backlog.floor, backlog.declaration.since)


def _sources(backlog: Backlog) -> Sequence[Source]:
    first, *virtual = sources(_selection(backlog.declaration))
    return [Source(first.id, first.seq, first.present, (*first.selected, _untouched(backlog.step))), *virtual]


def _untouched(step: str) -> Clause:
    """Select the written records on which the step has no row, or one that waits as if it had none."""
    row = sa.and_(STEPS.c.record == RECORDS.c.id, STEPS.c.name == step)
    return ~sa.exists().where(row, sa.or_(STEPS.c.state != StepState.WAITING, STEPS.c.due.is_not(None)))


def _window(connection: sa.Connection, tables: Sequence[Source], floor: int, size: int) -> tuple[list[Any], int]:
    """Return the next records by increasing seq, and the seq up to which they are complete, or _END."""
    rows: list[Any] = []
    end = _END
    for table in tables:
        columns = (table.id.label("id"), table.seq.label("seq"), sa.and_(*table.selected).label("selected"))
        query = sa.select(*columns).where(table.seq > floor, *table.present).order_by(table.seq).limit(size)
        found = connection.execute(query).all()
        rows += found
        if len(found) == size:
            end = min(end, found[-1].seq)
    return sorted((row for row in rows if row.seq <= end), key=lambda row: row.seq), end
