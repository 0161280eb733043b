"""Migrations of the catalog from one schema version to the next.

`MIGRATIONS[n]` leads from version n to n + 1, in one transaction. A migration is never changed after its release: it
uses SQL and not the tables of `schema`, which are those of the newest version. A new one goes with a change of
`schema`; a test compares what both make.
"""

import json
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from databuffer.errors import VolumeFailed
from databuffer.storage.catalog.database import Database
from databuffer.storage.catalog.schema import (
    BATCHES,
    BUNDLES,
    COUNTER,
    RECORD_CONDITIONS,
    RECORDS,
    SCHEMA,
    SEGMENT_CONDITIONS,
    SEGMENTS,
    STEP_DECLARATIONS,
    STEPS,
    TABLES,
    TOTALS,
    create_tables,
)

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS claims (batch VARCHAR PRIMARY KEY, worker VARCHAR NOT NULL, expires BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS spending
    ("group" VARCHAR NOT NULL, day BIGINT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY ("group", day));
CREATE TABLE IF NOT EXISTS verifications (batch VARCHAR PRIMARY KEY, found VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS clean_stop (traces VARCHAR NOT NULL);
CREATE TABLE counter (seq BIGINT NOT NULL);
INSERT INTO counter SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segments'), 0);
CREATE TABLE idempotency_keys (
    key VARCHAR PRIMARY KEY, segment VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, bytes BIGINT NOT NULL,
    stored BIGINT NOT NULL
);
INSERT INTO idempotency_keys SELECT key, name, sha256, bytes, stored FROM segments WHERE key IS NOT NULL;
CREATE TABLE segments_1 (
    seq INTEGER PRIMARY KEY, batch VARCHAR NOT NULL, name VARCHAR NOT NULL, bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL, channel VARCHAR, t0 DOUBLE NOT NULL, dt DOUBLE NOT NULL, n BIGINT NOT NULL,
    stored BIGINT NOT NULL, recovered BOOLEAN NOT NULL
);
INSERT INTO segments_1
    SELECT seq, batch, name, bytes, sha256, channel, t0, dt, n, stored, recovered FROM segments ORDER BY seq;
DROP TABLE segments;
ALTER TABLE segments_1 RENAME TO segments;
CREATE UNIQUE INDEX segments_by_name ON segments (name, batch);
CREATE INDEX segments_by_batch ON segments (batch, seq);
CREATE INDEX segments_by_channel ON segments (channel, seq);
CREATE INDEX segments_recovered ON segments (sha256) WHERE recovered;
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (0)
"""


def _version_0_to_1(connection: sa.Connection) -> None:
    """Move the keys of segments to a table, and the last seq too; version 0 exists only in SQLite."""
    for statement in _VERSION_1.split(";"):
        connection.exec_driver_sql(statement)


_VERSION_2 = """
ALTER TABLE batches ADD COLUMN seq BIGINT DEFAULT '0' NOT NULL;
UPDATE batches SET seq = (SELECT seq FROM counter) + (
    SELECT count(*) FROM batches AS b
    WHERE b.opened < batches.opened OR (b.opened = batches.opened AND b.id <= batches.id)
);
UPDATE counter SET seq = seq + (SELECT count(*) FROM batches);
CREATE TABLE records (
    id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, rev BIGINT NOT NULL, seq BIGINT NOT NULL, status VARCHAR NOT NULL,
    run VARCHAR, conditions VARCHAR, last VARCHAR, changed BIGINT NOT NULL
);
CREATE INDEX records_by_seq ON records (seq);
CREATE TABLE record_conditions (
    record VARCHAR NOT NULL, name VARCHAR NOT NULL, number DOUBLE PRECISION, text VARCHAR, PRIMARY KEY (record, name)
);
CREATE INDEX record_conditions_by_number ON record_conditions (name, number);
CREATE INDEX record_conditions_by_text ON record_conditions (name, text);
CREATE TABLE steps (
    record VARCHAR NOT NULL, name VARCHAR NOT NULL, state VARCHAR NOT NULL, worker VARCHAR NOT NULL,
    attempt BIGINT NOT NULL, failures BIGINT NOT NULL, due BIGINT, started BIGINT, ended BIGINT, result VARCHAR,
    reason VARCHAR, PRIMARY KEY (record, name)
);
CREATE INDEX steps_by_due ON steps (name, due);
CREATE INDEX steps_by_state ON steps (name, state, ended);
CREATE TABLE step_declarations (name VARCHAR PRIMARY KEY, declaration VARCHAR NOT NULL)
"""


def _version_1_to_2(connection: sa.Connection) -> None:
    """Add records and steps, and number the batches after the segments."""
    for statement in _VERSION_2.split(";"):
        connection.exec_driver_sql(statement)


_SEGMENT_CONDITIONS = """
CREATE TABLE segment_conditions (
    segment BIGINT NOT NULL, name VARCHAR NOT NULL, number DOUBLE PRECISION, text VARCHAR, PRIMARY KEY (segment, name)
);
CREATE INDEX segment_conditions_by_value ON segment_conditions (name, number, text)
"""


_TOTALS = """
CREATE INDEX segments_by_time ON segments (batch, channel, t0);
CREATE TABLE totals (
    batch VARCHAR NOT NULL, channel VARCHAR NOT NULL, segments BIGINT NOT NULL, bytes BIGINT NOT NULL,
    start DOUBLE PRECISION NOT NULL, stop DOUBLE PRECISION NOT NULL, longest DOUBLE PRECISION NOT NULL,
    first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL, PRIMARY KEY (batch, channel)
);
INSERT INTO totals
    SELECT batch, channel, count(*), sum(bytes), min(t0), max(t0 + seconds), max(seconds), min(seq), max(seq)
    FROM (
        SELECT batch, coalesce(channel, '') AS channel, bytes, t0, seq, CASE
            WHEN rate > 0 AND abs(1 / dt - rate) <= min(1e-5 * rate, 0.2) THEN n / rate
            WHEN round(dt) > 0 AND abs(dt - round(dt)) <= min(1e-5 * round(dt), 0.2) THEN n * round(dt)
            ELSE n * dt
        END AS seconds FROM (SELECT *, round(1 / dt) AS rate FROM segments) AS r
    ) AS s GROUP BY batch, channel
"""


def _add_totals(connection: sa.Connection) -> None:
    """Add an index of the times of segments, and count the segments of each batch by channel."""
    for statement in _TOTALS.split(";"):
        connection.exec_driver_sql(statement)


def _add_segment_conditions(connection: sa.Connection) -> None:
    """Add the index of the `meta` of segments; those that are stored already get entries when the index is rebuilt."""
    for statement in _SEGMENT_CONDITIONS.split(";"):
        connection.exec_driver_sql(statement)


_MOVE_VERIFICATION = (
    "UPDATE counter SET seq = seq + 1",
    """
    INSERT INTO records (id, kind, rev, seq, status, changed)
    SELECT :record, 'batch', 0, 0, 'good', 0 WHERE NOT EXISTS (SELECT 1 FROM records WHERE id = :record)
    """,
    """
    UPDATE records SET
        rev = rev + 1, seq = (SELECT seq FROM counter), changed = CASE WHEN changed > :at THEN changed ELSE :at END,
        last = CASE WHEN EXISTS (SELECT 1 FROM steps WHERE record = :record AND state = 'DONE' AND ended > :at)
            THEN last ELSE 'verify' END
    WHERE id = :record
    """,
    "DELETE FROM steps WHERE record = :record AND name = 'verify'",
    """
    INSERT INTO steps (record, name, state, worker, attempt, failures, ended, result)
    VALUES (:record, 'verify', 'DONE', '', 1, 0, :at, :found)
    """,
)


def _move_verifications(connection: sa.Connection) -> None:
    """Make each verification the step `verify` of its batch's record."""
    for batch, found in connection.execute(sa.text("SELECT batch, found FROM verifications ORDER BY batch")).all():
        known = {"record": f"batch/{batch}", "found": found, "at": int(json.loads(found)["at"] * 10**9)}
        for statement in _MOVE_VERIFICATION:
            connection.execute(sa.text(statement), known)
    connection.execute(sa.text("DROP TABLE verifications"))


_BUNDLES = """
CREATE TABLE bundles (
    id VARCHAR PRIMARY KEY, format VARCHAR NOT NULL, state VARCHAR NOT NULL, selection VARCHAR NOT NULL,
    info VARCHAR NOT NULL, as_of BIGINT NOT NULL, made BIGINT NOT NULL, used BIGINT NOT NULL, uses BIGINT NOT NULL,
    size BIGINT
)
"""


def _add_bundles(connection: sa.Connection) -> None:
    """Add the table of bundles."""
    connection.exec_driver_sql(_BUNDLES)


def _drop_claims(connection: sa.Connection) -> None:
    """Drop the claims on frozen batches: the leases of steps have taken their place."""
    connection.exec_driver_sql("DROP TABLE claims")


def _version_2_to_3(connection: sa.Connection) -> None:
    """Add what the search needs, and drop what steps have taken the place of."""
    _add_segment_conditions(connection)
    _move_verifications(connection)
    _drop_claims(connection)
    _add_totals(connection)
    _add_bundles(connection)


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_version_0_to_1, _version_1_to_2, _version_2_to_3)
VERSION = len(MIGRATIONS)


_NEW_IN_3 = (SEGMENT_CONDITIONS, TOTALS, BUNDLES)
_NEW_IN_2 = (RECORDS, RECORD_CONDITIONS, STEPS, STEP_DECLARATIONS, *_NEW_IN_3)
_FIRST_BATCHES = frozenset(BATCHES.c.keys()) - {"seq"}
_GONE_IN_3 = {"verifications": frozenset({"batch", "found"}), "claims": frozenset({"batch", "worker", "expires"})}
#: The tables without which a file is not a catalog, with columns that the next migration or this release needs.
_COLUMNS: tuple[Mapping[str, frozenset[str]], ...] = (
    {"segments": frozenset({"key", *SEGMENTS.c.keys()}), "batches": _FIRST_BATCHES},
    {table.name: frozenset(table.c.keys()) for table in TABLES.sorted_tables if table not in _NEW_IN_2}
    | {"batches": _FIRST_BATCHES}
    | _GONE_IN_3,
    {table.name: frozenset(table.c.keys()) for table in TABLES.sorted_tables if table not in _NEW_IN_3} | _GONE_IN_3,
    {table.name: frozenset(table.c.keys()) for table in TABLES.sorted_tables},
)


def why_not_a_catalog(database: Database) -> str | None:
    """Return why the tables are not those of a catalog, or None; raise VolumeFailed if they are of a newer release."""
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        tables = set(inspector.get_table_names())
        if not _COLUMNS[0].keys() <= tables:
            return "it does not have a catalog's tables"
        version = _version_of(connection, tables)
        if version is None:
            return "its schema version cannot be read"
        if version > VERSION:
            reason = f"schema version {version} is newer than {VERSION}, the newest that this release can read"
            raise VolumeFailed(f"the catalog: {reason}; start the release that wrote it, or a later one")
        for table, columns in _COLUMNS[version].items():
            if table not in tables or not columns <= {column["name"] for column in inspector.get_columns(table)}:
                return f"its table {table} does not have the columns of a catalog"
        if version and len(connection.execute(sa.select(COUNTER)).all()) != 1:
            return "its counter is missing"
    return None


def migrate(database: Database) -> None:
    """Create the tables of an empty database, or bring those of an older one to the newest version."""
    with database.writing() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if not tables:
            create_tables(connection, VERSION)
            return
        version = _version_of(connection, tables)
    for number in range(VERSION if version is None else version, VERSION):
        with database.writing() as connection:
            MIGRATIONS[number](connection)
            connection.execute(sa.update(SCHEMA).values(version=number + 1))


def _version_of(connection: sa.Connection, tables: set[str]) -> int | None:
    """Return the schema version, 0 if the tables have none, or None if it cannot be read."""
    if SCHEMA.name not in tables:
        return 0
    try:
        [version] = connection.execute(sa.select(sa.text("*")).select_from(SCHEMA)).scalars()
    except ValueError:  # no row, or several
        return None
    return version if isinstance(version, int) and version >= 0 else None
