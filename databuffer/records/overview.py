"""The overview of all steps: how many records wait, run, are done and failed, and the newest failures."""

from collections.abc import Callable

import sqlalchemy as sa

from databuffer.records.backlog import Backlog, count_waiting, waiting
from databuffer.records.table import declarations, last_change
from databuffer.storage.catalog.schema import COUNTER, STEPS
from gwwire.records import StepClaim, StepFailure, StepOverview, Steps, StepState

_MOST_WORKERS = 100
_MOST_FAILURES = 20
#: Characters of a reason; the end of an error message says most.
_LONGEST_REASON = 500
_HOUR = 3600 * 10**9
_C = STEPS.c

#: The number of records that have no row for a step and wait, and the last change of the first of them.
_Untouched = tuple[int, float | None]


class Overviews:
    """Returns the overview of all steps; waiting records are counted again only after something changed."""

    def __init__(self) -> None:
        self._counted_at = (-1, -1)
        self._counted: dict[str, tuple[StepClaim, _Untouched]] = {}

    def steps(
        self, connection: sa.Connection, generation: int, backlog_of: Callable[[str, StepClaim], Backlog], now: int
    ) -> Steps:
        """Return the declared steps with their counts, by name; `generation` is that of the database."""
        seq = connection.execute(sa.select(COUNTER.c.seq)).scalar_one()
        backlogs = [backlog_of(*declared) for declared in sorted(declarations(connection).items())]
        known = self._counted if self._counted_at == (generation, seq) else {}
        counted: dict[str, tuple[StepClaim, _Untouched]] = {}
        for each in backlogs:
            declaration, untouched = known.get(each.step, (None, (0, None)))
            if declaration != each.declaration:
                untouched = _untouched(connection, each)
            counted[each.step] = each.declaration, untouched
        self._counted_at, self._counted = (generation, seq), counted
        return Steps([_overview(connection, each, counted[each.step][1], now) for each in backlogs], seq)


def _untouched(connection: sa.Connection, backlog: Backlog) -> _Untouched:
    first, _ = waiting(connection, backlog, 1)
    return count_waiting(connection, backlog), last_change(connection, first[0]) if first else None


def _overview(connection: sa.Connection, backlog: Backlog, untouched: _Untouched, now: int) -> StepOverview:
    mine = _C.name == backlog.step
    counts = sa.select(_C.state, sa.func.count(), sa.func.count(_C.due)).where(mine).group_by(_C.state)
    by_state = {state: (number, due) for state, number, due in connection.execute(counts)}
    again = by_state.get(StepState.WAITING, (0, 0))[1]
    workers = sa.select(_C.worker).where(mine, _C.state == StepState.RUNNING).distinct()
    lately = sa.select(sa.func.count()).where(mine, _C.state == StepState.DONE, _C.ended > now - _HOUR)
    return StepOverview(
        name=backlog.step,
        after=backlog.declaration.after,
        kind=backlog.declaration.kind,
        waiting=again + untouched[0],
        running=by_state.get(StepState.RUNNING, (0, 0))[0],
        done=by_state.get(StepState.DONE, (0, 0))[0],
        failed=by_state.get(StepState.FAILED, (0, 0))[0],
        oldest=untouched[1],
        workers=list(connection.execute(workers.order_by(_C.worker).limit(_MOST_WORKERS)).scalars()),
        throughput=connection.execute(lately).scalar_one(),
        failures=_failures(connection, backlog.step),
    )


def _failures(connection: sa.Connection, step: str) -> list[StepFailure]:
    columns = (_C.record, _C.reason, _C.attempt, _C.ended)
    failed = sa.select(*columns).where(_C.name == step, _C.state == StepState.FAILED)
    rows = connection.execute(failed.order_by(_C.ended.desc()).limit(_MOST_FAILURES))
    return [StepFailure(row.record, _end_of(row.reason or ""), row.attempt, row.ended / 10**9) for row in rows]


def _end_of(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"… {reason[-_LONGEST_REASON:]}"
