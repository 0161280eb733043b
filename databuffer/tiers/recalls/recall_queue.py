"""The steps `recall` of all packs as a queue: their places in it, and how long the last ones took."""

from collections.abc import Collection
from math import ceil
from statistics import fmean

import sqlalchemy as sa

from databuffer.storage.catalog.schema import RECORDS, STEPS
from gwwire.records import RECALL, StepState

_SECOND = 10**9
#: Until a recall was performed, one is estimated to take this time.
_FIRST_ESTIMATE_SECONDS = 60.0
_LONGEST_ESTIMATE = 3600


def durations(connection: sa.Connection, limit: int) -> list[float]:
    """Return the seconds that the last recalls took, at most `limit`, the oldest first; of those that moved bytes."""
    query = (
        sa.select(STEPS.c.started, STEPS.c.ended)
        .where(STEPS.c.name == RECALL, STEPS.c.state == StepState.DONE, STEPS.c.result.like('%"moved":true%'))
        .order_by(STEPS.c.ended.desc())
        .limit(limit)
    )
    return [(ended - started) / _SECOND for started, ended in reversed(connection.execute(query).all())]


def estimate(took: Collection[float], place: int, percent: int) -> int:
    """Return the seconds until a recall is made that has a place in the queue, from the seconds that others took."""
    each = fmean(took) if took else _FIRST_ESTIMATE_SECONDS
    return min(max(1, ceil(each * (place - percent / 100))), _LONGEST_ESTIMATE)


def any_waits(connection: sa.Connection, now: int) -> bool:
    """Return whether a recall waits that could begin now."""
    can_begin = sa.or_(STEPS.c.due.is_(None), STEPS.c.due <= now)
    query = sa.select(STEPS.c.record).where(STEPS.c.name == RECALL, STEPS.c.state == StepState.WAITING, can_begin)
    return connection.execute(query.limit(1)).first() is not None


def position(connection: sa.Connection, record: str) -> int:
    """Return the place of a recall in the queue, from 1; the running one is the first."""
    mine = connection.execute(
        sa.select(STEPS.c.state, STEPS.c.due, RECORDS.c.seq)
        .join(RECORDS, STEPS.c.record == RECORDS.c.id)
        .where(STEPS.c.name == RECALL, STEPS.c.record == record)
    ).one()
    if mine.state == StepState.RUNNING:
        return 1
    # One that was stopped is not due; it comes after those that are.
    before = sa.or_(STEPS.c.due.is_not(None), RECORDS.c.seq < mine.seq) if mine.due is None else STEPS.c.due < mine.due
    query = (
        sa.select(sa.func.count())
        .select_from(STEPS.join(RECORDS, STEPS.c.record == RECORDS.c.id))
        .where(
            STEPS.c.name == RECALL,
            STEPS.c.record != record,
            sa.or_(STEPS.c.state == StepState.RUNNING, sa.and_(STEPS.c.state == StepState.WAITING, before)),
        )
    )
    return int(connection.execute(query).scalar_one()) + 1
