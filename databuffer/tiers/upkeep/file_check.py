"""The check of `.holdings` by `fsck`: contents that are missing, differ, or belong to no file."""

import os
from collections.abc import Iterator
from functools import partial

from databuffer.errors import VolumeError
from databuffer.holdings import file_table, packed, table
from databuffer.holdings.contents import PACKS_FOLDER, Contents
from databuffer.holdings.packed import Needed
from databuffer.storage.dropped import REMEDY, is_dropped
from databuffer.storage.files import sha256_of, volume_errors
from databuffer.storage.finding import Finding
from databuffer.storage.store import Store
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.packs.pack import files_pack
from gwwire.manifest import MANIFEST
from gwwire.tiering import DISK, ReplicaState


def check_files(store: Store) -> Iterator[Finding]:
    """Yield what is wrong with files of holdings and manifests of their packs; nothing is repaired yet.

    A file of which a tier has a verified copy is restored from there after the repair, which marks that of the disk as
    LOST. A content that belongs to no file is moved to quarantine, if all manifests can be read. The store is open.
    """
    contents = Contents(store.volume.holdings)
    if not contents.root.is_dir():
        return
    with store.catalog.database.reading() as connection:
        needed = packed.needed(connection)
    for digest, each in needed.items():
        if problem := _problem(contents, digest, each.size):
            yield _finding(store, each, problem)
    promised, unreadable = _promised(store, contents)
    yield from unreadable
    for digest in _names(contents) - needed.keys() - promised if not unreadable else ():
        reason = "no file of a holding has this content"
        set_aside = partial(store.volume.set_aside, contents.path(digest), reason)
        yield Finding(f".holdings/objects/{digest[:2]}/{digest}: {reason}", "moved to quarantine", set_aside)


def _promised(store: Store, contents: Contents) -> tuple[set[str], list[Finding]]:
    """Return the contents of packs that the ledger does not know, and the manifests of packs that cannot be read.

    The next start restores the holdings of the first.
    """
    with store.catalog.database.reading() as connection:
        known = {row.pack for row in packed.all_packs(connection)}
    promised: set[str] = set()
    unreadable: list[Finding] = []
    with volume_errors():
        folders = sorted(contents.packs.glob("*"))
    for folder in folders:
        is_known = packed.pack_of(folder.name) in known
        try:
            members = files_pack(folder).tar.members[1:]
        except VolumeError as error:
            if is_known or is_dropped(folder) or (folder / MANIFEST).exists():  # else it was being made
                what = f".holdings/{PACKS_FOLDER}/{folder.name}: its manifest cannot be read: {error.detail}"
                unreadable.append(Finding(f"{what}; {REMEDY}"))
        else:
            promised.update([] if is_known else [member.sha256 for member in members])
    return promised, unreadable


def _problem(contents: Contents, digest: str, size: int) -> str | None:
    file = contents.file(digest, size)
    if file is None:
        return "is missing, or has another size"
    with volume_errors(), file:
        return None if sha256_of(file) == digest else "differs from its SHA-256"


def _names(contents: Contents) -> set[str]:
    with volume_errors():
        return {name for _, _, files in os.walk(contents.objects) for name in files}


def _finding(store: Store, needed: Needed, problem: str) -> Finding:
    with store.catalog.database.reading() as connection:
        [row] = file_table.files(connection, [needed.file])
        [transaction] = table.transaction_ids(connection, [row.transaction]).values()
        rows = {each.tier: each for each in replicas.of_pack(connection, packed.pack_of(transaction))}
    what = f"holding {row.holding}: the content of {row.path} {problem}"
    tiers = [tier for tier, each in rows.items() if tier != DISK and each.state is ReplicaState.VERIFIED]
    if tiers and DISK in rows:
        return Finding(
            what, f"the next start restores it from tier {tiers[0]}", partial(_lose, store, rows[DISK], what)
        )
    return Finding(what)


def _lose(store: Store, seen: ReplicaRow, problem: str) -> None:
    with store.catalog.database.writing_synced() as connection:
        replicas.note_lost(connection, seen, problem)
