"""The backlog of a step: the records that wait for it, computed from their state.

Every change that can make a record wait gives it a new seq. So what was looked at once, and did not wait, is not looked
at again before it changes: a *floor* per step in memory is the seq up to which no record without a row for the step
waits. Rows with the end of a lease or a back-off are found by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from msgspec import structs

from databuffer.records.declaration import Declaration
from databuffer.records.scan import Scan
from databuffer.records.selection import Selection, Source, sources, written
from databuffer.search.clauses import Clause
from databuffer.storage.catalog.schema import RECORDS, STEPS
from gwwire.records import GOOD, StepClaim, StepState


@dataclass(eq=False)
class Backlog:
    """A step with its declaration, and what is known about the records that wait for it.

    Attributes:
        floor: no record up to this seq waits, unless it has a row for the step.
        plenty: the last claim got as many records as it asked for.

    """

    step: str
    declaration: Declaration
    floor: int = 0
    plenty: bool = False

    def __post_init__(self) -> None:
        self.floor = max(self.floor, self.declaration.since)

    def raise_floor(self, floor: int) -> None:
        """Note that no record up to a seq waits, unless it has a row for the step."""
        self.floor = max(self.floor, floor)

    @cached_property
    def sources(self) -> Sequence[Source]:
        """The tables with records that can wait."""
        first, *virtual = sources(_selection(self.declaration))
        if self.declaration.on_request:
            return [Source(first.id, first.seq, first.present, (*first.selected, _requested(self.step)))]
        return [Source(first.id, first.seq, first.present, (*first.selected, _untouched(self.step))), *virtual]

    @cached_property
    def scan(self) -> Scan:
        """The statements that find waiting records."""
        return Scan(self.sources)


def declaration_of(claim: StepClaim) -> Declaration:
    """Return the part of a claim that declares the step; other fields have their defaults."""
    return Declaration(
        "-",
        after=claim.after,
        before=claim.before,
        kind=claim.kind,
        query=claim.query,
        since=claim.since,
        attempts=claim.attempts,
        on_request=isinstance(claim, Declaration) and claim.on_request,
    )


def waiting(
    connection: sa.Connection, backlog: Backlog, limit: int, *, all_of_them: bool = True
) -> tuple[list[str], int]:
    """Return the first waiting records that have no row for the step, and the new floor.

    Unless `all_of_them` may be looked at, only the next changes are, and what waits may not be found.
    """
    floor = backlog.floor
    while True:
        look = backlog.scan.look(connection, floor, limit)
        if look.found:
            return [record for _, record in look.found], look.found[0][0] - 1
        if look.complete or not all_of_them:
            return [], look.end
        floor = look.end


def count_waiting(connection: sa.Connection, backlog: Backlog) -> int:
    """Return the number of waiting records that have no row for the step."""
    number = 0
    for table in backlog.sources:
        clauses = (table.seq > backlog.floor, *table.present, *table.selected)
        number += connection.execute(sa.select(sa.func.count()).where(*clauses)).scalar_one()
    return number


def still_waits(connection: sa.Connection, record: str, declaration: Declaration) -> bool:
    """Return whether a record with a row for the step may be offered when its lease or back-off has ended."""
    wanted = _selection(declaration)
    kind = [RECORDS.c.kind == wanted.kind] if wanted.kind else []
    clauses = (RECORDS.c.id == record, RECORDS.c.seq > declaration.since, *kind, *written(wanted))
    return connection.execute(sa.select(RECORDS.c.id).where(*clauses)).first() is not None


def _selection(declaration: Declaration) -> Selection:
    query = declaration.query if declaration.on_request else structs.replace(declaration.query, status=GOOD)
    return Selection(declaration.kind, query, tuple(declaration.after), tuple(declaration.before))


def _untouched(step: str) -> Clause:
    """Select the written records on which the step has no row, or one that waits as if it had none."""
    row = sa.and_(STEPS.c.record == RECORDS.c.id, STEPS.c.name == step)
    return ~sa.exists().where(row, sa.or_(STEPS.c.state != StepState.WAITING, STEPS.c.due.is_not(None)))


def _requested(step: str) -> Clause:
    """Select the written records on which the step was requested."""
    row = sa.and_(STEPS.c.record == RECORDS.c.id, STEPS.c.name == step)
    return sa.exists().where(row, STEPS.c.state == StepState.WAITING, STEPS.c.due.is_(None))
