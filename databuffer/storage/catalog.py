"""The index of segments and batches: SQLite in WAL mode, derived from the volume and rebuilt from it where lost.

One writer at a time writes to it, in the order segments are stored; `seq` grows strictly in that order. A commit is
not synced to the disk: what a power cut takes from the catalog, start-up finds on the volume.
"""

import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DatabaseError, OperationalError

from databuffer.errors import VolumeError, VolumeFailed, VolumeFull
from databuffer.quota import Spending
from gwwire.public import BatchState, ChannelOverview, Verification

_TABLES = sa.MetaData()
_NOTHING_SPENT = Spending()

_BATCHES = sa.Table(
    "batches",
    _TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("opened", sa.Integer, nullable=False),
    sa.Column("frozen", sa.Integer),
    sa.Column("archived", sa.Integer),
    sa.Column("holder", sa.String, nullable=False, default=""),
    sa.Column("n_itm", sa.Integer, nullable=False, default=0),
    sa.Column("buff_size", sa.Integer, nullable=False, default=0),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("digest", sa.String),
)
_SEGMENTS = sa.Table(
    "segments",
    _TABLES,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("batch", sa.String, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("channel", sa.String),
    sa.Column("t0", sa.Float, nullable=False),
    sa.Column("dt", sa.Float, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("stored", sa.Integer, nullable=False),
    sa.Column("key", sa.String),
    sa.Column("recovered", sa.Boolean, nullable=False, default=False),
    sa.UniqueConstraint("batch", "name"),
    sa.Index("segments_by_batch", "batch", "seq"),
    sa.Index("segments_by_name", "name"),
    sa.Index("segments_by_channel", "channel", "t0"),
    sa.Index("segments_by_key", "key", unique=True, sqlite_where=sa.text("key IS NOT NULL")),
    sa.Index("segments_recovered", "sha256", sqlite_where=sa.text("recovered")),
    sqlite_autoincrement=True,
)
_CLAIMS = sa.Table(
    "claims",
    _TABLES,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("worker", sa.String, nullable=False),
    sa.Column("expires", sa.Integer, nullable=False),
)
_SPENDING = sa.Table(
    "spending",
    _TABLES,
    sa.Column("group", sa.String, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("bytes", sa.Integer, nullable=False),
)
_VERIFICATIONS = sa.Table(
    "verifications",
    _TABLES,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("found", sa.String, nullable=False),
)
_CLEAN_STOP = sa.Table("clean_stop", _TABLES, sa.Column("traces", sa.String, nullable=False))

_LAST_SEQ = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'segments'")
#: The columns are the fields of a ChannelOverview.
_TALLY = sa.text("""
    SELECT found.channel, found.segments, found.bytes, min(found.seconds, :most), found.start, min(found.stop, :most),
           latest.name
    FROM (
        SELECT channel, count(*) AS segments, sum(bytes) AS bytes, sum(n * dt) AS seconds,
               min(t0) AS start, max(t0 + n * dt) AS stop, max(seq) AS seq
        FROM segments WHERE batch = :batch GROUP BY channel
    ) AS found JOIN segments AS latest ON latest.seq = found.seq
""")


@dataclass(frozen=True)
class BatchRow:
    """A batch; times in nanoseconds of Unix time, `path` relative to the volume's root."""

    id: str
    state: BatchState
    opened: int
    path: str
    frozen: int | None = None
    archived: int | None = None
    holder: str = ""
    n_itm: int = 0
    buff_size: int = 0
    digest: str | None = None


@dataclass(frozen=True)
class SegmentRow:
    """A segment of a batch; `stored` in nanoseconds of Unix time, `key` the Idempotency-Key it came with.

    `recovered` marks one that start-up found on the volume: nobody knows with which key it came, if any.
    """

    name: str
    bytes: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    stored: int
    key: str | None = None
    recovered: bool = False


@dataclass(frozen=True)
class CataloguedSegment(SegmentRow):
    """A segment with its place in the catalog."""

    seq: int = 0
    batch: str = ""


class Extent(NamedTuple):
    """Where a segment lies: the fields of its row."""

    channel: str | None
    dt: float
    t0: float
    n: int
    seq: int


@dataclass(frozen=True)
class ClaimRow:
    """A worker's claim to a frozen batch; `expires` in nanoseconds of Unix time."""

    batch: str
    worker: str
    expires: int


@dataclass(frozen=True)
class SegmentFilter:
    """Which segments are asked for; spans are half-open GPS spans, `after` and `before` are seqs.

    With `before`, the newest come first.
    """

    batch: str | None = None
    channel: str | None = None
    start: float | None = None
    stop: float | None = None
    after: int = 0
    limit: int = 1000
    before: int | None = None


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn the database's errors into the buffer's own; the one place where that happens."""
    try:
        yield
    except DatabaseError as error:
        raise _catalog_error(error) from error


def _catalog_error(error: DatabaseError) -> VolumeError:
    reason = f"the catalog: {error.orig}"
    full = isinstance(error, OperationalError) and getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return VolumeFull(reason) if full else VolumeFailed(reason)


class Catalog:
    """The catalog in the file `path`; every method is one transaction, and raises VolumeError where it fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(self._engine, "connect", _configure)

    def open(self) -> bool:
        """Open the catalog, or begin an empty one; says whether it had to begin one.

        A file that is no database any more is moved out of the way: the volume knows all that was in it.
        """
        begun = not self.path.exists()
        try:
            with catalog_errors():
                _TABLES.create_all(self._engine)
        except VolumeError as error:
            if not isinstance(error.__cause__, DatabaseError) or isinstance(error.__cause__, OperationalError):
                raise
            self._move_aside()
            begun = True
            with catalog_errors():
                _TABLES.create_all(self._engine)
        return begun

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _move_aside(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.rename(file.with_name(f"{file.name}.unreadable"))

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with catalog_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with catalog_errors(), self._engine.connect() as connection:
            yield connection

    # ---- batches

    def put_batch(self, batch: BatchRow) -> None:
        """Add a batch, or replace what was known of it."""
        with self._writing() as connection:
            connection.execute(sa.insert(_BATCHES).prefix_with("OR REPLACE"), vars(batch))

    def drop_batch(self, batch: str) -> None:
        """Forget a batch and its segments."""
        with self._writing() as connection:
            connection.execute(sa.delete(_SEGMENTS).where(_SEGMENTS.c.batch == batch))
            connection.execute(sa.delete(_VERIFICATIONS).where(_VERIFICATIONS.c.batch == batch))
            connection.execute(sa.delete(_BATCHES).where(_BATCHES.c.id == batch))

    def batches(self) -> list[BatchRow]:
        """Give all batches, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_BATCHES).order_by(_BATCHES.c.opened, _BATCHES.c.id))
            return [_batch(row) for row in rows]

    def archived(self) -> int:
        """Count the archived batches."""
        query = sa.select(sa.func.count()).where(_BATCHES.c.state == BatchState.ARCHIVED)
        with self._reading() as connection:
            return connection.execute(query).scalar_one()

    def batch(self, batch: str) -> BatchRow | None:
        """Give one batch, None where there is none of that id."""
        with self._reading() as connection:
            row = connection.execute(sa.select(_BATCHES).where(_BATCHES.c.id == batch)).first()
            return None if row is None else _batch(row)

    def merge(self, source: str, target: str) -> None:
        """Make the segments of one open batch those of another, and forget the first."""
        with self._writing() as connection:
            connection.execute(sa.update(_SEGMENTS).where(_SEGMENTS.c.batch == source).values(batch=target))
            connection.execute(sa.delete(_BATCHES).where(_BATCHES.c.id == source))

    # ---- verifications

    def put_verification(self, batch: str, found: Verification) -> None:
        """Keep what was found of a batch, instead of what was found before."""
        row = {"batch": batch, "found": msgspec.json.encode(found).decode()}
        with self._writing() as connection:
            connection.execute(sa.insert(_VERIFICATIONS).prefix_with("OR REPLACE"), row)

    def verifications(self) -> dict[str, Verification]:
        """Give what was found of each batch that was verified."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_VERIFICATIONS))
            return {row.batch: msgspec.json.decode(row.found, type=Verification) for row in rows}

    # ---- claims

    def claim_batch(self, wanted: ClaimRow, now: int) -> ClaimRow:
        """Enter a claim unless another worker's is running; gives the claim that holds afterwards."""
        entered = sqlite_insert(_CLAIMS).values(vars(wanted))
        entered = entered.on_conflict_do_update(
            index_elements=["batch"],
            set_={"worker": entered.excluded.worker, "expires": entered.excluded.expires},
            where=(_CLAIMS.c.worker == entered.excluded.worker) | (_CLAIMS.c.expires <= now),
        )
        with self._writing() as connection:
            connection.execute(entered)
            row = connection.execute(sa.select(_CLAIMS).where(_CLAIMS.c.batch == wanted.batch)).one()
            return ClaimRow(**row._asdict())

    def release_batch(self, batch: str, worker: str, now: int) -> ClaimRow | None:
        """Take back a worker's claim, and any that has ended; gives another worker's where that is running."""
        over = (_CLAIMS.c.worker == worker) | (_CLAIMS.c.expires <= now)
        with self._writing() as connection:
            connection.execute(sa.delete(_CLAIMS).where(_CLAIMS.c.batch == batch, over))
            row = connection.execute(sa.select(_CLAIMS).where(_CLAIMS.c.batch == batch)).first()
            return None if row is None else ClaimRow(**row._asdict())

    def claim_on(self, batch: str) -> ClaimRow | None:
        """Give the last claim to a batch, which may have ended."""
        with self._reading() as connection:
            row = connection.execute(sa.select(_CLAIMS).where(_CLAIMS.c.batch == batch)).first()
            return None if row is None else ClaimRow(**row._asdict())

    # ---- segments

    def add(self, batch: str, segments: Sequence[SegmentRow], spent: Spending = _NOTHING_SPENT) -> None:
        """Add segments, in the order they were stored, and with them what they use of their groups' quotas."""
        if not segments:
            return
        with self._writing() as connection:
            connection.execute(sa.insert(_SEGMENTS), [{**vars(segment), "batch": batch} for segment in segments])
            _spend(connection, spent)

    def remove(self, batch: str, names: Iterable[str]) -> None:
        """Forget segments of a batch."""
        with self._writing() as connection:
            for some in _portions(sorted(names)):
                named = sa.and_(_SEGMENTS.c.batch == batch, _SEGMENTS.c.name.in_(some))
                connection.execute(sa.delete(_SEGMENTS).where(named))

    def tally(self, batch: str) -> dict[str | None, ChannelOverview]:
        """Count the segments of a batch, channel by channel."""
        with self._reading() as connection:
            rows = connection.execute(_TALLY, {"batch": batch, "most": sys.float_info.max})
            return {row.channel: ChannelOverview(*row) for row in rows}

    def last_seq(self) -> int:
        """Give the largest seq that a segment ever had."""
        with self._reading() as connection:
            return connection.execute(_LAST_SEQ).scalar() or 0

    def sizes(self, batch: str) -> dict[str, int]:
        """Give the names and sizes of a batch's segments, in the order they were stored."""
        query = sa.select(_SEGMENTS.c.name, _SEGMENTS.c.bytes).where(_SEGMENTS.c.batch == batch)
        with self._reading() as connection:
            return {name: size for name, size in connection.execute(query.order_by(_SEGMENTS.c.seq))}  # noqa: C416 (rows, not pairs)

    def last_name(self, batch: str) -> str | None:
        """Give the name of the segment stored last."""
        query = sa.select(_SEGMENTS.c.name).where(_SEGMENTS.c.batch == batch).order_by(_SEGMENTS.c.seq.desc())
        with self._reading() as connection:
            name: str | None = connection.execute(query.limit(1)).scalar()
            return name

    def segments(self, wanted: SegmentFilter) -> list[CataloguedSegment]:
        """Give the segments asked for, by growing seq (with `before` by falling seq), `limit` at most."""
        with self._reading() as connection:
            return [_segment(row) for row in connection.execute(_query(wanted))]

    def segment(self, name: str) -> CataloguedSegment | None:
        """Give the segment of that name, the newest where several batches have one."""
        query = sa.select(_SEGMENTS).where(_SEGMENTS.c.name == name).order_by(_SEGMENTS.c.seq.desc())
        with self._reading() as connection:
            row = connection.execute(query.limit(1)).first()
            return None if row is None else _segment(row)

    def extents(self, batch: str, after: int) -> Iterator[Extent]:
        """Give where the segments of a batch lie that were stored after a seq, by growing seq."""
        columns = (_SEGMENTS.c.channel, _SEGMENTS.c.dt, _SEGMENTS.c.t0, _SEGMENTS.c.n, _SEGMENTS.c.seq)
        query = sa.select(*columns).where(_SEGMENTS.c.batch == batch, _SEGMENTS.c.seq > after)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(_SEGMENTS.c.seq))
            yield from map(Extent._make, rows)

    # ---- idempotency

    def by_key(self, keys: Iterable[str]) -> dict[str, CataloguedSegment]:
        """Give the segments that came with these keys."""
        found = {}
        with self._reading() as connection:
            for some in _portions(sorted(keys)):
                for row in connection.execute(sa.select(_SEGMENTS).where(_SEGMENTS.c.key.in_(some))):
                    found[row.key] = _segment(row)
        return found

    def claim(self, sha256: str, key: str) -> CataloguedSegment | None:
        """Give a recovered segment with these bytes to the key that asks for it; None where there is none."""
        mine = sa.and_(_SEGMENTS.c.recovered, _SEGMENTS.c.sha256 == sha256)
        with self._writing() as connection:
            row = connection.execute(sa.select(_SEGMENTS).where(mine).order_by(_SEGMENTS.c.seq).limit(1)).first()
            if row is None:
                return None
            claimed = sa.update(_SEGMENTS).where(_SEGMENTS.c.seq == row.seq).values(key=key, recovered=False)
            connection.execute(claimed)
            return _segment(row)

    def recovered(self) -> frozenset[str]:
        """Give the SHA-256 of the recovered segments that nobody has claimed."""
        with self._reading() as connection:
            return frozenset(connection.execute(sa.select(_SEGMENTS.c.sha256).where(_SEGMENTS.c.recovered)).scalars())

    # ---- quotas

    def spending(self, day: int) -> Spending:
        """Give what each group stored on a day, and forget the days before it."""
        with self._writing() as connection:
            connection.execute(sa.delete(_SPENDING).where(_SPENDING.c.day < day))
            rows = connection.execute(sa.select(_SPENDING.c.group, _SPENDING.c.bytes).where(_SPENDING.c.day == day))
            return Spending(day, {group: size for group, size in rows})  # noqa: C416 (rows, not pairs)

    def take_back(self, spent: Spending) -> None:
        """Give groups back what they did not use after all."""
        with self._writing() as connection:
            _spend(connection, Spending(spent.day, {group: -size for group, size in spent.used.items()}))

    # ---- clean stop

    def note_clean_stop(self, traces: str) -> None:
        """Note that everything agrees, and by what traces on the volume that can be seen to be still so."""
        with self._writing() as connection:
            connection.execute(sa.delete(_CLEAN_STOP))
            connection.execute(sa.insert(_CLEAN_STOP), {"traces": traces})

    def take_clean_stop(self) -> str | None:
        """Give the note of the last clean stop, and tear it up; None after a crash."""
        with self._writing() as connection:
            traces: str | None = connection.execute(sa.select(_CLEAN_STOP.c.traces)).scalar()
            connection.execute(sa.delete(_CLEAN_STOP))
            return traces


def _spend(connection: sa.Connection, spent: Spending) -> None:
    if not spent.used:
        return
    entered = sqlite_insert(_SPENDING)
    entered = entered.on_conflict_do_update(
        index_elements=["group", "day"], set_={"bytes": _SPENDING.c.bytes + entered.excluded.bytes}
    )
    rows = [{"group": group, "day": spent.day, "bytes": size} for group, size in spent.used.items()]
    connection.execute(entered, rows)


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _query(wanted: SegmentFilter) -> sa.Select[Any]:
    columns = _SEGMENTS.c
    query = sa.select(_SEGMENTS).where(columns.seq > wanted.after)
    if wanted.batch is not None:
        query = query.where(columns.batch == wanted.batch)
    if wanted.channel is not None:
        query = query.where(columns.channel == wanted.channel)
    if wanted.start is not None:
        query = query.where(columns.t0 + columns.n * columns.dt > wanted.start)
    if wanted.stop is not None:
        query = query.where(columns.t0 < wanted.stop)
    if wanted.before is None:
        return query.order_by(columns.seq).limit(wanted.limit)
    return query.where(columns.seq < wanted.before).order_by(columns.seq.desc()).limit(wanted.limit)


def _batch(row: sa.Row[Any]) -> BatchRow:
    values = row._asdict()
    return BatchRow(**{**values, "state": BatchState(values["state"])})


def _segment(row: sa.Row[Any]) -> CataloguedSegment:
    return CataloguedSegment(**row._asdict())


def _portions(names: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Give portions that SQLite takes as parameters of one statement."""
    for start in range(0, len(names), size):
        yield names[start : start + size]
