"""The counter of the change feed: every change that it reports has a seq."""

import sqlalchemy as sa

from databuffer.storage.catalog.schema import COUNTER

#: Reserve the next seqs; returns the last of them.
DRAW = sa.update(COUNTER).values(seq=COUNTER.c.seq + sa.bindparam("number")).returning(COUNTER.c.seq)


def draw(connection: sa.Connection, number: int = 1) -> int:
    """Draw the next seqs, and return the last; every change that the change feed reports has one."""
    seq: int = connection.execute(DRAW, {"number": number}).scalar_one()
    return seq
