"""The packs of files are made when their transactions have ended."""

import logging
from functools import partial

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.holdings import file_table, packed, table
from databuffer.holdings.packed import Packed
from databuffer.holdings.rows import FileRow, HoldingRow, TransactionRow, seconds
from databuffer.records import table as records
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.storage.dropped import read_dropped
from databuffer.storage.files import make_folder, replace_file, volume_errors
from databuffer.storage.store import Store
from databuffer.tiers.ledger import replicas
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.file_pack import FilePack, FilePacks
from gwservice.atomic import sync as sync_folder
from gwwire.file_manifest import FileManifest, ManifestFile, encode_file_manifest, with_totals
from gwwire.holdings import FileState
from gwwire.manifest import MANIFEST
from gwwire.records import GOOD
from gwwire.tiering import ReplicaState, Tiering

log = logging.getLogger(__name__)

_SECOND = 10**9
#: Transactions that are packed in one sweep.
_PORTION = 100
_KEPT = frozenset({FileState.COMPLETE, FileState.DELETED})


class FileSeals:
    """Makes the files of each transaction that has ended a pack, with the policy of the settings; None: none.

    Files that were deleted `grace` ns ago cannot be restored any more; None: they always can.
    """

    def __init__(
        self, store: Store, files: FilePacks, ledger: ReplicaLedger, *, policy: Tiering | None, grace: int | None
    ) -> None:
        self._store = store
        self._files = files
        self._ledger = ledger
        self._policy = policy
        self._grace = grace
        self._is_new = True

    def seal(self) -> None:
        """Make the packs that are missing; called in a thread."""
        if self._is_new:
            self._renew_tierings(self._policy or Tiering())
            self._is_new = False
        if self._policy is None:
            return
        now = steady_ns()
        with self._store.catalog.database.reading() as connection:
            ended = packed.unpacked(connection, self._restorable_since(now), _PORTION)
        for row in ended:
            try:
                self.seal_one(row)
            except VolumeError as error:  # such as a full volume: other moves make space
                text = f"the files of transaction {row.id} are not packed: {error.detail}"
                log.warning("%s", text, extra={"event": "not-packed", "transaction": row.id})

    def _renew_tierings(self, tiering: Tiering) -> None:
        """Store the policy of the settings for all packs of files that have another one."""
        with self._store.catalog.database.reading() as connection:
            differs = replicas.have_files_other_tiering(connection, tiering)
        if differs:
            self._ledger.write(partial(replicas.set_file_tierings, tiering=tiering))

    def _restorable_since(self, now: int) -> int:
        return 0 if self._grace is None else now - self._grace

    def seal_one(self, transaction: TransactionRow) -> None:
        """Make the pack of a transaction, unless none of its files is left; called in a thread."""
        with self._store.catalog.database.reading() as connection:
            rows = packed.files_to_pack(connection, transaction)
            of = table.holding(connection, transaction.holding)
            tags = table.tags(connection, [transaction.holding]).get(transaction.holding, {})
        if of is None or not rows:
            return
        archived = max(row.stored or 0 for row in rows)
        size = sum(row.size for row in rows)
        row = Packed(transaction.number, FILES_RECORD + transaction.id, archived, size)
        source = self._files.of(row)
        if not (source.folder / MANIFEST).exists():  # else the ledger was restored from before it was sealed
            self._write(source, _manifest(transaction, of, tags, rows))
        known = {each.path for each in source.pack.manifest.files}
        if known != {row.path for row in rows}:
            what = f"{source.text}: its manifest has other files than the ledger"
            log.warning("%s", what, extra={"event": "replicas-unknown", **source.fields})
            return
        add = partial(_add, source=source, row=row, policy=self._policy or Tiering(), of=of, rows=rows)
        if self._ledger.write(add) and (dropped := read_dropped(source.folder)) is not None:
            self._ledger.take_dropped(source, dropped)

    @staticmethod
    def _write(source: FilePack, manifest: FileManifest) -> None:
        with volume_errors():
            make_folder(source.folder)
            replace_file(source.folder / MANIFEST, encode_file_manifest(manifest), durable=True)
            sync_folder(source.folder.parent)


def _add(  # noqa: PLR0913, PLR0917 (what is added)
    connection: sa.Connection, source: FilePack, row: Packed, policy: Tiering, of: HoldingRow, rows: list[FileRow]
) -> bool:
    """Add a pack to the ledger, unless some of its files were purged since its manifest was made."""
    numbers = {row.number for row in rows}
    there = file_table.files(connection, numbers)
    if {row.number for row in there if row.state in _KEPT} != numbers:
        return False
    packed.insert(connection, row)
    replicas.put_tiering(connection, source.id, policy)
    replicas.put(connection, source.on_disk(ReplicaState.WRITTEN))
    # The number only: everybody may read records, and a holding only its group.
    records.write(connection, source.id, lambda _: (GOOD, None, {"holding": of.id}), steady_ns())
    return True


def _manifest(transaction: TransactionRow, of: HoldingRow, tags: dict[str, str], rows: list[FileRow]) -> FileManifest:
    files = [
        ManifestFile(
            path=row.path,
            type=row.type,
            size=row.size,
            sha256=row.sha256,
            mode=row.mode,
            mtime=row.mtime,
            link=row.link,
            stored=seconds(row.stored),
        )
        for row in rows
    ]
    return with_totals(
        FileManifest(
            transaction=transaction.id,
            holding=of.id,
            label=of.label,
            user=of.user,
            group=of.group,
            tags=tags,
            job_label=transaction.job_label,
            begun=transaction.time / _SECOND,
            sealed=steady_ns() / _SECOND,
            bytes=0,
            digest="",
            files=files,
        )
    )
