"""The table of batches."""

import time
from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog import conditions, totals
from databuffer.storage.catalog.counter import draw
from databuffer.storage.catalog.database import Database, upsert
from databuffer.storage.catalog.rows import BatchRow
from databuffer.storage.catalog.schema import BATCHES, RECORDS, SEGMENTS, STEPS, TOTALS
from gwwire.public import BatchState
from gwwire.records import VERIFY, StepState

#: The id of a batch's record is this and the batch id.
BATCH_RECORD = "batch/"
#: The same for the files of a transaction.
FILES_RECORD = "files/"
#: The step that the datastore itself has done last on a batch, by its state.
BATCH_STEPS = {BatchState.FROZEN: "sealed", BatchState.ARCHIVED: "archived"}


class Batches:
    """All batches; each method is one transaction and raises VolumeError if it fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, batch: BatchRow) -> None:
        """Insert a batch, or replace its row; a change of state draws a seq, for its record too if it has one."""
        with self._database.writing() as connection:
            known = connection.execute(sa.select(BATCHES).where(BATCHES.c.id == batch.id)).first()
            changed = known is None or (known.state, known.digest) != (batch.state, batch.digest)
            seq = draw(connection) if changed or known is None else known.seq
            connection.execute(upsert(self._database.dialect, BATCHES), vars(batch) | {"seq": seq})
            if changed:
                connection.execute(_touched(batch, seq, is_new=known is None))

    def drop(self, batch: str) -> None:
        """Delete a batch and its segments; their ledger entries are kept."""
        with self._database.writing() as connection:
            conditions.delete(connection, SEGMENTS.c.batch == batch)
            connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.batch == batch))
            connection.execute(sa.delete(TOTALS).where(TOTALS.c.batch == batch))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == batch))

    def drop_verification(self, batch: str) -> None:
        """Delete the verification of a batch."""
        mine = STEPS.c.record == BATCH_RECORD + batch, STEPS.c.name == VERIFY
        with self._database.writing_synced() as connection:
            connection.execute(sa.delete(STEPS).where(*mine))

    def all(self) -> list[BatchRow]:
        """Return all batches: archived, frozen, open, each in the order in which their first segments were stored."""
        first = sa.select(sa.func.min(SEGMENTS.c.seq)).where(SEGMENTS.c.batch == BATCHES.c.id).scalar_subquery()
        # The clock may have been set back; the states are in alphabetical order.
        query = sa.select(BATCHES).order_by(BATCHES.c.state, first.nulls_last(), BATCHES.c.opened, BATCHES.c.id)
        with self._database.reading() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def get(self, batch: str) -> BatchRow | None:
        """Return a batch, or None if it does not exist."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(BATCHES).where(BATCHES.c.id == batch)).first()
            return None if row is None else _batch(row)

    def position(self, batch: str) -> int | None:
        """Return the seq of a batch's first segment, or that of an empty batch; None if it does not exist."""
        first = sa.select(sa.func.min(SEGMENTS.c.seq)).where(SEGMENTS.c.batch == BATCHES.c.id).scalar_subquery()
        query = sa.select(sa.func.coalesce(first, BATCHES.c.seq)).where(BATCHES.c.id == batch)
        with self._database.reading() as connection:
            position: int | None = connection.execute(query).scalar()
            return position

    def archived(self) -> int:
        """Return the number of archived batches."""
        query = sa.select(sa.func.count()).where(BATCHES.c.state == BatchState.ARCHIVED)
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def merge(self, source: str, target: str) -> None:
        """Move the segments of an open batch to another, and delete the first and those that the other has too."""
        there = sa.select(SEGMENTS.c.name).where(SEGMENTS.c.batch == target)
        twice = sa.and_(SEGMENTS.c.batch == source, SEGMENTS.c.name.in_(there))
        with self._database.writing() as connection:
            conditions.delete(connection, twice)
            connection.execute(sa.delete(SEGMENTS).where(twice))
            connection.execute(sa.update(SEGMENTS).where(SEGMENTS.c.batch == source).values(batch=target))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == source))
            totals.count_again(connection, source)
            totals.count_again(connection, target)
        self._database.generation += 1  # the segments keep their seqs


_LAST_BY_WORKERS = (
    sa.select(STEPS.c.name)
    .where(STEPS.c.record == RECORDS.c.id, STEPS.c.state == StepState.DONE)
    .order_by(STEPS.c.ended.desc())
    .limit(1)
    .scalar_subquery()
)


def _touched(batch: BatchRow, seq: int, *, is_new: bool) -> sa.Update:
    """Return the statement that reports a batch's change of state as a change of its record.

    A batch that a rebuild of the index adds keeps the last step of its record.
    """
    change = sa.update(RECORDS).where(RECORDS.c.id == BATCH_RECORD + batch.id)
    change = change.values(seq=seq, rev=RECORDS.c.rev + 1, changed=time.time_ns())
    if is_new:
        return change
    performed = BATCH_STEPS.get(batch.state)
    return change.values(last=performed or _LAST_BY_WORKERS)


def touch_sealed(connection: sa.Connection, batch: str) -> None:
    """Report a change of a batch, and of its record if it has one, unless it is open: nobody waits for those."""
    sealed = sa.and_(BATCHES.c.id == batch, BATCHES.c.state != BatchState.OPEN)
    if connection.execute(sa.select(BATCHES.c.id).where(sealed)).first():
        seq = draw(connection)
        connection.execute(sa.update(BATCHES).where(sealed).values(seq=seq))
        record = sa.update(RECORDS).where(RECORDS.c.id == BATCH_RECORD + batch)
        connection.execute(record.values(seq=seq, rev=RECORDS.c.rev + 1, changed=time.time_ns()))


def _batch(row: sa.Row[Any]) -> BatchRow:
    values = row._asdict()
    return BatchRow(**{**values, "state": BatchState(values["state"])})
