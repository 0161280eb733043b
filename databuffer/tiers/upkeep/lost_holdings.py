"""The holdings that only the manifests of packs on the volume know, as after the loss of the catalog."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from databuffer.errors import VolumeError
from databuffer.holdings import packed, restored
from databuffer.holdings.contents import PACKS_FOLDER
from databuffer.holdings.packed import pack_of
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.storage.dropped import REMEDY, TIERS
from databuffer.storage.files import read_stored, volume_errors
from databuffer.storage.store import Store
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.pack import files_pack
from databuffer.tiers.upkeep.file_seals import FileSeals
from gwwire.decoding import parse_json
from gwwire.manifest import MANIFEST

log = logging.getLogger(__name__)


class _Head(msgspec.Struct, frozen=True):
    """The fields of a manifest that say when a transaction began, and of which holding it is."""

    transaction: str
    holding: int
    user: str
    begun: float


class LostHoldings:
    """Makes the transactions again of which the ledger has no pack, though its manifest is on the volume."""

    def __init__(self, store: Store, state: State, ledger: ReplicaLedger, seals: FileSeals) -> None:
        self._store = store
        self._state = state
        self._folders = store.volume.holdings / PACKS_FOLDER
        self._ledger = ledger
        self._seals = seals
        self._unknown: list[str] = []

    def restore(self) -> None:
        """Add what is missing to the ledger; called in a thread.

        The transaction that began last is the first: a holding has the label and the tags of that time.
        """
        self._unknown.clear()
        heads = sorted(self._heads(), key=lambda head: head.begun, reverse=True)
        since = {(head.user, head.holding): head.begun for head in heads}  # the first of each
        done = 0
        for head in heads:
            try:
                self._restore(head.transaction, since[head.user, head.holding])
                done += 1
            except VolumeError as error:
                self._report(head.transaction, error.detail)
        self._state.unknown_holdings = tuple(self._unknown)
        if done:
            text = "transactions of holdings that are restored from the manifests of their packs: %d"
            log.warning(text, done, extra={"event": "holdings-restored"})

    def _restore(self, transaction: str, since: float) -> None:
        manifest = files_pack(self._folders / transaction).manifest
        add = partial(restored.restore, manifest=manifest, since=since, now=steady_ns())
        self._seals.seal_one(self._ledger.write(add))

    def _heads(self) -> Iterator[_Head]:
        """Yield the heads of the manifests of packs that the ledger does not have."""
        with volume_errors():
            folders = sorted({path.parent for name in (MANIFEST, TIERS) for path in self._folders.glob(f"*/{name}")})
        if not folders:
            return
        with self._store.catalog.database.reading() as connection:
            known = {row.pack for row in packed.all_packs(connection)}
        for folder in folders:
            if pack_of(folder.name) not in known and (head := self._head(folder)):
                yield head

    def _head(self, folder: Path) -> _Head | None:
        try:
            with volume_errors():
                head = parse_json(read_stored(folder / MANIFEST), _Head)
        except (VolumeError, ValueError) as error:
            self._report(folder.name, f"its manifest cannot be read: {error}; {REMEDY}")
            return None
        if head.transaction != folder.name:
            self._report(folder.name, f"its manifest is that of {head.transaction}")
            return None
        return head

    def _report(self, transaction: str, problem: str) -> None:
        self._unknown.append(transaction)
        fields = {"event": "holding-unknown", "transaction": transaction}
        log.warning("transaction %s cannot be restored: %s", transaction, problem, extra=fields)
