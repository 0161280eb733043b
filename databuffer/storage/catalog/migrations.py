"""Migrations of the catalog from one schema version to the next.

`MIGRATIONS[n]` leads from version n to n + 1, in one transaction. A migration is never changed after its release: it
uses SQL and not the tables of `schema`, which are those of the newest version. A new one goes with a change of
`schema`; a test compares what both make.
"""

import json
from collections.abc import Callable, Container, Mapping
from typing import Any

import sqlalchemy as sa

from databuffer.errors import VolumeFailed
from databuffer.storage.catalog.database import Database, columns_of_tables
from databuffer.storage.catalog.schema import (
    BATCHES,
    BUNDLES,
    COUNTER,
    FILE_PACKS,
    HOLDING_FILES,
    HOLDING_TAGS,
    HOLDINGS,
    PINS,
    RECORD_CONDITIONS,
    RECORDS,
    REPLICAS,
    SCHEMA,
    SEGMENT_CONDITIONS,
    SEGMENTS,
    STEP_DECLARATIONS,
    STEPS,
    TABLES,
    TIERINGS,
    TOTALS,
    TRANSACTIONS,
    UNREAD_META,
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
    """Add the index of the `meta` of segments; version 5 reads that of segments that are stored already."""
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


_REPLICAS = """
CREATE TABLE replicas (
    pack VARCHAR NOT NULL, tier VARCHAR NOT NULL, "key" VARCHAR NOT NULL, size BIGINT NOT NULL, sha256 VARCHAR,
    state VARCHAR NOT NULL, written BIGINT, verified BIGINT, used BIGINT, error VARCHAR,
    PRIMARY KEY (pack, tier)
);
CREATE INDEX replicas_by_verification ON replicas (state, verified);
CREATE TABLE tierings (pack VARCHAR PRIMARY KEY, tiering VARCHAR NOT NULL);
CREATE TABLE pins (pack VARCHAR NOT NULL, asker VARCHAR NOT NULL, until BIGINT NOT NULL, PRIMARY KEY (pack, asker))
"""


def _add_replicas(connection: sa.Connection) -> None:
    """Add the tables of the copies of packs."""
    for statement in _REPLICAS.split(";"):
        connection.exec_driver_sql(statement)


def _version_3_to_4(connection: sa.Connection) -> None:
    """Add what the tiers need."""
    _add_replicas(connection)


_VERSION_5 = (
    'ALTER TABLE bundles ADD COLUMN "group" VARCHAR',
    "ALTER TABLE bundles ADD COLUMN held BIGINT DEFAULT '0' NOT NULL",
    'CREATE TABLE unread_meta ("after" BIGINT NOT NULL, last BIGINT NOT NULL)',
    "INSERT INTO unread_meta SELECT 0, seq FROM segments ORDER BY seq DESC LIMIT 1",
)


def _version_4_to_5(connection: sa.Connection) -> None:
    """Add the groups of bundles and what counts for their quotas, and let the `meta` of all segments be read."""
    for statement in _VERSION_5:
        connection.exec_driver_sql(statement)


_HOLDINGS = """
CREATE TABLE holdings (
    id BIGINT PRIMARY KEY, label VARCHAR NOT NULL, "user" VARCHAR NOT NULL, "group" VARCHAR, created BIGINT NOT NULL,
    deleted BIGINT, files BIGINT NOT NULL, bytes BIGINT NOT NULL, deleted_bytes BIGINT NOT NULL
);
CREATE INDEX holdings_by_group ON holdings ("group");
CREATE UNIQUE INDEX holdings_by_label ON holdings ("user", label) WHERE deleted IS NULL;
CREATE TABLE holding_tags (
    holding BIGINT NOT NULL, name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (holding, name)
);
CREATE INDEX holding_tags_by_value ON holding_tags (name, value);
CREATE TABLE transactions (
    number BIGINT PRIMARY KEY, id VARCHAR NOT NULL, kind VARCHAR NOT NULL, holding BIGINT NOT NULL,
    "user" VARCHAR NOT NULL, "group" VARCHAR, job_label VARCHAR, time BIGINT NOT NULL, files BIGINT NOT NULL,
    bytes BIGINT NOT NULL, complete BIGINT NOT NULL, failed BIGINT NOT NULL, warnings VARCHAR NOT NULL, undone BIGINT
);
CREATE UNIQUE INDEX transactions_by_id ON transactions (id);
CREATE INDEX transactions_by_holding ON transactions (holding, number);
CREATE TABLE holding_files (
    number BIGINT PRIMARY KEY, "transaction" BIGINT NOT NULL, holding BIGINT NOT NULL, path VARCHAR NOT NULL,
    type VARCHAR NOT NULL, size BIGINT NOT NULL, mode BIGINT NOT NULL, mtime DOUBLE PRECISION NOT NULL, link VARCHAR,
    sha256 VARCHAR, state VARCHAR NOT NULL, reason VARCHAR, stored BIGINT, deleted BIGINT, deletion BIGINT
);
CREATE INDEX holding_files_by_transaction ON holding_files ("transaction", path);
CREATE INDEX holding_files_by_sha256 ON holding_files (sha256);
CREATE INDEX holding_files_by_deletion ON holding_files (deletion);
CREATE UNIQUE INDEX holding_files_by_path ON holding_files (holding, path) WHERE state IN ('WAITING', 'COMPLETE');
CREATE INDEX holding_files_waiting ON holding_files ("transaction") WHERE state = 'WAITING'
"""


def _version_5_to_6(connection: sa.Connection) -> None:
    """Add the tables of holdings."""
    for statement in _HOLDINGS.split(";"):
        connection.exec_driver_sql(statement)


_FILE_PACKS = """
CREATE TABLE file_packs ("transaction" BIGINT PRIMARY KEY, pack VARCHAR NOT NULL, archived BIGINT NOT NULL);
CREATE UNIQUE INDEX file_packs_by_pack ON file_packs (pack)
"""


def _version_6_to_7(connection: sa.Connection) -> None:
    """Add the packs of files."""
    for statement in _FILE_PACKS.split(";"):
        connection.exec_driver_sql(statement)


_VERSION_8 = (
    "ALTER TABLE file_packs ADD COLUMN bytes BIGINT DEFAULT '0' NOT NULL",
    """
    UPDATE file_packs SET bytes = (
        SELECT coalesce(sum(size), 0) FROM holding_files AS f
        WHERE f."transaction" = file_packs."transaction" AND f.state IN ('COMPLETE', 'DELETED')
    )
    """,
)


def _version_7_to_8(connection: sa.Connection) -> None:
    """Add the bytes of packs of files."""
    for statement in _VERSION_8:
        connection.exec_driver_sql(statement)


def _version_8_to_9(connection: sa.Connection) -> None:
    """Add the reasons why bundles have failed."""
    connection.exec_driver_sql("ALTER TABLE bundles ADD COLUMN reason VARCHAR")


_VERSION_10 = (
    "ALTER TABLE steps ADD COLUMN asked BIGINT",
    "UPDATE steps SET asked = CASE WHEN state = 'WAITING' AND failures = 0 THEN due ELSE started END",
)


def _version_9_to_10(connection: sa.Connection) -> None:
    """Add since when steps wait."""
    for statement in _VERSION_10:
        connection.exec_driver_sql(statement)


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    *(_version_0_to_1, _version_1_to_2, _version_2_to_3, _version_3_to_4, _version_4_to_5),
    *(_version_5_to_6, _version_6_to_7, _version_7_to_8, _version_8_to_9),
    _version_9_to_10,
)
VERSION = len(MIGRATIONS)


