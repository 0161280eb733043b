"""The overview of all steps: the counts of waiting, running and failed records."""

from collections.abc import Callable

import sqlalchemy as sa

from databuffer.records.backlog import Backlog, count_waiting, waiting
from databuffer.records.declaration import Declaration
from databuffer.records.table import declarations, last_change
from databuffer.storage.catalog.schema import STEPS
from gwwire.records import StepOverview, StepState

_MOST_WORKERS = 100
_C = STEPS.c


def overview(connection: sa.Connection, backlog_of: Callable[[str, Declaration], Backlog]) -> list[StepOverview]:
    """Return the declared steps with their counts, by name."""
    steps = sorted(declarations(connection).items())
    return [_of_step(connection, backlog_of(step, declaration)) for step, declaration in steps]


def _of_step(connection: sa.Connection, backlog: Backlog) -> StepOverview:
    mine = _C.name == backlog.step
    counts = sa.select(_C.state, sa.func.count(), sa.func.count(_C.due)).where(mine).group_by(_C.state)
    by_state = {state: (number, due) for state, number, due in connection.execute(counts)}
    again = by_state.get(StepState.WAITING, (0, 0))[1]
    first, _ = waiting(connection, backlog, 1)
    workers = sa.select(_C.worker).where(mine, _C.state == StepState.RUNNING).distinct()
    return StepOverview(
        name=backlog.step,
        after=backlog.declaration.after,
        kind=backlog.declaration.kind,
        waiting=again + count_waiting(connection, backlog),
        running=by_state.get(StepState.RUNNING, (0, 0))[0],
        done=by_state.get(StepState.DONE, (0, 0))[0],
        failed=by_state.get(StepState.FAILED, (0, 0))[0],
        oldest=last_change(connection, first[0]) if first else None,
        workers=list(connection.execute(workers.order_by(_C.worker).limit(_MOST_WORKERS)).scalars()),
    )
