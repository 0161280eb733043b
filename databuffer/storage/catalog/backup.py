"""Backups of the ledger on the volume: SQLite files with all tables of the catalog, in which the index is empty.

A backup can therefore be copied into place as the catalog, and migrations apply to it. Files are built and read
beside the catalog and copied from and to the volume, which may be a network file system that SQLite does not trust.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.storage.catalog.database import Database
from databuffer.storage.catalog.migrations import VERSION, why_not_a_catalog
from databuffer.storage.catalog.schema import COUNTER, LEDGER, create_tables
from databuffer.storage.files import make_folder, open_stored, volume_errors, write_stored
from gwservice.atomic import sync as sync_folder

log = logging.getLogger(__name__)

_KEPT = 3
_INTERVAL_NS = 600 * 10**9
#: The beginning of a file of SQLite.
_SIGNATURE = b"SQLite format 3\0"
_CHUNK = 2**20
_NAME = re.compile(r"ledger-(\d+)\.sqlite")


class LedgerBackups:
    """The backups in a folder, named after their Unix time in ns; the folder is created with the first backup."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        self._last: int | None = None

    def write(self, now: int) -> Path:
        """Write a backup durably and delete the oldest beyond three, or raise VolumeError."""
        self._last = now
        built = self._database.path.with_name(f"{self._database.path.name}.backup")
        unfinished = self.folder / ".unfinished"
        # The newest has the largest number, though the clock was ahead when an earlier one was written.
        number = max([now, *(_time_of(earlier) + 1 for earlier in self._newest_first()[:1])])
        path = self.folder / f"ledger-{number}.sqlite"
        with volume_errors():
            built.unlink(missing_ok=True)
            self._database.ledger_changed = False
            try:
                self._copy_ledger(built)
                make_folder(self.folder)
                _copy_durably(built, unfinished)
                unfinished.rename(path)
                sync_folder(self.folder)
            except BaseException:
                self._database.ledger_changed = True
                raise
            finally:
                built.unlink(missing_ok=True)
            for old in self._newest_first()[_KEPT:]:
                old.unlink()
        return path

    def write_if_due(self, now: int) -> Path | None:
        """Write a backup if the ledger has changed and the last backup was not attempted within 10 minutes."""
        if self._last is None:
            self._last = now  # also if the folder cannot be listed, which is tried again in 10 minutes
            self._last = next(map(_time_of, self._newest_first()), now)
        if 0 <= now - self._last < _INTERVAL_NS or not self._database.ledger_changed:  # else the clock was set back
            return None
        return self.write(now)

    def restore_newest(self) -> int | None:
        """Make the newest readable backup the catalog, in place of a missing file.

        Returns its nanoseconds of Unix time, or None if there is no readable one.
        """
        restoring = Database(self._database.path.with_name(f"{self._database.path.name}.restoring"))
        with volume_errors():
            for backup in self._newest_first():
                restoring.remove()
                if problem := _copy_readable(backup, restoring.path) or _problem(restoring):
                    log.warning("%s cannot be restored: %s", backup, problem)
                    restoring.remove()
                    continue
                restoring.path.rename(self._database.path)
                sync_folder(self._database.path.parent)
                return _time_of(backup)
        return None

    def _newest_first(self) -> list[Path]:
        with volume_errors():
            if not self.folder.is_dir():
                return []
            files = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
        return sorted(files, key=_time_of)[::-1]

    def _copy_ledger(self, path: Path) -> None:
        with self._database.attached(path) as (connection, schema):
            create_tables(connection, VERSION, schema)
            for statement in _copy_statements(schema):
                connection.execute(statement)


@cache
def _copy_statements(schema: str) -> Sequence[sa.Executable]:
    """Return the statements that copy the ledger to the tables of an attached database."""
    found: list[sa.Executable] = [sa.delete(COUNTER.to_metadata(sa.MetaData(), schema=schema))]
    for table in (*LEDGER, COUNTER):
        copy = table.to_metadata(sa.MetaData(), schema=schema)
        found.append(sa.insert(copy).from_select(list(table.columns.keys()), sa.select(table)))
    return found


def _time_of(backup: Path) -> int:
    return int(backup.stem.removeprefix("ledger-"))


def _copy_durably(source: Path, target: Path) -> None:
    with open_stored(source) as content, write_stored(target) as file:
        shutil.copyfileobj(content, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())


class _Unreadable(Exception):
    """A backup cannot be read; the message says why."""


def _copy_readable(backup: Path, target: Path) -> str | None:
    """Copy a backup durably; return why it cannot be read, or None, and raise OSError if `target` cannot be written."""
    with write_stored(target) as file:
        try:
            for chunk in _chunks(backup):
                file.write(chunk)
        except _Unreadable as error:
            return str(error)
        file.flush()
        os.fsync(file.fileno())
    return None


def _chunks(backup: Path) -> Iterator[bytes]:
    try:
        with open_stored(backup) as file:
            chunk = file.read(_CHUNK)
            if not chunk.startswith(_SIGNATURE):  # a file of another program may be larger than the disk
                raise _Unreadable("it is not a database")
            while chunk:
                yield chunk
                chunk = file.read(_CHUNK)
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error


def _problem(backup: Database) -> str | None:
    try:
        return why_not_a_catalog(backup) or backup.integrity_error()
    except VolumeError as error:
        return error.detail
    finally:
        backup.close()
