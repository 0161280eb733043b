"""Decide which folder has a batch id that several claim: copies and restored folders name the ids of others.

An archive keeps its id, and the data folder precedes that of the next batch. The other folder gets another id, so that
the segments of both are served.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from databuffer.errors import VolumeError
from databuffer.storage.catalog import BatchRow
from databuffer.storage.dropped import is_dropped
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import read_manifest
from databuffer.storage.marks import BatchMark
from databuffer.storage.segment_recovery import manifest_of
from databuffer.storage.store import Slot, Store
from gwwire.manifest import MANIFEST
from gwwire.public import BatchState


def archive_rows(store: Store) -> dict[str, BatchRow]:
    """Return the archives that the catalog has, by the names of their folders."""
    return {row.path: row for row in store.catalog.batches.all() if row.state is BatchState.ARCHIVED}


def archives_by_batch(store: Store) -> dict[str, Path]:
    """Return the archive that has each batch id: that of the catalog, or else the most complete one that claims it."""
    known, folders = archive_rows(store), store.volume.archives()
    owners = {known[folder.name].id: folder for folder in folders if folder.name in known}
    claims = sorted(claim for folder in folders if folder.name not in known for claim in _claims(store, folder))
    return {batch: folder for batch, _, folder in reversed(claims)} | owners


def ids_claimed_twice(store: Store, slot: Slot, archives: Mapping[str, Path]) -> Iterator[Finding]:
    """Take an id from a batch that is not archived if another folder has it; its manifest is moved to quarantine."""
    manifest, mark = manifest_of(slot.folder), store.volume.marks.read(slot.folder)
    for batch in dict.fromkeys(claim for claim in (manifest and manifest.batch, mark and mark.id) if claim):
        if not (owner := _owner(store, slot, batch, archives)):
            continue
        place, set_aside = slot.folder.name, partial(_set_manifest_aside, store, slot, batch, owner)
        if mark is None or mark.id != batch:
            what = f"the manifest in {place} is that of batch {batch} in {owner}"
            yield Finding(what, "moved to quarantine", set_aside)
            continue
        known = mark_by_files(store, slot, archives)
        remedy = f"the one in {place} is {known.id}" if known else f"the one in {place} has a new id"
        what = f"batch {batch} is in {owner} and in {place}"
        yield Finding(what, remedy, partial(_change_id, store, slot, batch, known, set_aside))


def mark_by_files(store: Store, slot: Slot, archives: Mapping[str, Path]) -> BatchMark | None:
    """Return id and opening time of the batch that the catalog has in a folder with some of its files, or None."""
    files, rows = store.volume.sizes(slot.folder).keys(), store.catalog.batches.all()
    rows = [row for row in rows if row.path == slot.folder.name and not _owner(store, slot, row.id, archives)]
    found = next((row for row in rows if files & store.catalog.segments.sizes(row.id).keys()), None)
    return BatchMark(found.id, found.opened) if found else None


def _claims(store: Store, folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Yield the id in an archive's manifest, and how many of its segments are neither in the folder nor in tiers."""
    with suppress(VolumeError):
        manifest = read_manifest(folder)
        present = store.volume.sizes(folder).keys()
        missing = 0 if is_dropped(folder) else len({entry.name for entry in manifest.segments} - present)
        yield manifest.batch, missing, folder


def _owner(store: Store, slot: Slot, batch: str, archives: Mapping[str, Path]) -> str | None:
    """Return the folder that has a batch id instead of the one of a slot, in words, or None."""
    if archive := archives.get(batch):
        return f"archive {archive.name!r}"
    if slot is store.next and store.current.folder.exists():
        current = store.volume.marks.read(store.current.folder)
        return store.current.folder.name if current and current.id == batch else None
    return None


def _set_manifest_aside(store: Store, slot: Slot, batch: str, owner: str) -> None:
    manifest = manifest_of(slot.folder)
    if manifest and manifest.batch == batch:
        store.volume.set_aside(slot.folder / MANIFEST, f"is the manifest of batch {batch} in {owner}")


def _change_id(store: Store, slot: Slot, batch: str, known: BatchMark | None, set_aside: partial[None]) -> None:
    """Assign the `known` id to the batch in a slot, or a new one, with the rows that the old one has there."""
    set_aside()
    if known:
        store.volume.marks.write(slot.folder, known)
        return
    row, mark = store.catalog.batches.get(batch), store.assign_new_id(slot)
    if row and row.path == slot.folder.name:
        store.catalog.batches.merge(batch, mark.id)
