"""Look at what changed after a seq, a bounded number of changes at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from databuffer.records.selection import Source
from databuffer.storage.catalog.schema import COUNTER, SEGMENTS

#: Seqs that one look passes at most; every change of a record has its own.
_SEQS = 1000
_AFTER, _UP_TO, _LIMIT = (sa.bindparam(name, type_=sa.BigInteger) for name in ("after", "up_to", "limit"))
_POSITION = sa.select(COUNTER.c.seq)


class Look(NamedTuple):
    """The selected records after a seq, each as its seq and id, up to the seq `end`; `complete`: there are no more."""

    found: list[tuple[int, str]]
    end: int
    complete: bool


class Scan:
    """Statements that find the selected records of some tables; built once, because that costs more than to run them.

    Attributes:
        segments: whether segments can be among them that nobody has written about.

    """

    def __init__(self, sources: Iterable[Source]) -> None:
        tables = list(sources)
        self.segments = any(table.seq is SEGMENTS.c.seq for table in tables)
        self._selected = [
            sa.select(table.seq, table.id)
            .where(table.seq > _AFTER, table.seq <= _UP_TO, *table.present, *table.selected)
            .order_by(table.seq)
            .limit(_LIMIT)
            for table in tables
        ]
        self._next = [sa.select(sa.func.min(table.seq)).where(table.seq > _AFTER) for table in tables]

    def look(self, connection: sa.Connection, after: int, limit: int) -> Look:
        """Find the first `limit` selected records after a seq; the look ends early after some seqs.

        Call it in a transaction or a snapshot.
        """
        last: int = connection.execute(_POSITION).scalar_one()
        up_to = min(after + _SEQS, last)
        values = {"after": after, "up_to": up_to, "limit": limit}
        found = sorted((seq, record) for query in self._selected for seq, record in connection.execute(query, values))
        if len(found) >= limit:
            return Look(found[:limit], found[limit - 1][0], complete=False)
        if not found and up_to < last:  # a restored backup leaves a gap of seqs that nothing has
            seqs = [connection.execute(query, {"after": up_to}).scalar() for query in self._next]
            up_to = min((seq - 1 for seq in seqs if seq is not None), default=last)
        return Look(found, max(after, up_to), complete=up_to >= last)
