"""Steps as rows: declare, claim, renew, end, redo. Every function works on the connection of a transaction.

Each claim of a record raises the step's `attempt`, which never falls: a worker that lost its lease is recognised by it.
`now` and the ends of leases are by the clock `steady_ns`.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from databuffer.errors import NotFound, StepSuperseded
from databuffer.records.backlog import Backlog, declaration_of, still_waits, waiting
from databuffer.records.conditions import encoded
from databuffer.records.table import declarations, last_done, load, touch
from databuffer.storage.catalog.database import upsert
from databuffer.storage.catalog.schema import STEP_DECLARATIONS, STEPS
from gwwire.decoding import InvalidRequest
from gwwire.records import ARCHIVED, LONGEST_LEASE, SEALED, Record, StepClaim, StepEnd, StepState

_SECOND = 10**9
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 5 * _SECOND, 3600 * _SECOND
_EXPIRED = "the lease of {} ended before the step did"
_C = STEPS.c


def declare(connection: sa.Connection, step: str, claim: StepClaim) -> StepClaim:
    """Store the declaration of a step; raise InvalidRequest if it waits for itself, or is the datastore's own."""
    if step in {SEALED, ARCHIVED}:
        raise InvalidRequest(f"step: the datastore itself performs {step!r}", field="step")
    declaration, known = declaration_of(claim), declarations(connection)
    if known.get(step) == declaration:
        return declaration
    if step in _before(known | {step: declaration}, declaration.after):
        raise InvalidRequest(f"after: step {step!r} would wait for itself", field="after")
    row = {"name": step, "declaration": msgspec.json.encode(declaration).decode()}
    connection.execute(upsert(connection.dialect, STEP_DECLARATIONS), row)
    return declaration


def claim(connection: sa.Connection, wanted: StepClaim, backlog: Backlog, now: int) -> list[Record]:
    """Lease records to a worker: first those whose lease or back-off has ended, then those that never had one."""
    step, declaration = backlog.step, backlog.declaration
    over = due(connection, step, wanted.limit, now)
    taken = [row.record for row in over if _may_try(connection, row, declaration, now)]
    if left := wanted.limit - len(taken):
        taken += waiting(connection, backlog, left, all_of_them=False)[0]
    for record in taken:
        touch(connection, record, now)
        row = _row(connection, record, step)
        values = {
            "record": record,
            "name": step,
            "state": StepState.RUNNING,
            "worker": wanted.worker,
            "attempt": row.attempt + 1 if row else 1,
            "failures": row.failures if row else 0,
            "due": now + int(wanted.lease * _SECOND),
            "started": now,
            "ended": None,
            "result": None,
            "reason": row.reason if row else None,
        }
        connection.execute(upsert(connection.dialect, STEPS), values)
    records = load(connection, taken)
    return [records[record] for record in taken]


def due(connection: sa.Connection, step: str, limit: int, now: int) -> list[Any]:
    """Return the first rows of a step whose lease or back-off has ended, or was made too long by a wrong clock."""
    over = sa.or_(_C.due <= now, _C.due > now + LONGEST_LEASE * _SECOND)
    return list(connection.execute(sa.select(STEPS).where(_C.name == step, over).order_by(_C.due).limit(limit)))


def end(connection: sa.Connection, record: str, step: str, order: StepEnd, now: int) -> Record:
    """Renew or end the attempt of a worker; a repeated request changes nothing.

    Raise NotFound if nobody claimed the step, or StepSuperseded if another attempt or a redo replaced this one.
    """
    row = _row(connection, record, step)
    if row is None:
        raise NotFound(f"step {step!r} of record {record!r} was never claimed")
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
    """Reopen a step and those that depend on it; raise NotFound if the step was never claimed."""
    if _row(connection, record, step) is None:
        raise NotFound(f"step {step!r} of record {record!r} was never claimed")
    _reopen(connection, record, {step, *_dependents(connection, step)}, now)
    return load(connection, [record])[record]


def reopen_dependents(connection: sa.Connection, record: str, step: str, now: int) -> None:
    """Reopen the steps of a record that depend on a step of the datastore."""
    _reopen(connection, record, _dependents(connection, step), now)


def _may_try(connection: sa.Connection, row: Any, declaration: StepClaim, now: int) -> bool:
    """Return whether a due row may be claimed; if not, change it so that it is no longer due."""
    if row.state == StepState.RUNNING and not _fail(
        connection, row, declaration.attempts, _EXPIRED.format(row.worker), now, again_at=now
    ):
        return False
    if still_waits(connection, row.record, declaration):
        return True
    _change(connection, row, due=None)
    return False


def _fail(  # noqa: PLR0913, PLR0917 (the row, why and when)
    connection: sa.Connection, row: Any, attempts: int, reason: str, now: int, again_at: int | None = None
) -> bool:
    """Count a failure; return whether the step may be tried again, up to a number of attempts."""
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
    known = declarations(connection)
    return {name for name, each in known.items() if step in _before(known, each.after)}


def _before(known: dict[str, StepClaim], steps: Iterable[str]) -> set[str]:
    """Return the steps and all of their prerequisites."""
    found: set[str] = set()
    left = list(steps)
    while left:
        step = left.pop()
        if step not in found:
            found.add(step)
            left += known[step].after if step in known else []
    return found


def _row(connection: sa.Connection, record: str, step: str) -> Any:
    return connection.execute(sa.select(STEPS).where(_C.record == record, _C.name == step)).first()


def _change(connection: sa.Connection, row: Any, **values: Any) -> None:
    connection.execute(sa.update(STEPS).where(_C.record == row.record, _C.name == row.name).values(**values))
