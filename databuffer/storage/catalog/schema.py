"""Tables of the catalog.

*Index* tables are rebuilt from the volume. *Ledger* tables cannot be rebuilt; backups of them lie on the volume.
Columns have types that hold the same values in SQLite and PostgreSQL: times in nanoseconds need 64 bits.
"""

import sqlalchemy as sa

TABLES = sa.MetaData()

# ---- index

BATCHES = sa.Table(
    "batches",
    TABLES,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("frozen", sa.BigInteger),
    sa.Column("archived", sa.BigInteger),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("n_itm", sa.BigInteger, nullable=False),
    sa.Column("buff_size", sa.BigInteger, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("digest", sa.String),
)

# SQLite stores a table by its key only if the type of the key is INTEGER.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SEGMENTS = sa.Table(
    "segments",
    TABLES,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
    sa.Column("batch", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("channel", sa.String),
    sa.Column("t0", sa.Double, nullable=False),
    sa.Column("dt", sa.Double, nullable=False),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.BigInteger, nullable=False),
    # A start-up found the segment on the volume, and no request with an Idempotency-Key has claimed it yet.
    sa.Column("recovered", sa.Boolean, nullable=False),
    # Every index costs about 3 µs of CPU time per segment; each of these serves a query that would read the table.
    sa.Index("segments_by_name", "name", "batch", unique=True),
    sa.Index("segments_by_batch", "batch", "seq"),
    sa.Index("segments_by_channel", "channel", "seq"),
)
sa.Index(
    "segments_recovered", SEGMENTS.c.sha256, sqlite_where=SEGMENTS.c.recovered, postgresql_where=SEGMENTS.c.recovered
)

# The largest seq that was ever given to a row; updated in the transaction that inserts the rows, so that seqs are in
# commit order: the lock on this row is held until the commit.
COUNTER = sa.Table("counter", TABLES, sa.Column("seq", sa.BigInteger, nullable=False))

CLEAN_STOP = sa.Table("clean_stop", TABLES, sa.Column("traces", sa.String, nullable=False))

# ---- ledger

IDEMPOTENCY_KEYS = sa.Table(
    "idempotency_keys",
    TABLES,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("segment", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.BigInteger, nullable=False),
)
SPENDING = sa.Table(
    "spending",
    TABLES,
    sa.Column("group", sa.String, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
VERIFICATIONS = sa.Table(
    "verifications",
    TABLES,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("found", sa.String, nullable=False),
)
CLAIMS = sa.Table(
    "claims",
    TABLES,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("worker", sa.String, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
)

LEDGER = (IDEMPOTENCY_KEYS, SPENDING, VERIFICATIONS, CLAIMS)

# ---- version

SCHEMA = sa.Table("schema", TABLES, sa.Column("version", sa.Integer, nullable=False))


def create_tables(connection: sa.Connection, version: int, schema: str | None = None) -> None:
    """Create all tables in an empty database; `schema` is that of an attached database."""
    tables = sa.MetaData(schema=schema)
    copies = {table.name: table.to_metadata(tables) for table in TABLES.sorted_tables}
    tables.create_all(connection)
    connection.execute(sa.insert(copies["counter"]), {"seq": 0})
    connection.execute(sa.insert(copies["schema"]), {"version": version})
