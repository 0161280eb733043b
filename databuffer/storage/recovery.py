"""Find and repair differences between the folders on the volume and catalog, log, counts and state.

The folders are authoritative: the others are changed to agree with them. That includes the freeze: the current batch is
frozen if there is a manifest with a holder in its folder. No stored file is deleted: a damaged one is moved to
`quarantine/`. A start-up compares what may have changed since the last clean stop; `fsck` reads every byte.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from databuffer.errors import VolumeFailed
from databuffer.fingerprint import fingerprint, is_fingerprint
from databuffer.storage.catalog import BatchRow, SegmentFilter
from databuffer.storage.clock import unix_ns
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.marks import BatchMark
from databuffer.storage.segment_recovery import add_rows, check_reachable, files_and_log, files_and_rows
from databuffer.storage.store import OPERATIONAL, Slot, Store, open_row
from databuffer.storage.volume import archive_time
from gwwire.datastore import Description
from gwwire.manifest import MANIFEST, batch_digest, entry_of, wrong_totals
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
    unchanged = not thorough and store.catalog.take_clean_stop() == store.trace()
    for finding in _examine(store, unchanged=unchanged, thorough=thorough):
        if finding.repair:
            finding.repair()
        yield finding


def _examine(store: Store, *, unchanged: bool, thorough: bool) -> Iterator[Finding]:
    """Yield the differences; each has to be repaired before the next is found.

    If `unchanged` since a clean stop, files and rows are not compared; if `thorough`, every byte is read.
    """
    if store.current.folder.exists():  # otherwise archiving has to be finished first
        yield from _mark(store, store.current)
        yield from _holder(store)
    if not unchanged:
        yield from _archives_and_catalog(store)
    yield from _missing_data_folder(store)
    if not store.current.folder.exists():
        return
    yield from _leftovers(store)
    for slot in (store.current, store.next):
        if slot.folder.exists():
            yield from _mark(store, slot)
            yield from _row(store, slot)
    yield from _thawing(store)
    for slot in (store.current, store.next):
        if slot.folder.exists() and not unchanged:
            yield from files_and_rows(store, slot, thorough=thorough)
            yield from files_and_log(store, slot)
    if not unchanged:
        yield from _missing_batches(store)
    yield from _seals(store, thorough=thorough)
    yield from _counts(store)
    if thorough:
        yield from _altered_archives(store)


def _archives_and_catalog(store: Store) -> Iterator[Finding]:
    known = {row.path: row for row in store.catalog.batches.all() if row.state is BatchState.ARCHIVED}
    folders = {folder.name: folder for folder in store.volume.archives()}
    for name in sorted(folders.keys() - known.keys()):
        add = partial(_import_archive, store, folders[name])
        yield Finding(f"archive {name!r} is not in the catalog", "added", add)
    mark = store.volume.marks.read(store.current.folder) if store.current.folder.exists() else None
    missing = sorted(known.keys() - folders.keys())
    lost = {name for name in missing if mark and _is_after(store, known[name], mark)}  # the others were moved elsewhere
    for name in missing:
        row, what = known[name], f"archive {name!r} is in the catalog, but not on the volume"
        if name in lost:
            what, remedy = f"{what}, which was restored from before it", "dropped with its Idempotency-Keys"
            yield Finding(what, remedy, partial(_drop_archive, store, row.id, is_lost=True))
        else:
            yield Finding(what, "dropped", partial(_drop_archive, store, row.id))


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


def _import_archive(store: Store, folder: Path) -> None:
    manifest = _readable_manifest(folder)
    row = store.catalog.batches.get(manifest.batch) if manifest else None
    is_open = row is not None and row.id in _open_ids(store)  # an older copy of it was restored
    if manifest and row and row.state is not BatchState.ARCHIVED and not is_open:
        # The batch was archived right before a crash; the catalog may have lost some segments in a power cut.
        known = store.catalog.segments.sizes(row.id)
        add_rows(store, row.id, folder, [segment for segment in manifest.segments if segment.name not in known])
        store.catalog.batches.put(_archive_row(row.id, folder, manifest.segments, manifest))
        return
    batch = f"a{folder.name.replace(' ', '-')}" if row or not manifest else manifest.batch
    segments = manifest.segments if manifest else list(_readable_entries(store, folder))
    store.catalog.batches.drop(batch)
    add_rows(store, batch, folder, segments)
    store.catalog.batches.put(_archive_row(batch, folder, segments, manifest))


def _archive_row(batch: str, folder: Path, segments: list[ManifestEntry], manifest: Manifest | None) -> BatchRow:
    archived_ns = int(archive_time(folder.name).timestamp()) * 10**9
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
        if not (folder / MANIFEST).exists():
            continue
        manifest = _readable_manifest(folder)
        found = differences(folder, manifest) if manifest else ["its manifest cannot be read"]
        yield from (Finding(f"archive {folder.name!r}: {difference}") for difference in found)


def _missing_data_folder(store: Store) -> Iterator[Finding]:
    if store.current.folder.exists():
        return
    if store.metadata.read_description() is None and store.metadata.read_stats() is None:
        store.advance()  # the volume is new
        return
    mark = store.volume.marks.read(store.current.folder)
    row = store.catalog.batches.get(mark.id) if mark else None
    if row is None or row.state is BatchState.ARCHIVED:
        what = "the data folder was missing because archiving had stopped"
        yield Finding(what, "archiving is finished now", store.advance)
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


def _mark(store: Store, slot: Slot) -> Iterator[Finding]:
    """Restore the mark of a batch from its manifest or the catalog; without them the batch gets a new id."""
    mark, manifest = store.volume.marks.read(slot.folder), _manifest(slot)
    known: BatchMark | None
    if manifest and manifest.holder and (mark is None or mark.id != manifest.batch):
        known = BatchMark(manifest.batch, unix_ns(manifest.opened))
    elif mark is None or ((row := store.catalog.batches.get(mark.id)) and row.path != slot.folder.name):
        files = store.volume.sizes(slot.folder).keys()
        rows = [row for row in store.catalog.batches.all() if row.path == slot.folder.name]
        found = next((row for row in rows if files & store.catalog.segments.sizes(row.id).keys()), None)
        known = BatchMark(found.id, found.opened) if found else None
        # An archived batch that was restored, or a step that moves a batch and was cut short.
        if mark and row and known is None and (files or row.state is not BatchState.ARCHIVED):
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


def _holder(store: Store) -> Iterator[Finding]:
    """Make Dsstat.json follow the manifest of the current batch, which names its holder."""
    written, held = store.metadata.read_description(), _held(store)
    write = partial(store.metadata.write_description, held)
    if written is None:
        yield Finding("the state could not be read", f"it is {_state(held)} now", write)
    elif (written.dstatus, written.user) != (held.dstatus, held.user):
        what = f"the state was {_state(written)}, not {_state(held)} as on the volume"
        if held is OPERATIONAL and _has_grown(store):
            what += ": its batch has segments that were stored later, so an older ADMROOT was restored"
        yield Finding(what, "rewritten", write)
    elif held.token and not is_fingerprint(held.token):  # written by the first release
        hidden = partial(store.metadata.write_description, structs.replace(held, token=fingerprint(held.token)))
        yield Finding("the holder's token was stored in clear", "its fingerprint is stored now", hidden)


def _held(store: Store) -> Description:
    """Return the state of the current batch according to the volume.

    If the manifest is missing, a freeze recorded in Dsstat.json was interrupted, or belongs to another batch, unless
    the catalog records this batch as frozen, or knows no other batch that it could belong to. If segments were stored
    in the batch after that, it was thawed, and Dsstat.json and catalog are an older copy.
    """
    written, manifest = store.metadata.read_description() or OPERATIONAL, _manifest(store.current)
    if manifest and manifest.holder:
        is_known = written.dstatus is DatastoreState.FROZEN and written.user == manifest.holder
        return written if is_known else Description(DatastoreState.FROZEN, manifest.holder)
    mark, rows = store.volume.marks.read(store.current.folder), store.catalog.batches.all()
    frozen = {row.id for row in rows if row.state is BatchState.FROZEN}
    is_lost = mark and (mark.id in frozen if frozen else mark.id not in {row.id for row in rows})
    return written if is_lost and not _has_grown(store) else OPERATIONAL


def _has_grown(store: Store) -> bool:
    """Return whether the current batch has segments that the catalog does not have, though it is frozen there."""
    mark = store.volume.marks.read(store.current.folder)
    row = store.catalog.batches.get(mark.id) if mark else None
    if row is None or row.state is not BatchState.FROZEN:
        return False
    return bool(store.volume.sizes(store.current.folder).keys() - store.catalog.segments.sizes(row.id).keys())


def _state(description: Description) -> str:
    return f"{description.dstatus} by {description.user}" if description.user else description.dstatus


def _row(store: Store, slot: Slot) -> Iterator[Finding]:
    mark = store.volume.marks.read(slot.folder)
    if mark is None:
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


def _seals(store: Store, *, thorough: bool) -> Iterator[Finding]:
    """Make manifest and catalog follow the state; if `thorough`, the manifest's segments are compared, too."""
    current, manifest = store.load(store.current), _manifest(store.current)
    row = store.catalog.batches.get(current.id)
    description = store.metadata.read_description() or OPERATIONAL
    path = store.current.folder / MANIFEST
    # A manifest that was altered has frozen the batch nevertheless.
    if manifest and (any(wrong_totals(manifest)) or (thorough and _misdescribes(store, manifest))):
        manifest = None
    if manifest is None and path.exists():
        set_aside = partial(store.volume.set_aside, path, "cannot be read, or does not describe its segments")
        what = "the manifest of the current batch cannot be read, or does not describe its segments"
        yield Finding(what, "moved to quarantine", set_aside)
    if description.dstatus is DatastoreState.OPERATIONAL:
        if path.exists() or row is None or row.state is not BatchState.OPEN:
            unseal = partial(store.unseal, current)
            yield Finding("the batch was being frozen, thawed or archived", "it is open", unseal)
    elif manifest is None:
        seal = partial(store.seal, current, description.user, time.time_ns())
        what = f"the batch is {_state(description)} according to Dsstat.json and the catalog, but had no manifest"
        yield Finding(what, "rewritten; if ADMROOT was restored from before a thaw, thaw the batch again", seal)
    elif row is None or (row.state, row.digest) != (BatchState.FROZEN, manifest.digest):
        note = partial(store.note_seal, current, manifest)
        yield Finding("the batch was not frozen in the catalog", "it is now", note)


def _misdescribes(store: Store, manifest: Manifest) -> bool:
    """Return whether channel, t0, dt or n of a segment are not those in the catalog, which follows the files."""
    rows = store.catalog.segments.find(SegmentFilter(batch=manifest.batch, limit=-1))
    described = {row.name: (row.channel, row.t0, row.dt, row.n) for row in rows}
    listed = {entry.name: (entry.channel, entry.t0, entry.dt, entry.n) for entry in manifest.segments}
    return any(listed[name] != described[name] for name in listed.keys() & described.keys())


def _manifest(slot: Slot) -> Manifest | None:
    """Return the manifest of a batch that is not archived, or None if it is missing or malformed."""
    try:
        return read_manifest(slot.folder)
    except VolumeFailed as problem:
        check_reachable(problem)
        return None


def _readable_manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except VolumeFailed:
        return None


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