#: The version in which each table is new; those of the first are not named.
_NEW_TABLES: Mapping[int, tuple[sa.Table, ...]] = {
    2: (RECORDS, RECORD_CONDITIONS, STEPS, STEP_DECLARATIONS),
    3: (SEGMENT_CONDITIONS, TOTALS, BUNDLES),
    4: (REPLICAS, TIERINGS, PINS),
    5: (UNREAD_META,),
    6: (HOLDINGS, HOLDING_TAGS, TRANSACTIONS, HOLDING_FILES),
    7: (FILE_PACKS,),
}
#: The version in which each column is new, where its table is older.
_NEW_COLUMNS: Mapping[int, tuple[sa.Column[Any], ...]] = {
    2: (BATCHES.c.seq,),
    5: (BUNDLES.c.group, BUNDLES.c.held),
    8: (FILE_PACKS.c.bytes,),
    9: (BUNDLES.c.reason,),
    10: (STEPS.c.asked,),
}
_GONE_IN_3 = {"verifications": frozenset({"batch", "found"}), "claims": frozenset({"batch", "worker", "expires"})}


def _columns(version: int) -> Mapping[str, frozenset[str]]:
    """Return the tables of a version, with their columns that the next migration or this release needs."""
    later = {table for since, tables in _NEW_TABLES.items() if since > version for table in tables}
    missing = {column for since, columns in _NEW_COLUMNS.items() if since > version for column in columns}
    if version == 0:
        return {
            SEGMENTS.name: frozenset({"key", *SEGMENTS.c.keys()}),
            BATCHES.name: frozenset(column.name for column in BATCHES.c if column not in missing),
        }
    found = {
        table.name: frozenset(column.name for column in table.c if column not in missing)
        for table in TABLES.sorted_tables
        if table not in later
    }
    return found | _GONE_IN_3 if version < 3 else found  # noqa: PLR2004 (as the name says)


def why_not_a_catalog(database: Database) -> str | None:
    """Return why the tables are not those of a catalog, or None; raise VolumeFailed if they are of a newer release."""
    with database.reading() as connection:
        tables = columns_of_tables(connection)
        if not _columns(0).keys() <= tables.keys():
            return "it does not have a catalog's tables"
        version = _version_of(connection, tables)
        if version is None:
            return "its schema version cannot be read"
        if version > VERSION:
            reason = f"schema version {version} is newer than {VERSION}, the newest that this release can read"
            raise VolumeFailed(f"the catalog: {reason}; start the release that wrote it, or a later one")
        for table, columns in _columns(version).items():
            if not columns <= tables.get(table, set()):
                return f"its table {table} does not have the columns of a catalog"
        if version and len(connection.execute(sa.select(COUNTER)).all()) != 1:
            return "its counter is missing"
    return None


def migrate(database: Database) -> None:
    """Create the tables of an empty database, or bring those of an older one to the newest version."""
    with database.writing() as connection:
        tables = columns_of_tables(connection)
        if not tables:
            create_tables(connection, VERSION)
            return
        version = _version_of(connection, tables)
    for number in range(VERSION if version is None else version, VERSION):
        with database.writing() as connection:
            MIGRATIONS[number](connection)
            connection.execute(sa.update(SCHEMA).values(version=number + 1))


def _version_of(connection: sa.Connection, tables: Container[str]) -> int | None:
    """Return the schema version, 0 if the tables have none, or None if it cannot be read."""
    if SCHEMA.name not in tables:
        return 0
    try:
        [version] = connection.execute(sa.select(sa.text("*")).select_from(SCHEMA)).scalars()
    except ValueError:  # no row, or several
        return None
    return version if isinstance(version, int) and version >= 0 else None
