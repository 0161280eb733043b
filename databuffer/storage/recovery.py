"""Find and repair differences between the folders on the volume and catalog, log, counts and state.

The folders are authoritative: the others are changed to agree with them. No stored file is deleted: a damaged one is
moved to `quarantine/`. A start-up compares what may have changed since the last clean stop; `fsck` reads every byte.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from databuffer.errors import VolumeFailed
from databuffer.fingerprint import fingerprint, is_fingerprint
from databuffer.storage.catalog import BatchRow, SegmentFilter, SegmentRow
from databuffer.storage.clock import unix_ns
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.metadata import stored_entries
from databuffer.storage.store import OPERATIONAL, Slot, Store, open_row
from gwwire.manifest import MANIFEST, batch_digest, entry_of
from gwwire.problems import ProblemError
from gwwire.public import BatchState, DatastoreState, Manifest, ManifestEntry

log = logging.getLogger(__name__)

_PORTION = 1000


@dataclass(frozen=True)
class Finding:
    """A difference and its repair, or None if it needs an operator."""

    what: str
    repair: Callable[[], object] | None


def recover(store: Store) -> list[str]:
    """Repair all differences, and return a line for each."""
    unchanged = store.catalog.take_clean_stop() == store.trace()
    repairs = []
    for finding in examine(store, unchanged=unchanged):
        if finding.repair:
            finding.repair()
        repairs.append(finding.what)
    return repairs


def examine(store: Store, *, unchanged: bool = False, thorough: bool = False) -> Iterator[Finding]:
    """Yield the differences; the caller may repair each before it asks for the next.

    If `unchanged` since a clean stop, files and rows are not compared; if `thorough`, every byte is read.
    """
    if not unchanged:
        yield from _archives_and_catalog(store)
    yield from _missing_data_folder(store)
    if not store.current.folder.exists():
        return
    yield from _leftovers(store)
    yield from _state(store)
    yield from _thawing(store)
    for slot in (store.current, store.next):
        if slot.folder.exists() and not unchanged:
            yield from _files_and_rows(store, slot, thorough=thorough)
            yield from _files_and_log(store, slot)
    if not unchanged:
        yield from _missing_batches(store)
    yield from _seals(store)
    yield from _counts(store)
    if thorough:
        yield from _altered_archives(store)


def _archives_and_catalog(store: Store) -> Iterator[Finding]:
    known = {row.path: row for row in store.catalog.batches.all() if row.state is BatchState.ARCHIVED}
    folders = {folder.name: folder for folder in store.volume.archives()}
    for name in sorted(folders.keys() - known.keys()):
        yield Finding(f"archive {name!r} is not in the catalog", partial(_import_archive, store, folders[name]))
    for name in sorted(known.keys() - folders.keys()):
        drop = partial(_drop_archive, store, known[name].id)
        yield Finding(f"archive {name!r} is in the catalog, but not on the volume", drop)


def _drop_archive(store: Store, batch: str) -> None:
    store.catalog.ledger.drop_verification(batch)
    store.catalog.batches.drop(batch)


def _import_archive(store: Store, folder: Path) -> None:
    manifest = _readable_manifest(folder)
    row = store.catalog.batches.get(manifest.batch) if manifest else None
    if manifest and row and row.state is not BatchState.ARCHIVED:
        # The batch was archived right before a crash; the catalog may have lost some segments in a power cut.
        known = store.catalog.segments.sizes(row.id)
        _add_rows(store, row.id, [segment for segment in manifest.segments if segment.name not in known])
        store.catalog.batches.put(_archive_row(row.id, folder, manifest.segments, manifest))
        return
    batch = f"a{folder.name.replace(' ', '-')}" if row or not manifest else manifest.batch
    segments = manifest.segments if manifest else list(_readable_entries(store, folder))
    store.catalog.batches.drop(batch)
    _add_rows(store, batch, segments)
    store.catalog.batches.put(_archive_row(batch, folder, segments, manifest))


def _archive_row(batch: str, folder: Path, segments: list[ManifestEntry], manifest: Manifest | None) -> BatchRow:
    archived = datetime.strptime(folder.name[:16], "%Y-%m-%d %H %M").replace(tzinfo=UTC)
    archived_ns = int(archived.timestamp()) * 10**9
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
        for difference in differences(folder, read_manifest(folder)):
            yield Finding(f"archive {folder.name!r}: {difference}", None)


def _missing_data_folder(store: Store) -> Iterator[Finding]:
    if store.current.folder.exists():
        return
    if store.metadata.read_description() is None and store.metadata.read_stats() is None:
        store.advance()  # the volume is new
        return
    yield Finding("the data folder was missing because archiving had stopped; archiving is finished now", store.advance)


def _leftovers(store: Store) -> Iterator[Finding]:
    for path in store.volume.leftovers():
        reason = "was being written when the buffer stopped"
        set_aside = partial(store.volume.set_aside, path, f"{reason}; never acknowledged")
        yield Finding(f"{path.name} {reason}; moved to quarantine", set_aside)
    copied_log = store.current.folder / store.current.log.name
    if copied_log.exists():
        discard = partial(store.volume.discard, copied_log)
        yield Finding("archiving had stopped before it moved anything; the batch is still the current one", discard)


def _state(store: Store) -> Iterator[Finding]:
    write = store.metadata.write_description
    description = store.metadata.read_description()
    if description is None:
        yield Finding("the state could not be read; it is OPERATIONAL now", partial(write, OPERATIONAL))
    elif description.dstatus is DatastoreState.FROZEN and not is_fingerprint(description.token):  # of the first release
        hidden = msgspec.structs.replace(description, token=fingerprint(description.token))
        yield Finding("the holder's token was stored in clear; its fingerprint is stored now", partial(write, hidden))
    for slot in (store.current, store.next):
        if slot.folder.exists():
            yield from _mark_and_row(store, slot)


def _mark_and_row(store: Store, slot: Slot) -> Iterator[Finding]:
    place, mark, put = slot.folder.name, store.volume.mark(slot.folder), store.catalog.batches.put
    if mark is None:
        yield Finding(f"the batch in {place} had no id", partial(store.mark_anew, slot))
        return
    row = store.catalog.batches.get(mark.id)
    if row is None:
        yield Finding(f"the batch in {place} was not in the catalog", partial(put, open_row(mark, slot.folder)))
    elif row.path != place:
        moved = partial(put, replace(row, path=place))
        yield Finding(f"the batch in {place} was in {row.path} according to the catalog", moved)


def _thawing(store: Store) -> Iterator[Finding]:
    """Finish a thaw before files and rows are compared, so that its segments keep their seqs."""
    description = store.metadata.read_description() or OPERATIONAL
    if description.dstatus is DatastoreState.OPERATIONAL and store.next.folder.exists():
        yield Finding("the batch was being thawed; the segments of the next batch are in it now", store.merge)


def _files_and_rows(store: Store, slot: Slot, *, thorough: bool) -> Iterator[Finding]:
    mark = store.volume.mark(slot.folder)
    rows = store.catalog.segments.sizes(mark.id) if mark else {}
    files = store.volume.sizes(slot.folder)
    for name in [name for name in files if name in rows and files[name] != rows[name]]:
        yield _untrustworthy(store, slot, name, f"has {files[name]} bytes, not the {rows[name]} that were stored")
    if thorough:
        yield from _altered_files(store, slot, files)
    new = []
    for name in [name for name in files if name not in rows]:
        try:
            new.append(entry_of(name, store.volume.read(slot.folder / name)))
        except ProblemError as problem:
            yield _untrustworthy(store, slot, name, problem.detail)
    if new:
        named = ", ".join(entry.name for entry in new[:3]) + (", …" if len(new) > 3 else "")  # noqa: PLR2004 (some)
        yield Finding(
            f"{len(new)} segments were not in the catalog: {named}",
            lambda: _add_rows(store, store.load(slot).id, new, recovered=True),
        )
    lost = sorted(rows.keys() - files.keys())
    if lost and mark:
        named, remove = ", ".join(lost[:3]), partial(store.catalog.segments.remove, mark.id, lost)
        yield Finding(f"{len(lost)} segments are in the catalog, but not in {slot.folder.name}: {named}", remove)


def _missing_batches(store: Store) -> Iterator[Finding]:
    slots = [slot for slot in (store.current, store.next) if slot.folder.exists()]
    present = {mark.id for slot in slots if (mark := store.volume.mark(slot.folder))}
    for row in store.catalog.batches.all():
        if row.state is not BatchState.ARCHIVED and row.id not in present:
            yield Finding(f"batch {row.id} is not on the volume", partial(_forget, store, row.id))


def _forget(store: Store, batch: str) -> None:
    """Delete a batch that was lost while it was open, and the keys of segments that were lost with it."""
    store.catalog.segments.remove(batch, store.catalog.segments.sizes(batch))
    store.catalog.batches.drop(batch)


def _altered_files(store: Store, slot: Slot, files: dict[str, int]) -> Iterator[Finding]:
    mark = store.volume.mark(slot.folder)
    for row in store.catalog.segments.find(SegmentFilter(batch=mark.id if mark else "", limit=-1)):
        if files.get(row.name) != row.bytes:
            continue
        try:
            altered = entry_of(row.name, store.volume.read(slot.folder / row.name)).sha256 != row.sha256
        except ProblemError:
            altered = True
        if altered:
            yield _untrustworthy(store, slot, row.name, "its bytes are not those that were stored")


def _untrustworthy(store: Store, slot: Slot, name: str, reason: str) -> Finding:
    def repair() -> None:
        store.volume.set_aside(slot.folder / name, reason)
        store.catalog.segments.remove(store.load(slot).id, [name])

    return Finding(f"{name}: {reason}; moved to quarantine", repair)


def _add_rows(store: Store, batch: str, entries: list[ManifestEntry], *, recovered: bool = False) -> None:
    for start in range(0, len(entries), _PORTION):
        rows = [
            SegmentRow(e.name, e.size, e.sha256, e.channel, e.t0, e.dt, e.n, store.volume.number(e.name) or 0)
            for e in entries[start : start + _PORTION]
        ]
        store.catalog.segments.add(batch, rows, recovered=recovered)
        if start and start % (10 * _PORTION) == 0:
            log.info("read %d of %d segments into the catalog", start, len(entries))


def _files_and_log(store: Store, slot: Slot) -> Iterator[Finding]:
    sizes = store.volume.sizes(slot.folder)
    entries = {entry.name: entry for entry in slot.log.entries()}
    if list(entries) == list(sizes) and slot.log.content().count(b"\n") == len(entries):
        return
    matching = [
        entries.get(name) or stored_entries([(name, size)], store.volume.number(name) or 0)[0]
        for name, size in sizes.items()
    ]
    replaced = partial(slot.log.replace, matching)
    yield Finding(f"{slot.log.name} did not list the segments of {slot.folder.name}", replaced)


def _seals(store: Store) -> Iterator[Finding]:
    """Make manifest and catalog follow the state in Dsstat.json."""
    current, manifest = store.load(store.current), _readable_manifest(store.current.folder)
    row = store.catalog.batches.get(current.id)
    is_open = row is not None and row.state is BatchState.OPEN
    description = store.metadata.read_description() or OPERATIONAL
    if description.dstatus is DatastoreState.OPERATIONAL:
        if (store.current.folder / MANIFEST).exists() or not is_open:
            yield Finding("the batch was being frozen or thawed; it is open", partial(store.unseal, current))
    elif manifest is None or manifest.batch != current.id:
        seal = partial(store.seal, current, description.user, time.time_ns())
        yield Finding("the frozen batch had no manifest", seal)
    elif is_open:
        yield Finding("the batch was not frozen in the catalog", partial(store.note_seal, current, manifest))


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
        partial(store.metadata.write_stats, stats),
    )
