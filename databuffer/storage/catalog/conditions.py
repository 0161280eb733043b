"""The table of conditions: what the `meta` of segments contains, and which `meta` has not been read yet."""

from collections.abc import Mapping

import sqlalchemy as sa

from databuffer.storage.catalog.schema import SEGMENT_CONDITIONS, SEGMENTS, UNREAD_META
from databuffer.storage.scalars import Scalar, Scalars

_IS_UNREAD = sa.exists().where(SEGMENTS.c.seq > UNREAD_META.c.after, SEGMENTS.c.seq <= UNREAD_META.c.last)


def delete(connection: sa.Connection, segments: sa.ColumnElement[bool]) -> None:
    """Delete the conditions of segments that are deleted next."""
    seqs = sa.select(SEGMENTS.c.seq).where(segments)
    connection.execute(sa.delete(SEGMENT_CONDITIONS).where(SEGMENT_CONDITIONS.c.segment.in_(seqs)))


def replace(connection: sa.Connection, conditions: Mapping[int, Scalars]) -> None:
    """Store the conditions of segments, by seq; those that do not exist any more are left out."""
    changed = SEGMENTS.c.seq.in_(list(conditions))
    delete(connection, changed)
    present = set(connection.execute(sa.select(SEGMENTS.c.seq).where(changed)).scalars())
    if rows := [
        {"segment": seq, "name": name, "number": number, "text": text}
        for seq, found in conditions.items()
        if seq in present
        for name, (number, text) in found
    ]:
        connection.execute(sa.insert(SEGMENT_CONDITIONS), rows)


def of_batch(connection: sa.Connection, batch: str) -> dict[str, Scalars]:
    """Return the conditions of the segments of a batch, by their names; those without any are left out."""
    each = SEGMENT_CONDITIONS.c
    joined = SEGMENT_CONDITIONS.join(SEGMENTS, SEGMENTS.c.seq == each.segment)
    query = sa.select(SEGMENTS.c.name, each.name, each.number, each.text).select_from(joined)
    found: dict[str, list[tuple[str, Scalar]]] = {}
    for segment, name, number, text in connection.execute(query.where(SEGMENTS.c.batch == batch)):
        found.setdefault(segment, []).append((name, (number, text)))
    return {segment: tuple(scalars) for segment, scalars in found.items()}


def note_read(connection: sa.Connection, last: int | None) -> None:
    """Note that `meta` has been read up to the seq `last`, None: of all segments."""
    if last is None:
        connection.execute(sa.delete(UNREAD_META))
    else:
        connection.execute(sa.update(UNREAD_META).values(after=last))


def number_of_unread(connection: sa.Connection) -> int:
    """Return the number of segments whose `meta` has not been read."""
    return connection.execute(sa.select(sa.func.count()).select_from(SEGMENTS).where(_IS_UNREAD)).scalar_one()


def unread(connection: sa.Connection, limit: int) -> list[tuple[int, str]]:
    """Return seq and name of the first of these segments."""
    query = sa.select(SEGMENTS.c.seq, SEGMENTS.c.name).where(_IS_UNREAD).order_by(SEGMENTS.c.seq).limit(limit)
    return [(row.seq, row.name) for row in connection.execute(query)]
