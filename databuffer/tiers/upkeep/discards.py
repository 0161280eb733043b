"""Packs of which no file can be read or restored any more are deleted from all tiers, by the step `discard`."""

import logging
import shutil
from functools import partial
from typing import Any

import sqlalchemy as sa

from databuffer.errors import MoveFailed
from databuffer.holdings import packed
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.selection import FILES_KIND
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import volume_errors
from databuffer.storage.store import Store
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.file_pack import FilePack, FilePacks
from databuffer.tiers.tier import TierError
from gwservice.atomic import sync as sync_folder
from gwwire.records import DISCARD, Record
from gwwire.tiering import DISK

log = logging.getLogger(__name__)

#: Packs that one sweep finds.
_PORTION = 100


class Discards:
    """Deletes packs of files whose deletion cannot be undone: `grace` ns after it, None: never."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self,
        store: Store,
        state: State,
        files: FilePacks,
        ledger: ReplicaLedger,
        performer: Performer,
        mover: Mover,
        *,
        grace: int | None,
    ) -> None:
        self._store = store
        self._state = state
        self._files = files
        self._ledger = ledger
        self._mover = mover
        self._grace = grace
        if mover.tiers:
            performer.add(OwnStep(DISCARD, self._perform, kind=FILES_KIND, on_request=True))

    def due(self) -> list[str]:
        """Return packs to discard; called in a thread."""
        if self._grace is None:
            return []
        with self._store.catalog.database.reading() as connection:
            return [row.pack for row in packed.expired(connection, steady_ns() - self._grace, _PORTION)]

    def _perform(self, record: Record, attempt: Attempt) -> dict[str, Any]:
        source = self._files.get(record.id)
        rows = self._ledger.write(partial(self._begin, pack=source.id))
        try:
            for row in rows:
                if row.tier != DISK:
                    self._delete(source, row, attempt)
        except TierError as error:
            raise MoveFailed(str(error)) from error
        with volume_errors():
            shutil.rmtree(source.folder, ignore_errors=True)
            sync_folder(source.folder.parent)
        self._ledger.write(partial(_forget, pack=source.id))
        tiers = [row.tier for row in rows if row.tier != DISK]
        text = f"{source.text} is discarded: all of its files were deleted"
        self._state.log_event("discarded", text, **source.fields, tiers=tiers)
        return {"tiers": tiers}

    def _begin(self, connection: sa.Connection, pack: str) -> list[ReplicaRow]:
        """Mark all replicas of a pack as DELETING; raise MoveFailed if a file of it can be read or restored."""
        if self._grace is None or not packed.is_expired(connection, pack, steady_ns() - self._grace):
            raise MoveFailed(f"{pack} has files that can be read or restored")
        replicas.begin_discard(connection, pack)
        return replicas.of_pack(connection, pack)

    def _delete(self, source: FilePack, row: ReplicaRow, attempt: Attempt) -> None:
        tier = self._mover.tiers.get(row.tier)
        if tier is None:
            what = f"{source.text} stays in tier {row.tier}, which TIERS does not name"
            log.warning("%s", what, extra={"event": "not-discarded", **source.fields})
            return
        with self._mover.turns.taking(source.id, row.tier, attempt), self._mover.access.noting_errors(tier):
            tier.delete(row.key)


def _forget(connection: sa.Connection, pack: str) -> None:
    replicas.remove_all(connection, pack)
    packed.remove(connection, pack)
