"""The table of totals: counts of each batch by channel, kept beside its segments so that no query counts them."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog.database import insert
from databuffer.storage.catalog.rows import SegmentRow
from databuffer.storage.catalog.schema import SEGMENTS, TOTALS
from databuffer.storage.catalog.spans import seconds_column
from gwwire.spans import stop_of

#: Relative, or seconds of GPS time.
_SAME = 1e-12


def rows_of(batch: str, rows: Sequence[SegmentRow], first_seq: int) -> list[tuple[Any, ...]]:
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


def adding(dialect: sa.Dialect) -> Any:
    """Return the INSERT that adds to a row of TOTALS, or makes it."""
    new = insert(dialect, TOTALS)
    old, more = TOTALS.c, new.excluded
    added = {name: old[name] + more[name] for name in ("segments", "bytes")}
    added |= {name: sa.case((more[name] > old[name], more[name]), else_=old[name]) for name in ("stop", "longest")}
    added["start"] = sa.case((more.start < old.start, more.start), else_=old.start)
    return new.on_conflict_do_update(index_elements=[old.batch, old.channel], set_=added | {"last_seq": more.last_seq})


def count_again(connection: sa.Connection, batch: str) -> None:
    """Make TOTALS agree with the segments of a batch, some of which were removed or moved."""
    connection.execute(sa.delete(TOTALS).where(TOTALS.c.batch == batch))
    of_batch = _counted().where(SEGMENTS.c.batch == batch)
    connection.execute(sa.insert(TOTALS).from_select(list(TOTALS.c.keys()), of_batch))


def miscounted(connection: sa.Connection) -> list[str]:
    """Return the batches whose rows in TOTALS do not agree with their segments."""
    counted = {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(_counted())}
    known = {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(sa.select(TOTALS))}
    keys = counted.keys() | known.keys()
    return sorted({key[0] for key in keys if not _is_same(counted.get(key, ()), known.get(key, ()))})


@cache
def tally_query() -> sa.Select[Any]:
    """Return the query for the counts of `batch` by channel, with the name of the newest segment of each."""
    columns, seconds = SEGMENTS.c, seconds_column(SEGMENTS.c)
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
        .where(columns.batch == sa.bindparam("batch"))
        .group_by(columns.channel)
        .subquery()
    )
    return sa.select(counted, columns.name).join(SEGMENTS, columns.seq == counted.c.seq)


def _is_same(counted: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Return whether two rows of TOTALS agree; sums and rounding of float64 differ in their last bits."""
    return len(counted) == len(known) and all(
        math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME) for one, other in zip(counted, known, strict=True)
    )


def _counted() -> sa.Select[Any]:
    """Return the query for the rows of TOTALS as they follow from the segments."""
    columns, seconds = SEGMENTS.c, seconds_column(SEGMENTS.c)
    # Not a parameter: PostgreSQL would take the channel and that of GROUP BY for two expressions.
    channel = sa.func.coalesce(columns.channel, sa.literal_column("''"))
    counted = sa.select(
        *(columns.batch, channel, sa.func.count(), sa.func.sum(columns.bytes), sa.func.min(columns.t0)),
        *(sa.func.max(columns.t0 + seconds), sa.func.max(seconds), sa.func.min(columns.seq), sa.func.max(columns.seq)),
    )
    return counted.group_by(columns.batch, channel)
