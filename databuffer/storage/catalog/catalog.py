"""The catalog: the index of segments and batches, which the volume can tell again, and the ledger, which it cannot.

One thread writes to it, in the order in which segments are stored.
"""

import logging
from pathlib import Path

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.storage.catalog.backup import LedgerBackups
from databuffer.storage.catalog.database import Database
from databuffer.storage.catalog.ledger import Ledger
from databuffer.storage.catalog.migrations import migrate
from databuffer.storage.catalog.schema import CLEAN_STOP
from databuffer.storage.catalog.segments import Batches, Segments
from databuffer.storage.clock import utc_text

log = logging.getLogger(__name__)


class Catalog:
    """The index of batches and segments and the ledger in a database, with backups of the ledger in a folder."""

    def __init__(self, database: Database, ledger_folder: Path) -> None:
        self.database = database
        self.backups = LedgerBackups(ledger_folder, database)
        self.batches = Batches(database)
        self.segments = Segments(database)
        self.ledger = Ledger(database)
        self._opened = False

    def open(self) -> None:
        """Open the database, and migrate it to the newest schema version.

        A damaged file is moved aside. A missing one is replaced by the newest backup of the ledger; recovery then
        rebuilds the index from the volume. Raises VolumeError if the file cannot be used, or is of a newer release.
        """
        path = self.database.path
        damaged = path.exists() and not self._is_usable()
        if damaged:
            log.warning("the catalog %s is damaged; it is moved aside as %s.unreadable", path, path.name)
        if damaged or not path.exists():
            self.database.move_aside()
            restored = self.backups.restore_newest()
            if restored is not None:
                log.warning(
                    "the ledger is restored from its backup of %s; Idempotency-Keys, quotas, verifications and claims"
                    " written after that are lost",
                    utc_text(restored),
                    extra={"event": "ledger-restored"},
                )
            elif damaged:
                log.warning("no backup of the ledger can be read: Idempotency-Keys, quotas, verifications are lost")
            log.info("the catalog is new; what is on the volume is read into it")
        migrate(self.database)
        self._opened = True

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def probe(self) -> None:
        """Raise VolumeError if the database cannot be written to."""
        self.take_clean_stop()

    def note_clean_stop(self, traces: str) -> None:
        """Store that everything agrees, with the traces by which a start-up sees that it still does."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(CLEAN_STOP))
            connection.execute(sa.insert(CLEAN_STOP), {"traces": traces})

    def take_clean_stop(self) -> str | None:
        """Return the traces of the last clean stop, and delete them; None after a crash."""
        with self.database.writing() as connection:
            traces = connection.execute(sa.select(CLEAN_STOP.c.traces)).scalar()
            connection.execute(sa.delete(CLEAN_STOP))
            return traces

    def _is_usable(self) -> bool:
        """Return False if the file is damaged. After a crash, the first start of a process reads every page of it."""
        try:
            return not self.database.damaged and (self._opened or self._stopped_cleanly() or self.database.is_sound())
        except VolumeError:
            if self.database.damaged:
                return False
            raise

    def _stopped_cleanly(self) -> bool:
        with self.database.reading() as connection:
            known = sa.inspect(connection).has_table(CLEAN_STOP.name)
            return known and connection.execute(sa.select(CLEAN_STOP.c.traces)).first() is not None
