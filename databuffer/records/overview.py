"""The overview of all steps: how many records wait, run, are done and failed, and the newest failures."""

from collections.abc import Callable

import sqlalchemy as sa

from databuffer.records.backlog import Backlog, count_waiting, waiting
from databuffer.records.declaration import Declaration
from databuffer.records.table import declarations, last_change
from databuffer.storage.catalog.schema import COUNTER, STEPS
from gwwire.records import StepFailure, StepOverview, Steps, StepState

_MOST_WORKERS = 100
_MOST_FAILURES = 20
#: Characters of a reason; the end of an error message says most.
_LONGEST_REASON = 500
_HOUR = 3600 * 10**9
_C = STEPS.c


def overview(connection: sa.Connection, backlog_of: Callable[[str, Declaration], Backlog], now: int) -> Steps:
    """Return the declared steps with their counts, by name; waiting records are counted one by one.

    Steps that are performed on request are left out until somebody requests one.
    """
    seq = connection.execute(sa.select(COUNTER.c.seq)).scalar_one()
    known = sorted(declarations(connection).items())
    steps = [_of_step(connection, backlog_of(*each), now) for each in known if _is_used(connection, *each)]
    return Steps(steps, seq)


def _is_used(connection: sa.Connection, step: str, declaration: Declaration) -> bool:
    mine = sa.select(_C.record).where(_C.name == step).limit(1)
    return not declaration.on_request or connection.execute(mine).first() is not None


def _of_step(connection: sa.Connection, backlog: Backlog, now: int) -> StepOverview:
    mine = _C.name == backlog.step
    counts = sa.select(_C.state, sa.func.count(), sa.func.count(_C.due)).where(mine).group_by(_C.state)
    by_state = {state: (number, due) for state, number, due in connection.execute(counts)}
    again = by_state.get(StepState.WAITING, (0, 0))[1]
    first, _ = waiting(connection, backlog, 1)
    oldest = [_waits_since(connection, first[0], mine) if first else None, _first_asked(connection, mine)]
    workers = sa.select(_C.worker).where(mine, _C.state == StepState.RUNNING).distinct()
    lately = sa.select(sa.func.count()).where(mine, _C.state == StepState.DONE, _C.ended > now - _HOUR)
    return StepOverview(
        name=backlog.step,
        after=backlog.declaration.after,
        kind=backlog.declaration.kind,
        waiting=again + count_waiting(connection, backlog),
        running=by_state.get(StepState.RUNNING, (0, 0))[0],
        done=by_state.get(StepState.DONE, (0, 0))[0],
        failed=by_state.get(StepState.FAILED, (0, 0))[0],
        oldest=min((each for each in oldest if each is not None), default=None),
        workers=list(connection.execute(workers.order_by(_C.worker).limit(_MOST_WORKERS)).scalars()),
        throughput=connection.execute(lately).scalar_one(),
        failures=_failures(connection, backlog.step),
    )


def _waits_since(connection: sa.Connection, record: str, mine: sa.ColumnElement[bool]) -> float | None:
    """Return since when a record of the backlog waits, in Unix seconds: an attempt may have been given back."""
    asked = connection.execute(sa.select(_C.asked).where(mine, _C.record == record)).scalar()
    return last_change(connection, record) if asked is None else asked / 10**9


def _first_asked(connection: sa.Connection, mine: sa.ColumnElement[bool]) -> float | None:
    """Return since when the oldest request or failed attempt of a step waits, in Unix seconds, or None.

    One that failed before waits for its end while it is tried again.
    """
    requested = sa.and_(_C.state == StepState.WAITING, _C.due.is_not(None))
    tried_again = sa.and_(_C.state == StepState.RUNNING, _C.failures > 0)
    first = connection.execute(sa.select(sa.func.min(_C.asked)).where(mine, sa.or_(requested, tried_again))).scalar()
    return None if first is None else first / 10**9


def _failures(connection: sa.Connection, step: str) -> list[StepFailure]:
    columns = (_C.record, _C.reason, _C.attempt, _C.ended)
    failed = sa.select(*columns).where(_C.name == step, _C.state == StepState.FAILED)
    rows = connection.execute(failed.order_by(_C.ended.desc()).limit(_MOST_FAILURES))
    return [StepFailure(row.record, _end_of(row.reason or ""), row.attempt, row.ended / 10**9) for row in rows]


def _end_of(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"… {reason[-_LONGEST_REASON:]}"
