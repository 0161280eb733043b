"""The index of segments."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from databuffer.storage.catalog import conditions as conditions_table
from databuffer.storage.catalog import totals
from databuffer.storage.catalog.batches import touch_sealed
from databuffer.storage.catalog.counter import DRAW
from databuffer.storage.catalog.database import Database, portions, sql_text
from databuffer.storage.catalog.ledger import add_spending
from databuffer.storage.catalog.rows import CataloguedSegment, Extent, SegmentFilter, SegmentRow
from databuffer.storage.catalog.schema import BATCHES, IDEMPOTENCY_KEYS, SEGMENT_CONDITIONS, SEGMENTS
from databuffer.storage.catalog.spans import stop_column
from databuffer.storage.scalars import Scalars
from databuffer.storage.spending import Spending
from gwwire.overview import ChannelOverview

_NOTHING_SPENT = Spending()
_COLUMNS = [SEGMENTS.c[name] for name in CataloguedSegment.__struct_fields__]

_PORTION = 500

#: A span may be longer than a float64 can hold; JSON has no number for that.
_MOST = sys.float_info.max


class _Texts(NamedTuple):
    """The statements that are executed with every group of segments."""

    draw: str
    insert: str
    insert_key: str
    add_totals: str
    insert_conditions: str


@cache
def _texts(dialect: sa.Dialect) -> _Texts:
    return _Texts(
        sql_text(dialect, DRAW),
        sql_text(dialect, sa.insert(SEGMENTS)),
        sql_text(dialect, sa.insert(IDEMPOTENCY_KEYS)),
        sql_text(dialect, totals.adding(dialect)),
        sql_text(dialect, sa.insert(SEGMENT_CONDITIONS)),
    )


class Segments:
    """Segments of all batches; each method is one transaction and raises VolumeError if it fails.

    `seq` grows in the order in which segments are added, without a gap inside one call of `add`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = _texts(database.dialect)

    def add(
        self, batch: str, rows: Sequence[SegmentRow], spent: Spending = _NOTHING_SPENT, *, recovered: bool = False
    ) -> int:
        """Insert segments in the order of `rows`, their Idempotency-Keys, and what their groups spent.

        Return the seq of the last one, 0 if there is none. If they are `recovered`, they were found on the volume, and
        their keys are unknown; a sealed batch that contains more than before has changed.
        """
        if not rows:
            return 0
        keys = [(row.key, row.name, row.sha256, row.bytes, row.stored) for row in rows if row.key is not None]
        with self._database.writing(ledger=bool(keys or spent.used)) as connection:
            cursor = connection.connection.cursor()
            cursor.execute(self._sql.draw, (len(rows),))
            last: int = cursor.fetchall()[0][0]
            values = [(seq, batch, *row[:8], recovered) for seq, row in enumerate(rows, last - len(rows) + 1)]
            cursor.executemany(self._sql.insert, values)
            cursor.executemany(self._sql.add_totals, totals.rows_of(batch, rows, last - len(rows) + 1))
            if keys:
                cursor.executemany(self._sql.insert_key, keys)
            if conditions := [
                (seq, name, *scalar)
                for seq, row in enumerate(rows, last - len(rows) + 1)
                for name, scalar in row.conditions
            ]:
                cursor.executemany(self._sql.insert_conditions, conditions)
            cursor.close()
            if spent.used:
                add_spending(connection, spent)
            if recovered:
                connection.execute(_CLAIMED_BEFORE)
                touch_sealed(connection, batch)
        return last

    def remove(self, batch: str, names: Iterable[str]) -> None:
        """Delete segments of a batch, and the keys of those that no batch has: a repeated request is stored again."""
        keys = IDEMPOTENCY_KEYS.c
        with self._database.writing(ledger=True) as connection:
            for some in portions(names):
                named = SEGMENTS.c.name.in_(some)
                conditions_table.delete(connection, sa.and_(SEGMENTS.c.batch == batch, named))
                connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.batch == batch, named))
                kept = sa.select(SEGMENTS.c.name).where(named)
                orphaned = sa.and_(keys.segment.in_(some), keys.segment.not_in(kept))
                connection.execute(sa.delete(IDEMPOTENCY_KEYS).where(orphaned))
            totals.count_again(connection, batch)

    def tally(self, batch: str) -> dict[str | None, ChannelOverview]:
        """Return counts, sizes and spans of a batch by channel."""
        with self._database.reading() as connection:
            rows = connection.execute(totals.tally_query(), {"batch": batch})
            return {
                channel: ChannelOverview(
                    channel, segments, int(size), min(seconds, _MOST), start, min(stop, _MOST), name
                )
                for channel, segments, size, seconds, start, stop, _, name in rows
            }

    def last_seq(self) -> int:
        """Return the seq of the newest segment, or 0 if there is none."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.max(SEGMENTS.c.seq))).scalar() or 0

    def sizes(self, batch: str) -> dict[str, int]:
        """Return the names and sizes of the segments of a batch by increasing seq."""
        query = sa.select(SEGMENTS.c.name, SEGMENTS.c.bytes).where(SEGMENTS.c.batch == batch).order_by(SEGMENTS.c.seq)
        with self._database.reading() as connection:
            return {name: size for name, size in _in_portions(connection, query)}  # noqa: C416 (rows, not pairs)

    def last_name(self, batch: str) -> str | None:
        """Return the name of the newest segment of a batch, or None if it is empty."""
        query = sa.select(SEGMENTS.c.name).where(SEGMENTS.c.batch == batch).order_by(SEGMENTS.c.seq.desc()).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def find(self, wanted: SegmentFilter) -> list[CataloguedSegment]:
        """Return the segments that a filter selects by increasing seq, with `before` by decreasing seq."""
        with self._database.reading() as connection:
            return select_segments(connection, wanted)

    def get(self, name: str) -> CataloguedSegment | None:
        """Return the newest segment with a name, which several batches may have, or None if it does not exist."""
        query = sa.select(*_COLUMNS).where(SEGMENTS.c.name == name).order_by(SEGMENTS.c.seq.desc()).limit(1)
        with self._database.reading() as connection:
            row: Any = connection.execute(query).first()
            return None if row is None else CataloguedSegment(*row)

    def folders(self, names: Iterable[str]) -> dict[str, str]:
        """Return the folders of the newest segments with these names, by name; those that do not exist are left out."""
        joined = SEGMENTS.join(BATCHES, BATCHES.c.id == SEGMENTS.c.batch)
        query = sa.select(SEGMENTS.c.name, BATCHES.c.path).select_from(joined).order_by(SEGMENTS.c.seq)
        found: dict[str, str] = {}
        with self._database.reading() as connection:
            for some in portions(names):
                found.update((row.name, row.path) for row in connection.execute(query.where(SEGMENTS.c.name.in_(some))))
        return found

    def extents(self, batch: str, after: int) -> Iterator[Extent]:
        """Yield the spans of the segments of a batch with a seq above `after`, by increasing seq."""
        query = sa.select(*(SEGMENTS.c[name] for name in Extent._fields))
        query = query.where(SEGMENTS.c.batch == batch, SEGMENTS.c.seq > after).order_by(SEGMENTS.c.seq)
        with self._database.reading() as connection:
            yield from map(Extent._make, _in_portions(connection, query))

    def number_of_unread(self) -> int:
        """Return the number of segments whose `meta` has not been read."""
        with self._database.reading() as connection:
            return conditions_table.number_of_unread(connection)

    def unread(self, limit: int) -> list[tuple[int, str]]:
        """Return seq and name of the first of these segments."""
        with self._database.reading() as connection:
            return conditions_table.unread(connection, limit)

    def conditions(self, batch: str) -> dict[str, Scalars]:
        """Return what the `meta` of the segments of a batch has, by their names; those without any are left out."""
        with self._database.reading() as connection:
            return conditions_table.of_batch(connection, batch)

    def add_conditions(self, conditions: Mapping[int, Scalars], last: int | None) -> None:
        """Store what the `meta` of segments has, by seq; it has now been read up to the seq `last`, None: of all."""
        with self._database.writing() as connection:
            conditions_table.replace(connection, conditions)
            conditions_table.note_read(connection, last)

    def numbers(self) -> dict[str, int]:
        """Return the number of segments of each batch that has some."""
        counted = sa.select(SEGMENTS.c.batch, sa.func.count()).group_by(SEGMENTS.c.batch)
        with self._database.reading() as connection:
            return {batch: number for batch, number in connection.execute(counted)}  # noqa: C416 (rows, not pairs)

    def miscounted(self) -> list[str]:
        """Return the batches whose rows in TOTALS do not agree with their segments."""
        with self._database.reading() as connection:
            return totals.miscounted(connection)

    def count_again(self, batch: str) -> None:
        """Make TOTALS agree with the segments of a batch."""
        with self._database.writing() as connection:
            totals.count_again(connection, batch)

    def recovered(self) -> frozenset[str]:
        """Return the SHA-256 of the recovered segments without an Idempotency-Key."""
        with self._database.reading() as connection:
            return frozenset(connection.execute(sa.select(SEGMENTS.c.sha256).where(SEGMENTS.c.recovered)).scalars())


_KEYED = sa.select(IDEMPOTENCY_KEYS.c.segment, IDEMPOTENCY_KEYS.c.sha256)
_IS_KEYED = sa.tuple_(SEGMENTS.c.name, SEGMENTS.c.sha256).in_(_KEYED)
_CLAIMED_BEFORE = sa.update(SEGMENTS).where(SEGMENTS.c.recovered, _IS_KEYED).values(recovered=False)


def _in_portions(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Yield the rows of a query that may have a million of them.

    Rows are made in C without releasing the GIL: other threads wait as long as one portion takes.
    """
    for portion in connection.execute(query).partitions(_PORTION):
        yield from portion


def select_segments(connection: sa.Connection, wanted: SegmentFilter) -> list[CataloguedSegment]:
    """Return the segments that a filter selects, as `Segments.find` does."""
    return [CataloguedSegment(*row) for row in _in_portions(connection, segments_query(wanted))]


def segments_query(wanted: SegmentFilter) -> sa.Select[Any]:
    """Return the query for the segments that a filter selects."""
    columns = SEGMENTS.c
    query = sa.select(*_COLUMNS).where(columns.seq > wanted.after, *wanted.clauses)
    if wanted.batch is not None:
        query = query.where(columns.batch == wanted.batch)
    if wanted.channel is not None:
        query = query.where(columns.channel == wanted.channel)
    if wanted.start is not None:
        query = query.where(stop_column(columns) > wanted.start)
    if wanted.stop is not None:
        query = query.where(columns.t0 < wanted.stop)
    if wanted.limit >= 0:
        query = query.limit(wanted.limit)
    if wanted.before is None:
        return query.order_by(columns.seq)
    return query.where(columns.seq < wanted.before).order_by(columns.seq.desc())
