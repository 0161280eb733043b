"""The index of batches."""

from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog.database import Database, upsert
from databuffer.storage.catalog.rows import BatchRow
from databuffer.storage.catalog.schema import BATCHES, SEGMENTS
from gwwire.public import BatchState


class Batches:
    """All batches; each method is one transaction and raises VolumeError if it fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, batch: BatchRow) -> None:
        """Insert a batch, or replace its row."""
        with self._database.writing() as connection:
            connection.execute(upsert(self._database.dialect, BATCHES), vars(batch))

    def drop(self, batch: str) -> None:
        """Delete a batch and its segments; the ledger keeps what it knows of them."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.batch == batch))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == batch))

    def all(self) -> list[BatchRow]:
        """Return all batches, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(BATCHES).order_by(BATCHES.c.opened, BATCHES.c.id))
            return [_batch(row) for row in rows]

    def get(self, batch: str) -> BatchRow | None:
        """Return a batch, or None if it does not exist."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(BATCHES).where(BATCHES.c.id == batch)).first()
            return None if row is None else _batch(row)

    def archived(self) -> int:
        """Return the number of archived batches."""
        query = sa.select(sa.func.count()).where(BATCHES.c.state == BatchState.ARCHIVED)
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def merge(self, source: str, target: str) -> None:
        """Move the segments of an open batch to another, and delete the first."""
        with self._database.writing() as connection:
            connection.execute(sa.update(SEGMENTS).where(SEGMENTS.c.batch == source).values(batch=target))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == source))


def _batch(row: sa.Row[Any]) -> BatchRow:
    values = row._asdict()
    return BatchRow(**{**values, "state": BatchState(values["state"])})
