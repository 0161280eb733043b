"""Tables of the catalog.

*Index* tables are rebuilt from the volume. *Ledger* tables cannot be rebuilt; backups of them lie on the volume.
Columns have types that hold the same values in SQLite and PostgreSQL: times in nanoseconds need 64 bits.
"""

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

TABLES = sa.MetaData()


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=primary_key, nullable=False)


def _whole(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=primary_key, nullable=False, autoincrement=False)


# ---- index

BATCHES = sa.Table(
    "batches",
    TABLES,
    *(_text("id", primary_key=True), _text("state"), _whole("opened")),
    *(sa.Column("frozen", sa.BigInteger), sa.Column("archived", sa.BigInteger)),
    *(_text("holder"), _whole("n_itm"), _whole("buff_size"), _text("path"), sa.Column("digest", sa.String)),
    # That of the last change of state.
    sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"),
)

# SQLite stores a table by its key only if the type of the key is INTEGER.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SEGMENTS = sa.Table(
    "segments",
    TABLES,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
    *(_text("batch"), _text("name"), _whole("bytes"), _text("sha256"), sa.Column("channel", sa.String)),
    *(sa.Column("t0", sa.Double, nullable=False), sa.Column("dt", sa.Double, nullable=False)),
    *(_whole("n"), _whole("stored")),
    # A start-up found the segment on the volume, and no request with an Idempotency-Key has claimed it yet.
    sa.Column("recovered", sa.Boolean, nullable=False),
    # Every index costs about 3 µs of CPU time per segment; each of these serves a query that would read the table.
    sa.Index("segments_by_name", "name", "batch", unique=True),
    sa.Index("segments_by_batch", "batch", "seq"),
    sa.Index("segments_by_channel", "channel", "seq"),
    sa.Index("segments_by_time", "batch", "channel", "t0"),
)
sa.Index(
    "segments_recovered", SEGMENTS.c.sha256, sqlite_where=SEGMENTS.c.recovered, postgresql_where=SEGMENTS.c.recovered
)

# The segments of a batch by channel, which is empty for those without one: their number, bytes, span, the longest of
# them in s, and the first and last seq. With it, a search reads only the parts of SEGMENTS that can match.
TOTALS = sa.Table(
    "totals",
    TABLES,
    *(_text("batch", primary_key=True), _text("channel", primary_key=True), _whole("segments"), _whole("bytes")),
    *(sa.Column(name, sa.Double, nullable=False) for name in ("start", "stop", "longest")),
    *(_whole("first_seq"), _whole("last_seq")),
)
# The scalars of the `meta` of segments, by dotted name; a segment without `meta`, or with a channel only, has no row.
SEGMENT_CONDITIONS = sa.Table(
    "segment_conditions",
    TABLES,
    *(sa.Column("segment", sa.BigInteger, primary_key=True, autoincrement=False), _text("name", primary_key=True)),
    *(sa.Column("number", sa.Double), sa.Column("text", sa.String)),
    sa.Index("segment_conditions_by_value", "name", "number", "text"),
)
# Segments with a seq above `after`, up to `last`, whose `meta` has not been read: an earlier version stored them.
UNREAD_META = sa.Table("unread_meta", TABLES, _whole("after"), _whole("last"))

# The largest seq ever assigned to a row of any table; updated in the transaction that writes the rows, so that seqs
# are in commit order: the lock on this row is held until the commit. Backups of the ledger contain it.
COUNTER = sa.Table("counter", TABLES, _whole("seq"))

CLEAN_STOP = sa.Table("clean_stop", TABLES, _text("traces"))

# ---- ledger

_KEY = _text("key", primary_key=True)
IDEMPOTENCY_KEYS = sa.Table(
    "idempotency_keys", TABLES, _KEY, _text("segment"), _text("sha256"), _whole("bytes"), _whole("stored")
)
_SPENDING_KEY = _text("group", primary_key=True), _whole("day", primary_key=True)
SPENDING = sa.Table("spending", TABLES, *_SPENDING_KEY, _whole("bytes"))

