"""Connections and transactions of the catalog; the one module with SQL that only SQLite understands.

SQLite runs in WAL mode. Connections for the ingest are `synchronous=NORMAL`: a commit is not synced, because what a
power cut takes from the catalog, a start-up finds on the volume. Connections for the ledger are `synchronous=FULL`.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from databuffer.errors import VolumeFailed, VolumeFull

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_ATTACHED = "attached"


def insert(dialect: sa.Dialect, table: sa.Table) -> Any:
    """Return an INSERT that takes `on_conflict_do_update`, which the two dialects write alike."""
    return _INSERT[dialect.name](table)


def upsert(dialect: sa.Dialect, table: sa.Table) -> Any:
    """Return an INSERT that replaces the row with the same primary key."""
    statement = insert(dialect, table)
    keys = table.primary_key.columns
    replaced = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=replaced)


def sql_text(dialect: sa.Dialect, statement: sa.Insert | sa.Update) -> str:
    """Return the text of a statement with positional parameters, for a cursor of the driver.

    What is executed with every group of segments is compiled once, and bypasses SQLAlchemy's execution, which costs
    tens of µs per statement.
    """
    compiled = statement.compile(dialect=dialect)
    assert compiled.positional  # noqa: S101 (PostgreSQL's driver needs paramstyle "format" for it)
    return str(compiled)


class Database:
    """The database in the SQLite file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: An error has shown that the file is not a sound database.
        self.damaged = False
        #: A ledger table may have changed since this was last set to False.
        self.ledger_changed = True
        self._ingest = _engine(path, "NORMAL")
        self._ledger = _engine(path, "FULL")
        self._reader = self._ingest.execution_options(reading=True)

    @property
    def dialect(self) -> sa.Dialect:
        """The SQL dialect of the database."""
        return self._ingest.dialect

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Connect for queries; each sees what is committed when it begins."""
        with self._errors(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, ledger: bool = False) -> Iterator[sa.Connection]:
        """Begin a transaction that is not synced; `ledger`: it changes ledger tables that recovery covers."""
        with self._errors(), self._ingest.begin() as connection:
            yield connection
        self.ledger_changed |= ledger

    @contextmanager
    def writing_synced(self) -> Iterator[sa.Connection]:
        """Begin a transaction for ledger tables; on return its changes are on the disk."""
        with self._errors(), self._ledger.begin() as connection:
            yield connection
        self.ledger_changed = True

    def close(self) -> None:
        """Close every connection."""
        self._ingest.dispose()
        self._ledger.dispose()

    def is_sound(self) -> bool:
        """Read every page, and return whether all of them fit together."""
        with self.reading() as connection:
            return bool(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() == "ok")

    def move_aside(self) -> None:
        """Rename the file and those that SQLite keeps beside it to `*.unreadable`."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.rename(file.with_name(f"{file.name}.unreadable"))
        self.damaged = False

    @contextmanager
    def attached(self, path: Path) -> Iterator[tuple[sa.Connection, str]]:
        """Begin a transaction with the database file `path` attached, under the schema name that is returned too."""
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
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            original = error.orig if isinstance(error, DatabaseError) else error
            code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
            self.damaged |= code in _DAMAGE
            raise (VolumeFull if code == sqlite3.SQLITE_FULL else VolumeFailed)(f"the catalog: {original}") from error


def portions(names: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    """Split names into lists that a statement can take as its parameters."""
    ordered = sorted(names)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _engine(path: Path, synchronous: str) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{path}")

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, DDL included
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "busy_timeout = 10000"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("reading"):
            connection.connection.cursor().execute("BEGIN IMMEDIATE")

    return engine
