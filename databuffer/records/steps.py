"""Steps as rows: declare, claim, renew, end, redo. Every function works on the connection of a transaction.

Each claim of a record raises the step's `attempt`, which never falls: a worker that lost its lease is recognised by it.
`now` and the ends of leases are by the clock `steady_ns`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from databuffer import metrics
from databuffer.errors import NotFound, StepRunning, StepSuperseded
from databuffer.records.backlog import Backlog, declaration_of, still_waits, waiting
from databuffer.records.conditions import encoded
from databuffer.records.declaration import Declaration
from databuffer.records.table import (
    check_seq,
    declarations,
    in_order,
    last_done,
    load,
    put_declaration,
    remove_declaration,
    touch,
    touch_all,
)
from databuffer.storage.catalog.database import insert
from databuffer.storage.catalog.schema import STEPS
from gwwire.decoding import InvalidRequest
from gwwire.records import BATCH_STEPS, LONGEST_LEASE, Record, StepClaim, StepEnd, StepState, is_own

_SECOND = 10**9
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 5 * _SECOND, 3600 * _SECOND
_EXPIRED = "the lease of {} ended before the step did"
_MOST_DIALECTS = 8
_C = STEPS.c

# Built once, because that costs more than to run them.
_ROW = sa.select(STEPS).where(_C.record == sa.bindparam("record"), _C.name == sa.bindparam("step"))
_CHANGE = sa.update(STEPS).where(_C.record == sa.bindparam("of_record"), _C.name == sa.bindparam("of_step"))
_OVER = sa.or_(_C.due <= sa.bindparam("now"), _C.due > sa.bindparam("latest"))  # or made too long by a wrong clock
_DUE = sa.select(STEPS).where(_C.name == sa.bindparam("step"), _OVER).order_by(_C.due).limit(sa.bindparam("limit"))
_FIRST_DUE = sa.select(sa.func.min(_C.due)).where(_C.name == sa.bindparam("step"))


def declare(connection: sa.Connection, step: str, claim: StepClaim) -> Declaration:
    """Store the declaration of a step; raise InvalidRequest if it would wait for itself, or SeqAhead."""
    declaration, known = declaration_of(claim), declarations(connection)
    if known.get(step) == declaration:
        return declaration
    order = _earlier({**known, step: declaration})
    if step in _before(order, order[step]):
        field = "after" if declaration.after else "before"
        raise InvalidRequest(f"{field}: step {step!r} would wait for itself", field=field)
    check_seq(connection, declaration.since)
    put_declaration(connection, step, declaration)
    return declaration


def forget(connection: sa.Connection, step: str, now: int) -> None:
    """Remove the declaration of a step; what was done stays in the records.

    Raise NotFound if there is none, or StepRunning while a worker has a lease.
    """
    known = declarations(connection)
    if step not in known:
        raise NotFound(f"there is no step {step!r}")
    begun = running(connection, step)
    if leased := next((row for row in begun if row.due > now), None):
        raise StepRunning(f"worker {leased.worker!r} performs step {step!r} on record {leased.record!r}")
    for row in begun:
        _fail(connection, row, known[step].attempts, _EXPIRED.format(row.worker), now, again_at=now)
    remove_declaration(connection, step)


def claim(connection: sa.Connection, wanted: StepClaim, backlog: Backlog, now: int) -> tuple[list[Record], int]:
    """Lease records to a worker: first those whose lease or back-off has ended, then those that never had one.

    Return them, and the new floor of the backlog, which is valid when the transaction is committed.
    """
    step, declaration, floor = backlog.step, backlog.declaration, backlog.floor
    over = due(connection, step, wanted.limit, now)
    taken = [row.record for row in over if _may_try(connection, row, declaration, now)]
    if left := wanted.limit - len(taken):
        found, floor = waiting(connection, backlog, left, all_of_them=False)
        taken += found
    if not taken:
        return [], floor
    touch_all(connection, taken, now)
    lease = {
        "name": step,
        "worker": wanted.worker,
        "due": now + int(wanted.lease * _SECOND),
        "started": now,
        "asked": now,
    }
    connection.execute(_lease(connection.dialect), [{"record": record, **lease} for record in taken])
    metrics.count_attempts(step, len(taken))
    return in_order(connection, taken), floor


def request(connection: sa.Connection, record: str, step: str, now: int) -> Record:
    """Request a step on a record, again if it was performed; raise NotFound if there is no such record.

    Requests are performed in their order, also if the records change meanwhile. One that failed waits since it was
    requested first.
    """
    row = _row(connection, record, step)
    if row is None:
        touch(connection, record, now)
        values = {"record": record, "name": step, "state": StepState.WAITING, "worker": "", "attempt": 0, "failures": 0}
        connection.execute(sa.insert(STEPS), {**values, "due": now, "asked": now})
    elif row.state in {StepState.DONE, StepState.FAILED}:
        _reopen(connection, record, {step, *_dependents(connection, step)}, now)
        _change(connection, row, due=now, asked=row.asked if row.state == StepState.FAILED else now)
    return load(connection, [record])[record]


def running(connection: sa.Connection, step: str) -> list[Any]:
    """Return the rows of a step with an attempt that has not ended."""
    return list(connection.execute(sa.select(STEPS).where(_C.name == step, _C.state == StepState.RUNNING)))


def fail_running(connection: sa.Connection, step: str, now: int) -> None:
    """Fail all running attempts at a step, as if their leases had ended; they keep their turn."""
    known = declarations(connection)
    for row in running(connection, step):
        _fail(connection, row, known[step].attempts, _EXPIRED.format(row.worker), now, again_at=min(row.started, now))


def requested_later(connection: sa.Connection, step: str, now: int) -> bool:
    """Return whether a request of a step is after a time: the clock was set back since."""
    return connection.execute(sa.select(_C.record).where(*_requested_after(step, now)).limit(1)).first() is not None


def make_due(connection: sa.Connection, step: str, now: int) -> None:
    """Make requests of a step due that are after a time."""
    connection.execute(sa.update(STEPS).where(*_requested_after(step, now)).values(due=now, asked=now))


def due(connection: sa.Connection, step: str, limit: int, now: int) -> list[Any]:
    """Return the first rows of a step whose lease or back-off has ended."""
    values = {"step": step, "limit": limit, "now": now, "latest": now + LONGEST_LEASE * _SECOND}
    return list(connection.execute(_DUE, values))


def first_due(connection: sa.Connection, step: str) -> int | None:
    """Return when the next lease or back-off of a step ends, or None if there is none."""
    return connection.execute(_FIRST_DUE, {"step": step}).scalar()


def end(connection: sa.Connection, record: str, step: str, order: StepEnd, now: int) -> Record:
    """Renew or end the attempt of a worker; a repeated request changes nothing.

    Raise NotFound if nobody claimed the step, or StepSuperseded if another attempt or a redo replaced this one.
    """
    row = _row(connection, record, step)
    if row is None:
        raise _never_begun(record, step)
    if row.attempt != order.attempt:
        raise StepSuperseded(f"attempt {order.attempt} of step {step!r} ended; the last one is {row.attempt}")
    if row.state != StepState.RUNNING and not _is_repeated(row, order):
        raise StepSuperseded(f"attempt {order.attempt} of step {step!r} ended: it is {row.state}")
    if row.state == StepState.RUNNING:
        match order.state:
            case StepState.RUNNING:
                _change(connection, row, due=now + int(order.lease * _SECOND))
            case StepState.DONE:
                result = None if order.result is None else encoded(order.result, "result")
                done = {"state": StepState.DONE, "due": None, "ended": now, "failures": 0}
                _change(connection, row, **done, result=result, reason=None)
                touch(connection, record, now, last=step)
            case StepState.FAILED:
                attempts = declarations(connection)[step].attempts if order.retry else 0
                _fail(connection, row, attempts, order.reason or "", now)
            case StepState.WAITING:
                _change(connection, row, state=StepState.WAITING, due=None, ended=now)
                touch(connection, record, now)
    return load(connection, [record])[record]


def redo(connection: sa.Connection, record: str, step: str, now: int) -> Record:
    """Reopen a step and those that depend on it.

    Raise NotFound if the step was never claimed, or InvalidRequest for one that is the state of a batch.
    """
    if step in BATCH_STEPS:
        raise InvalidRequest(f"step: {step!r} is the state of the batch, and cannot be done again", field="step")
    if _row(connection, record, step) is None:
        raise _never_begun(record, step)
    _reopen(connection, record, {step, *_dependents(connection, step)}, now)
    return load(connection, [record])[record]


def reopen_dependents(connection: sa.Connection, record: str, step: str, now: int) -> None:
    """Reopen the steps of a record that depend on a step of the datastore."""
    _reopen(connection, record, _dependents(connection, step), now)


def _requested_after(step: str, now: int) -> tuple[sa.ColumnElement[bool], ...]:
    return _C.name == step, _C.state == StepState.WAITING, _C.failures == 0, _C.due > now


def _never_begun(record: str, step: str) -> NotFound:
    return NotFound(f"step {step!r} of record {record!r} was never {'requested' if is_own(step) else 'claimed'}")


def _may_try(connection: sa.Connection, row: Any, declaration: Declaration, now: int) -> bool:
    """Return whether a due row may be claimed; if not, change it so that it is no longer due."""
    if row.state == StepState.RUNNING and not _fail(
        connection, row, declaration.attempts, _EXPIRED.format(row.worker), now, again_at=now
    ):
        return False
    if still_waits(connection, row.record, declaration):
        return True
    _change(connection, row, due=None, asked=None)
    return False


def _fail(  # noqa: PLR0913, PLR0917 (the row, why and when)
    connection: sa.Connection, row: Any, attempts: int, reason: str, now: int, again_at: int | None = None
) -> bool:
    """Count a failure; return whether the step may be tried again, up to a number of attempts."""
    metrics.count_failure(row.name)
    failures = row.failures + 1
    again = failures < attempts
    back_off = min(_FIRST_BACK_OFF * 2 ** min(row.failures, 20), _LONGEST_BACK_OFF)
    values = {
        "state": StepState.WAITING if again else StepState.FAILED,
        "failures": failures,
        "ended": now,
        "due": (again_at or now + back_off) if again else None,
        "reason": reason,
    }
    _change(connection, row, **values)
    touch(connection, row.record, now)
    return bool(again)


def _reopen(connection: sa.Connection, record: str, steps: Iterable[str], now: int) -> None:
    values = {
        "state": StepState.WAITING,
        "worker": "",
        "failures": 0,
        "due": None,
        "asked": None,
        "started": None,
        "ended": None,
        "result": None,
        "reason": None,
    }
    statement = sa.update(STEPS).where(_C.record == record, _C.name.in_(list(steps))).values(**values)
    if connection.execute(statement).rowcount:
        touch(connection, record, now, last=last_done(connection, record))


def _is_repeated(row: Any, order: StepEnd) -> bool:
    """Return whether a request repeats the recorded outcome of an attempt."""
    match order.state:
        case StepState.RUNNING:
            return False
        case StepState.FAILED:  # it waits for the next attempt, or was the last one
            return bool(row.ended is not None and row.reason == (order.reason or ""))
        case _:
            return bool(row.state == order.state and row.ended is not None)


def _dependents(connection: sa.Connection, step: str) -> set[str]:
    after = {name: each.after for name, each in declarations(connection).items()}
    return {name for name in after if step in _before(after, after[name])}


def _earlier(known: Mapping[str, StepClaim]) -> dict[str, list[str]]:
    """Return for each step those that come right before it, by its own `after` or by their `before`."""
    order = {name: list(each.after) for name, each in known.items()}
    for name, each in known.items():
        for later in each.before:
            order.setdefault(later, []).append(name)
    return order


def _before(order: Mapping[str, Sequence[str]], steps: Iterable[str]) -> set[str]:
    """Return the steps and all that come before them; `order` has those right before each."""
    found: set[str] = set()
    left = list(steps)
    while left:
        step = left.pop()
        if step not in found:
            found.add(step)
            left += order.get(step, ())
    return found


@lru_cache(_MOST_DIALECTS)
def _lease(dialect: sa.Dialect) -> Any:
    """Return the statement that begins an attempt; what is counted over all attempts, and the last reason, is kept."""
    statement = insert(dialect, STEPS).values(state=StepState.RUNNING, attempt=1, failures=0)
    given = {name: statement.excluded[name] for name in ("state", "worker", "due", "started")}
    begun = {**given, "attempt": _C.attempt + 1, "ended": None, "result": None}
    begun["asked"] = sa.func.coalesce(_C.asked, statement.excluded.asked)
    return statement.on_conflict_do_update(index_elements=[_C.record, _C.name], set_=begun)


def _row(connection: sa.Connection, record: str, step: str) -> Any:
    return connection.execute(_ROW, {"record": record, "step": step}).first()


def _change(connection: sa.Connection, row: Any, **values: Any) -> None:
    connection.execute(_CHANGE, {"of_record": row.record, "of_step": row.name, **values})