# Written records. Segments and batches that nobody has written about have no row.
RECORDS = sa.Table(
    "records",
    TABLES,
    *(_text("id", primary_key=True), _text("kind"), _whole("rev"), _whole("seq"), _text("status")),
    # Null conditions of a segment are its meta, which is in its file.
    *(sa.Column("run", sa.String), sa.Column("conditions", sa.String), sa.Column("last", sa.String), _whole("changed")),
    sa.Index("records_by_seq", "seq"),
)
# The scalars among the conditions, by dotted name.
RECORD_CONDITIONS = sa.Table(
    "record_conditions",
    TABLES,
    *(_text("record", primary_key=True), _text("name", primary_key=True)),
    *(sa.Column("number", sa.Double), sa.Column("text", sa.String)),
    sa.Index("record_conditions_by_number", "name", "number"),
    sa.Index("record_conditions_by_text", "name", "text"),
)
# `due` is when a lease or a back-off ends. A WAITING step without it waits as one that has no row.
STEPS = sa.Table(
    "steps",
    TABLES,
    *(_text("record", primary_key=True), _text("name", primary_key=True), _text("state"), _text("worker")),
    *(_whole("attempt"), _whole("failures"), sa.Column("due", sa.BigInteger)),
    # When it was requested, or claimed for the first time, and not done since.
    sa.Column("asked", sa.BigInteger),
    *(sa.Column("started", sa.BigInteger), sa.Column("ended", sa.BigInteger)),
    *(sa.Column("result", sa.String), sa.Column("reason", sa.String)),
    sa.Index("steps_by_due", "name", "due"),
    sa.Index("steps_by_state", "name", "state", "ended"),
)
STEP_DECLARATIONS = sa.Table("step_declarations", TABLES, _text("name", primary_key=True), _text("declaration"))

# Requested bundles; see `databuffer.search.table`. `held` bytes count for the quota of the group.
BUNDLES = sa.Table(
    "bundles",
    TABLES,
    *(_text("id", primary_key=True), _text("format"), _text("state"), _text("selection"), _text("info")),
    *(_whole("as_of"), _whole("made"), _whole("used"), _whole("uses"), sa.Column("size", sa.BigInteger)),
    *(sa.Column("group", sa.String), sa.Column("held", sa.BigInteger, nullable=False, server_default="0")),
    sa.Column("reason", sa.String),
)

# The copies of packs, and where packs should have copies; see `databuffer.tiers.ledger.replicas`.
REPLICAS = sa.Table(
    "replicas",
    TABLES,
    *(_text("pack", primary_key=True), _text("tier", primary_key=True), _text("key"), _whole("size")),
    *(sa.Column("sha256", sa.String), _text("state"), sa.Column("written", sa.BigInteger)),
    *(sa.Column("verified", sa.BigInteger), sa.Column("used", sa.BigInteger), sa.Column("error", sa.String)),
    sa.Index("replicas_by_verification", "state", "verified"),
)
# For whom a pack is kept where it can be read, and until when.
PINS = sa.Table("pins", TABLES, *(_text("pack", primary_key=True), _text("asker", primary_key=True)), _whole("until"))
TIERINGS = sa.Table("tierings", TABLES, _text("pack", primary_key=True), _text("tiering"))

