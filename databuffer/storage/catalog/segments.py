"""The index of batches and segments."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog.database import Database, insert, portions, sql_text, upsert
from databuffer.storage.catalog.ledger import add_spending
from databuffer.storage.catalog.rows import BatchRow, CataloguedSegment, Extent, SegmentFilter, SegmentRow
from databuffer.storage.catalog.schema import (
    BATCHES,
    COUNTER,
    IDEMPOTENCY_KEYS,
    RECORDS,
    SEGMENT_CONDITIONS,
    SEGMENTS,
    STEPS,
    TOTALS,
)
from databuffer.storage.spending import Spending
from gwwire.overview import ChannelOverview
from gwwire.public import BatchState
from gwwire.records import VERIFY, StepState
from gwwire.spans import MOST_ROUNDED, SAMPLING_TOLERANCE, stop_of

#: The id of a batch's record is this and the batch id.
BATCH_RECORD = "batch/"
#: The step that the datastore itself has done last on a batch, by its state.
BATCH_STEPS = {BatchState.FROZEN: "sealed", BatchState.ARCHIVED: "archived"}

_NOTHING_SPENT = Spending()
_COLUMNS = [SEGMENTS.c[name] for name in CataloguedSegment.__struct_fields__]

_PORTION = 500

#: A span may be longer than a float64 can hold; JSON has no number for that.
_MOST = sys.float_info.max


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
            _delete_conditions(connection, SEGMENTS.c.batch == batch)
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
        """Move the segments of an open batch to another, and delete the first."""
        with self._database.writing() as connection:
            connection.execute(sa.update(SEGMENTS).where(SEGMENTS.c.batch == source).values(batch=target))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == source))
            _count_again(connection, source)
            _count_again(connection, target)
        self._database.generation += 1  # the segments keep their seqs


class Segments:
    """Segments of all batches; each method is one transaction and raises VolumeError if it fails.

    `seq` grows in the order in which segments are added, without a gap inside one call of `add`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._draw = sql_text(database.dialect, _DRAW)
        self._insert = sql_text(database.dialect, sa.insert(SEGMENTS))
        self._insert_key = sql_text(database.dialect, sa.insert(IDEMPOTENCY_KEYS))
        self._add_totals = sql_text(database.dialect, _adding_totals(database.dialect))
        self._insert_conditions = sql_text(database.dialect, sa.insert(SEGMENT_CONDITIONS))

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
            cursor.execute(self._draw, (len(rows),))
            last: int = cursor.fetchall()[0][0]
            values = [(seq, batch, *row[:8], recovered) for seq, row in enumerate(rows, last - len(rows) + 1)]
            cursor.executemany(self._insert, values)
            cursor.executemany(self._add_totals, _totals(batch, rows, last - len(rows) + 1))
            if keys:
                cursor.executemany(self._insert_key, keys)
            if conditions := [
                (seq, name, *scalar)
                for seq, row in enumerate(rows, last - len(rows) + 1)
                for name, scalar in row.conditions
            ]:
                cursor.executemany(self._insert_conditions, conditions)
            cursor.close()
            if spent.used:
                add_spending(connection, spent)
            if recovered:
                connection.execute(_CLAIMED_BEFORE)
                _touch_sealed(connection, batch)
        return last

    def remove(self, batch: str, names: Iterable[str]) -> None:
        """Delete segments of a batch, and the keys of those that no batch has: a repeated request is stored again."""
        keys = IDEMPOTENCY_KEYS.c
        with self._database.writing(ledger=True) as connection:
            for some in portions(names):
                named = SEGMENTS.c.name.in_(some)
                _delete_conditions(connection, sa.and_(SEGMENTS.c.batch == batch, named))
                connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.batch == batch, named))
                kept = sa.select(SEGMENTS.c.name).where(named)
                orphaned = sa.and_(keys.segment.in_(some), keys.segment.not_in(kept))
                connection.execute(sa.delete(IDEMPOTENCY_KEYS).where(orphaned))
            _count_again(connection, batch)

    def tally(self, batch: str) -> dict[str | None, ChannelOverview]:
        """Return counts, sizes and spans of a batch by channel."""
        with self._database.reading() as connection:
            return {
                channel: ChannelOverview(
                    channel, segments, int(size), min(seconds, _MOST), start, min(stop, _MOST), name
                )
                for channel, segments, size, seconds, start, stop, _, name in connection.execute(tally_query(batch))
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

    def extents(self, batch: str, after: int) -> Iterator[Extent]:
        """Yield the spans of the segments of a batch with a seq above `after`, by increasing seq."""
        query = sa.select(*(SEGMENTS.c[name] for name in Extent._fields))
        query = query.where(SEGMENTS.c.batch == batch, SEGMENTS.c.seq > after).order_by(SEGMENTS.c.seq)
        with self._database.reading() as connection:
            yield from map(Extent._make, _in_portions(connection, query))

    def recovered(self) -> frozenset[str]:
        """Return the SHA-256 of the recovered segments without an Idempotency-Key."""
        with self._database.reading() as connection:
            return frozenset(connection.execute(sa.select(SEGMENTS.c.sha256).where(SEGMENTS.c.recovered)).scalars())


_KEYED = sa.select(IDEMPOTENCY_KEYS.c.segment, IDEMPOTENCY_KEYS.c.sha256)
_IS_KEYED = sa.tuple_(SEGMENTS.c.name, SEGMENTS.c.sha256).in_(_KEYED)
_CLAIMED_BEFORE = sa.update(SEGMENTS).where(SEGMENTS.c.recovered, _IS_KEYED).values(recovered=False)
#: Reserve the next seqs; returns the last of them.
_DRAW = sa.update(COUNTER).values(seq=COUNTER.c.seq + sa.bindparam("number")).returning(COUNTER.c.seq)


def draw(connection: sa.Connection, number: int = 1) -> int:
    """Draw the next seqs, and return the last; every change that the change feed reports has one."""
    seq: int = connection.execute(_DRAW, {"number": number}).scalar_one()
    return seq


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


def _totals(batch: str, rows: Sequence[SegmentRow], first_seq: int) -> list[tuple[Any, ...]]:
    """Return the rows of TOTALS for new segments alone."""
    found: dict[str, tuple[Any, ...]] = {}
    for seq, row in enumerate(rows, first_seq):
        channel, seconds, stop = row.channel or "", stop_of(0.0, row.n, row.dt), stop_of(row.t0, row.n, row.dt)
        if (known := found.get(channel)) is None:
            found[channel] = batch, channel, 1, row.bytes, row.t0, stop, seconds, seq, seq
        else:
            _, _, number, size, start, last, longest, first, _ = known
            times = min(start, row.t0), max(last, stop), max(longest, seconds)
            found[channel] = batch, channel, number + 1, size + row.bytes, *times, first, seq
    return list(found.values())


def _adding_totals(dialect: sa.Dialect) -> Any:
    """Return the INSERT that adds to a row of TOTALS, or makes it."""
    new = insert(dialect, TOTALS)
    old, more = TOTALS.c, new.excluded
    added = {name: old[name] + more[name] for name in ("segments", "bytes")}
    added |= {name: sa.case((more[name] > old[name], more[name]), else_=old[name]) for name in ("stop", "longest")}
    added["start"] = sa.case((more.start < old.start, more.start), else_=old.start)
    return new.on_conflict_do_update(index_elements=[old.batch, old.channel], set_=added | {"last_seq": more.last_seq})


def _count_again(connection: sa.Connection, batch: str) -> None:
    """Make TOTALS agree with the segments of a batch, some of which were removed or moved."""
    columns, seconds = SEGMENTS.c, _seconds(SEGMENTS.c)
    # Not a parameter: PostgreSQL would take the channel and that of GROUP BY for two expressions.
    channel = sa.func.coalesce(columns.channel, sa.literal_column("''"))
    counted = sa.select(
        *(columns.batch, channel, sa.func.count(), sa.func.sum(columns.bytes), sa.func.min(columns.t0)),
        *(sa.func.max(columns.t0 + seconds), sa.func.max(seconds), sa.func.min(columns.seq), sa.func.max(columns.seq)),
    )
    connection.execute(sa.delete(TOTALS).where(TOTALS.c.batch == batch))
    grouped = counted.where(columns.batch == batch).group_by(columns.batch, channel)
    connection.execute(sa.insert(TOTALS).from_select(list(TOTALS.c.keys()), grouped))


def _touch_sealed(connection: sa.Connection, batch: str) -> None:
    """Report a change of a batch, and of its record if it has one, unless it is open: nobody waits for those."""
    sealed = sa.and_(BATCHES.c.id == batch, BATCHES.c.state != BatchState.OPEN)
    if connection.execute(sa.select(BATCHES.c.id).where(sealed)).first():
        seq = draw(connection)
        connection.execute(sa.update(BATCHES).where(sealed).values(seq=seq))
        record = sa.update(RECORDS).where(RECORDS.c.id == BATCH_RECORD + batch)
        connection.execute(record.values(seq=seq, rev=RECORDS.c.rev + 1, changed=time.time_ns()))


def _delete_conditions(connection: sa.Connection, segments: sa.ColumnElement[bool]) -> None:
    """Delete the conditions of segments that are deleted next."""
    seqs = sa.select(SEGMENTS.c.seq).where(segments)
    connection.execute(sa.delete(SEGMENT_CONDITIONS).where(SEGMENT_CONDITIONS.c.segment.in_(seqs)))


def _in_portions(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Yield the rows of a query that may have a million of them.

    Rows are made in C without releasing the GIL: other threads wait as long as one portion takes.
    """
    for portion in connection.execute(query).partitions(_PORTION):
        yield from portion


def tally_query(batch: str) -> sa.Select[Any]:
    """Return the query for the counts of a batch by channel, with the name of the newest segment of each."""
    columns, seconds = SEGMENTS.c, _seconds(SEGMENTS.c)
    counted = (
        sa.select(
            columns.channel,
            sa.func.count().label("segments"),
            sa.func.sum(columns.bytes).label("bytes"),
            sa.func.sum(seconds).label("seconds"),
            sa.func.min(columns.t0).label("start"),
            sa.func.max(columns.t0 + seconds).label("stop"),
            sa.func.max(columns.seq).label("seq"),
        )
        .where(columns.batch == batch)
        .group_by(columns.channel)
        .subquery()
    )
    return sa.select(counted, columns.name).join(SEGMENTS, columns.seq == counted.c.seq)


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


def stop_column(columns: Any) -> sa.ColumnElement[float]:
    """Return the end of a segment in GPS seconds; `columns` are those of SEGMENTS, or of an alias of it."""
    stop: sa.ColumnElement[float] = columns.t0 + _seconds(columns)
    return stop


def _seconds(columns: Any) -> sa.ColumnElement[float]:
    """Return the duration of a segment in s, with the sample spacing of `gwwire.spans.sample_period`."""
    rate = sa.literal(1.0) / columns.dt
    return sa.case(
        (_is_rounded(rate), columns.n / _round(rate)),
        (_is_rounded(columns.dt), columns.n * _round(columns.dt)),
        else_=columns.n * columns.dt,
    )


def _is_rounded(value: sa.ColumnElement[float]) -> sa.ColumnElement[bool]:
    whole = _round(value)
    off = sa.func.abs(value - whole)
    return sa.and_(whole > 0, off <= SAMPLING_TOLERANCE * whole, off <= MOST_ROUNDED)


def _round(value: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    return sa.func.round(value, type_=sa.Double)


def _batch(row: sa.Row[Any]) -> BatchRow:
    values = row._asdict()
    return BatchRow(**{**values, "state": BatchState(values["state"])})
