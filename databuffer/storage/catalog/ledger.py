"""The ledger: tables that cannot be rebuilt from the volume."""

from collections.abc import Iterable

import sqlalchemy as sa

from databuffer.storage.catalog.database import Database, insert, portions
from databuffer.storage.catalog.rows import IdempotencyKey
from databuffer.storage.catalog.schema import IDEMPOTENCY_KEYS, SEGMENTS, SPENDING
from databuffer.storage.spending import Spending


class Ledger:
    """Idempotency-Keys and quotas.

    Each method is one transaction and raises VolumeError if it fails. Keys and quotas are written with their segments,
    which recovery finds again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_key(self, keys: Iterable[str]) -> dict[str, IdempotencyKey]:
        """Return the known keys among these."""
        found = {}
        with self._database.reading() as connection:
            for some in portions(keys):
                rows = connection.execute(sa.select(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.key.in_(some)))
                found.update({row.key: IdempotencyKey._make(row) for row in rows})
        return found

    def claim_recovered(self, sha256: str, key: str) -> IdempotencyKey | None:
        """Assign a key to the oldest recovered segment with these bytes; return it, or None if there is none."""
        mine = sa.select(SEGMENTS).where(SEGMENTS.c.recovered, SEGMENTS.c.sha256 == sha256)
        with self._database.writing(ledger=True) as connection:
            row = connection.execute(mine.order_by(SEGMENTS.c.seq).limit(1)).first()
            if row is None:
                return None
            claimed = IdempotencyKey(key, row.name, row.sha256, row.bytes, row.stored)
            connection.execute(sa.update(SEGMENTS).where(SEGMENTS.c.seq == row.seq).values(recovered=False))
            connection.execute(sa.insert(IDEMPOTENCY_KEYS), claimed._asdict())
            return claimed

    def spending(self, day: int) -> Spending:
        """Return the bytes that each group stored on a day; delete other days."""
        with self._database.writing(ledger=True) as connection:
            connection.execute(sa.delete(SPENDING).where(SPENDING.c.day != day))
            rows = connection.execute(sa.select(SPENDING.c.group, SPENDING.c.bytes).where(SPENDING.c.day == day))
            return Spending(day, dict(rows.all()))

    def subtract_spending(self, spent: Spending) -> None:
        """Subtract the bytes of segments that were not stored after all."""
        with self._database.writing(ledger=True) as connection:
            add_spending(connection, Spending(spent.day, {group: -size for group, size in spent.used.items()}))


def add_spending(connection: sa.Connection, spent: Spending) -> None:
    """Add stored bytes to the spending of their groups."""
    statement = insert(connection.dialect, SPENDING)
    statement = statement.on_conflict_do_update(
        index_elements=[SPENDING.c.group, SPENDING.c.day], set_={"bytes": SPENDING.c.bytes + statement.excluded.bytes}
    )
    rows = [{"group": group, "day": spent.day, "bytes": size} for group, size in spent.used.items()]
    if rows:
        connection.execute(statement, rows)
