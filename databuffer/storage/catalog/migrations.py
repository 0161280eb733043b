"""Migrations of the catalog from one schema version to the next.

`MIGRATIONS[n]` leads from version n to n + 1, in one transaction. A migration is never changed after its release: it
uses SQL and not the tables of `schema`, which are those of the newest version. A new one goes with a change of
`schema`; a test compares what both make.
"""

from collections.abc import Callable

import sqlalchemy as sa

from databuffer.errors import VolumeFailed
from databuffer.storage.catalog.database import Database
from databuffer.storage.catalog.schema import SCHEMA, create_tables

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


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_version_0_to_1,)
VERSION = len(MIGRATIONS)


def migrate(database: Database) -> None:
    """Create the tables of an empty database, or bring those of an older one to the newest version.

    Raises VolumeError if the tables are those of a newer release, or the database rejects a migration.
    """
    with database.writing() as connection:
        version = version_of(connection)
        if version is None:
            create_tables(connection, VERSION)
            return
    if version > VERSION:
        reason = f"schema version {version} is newer than {VERSION}, the newest that this release can read"
        raise VolumeFailed(f"the catalog: {reason}; start the release that wrote it, or a later one")
    for number in range(version, VERSION):
        with database.writing() as connection:
            MIGRATIONS[number](connection)
            connection.execute(sa.update(SCHEMA).values(version=number + 1))


def version_of(connection: sa.Connection) -> int | None:
    """Return the schema version of a database, 0 if its tables have none, or None if it has no tables."""
    tables = sa.inspect(connection).get_table_names()
    if SCHEMA.name in tables:
        version: int = connection.execute(sa.select(SCHEMA.c.version)).scalar_one()
        return version
    return 0 if "segments" in tables else None
