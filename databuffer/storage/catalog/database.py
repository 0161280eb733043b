"""Connections and transactions of the catalog; the only module with SQL that is specific to SQLite.

SQLite runs in WAL mode. Connections for the ingest are `synchronous=NORMAL`: a commit is not synced, because
after a power cut, start-up restores the lost rows from the volume. Connections for the ledger are `synchronous=FULL`.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from databuffer.errors import VolumeFailed, VolumeFull
from databuffer.storage.files import Space, access_error, move_aside, volume_errors

V = TypeVar("V", int, str)

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}
_NO_ACCESS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}  # the errors that a full file system can cause
_PRIMARY = 0xFF  # the part of an extended error code that is the primary one
_RETRY_SECONDS = 1
_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_ATTACHED = "attached"
_COLUMNS = """
SELECT tables.name, columns.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite~_%' ESCAPE '~'
"""


def insert(dialect: sa.Dialect, table: sa.Table) -> Any:
    """Return an INSERT that takes `on_conflict_do_update`, which the two dialects write alike."""
    return _INSERT[dialect.name](table)


def upsert(dialect: sa.Dialect, table: sa.Table) -> Any:
    """Return an INSERT that replaces the row with the same primary key."""
    return _upsert(dialect.name, table)


@cache
def _upsert(dialect: str, table: sa.Table) -> Any:
    statement = _INSERT[dialect](table)
    keys = table.primary_key.columns
    replaced = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=replaced)


def columns_of_tables(connection: sa.Connection) -> dict[str, set[str]]:
    """Return the names of the columns of each table, by one query; SQLAlchemy's inspector makes several per table."""
    found: dict[str, set[str]] = {}
    for table, column in connection.exec_driver_sql(_COLUMNS):
        found.setdefault(table, set()).add(column)
    return found


def sql_text(dialect: sa.Dialect, statement: sa.Insert | sa.Update) -> str:
    """Return the text of a statement with positional parameters, for a cursor of the driver.

    A statement that is executed with every group of segments is compiled once, and bypasses SQLAlchemy's execution,
    which costs tens of µs.
    """
    compiled = statement.compile(dialect=dialect)
    assert compiled.positional  # noqa: S101 (PostgreSQL's driver needs paramstyle "format" for it)
    return str(compiled)


class Database:
    """The database in the SQLite file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The error that has shown that the file is not a sound database, or None.
        self.damage: str | None = None
        #: Changes when what is known by seq is not valid any more: another file becomes the database, or batches merge.
        self.generation = 0
        self._files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
        #: A ledger table may have changed since this was last set to False.
        self.ledger_changed = True
        self._ingest = _engine(path, "NORMAL")
        self._ledger = _engine(path, "FULL")
        #: Kept, because taking one from the pool for each group of segments would cost as much as its rows.
        self._writer: sa.Connection | None = None

    @property
    def dialect(self) -> sa.Dialect:
        """The SQL dialect of the database."""
        return self._ingest.dialect

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Connect for queries; each sees the data committed when it begins."""
        with self._errors(), self._ingest.connect() as connection:
            try:
                yield connection
            except ValueError as error:
                raise sqlite3.DatabaseError(f"a stored value cannot be read: {error}") from error

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Connect for queries that all see the same state."""
        with self.reading() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def writing(self, *, ledger: bool = False) -> Iterator[sa.Connection]:
        """Begin a transaction that is not synced; `ledger`: it changes ledger tables that recovery covers."""
        with self._errors():
            self._writer = self._writer or self._ingest.connect()
            with self._writer.begin():
                _begin_immediate(self._writer)
                yield self._writer
        self.ledger_changed |= ledger

    @contextmanager
    def writing_synced(self) -> Iterator[sa.Connection]:
        """Begin a transaction for ledger tables; on return its changes are on the disk."""
        with self._errors(), self._ledger.begin() as connection:
            _begin_immediate(connection)
            yield connection
        self.ledger_changed = True

    def close(self) -> None:
        """Close every connection."""
        if self._writer:
            self._writer.close()
            self._writer = None
        self._ingest.dispose()
        self._ledger.dispose()

    def integrity_error(self) -> str | None:
        """Check every page of the file; return the inconsistency, or None."""
        with self.reading() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        return None if found == "ok" else found

    def access_error(self) -> str | None:
        """Return why the file, or one of those that SQLite keeps beside it, cannot be read and written, or None."""
        return next(filter(None, map(access_error, filter(os.path.lexists, self._files))), None)

    def move_aside(self) -> None:
        """Rename the file and those that SQLite keeps beside it to `*.unreadable`.

        Connections to it are closed, now or when their transactions end; `create` or a restored backup comes next.
        """
        for file in filter(os.path.lexists, self._files):
            move_aside(file)
        self.close()
        self.generation += 1
        self.damage = None

    def remove(self) -> None:
        """Delete the file and those that SQLite keeps beside it."""
        with volume_errors():
            for file in self._files:
                file.unlink(missing_ok=True)

    def has_log(self) -> bool:
        """Return whether a write-ahead log exists, left by a crash or a copy; the last connection deletes it."""
        return os.path.lexists(self._files[1])

    def create(self) -> None:
        """Create an empty file unless it exists; connecting never creates one."""
        with volume_errors():
            self.path.touch()

    @contextmanager
    def attached(self, path: Path) -> Iterator[tuple[sa.Connection, str]]:
        """Begin a transaction with the database file `path` attached; yield the connection and its schema name."""
        with self.reading() as connection:
            connection.exec_driver_sql("ATTACH ? AS " + _ATTACHED, (str(path),))
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection, _ATTACHED
                connection.exec_driver_sql("COMMIT")
            finally:
                connection.rollback()
                connection.exec_driver_sql("DETACH " + _ATTACHED)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        replaced = self.generation
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            original = error.orig if isinstance(error, DatabaseError) else error
            code = getattr(original, "sqlite_errorcode", None)
            if code is not None and code & _PRIMARY == sqlite3.SQLITE_FULL:
                raise VolumeFull(f"the catalog: {original}: {self.path.parent}") from error
            # Without a code: the module `sqlite3` cannot decode a value.
            unreadable = code is None and not isinstance(original, sqlite3.ProgrammingError)
            if unreadable or (code is not None and not _DAMAGE.isdisjoint({code, code & _PRIMARY})):
                if replaced == self.generation:
                    self.damage = str(original)
                raise VolumeFailed(f"the catalog: {original}", retry_after=_RETRY_SECONDS) from error
            folder = self.path.parent
            if code is not None and code & _PRIMARY in _NO_ACCESS and Space.of(folder).scarce:
                raise VolumeFull(f"the catalog: {original}: no space is left in {folder}") from error
            raise VolumeFailed(f"the catalog: {original}") from error


def portions(values: Iterable[V], size: int = 500) -> Iterator[list[V]]:
    """Split names or numbers into lists that a statement can take as its parameters."""
    ordered = sorted(values)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _engine(path: Path, synchronous: str) -> sa.Engine:
    # A connection that created a missing file could write to it while a backup takes its place.
    engine = sa.create_engine(f"sqlite:///file:{quote(str(path))}?mode=rw&uri=true")

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, DDL included
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "busy_timeout = 10000"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _begin_immediate(connection: sa.Connection) -> None:
    # Not a listener of the event "begin": with one, SQLAlchemy prepares events for each statement, queries too.
    connection.connection.cursor().execute("BEGIN IMMEDIATE")
