"""Find and repair differences between the folders on the volume and catalog, log, counts and state.

The folders are authoritative: the others are changed to agree with them. That includes the freeze: the current batch is
frozen if there is a manifest with a holder in its folder. No stored file is deleted: a damaged one is moved to
`quarantine/`. A start-up compares what may have changed since the last clean stop; `fsck` reads every byte.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from databuffer.errors import VolumeError, VolumeFailed
from databuffer.storage.batch_ids import archive_rows, archives_by_batch, ids_claimed_twice, mark_by_files
from databuffer.storage.catalog import BatchRow
from databuffer.storage.clock import ns_of, unix_ns
from databuffer.storage.dropped import REMEDY, is_dropped, read_dropped
from databuffer.storage.files import volume_errors
from databuffer.storage.finding import Finding
from databuffer.storage.freeze_recovery import holder, seals
from databuffer.storage.manifest import differences, read_manifest, readable_manifest
from databuffer.storage.marks import BatchMark
from databuffer.storage.segment_recovery import (
    add_missing,
    add_rows,
    files_and_log,
    files_and_rows,
    manifest_of,
    rows_of_archives,
)
from databuffer.storage.store import OPERATIONAL, Slot, Store, open_row
from databuffer.storage.volume import archive_time
from gwservice.regular_file import UnusableFile
from gwwire.manifest import MANIFEST, batch_digest, entry_of
from gwwire.problems import ProblemError
from gwwire.public import BatchState, DatastoreState, Manifest, ManifestEntry

T = TypeVar("T")
log = logging.getLogger(__name__)


def retry_if_catalog_damaged(store: Store, step: Callable[[], T]) -> T:
    """Run a step that opens the store; run it again if the catalog was found damaged and replaced."""
    try:
        return step()
    except VolumeFailed:
        if store.catalog.database.damage is None:
            raise
        return step()


def recover(store: Store, *, thorough: bool = False) -> Iterator[Finding]:
    """Open the store and repair its differences; yield each after its repair. If `thorough`, every byte is read."""
    store.open(thorough=thorough)
    if store.catalog.replaced:
        yield Finding(store.catalog.replaced, "moved aside and rebuilt from the volume", lambda: None)
    for finding in _nameless(store):  # before `left_out` is asked
        if finding.repair:
            finding.repair()
        yield finding
    unchanged = not thorough and store.catalog.take_clean_stop() == store.trace() and not left_out(store)
    for finding in _examine(store, unchanged=unchanged, thorough=thorough):
        if finding.repair:
            finding.repair()
        yield finding


def _examine(store: Store, *, unchanged: bool, thorough: bool) -> Iterator[Finding]:
    """Yield the differences; each has to be repaired before the next is found.

    If `unchanged` since a clean stop, files and rows are not compared; if `thorough`, every byte is read.
    """
    archives = archives_by_batch(store)
    yield from _ids(store, archives)
    if store.current.folder.exists():
        yield from holder(store)
    before = store.catalog.segments.numbers()
    if not unchanged:
        yield from _archives_and_catalog(store, archives)
        yield from rows_of_archives(store)
    yield from _missing_data_folder(store)
    if not store.current.folder.exists():
        return
    yield from _leftovers(store)
    yield from _ids(store, archives)
    for slot in (store.current, store.next):
        yield from _row(store, slot)
    yield from _thawing(store)
    for slot in (store.current, store.next):
        if slot.folder.exists() and not unchanged:
            yield from files_and_rows(store, slot, thorough=thorough)
            yield from files_and_log(store, slot)
    if not unchanged:
        yield from _missing_batches(store)
    yield from seals(store, thorough=thorough)
    yield from _counts(store)
    yield from _totals(store, {} if thorough else before)
    if thorough:
        yield from _altered_archives(store)


def _archives_and_catalog(store: Store, archives: Mapping[str, Path]) -> Iterator[Finding]:
    known, folders = archive_rows(store), {folder.name: folder for folder in store.volume.archives()}
    for name in sorted(folders.keys() - known.keys()):
        what, add = f"archive {name!r} is not in the catalog", partial(_import_archive, store, folders[name], archives)
        if reason := _why_unreadable(folders[name]):  # the others are served
            yield Finding(f"{what}, and cannot be read: {reason}", "left out until a start can read it")
        else:
            yield Finding(what, "added", add)
    known, current = archive_rows(store), store.current.folder  # some may have been renamed
    mark = store.volume.marks.read(current)
    is_new = mark is None and not current.exists()
    missing = sorted(known.keys() - folders.keys())
    lost = {name for name in missing if is_new or (mark and current.exists() and _is_after(store, known[name], mark))}
    for name in missing:
        row, what = known[name], f"archive {name!r} is in the catalog, but not on the volume"
        if name in lost:  # the others were moved elsewhere
            what = f"{what}, which {'is new' if is_new else 'was restored from before it'}"
            remedy = "dropped with its Idempotency-Keys"
            yield Finding(what, remedy, partial(_drop_archive, store, row.id, is_lost=True))
        else:
            yield Finding(what, "dropped", partial(_drop_archive, store, row.id))


def _nameless(store: Store) -> Iterator[Finding]:
    """Drop archives that were added without their manifest though TIERS.json names their batch, and not a copy of it.

    An earlier version added them with an id of their own, and without the segments that only tiers have.
    """
    rows = archive_rows(store)
    batches = {row.id for row in rows.values()}
    for name in sorted(name for name, row in rows.items() if row.frozen is None):
        folder = store.volume.root / name
        if not is_dropped(folder) or ((manifest := readable_manifest(folder)) and manifest.batch in batches):
            continue
        what = f"archive {name!r} is batch {rows[name].id} in the catalog, because its manifest could not be read"
        yield Finding(what, "dropped from the catalog", partial(_drop_archive, store, rows[name].id))


def left_out(store: Store) -> set[str]:
    """Return the names of the archives that the catalog does not have: an earlier start could not read them."""
    return {folder.name for folder in store.volume.archives()} - archive_rows(store).keys()


def _is_after(store: Store, row: BatchRow, mark: BatchMark) -> bool:
    """Return whether a batch was filled after the one on the volume; seqs do not depend on a clock that was wrong."""
    position, on_volume = store.catalog.batches.position(row.id), store.catalog.batches.position(mark.id)
    if position is None or on_volume is None:
        return row.opened >= mark.opened
    return position >= on_volume


def _drop_archive(store: Store, batch: str, *, is_lost: bool = False) -> None:
    store.catalog.batches.drop_verification(batch)
    if is_lost:
        _forget(store, batch)
    else:
        store.catalog.batches.drop(batch)


def _import_archive(store: Store, folder: Path, archives: Mapping[str, Path]) -> None:
    """Add an archive to the catalog; with a new id if another folder has the batch id that its manifest names."""
    manifest = readable_manifest(folder)
    if manifest and archives.get(manifest.batch) == folder:
        # If it was archived right before a crash, the catalog may have lost some of its segments in a power cut.
        add_missing(store, folder, manifest)
        store.catalog.batches.put(_archive_row(manifest.batch, folder, manifest.segments, manifest))
        return
    batch, segments = f"a{folder.name.replace(' ', '-')}", list(_readable_entries(store, folder))
    store.catalog.batches.drop(batch)
    add_rows(store, batch, folder, segments)
    store.catalog.batches.put(_archive_row(batch, folder, segments, None))


def _archive_row(batch: str, folder: Path, segments: list[ManifestEntry], manifest: Manifest | None) -> BatchRow:
    archived_ns = ns_of(archive_time(folder.name))
    return BatchRow(
        id=batch,
        state=BatchState.ARCHIVED,
        opened=unix_ns(manifest.opened) if manifest else archived_ns,
        path=folder.name,
        frozen=unix_ns(manifest.sealed) if manifest else None,
        archived=archived_ns,
        holder=manifest.holder if manifest else "",
        n_itm=len(segments),
        buff_size=sum(segment.size for segment in segments),
        digest=manifest.digest if manifest else batch_digest((each.name, each.sha256) for each in segments),
    )


def _readable_entries(store: Store, folder: Path) -> Iterator[ManifestEntry]:
    for name in store.volume.sizes(folder):
        try:
            yield entry_of(name, store.volume.read(folder / name))
        except ProblemError as problem:
            log.warning("%s is not a segment; it is not added to the catalog: %s", folder / name, problem.detail)


def _altered_archives(store: Store) -> Iterator[Finding]:
    for folder in store.volume.archives():
        yield from (Finding(f"archive {folder.name!r}: {difference}") for difference in _differences(folder))


def _differences(folder: Path) -> Iterator[str]:
    """Yield a line for each difference between an archive and its manifest; it may have none."""
    if reason := _why_unreadable(folder):
        yield f"it cannot be read: {reason}"
    elif (folder / MANIFEST).exists():
        manifest = readable_manifest(folder)
        dropped, problem = _dropped(folder)
        yield from problem
        yield from differences(folder, manifest, dropped=dropped) if manifest else ["its manifest cannot be read"]


def _why_unreadable(folder: Path) -> str | None:
    """Return why a folder cannot be listed, or its manifest cannot be read, or None.

    The manifest may be missing or malformed unless TIERS.json says that the segments are in tiers: only it names them.
    """
    try:
        with volume_errors():
            os.scandir(folder).close()
        read_manifest(folder)
    except VolumeError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, (FileNotFoundError, UnusableFile)):
            return error.detail
        return f"{error.detail}; {REMEDY}" if is_dropped(folder) else None
    return None


def _dropped(folder: Path) -> tuple[bool, list[str]]:
    """Return whether the segments of an archive lie in tiers instead, and why that cannot be read."""
    try:
        return read_dropped(folder) is not None, []
    except VolumeFailed as error:
        return True, [error.detail]


def _missing_data_folder(store: Store) -> Iterator[Finding]:
    if store.current.folder.exists():
        return
    mark = store.volume.marks.read(store.current.folder)
    row = store.catalog.batches.get(mark.id) if mark else None
    if row and row.state is BatchState.OPEN and not store.catalog.segments.sizes(row.id):
        store.catalog.batches.drop(row.id)  # it was being begun
        row = None
    if store.is_new:
        store.advance()
    elif row is None or row.state is BatchState.ARCHIVED:
        what = "the data folder was missing because a start or archiving had stopped"
        yield Finding(what, "it is finished now", store.advance)
    else:
        what = f"the data folder with batch {row.id} ({row.state}) is missing, and no archive has that batch"
        yield Finding(what, "the next batch is the current one; segments that are moved back are added", store.advance)


def _leftovers(store: Store) -> Iterator[Finding]:
    for path in store.volume.leftovers():
        reason = "was being written when the buffer stopped"
        set_aside = partial(store.volume.set_aside, path, f"{reason}; never acknowledged")
        yield Finding(f"{path.name} {reason}", "moved to quarantine", set_aside)
    copied_log = store.current.folder / store.current.log.name
    if copied_log.exists():
        discard = partial(store.volume.discard, copied_log)
        what = "archiving had stopped before it moved anything"
        yield Finding(what, "the batch is still the current one", discard)


def _ids(store: Store, archives: Mapping[str, Path]) -> Iterator[Finding]:
    for slot in (store.current, store.next):
        if slot.folder.exists():
            yield from ids_claimed_twice(store, slot, archives)
            if store.current.folder.exists():  # otherwise archiving has to be finished first
                yield from _mark(store, slot, archives)


def _mark(store: Store, slot: Slot, archives: Mapping[str, Path]) -> Iterator[Finding]:
    """Restore the mark of a batch from its manifest or the catalog; without them the batch gets a new id."""
    mark, manifest = store.volume.marks.read(slot.folder), manifest_of(slot.folder)
    known: BatchMark | None
    if manifest and manifest.holder and (mark is None or mark.id != manifest.batch):
        known = BatchMark(manifest.batch, unix_ns(manifest.opened))
    elif mark is None or ((row := store.catalog.batches.get(mark.id)) and row.path != slot.folder.name):
        known = mark_by_files(store, slot, archives)
        # An archived batch that was restored, or a step that moves a batch and was cut short.
        if mark and row and known is None and (store.volume.sizes(slot.folder) or row.state is not BatchState.ARCHIVED):
            return
    else:
        return
    what = (
        f"the batch in {slot.folder.name} had no id"
        if mark is None
        else f"the batch in {slot.folder.name} was {mark.id}"
    )
    if known is None:
        yield Finding(what, "it has a new one", partial(store.assign_new_id, slot))
    else:
        yield Finding(what, f"it is {known.id}", partial(store.volume.marks.write, slot.folder, known))


def _row(store: Store, slot: Slot) -> Iterator[Finding]:
    mark = store.volume.marks.read(slot.folder)
    if mark is None or not slot.folder.exists():
        return
    place, put, row = slot.folder.name, store.catalog.batches.put, store.catalog.batches.get(mark.id)
    if row is None:
        yield Finding(
            f"the batch in {place} was not in the catalog", "added", partial(put, open_row(mark, slot.folder))
        )
    elif row.path != place:
        moved = partial(put, replace(row, path=place))
        yield Finding(f"the batch in {place} was in {row.path} according to the catalog", "moved", moved)
    elif slot is store.next and row.state is not BatchState.OPEN:
        opened = partial(put, open_row(mark, slot.folder))
        yield Finding(f"the batch in {place} was {row.state} according to the catalog", "it is open", opened)


def _thawing(store: Store) -> Iterator[Finding]:
    """Finish a thaw before files and rows are compared, so that its segments keep their seqs."""
    description = store.metadata.read_description() or OPERATIONAL
    if description.dstatus is DatastoreState.OPERATIONAL and store.next.folder.exists():
        yield Finding("the batch was being thawed", "the segments of the next batch are in it now", store.merge)


def _missing_batches(store: Store) -> Iterator[Finding]:
    present = _open_ids(store)
    for row in store.catalog.batches.all():
        if row.state is not BatchState.ARCHIVED and row.id not in present:
            yield Finding(f"batch {row.id} is not on the volume", "dropped", partial(_forget, store, row.id))


def _open_ids(store: Store) -> set[str]:
    slots = [slot for slot in (store.current, store.next) if slot.folder.exists()]
    return {mark.id for slot in slots if (mark := store.volume.marks.read(slot.folder))}


def _forget(store: Store, batch: str) -> None:
    """Delete a batch that was lost, and the keys of the segments that were lost with it."""
    store.catalog.segments.remove(batch, store.catalog.segments.sizes(batch))
    store.catalog.batches.drop(batch)


def _totals(store: Store, compared: dict[str, int]) -> Iterator[Finding]:
    """Compare the totals by channel if there are not as many segments as when they were `compared`."""
    if compared and compared == store.catalog.segments.numbers():
        return
    for batch in store.catalog.segments.miscounted():
        recount = partial(store.catalog.segments.count_again, batch)
        yield Finding(f"the totals of batch {batch} by channel differ from its segments", "counted again", recount)


def _counts(store: Store) -> Iterator[Finding]:
    stats, written = store.load(store.current).stats, store.metadata.read_stats()
    if written == stats:
        return
    said = f"said {written.n_itm} segments, {written.buff_size} bytes" if written else "could not be read"
    yield Finding(
        f"the counts {said}; there are {stats.n_itm} segments, {stats.buff_size} bytes",
        "rewritten",
        partial(store.metadata.write_stats, stats),
    )
