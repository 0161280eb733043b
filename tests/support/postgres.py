"""A PostgreSQL of its own for tests, and the catalog's database in it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from databuffer.storage.catalog import Database

_USER = "postgres"


@contextmanager
def running_postgres(home: Path) -> Iterator[sa.URL]:
    """Run a server without TCP in a folder; skip the test where PostgreSQL or its driver is missing."""
    pytest.importorskip("pg8000", reason="the driver pg8000 is not installed")
    initdb = shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    programs = Path(initdb).resolve().parent
    as_other = {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
    if as_other:
        shutil.chown(home, _USER, _USER)
    data = home / "db"

    def run(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", data, *arguments]
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, **as_other)  # type: ignore[call-overload]

    run("initdb", "-A", "trust", "-U", _USER, "--no-sync")
    run("pg_ctl", "-w", "-l", str(home / "log"), "-o", f"-k {home} -c listen_addresses='' -c fsync=off", "start")
    try:
        socket = {"unix_sock": f"{home}/.s.PGSQL.5432"}
        yield sa.URL.create("postgresql+pg8000", username=_USER, database=_USER, query=socket)
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")


class PostgresDatabase(Database):
    """The catalog's database in PostgreSQL, with what SQL statements need of it."""

    def __init__(self, url: sa.URL) -> None:
        super().__init__(Path("unused"))
        self.engine = sa.create_engine(url)

    @property
    def dialect(self) -> sa.Dialect:
        return self.engine.dialect

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def writing(self, *, ledger: bool = False) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            yield connection
        self.ledger_changed |= ledger

    @contextmanager
    def writing_synced(self) -> Iterator[sa.Connection]:
        with self.writing(ledger=True) as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()