# Files of users: holdings, what was done to them, and their files; see `databuffer.holdings.table` and `file_table`.
HOLDINGS = sa.Table(
    "holdings",
    TABLES,
    *(_whole("id", primary_key=True), _text("label"), _text("user"), sa.Column("group", sa.String)),
    *(_whole("created"), sa.Column("deleted", sa.BigInteger)),
    # Counts of the files that are neither failed nor deleted, and the bytes of those that are deleted, not purged.
    *(_whole("files"), _whole("bytes"), _whole("deleted_bytes")),
    sa.Index("holdings_by_group", "group"),
)
_UNDELETED = HOLDINGS.c.deleted.is_(None)
sa.Index(
    "holdings_by_label",
    HOLDINGS.c.user,
    HOLDINGS.c.label,
    unique=True,
    sqlite_where=_UNDELETED,
    postgresql_where=_UNDELETED,
)
HOLDING_TAGS = sa.Table(
    "holding_tags",
    TABLES,
    *(_whole("holding", primary_key=True), _text("name", primary_key=True), _text("value")),
    sa.Index("holding_tags_by_value", "name", "value"),
)
TRANSACTIONS = sa.Table(
    "transactions",
    TABLES,
    *(_whole("number", primary_key=True), _text("id"), _text("kind"), _whole("holding"), _text("user")),
    *(sa.Column("group", sa.String), sa.Column("job_label", sa.String), _whole("time")),
    *(_whole("files"), _whole("bytes"), _whole("complete"), _whole("failed"), _text("warnings")),
    sa.Column("undone", sa.BigInteger),
    sa.Index("transactions_by_id", "id", unique=True),
    sa.Index("transactions_by_holding", "holding", "number"),
)
HOLDING_FILES = sa.Table(
    "holding_files",
    TABLES,
    *(_whole("number", primary_key=True), _whole("transaction"), _whole("holding"), _text("path"), _text("type")),
    *(_whole("size"), _whole("mode"), sa.Column("mtime", sa.Double, nullable=False), sa.Column("link", sa.String)),
    *(sa.Column("sha256", sa.String), _text("state"), sa.Column("reason", sa.String)),
    *(sa.Column("stored", sa.BigInteger), sa.Column("deleted", sa.BigInteger)),
    # The transaction that deleted the file.
    sa.Column("deletion", sa.BigInteger),
    sa.Index("holding_files_by_transaction", "transaction", "path"),
    sa.Index("holding_files_by_sha256", "sha256"),
    sa.Index("holding_files_by_deletion", "deletion"),
)
#: The files that a holding has; SQLite uses the partial index only for a condition with the same literals.
LIVE = HOLDING_FILES.c.state.in_([sa.literal_column("'WAITING'"), sa.literal_column("'COMPLETE'")])
sa.Index(
    "holding_files_by_path",
    HOLDING_FILES.c.holding,
    HOLDING_FILES.c.path,
    unique=True,
    sqlite_where=LIVE,
    postgresql_where=LIVE,
)
WAITS = HOLDING_FILES.c.state == sa.literal_column("'WAITING'")
sa.Index("holding_files_waiting", HOLDING_FILES.c.transaction, sqlite_where=WAITS, postgresql_where=WAITS)

# The transactions whose files are a pack, when the last of them was complete, and their bytes; see
# `databuffer.holdings.packed`.
FILE_PACKS = sa.Table(
    "file_packs",
    TABLES,
    *(_whole("transaction", primary_key=True), _text("pack"), _whole("archived")),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("file_packs_by_pack", "pack", unique=True),
)

LEDGER = (
    *(IDEMPOTENCY_KEYS, SPENDING, RECORDS, RECORD_CONDITIONS, STEPS, STEP_DECLARATIONS, BUNDLES),
    *(REPLICAS, TIERINGS, PINS),
    *(HOLDINGS, HOLDING_TAGS, TRANSACTIONS, HOLDING_FILES, FILE_PACKS),
)


# ---- version

SCHEMA = sa.Table("schema", TABLES, sa.Column("version", sa.Integer, nullable=False))


def create_tables(connection: sa.Connection, version: int, schema: str | None = None) -> None:
    """Create all tables in an empty database; `schema` is that of an attached database."""
    for statement in _statements(connection.dialect.name, schema):
        connection.exec_driver_sql(statement)
    counter, version_table = (each.to_metadata(sa.MetaData(schema=schema)) for each in (COUNTER, SCHEMA))
    connection.execute(sa.insert(counter), {"seq": 0})
    connection.execute(sa.insert(version_table), {"version": version})


@cache
def _statements(dialect: str, schema: str | None) -> Sequence[str]:
    """Return the statements that create the tables; compiling them takes longer than their execution."""
    tables, compiler = sa.MetaData(schema=schema), sa.make_url(f"{dialect}://").get_dialect()()
    found: list[CreateTable | CreateIndex] = []
    for table in TABLES.sorted_tables:
        copy = table.to_metadata(tables)
        found += [CreateTable(copy), *map(CreateIndex, sorted(copy.indexes, key=lambda index: str(index.name)))]
    return [str(each.compile(dialect=compiler)) for each in found]
