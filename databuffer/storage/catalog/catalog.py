"""The catalog: the index of segments and batches, which can be rebuilt from the volume, and the ledger, which cannot.

One thread writes to it, in the order in which segments are stored.
"""

import logging
import os
from pathlib import Path

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.storage.catalog.backup import LedgerBackups
from databuffer.storage.catalog.batches import Batches
from databuffer.storage.catalog.database import Database, columns_of_tables
from databuffer.storage.catalog.ledger import Ledger
from databuffer.storage.catalog.migrations import migrate, why_not_a_catalog
from databuffer.storage.catalog.schema import CLEAN_STOP, COUNTER
from databuffer.storage.catalog.segments import Segments
from databuffer.storage.clock import utc_text

log = logging.getLogger(__name__)

#: More seqs than are drawn between two backups of the ledger: what follows a restored one has seqs never given before.
_LOST_SEQS = 2**32


class Catalog:
    """The index of batches and segments and the ledger in a database, with backups of the ledger in a folder."""

    def __init__(self, database: Database, ledger_folder: Path) -> None:
        self.database = database
        self.backups = LedgerBackups(ledger_folder, database)
        self.batches = Batches(database)
        self.segments = Segments(database)
        self.ledger = Ledger(database)
        self._opened = False
        #: The reason why the last `open` replaced the database, or None if it did not.
        self.replaced: str | None = None

    def open(self, *, thorough: bool = False, is_first: bool = False) -> None:
        """Open the database, and migrate it to the newest schema version.

        If `is_first`, nothing was ever stored: a file without tables is what an interrupted first start left.

        A file that is damaged or not a catalog is moved aside. A missing one is replaced by the newest backup of the
        ledger; recovery then rebuilds the index from the volume. Raises VolumeError if the file is of a newer release.
        After a crash, the first call of a process reads every page, as with `thorough`.
        """
        path = self.database.path
        if is_first and self._has_no_tables():
            self.database.remove()
        exists = os.path.lexists(path)
        fault = self.fault(every_page=thorough or (not self._opened and self._crashed())) if exists else None
        self.replaced = fault and f"the catalog {path.name} cannot be used: {fault}"
        if fault:
            log.warning("the catalog %s is damaged; it is moved aside as %s.unreadable: %s", path, path.name, fault)
        restored = None
        if fault or not exists:
            self.database.move_aside()
            restored = self.backups.restore_newest()
            if restored is not None:
                log.warning(
                    "the ledger is restored from its backup of %s; Idempotency-Keys, quotas, verifications, records,"
                    " steps, bundles and replicas written after that are lost",
                    utc_text(restored),
                    extra={"event": "ledger-restored"},
                )
            elif fault:
                log.warning(
                    "no backup of the ledger can be read: Idempotency-Keys, quotas, verifications, records, steps,"
                    " bundles and replicas are lost"
                )
            log.info("the catalog is new; the segments on the volume are read into it")
        self.database.create()
        migrate(self.database)
        if restored is not None:
            with self.database.writing() as connection:
                connection.execute(sa.update(COUNTER).values(seq=COUNTER.c.seq + _LOST_SEQS))
        self._opened = True

    def fault(self, *, every_page: bool = False) -> str | None:
        """Return why the file cannot serve as the catalog, or None."""
        database = self.database
        if reason := database.damage or database.access_error():
            return reason
        try:
            return why_not_a_catalog(database) or (database.integrity_error() if every_page else None)
        except VolumeError:
            if database.damage:
                return database.damage
            raise

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def last_seq(self) -> int:
        """Return the largest seq ever assigned, or 0."""
        with self.database.reading() as connection:
            last: int = connection.execute(sa.select(COUNTER.c.seq)).scalar_one()
            return last

    def probe(self) -> None:
        """Raise VolumeError if the database cannot be written to."""
        self.take_clean_stop()

    def note_clean_stop(self, traces: str) -> None:
        """Record a clean stop, with the traces that the next start-up compares with the volume."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(CLEAN_STOP))
            connection.execute(sa.insert(CLEAN_STOP), {"traces": traces})

    def take_clean_stop(self) -> str | None:
        """Return the traces of the last clean stop, and delete them; None after a crash."""
        with self.database.writing() as connection:
            traces = connection.execute(sa.select(CLEAN_STOP.c.traces)).scalar()
            connection.execute(sa.delete(CLEAN_STOP))
            return traces

    def _has_no_tables(self) -> bool:
        if not self.database.path.is_file():
            return False
        try:
            with self.database.reading() as connection:
                return not columns_of_tables(connection)
        except VolumeError:
            return False

    def _crashed(self) -> bool:
        """Return whether the last stop was not clean: its record is missing, or a write-ahead log was left."""
        if self.database.has_log():
            return True
        try:
            with self.database.reading() as connection:
                return connection.execute(sa.select(CLEAN_STOP.c.traces)).first() is None
        except VolumeError:
            return True
