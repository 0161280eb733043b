"""What does not agree on a volume, and how to put it right.

The folders are the truth; catalog, log and counts are made to follow. Nothing that was stored is thrown away: what
cannot be trusted is set aside in `quarantine/` with the reason. Start-up looks only where something changed since the
last clean stop; `fsck` looks at every byte.
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
from databuffer.storage.manifest import MANIFEST, batch_digest, differences, entry_of, read_manifest
from databuffer.storage.metadata import stored_entry
from databuffer.storage.store import OPERATIONAL, Slot, Store, open_row
from gwwire.problems import ProblemError
from gwwire.public import BatchState, DatastoreState, Manifest, ManifestEntry

log = logging.getLogger(__name__)

_PORTION = 1000


@dataclass(frozen=True)
class Finding:
    """Something that does not agree, and what puts it right; not `repairable`: somebody has to look at it."""

    what: str
    repair: Callable[[], object] = lambda: None
    repairable: bool = True


def recover(store: Store) -> list[str]:
    """Put everything right that does not agree; gives a line for each thing that was not as it should be.

    Raises:
        VolumeError: the volume did not let it.

    """
    unchanged = store.catalog.take_clean_stop() == store.trace()
    repairs = []
    for finding in examine(store, unchanged=unchanged):
        finding.repair()
        repairs.append(finding.what)
    return repairs


def examine(store: Store, *, unchanged: bool = False, thorough: bool = False) -> Iterator[Finding]:
    """Look for what does not agree; each finding is looked for after those before it were repaired, if they were.

    Args:
        store: an open store.
        unchanged: no file has come or gone since a clean stop, so files and rows need not be compared.
        thorough: read every byte, of archives too.

    Raises:
        VolumeError: the volume cannot be read.

    """
    if not unchanged:
        yield from _archives_and_catalog(store)
    yield from _missing_hand(store)
    if not store.hand.folder.exists():
        return
    yield from _leftovers(store)
    yield from _state(store)
    yield from _thawing(store)
    for slot in (store.hand, store.next):
        if slot.folder.exists() and not unchanged:
            yield from _files_and_rows(store, slot, thorough=thorough)
            yield from _files_and_log(store, slot)
    if not unchanged:
        yield from _nowhere(store)
    yield from _seals(store)
    yield from _counts(store)
    if thorough:
        yield from _altered_archives(store)


# ---- archives


def _archives_and_catalog(store: Store) -> Iterator[Finding]:
    known = {row.path: row for row in store.catalog.batches() if row.state is BatchState.ARCHIVED}
    folders = {folder.name: folder for folder in store.volume.archives()}
    for name in sorted(folders.keys() - known.keys()):
        yield Finding(f"archive {name!r} is not in the catalog", partial(_import_archive, store, folders[name]))
    for name in sorted(known.keys() - folders.keys()):
        yield Finding(
            f"archive {name!r} is in the catalog, but not on the volume",
            partial(store.catalog.drop_batch, known[name].id),
        )


def _import_archive(store: Store, folder: Path) -> None:
    manifest = _readable_manifest(folder)
    row = store.catalog.batch(manifest.batch) if manifest else None
    if manifest and row and row.state is not BatchState.ARCHIVED:
        # It was archived right before a crash: its segments are in the catalog already, with their keys; but for those
        # that a power cut took from the catalog.
        known = store.catalog.sizes(row.id)
        _add_rows(store, row.id, [segment for segment in manifest.segments if segment.name not in known])
        store.catalog.put_batch(_archive_row(row.id, folder, manifest.segments, manifest))
        return
    batch = f"a{folder.name.replace(' ', '-')}" if row or not manifest else manifest.batch
    segments = manifest.segments if manifest else list(_readable_entries(store, folder))
    store.catalog.drop_batch(batch)
    _add_rows(store, batch, segments)
    store.catalog.put_batch(_archive_row(batch, folder, segments, manifest))


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
            log.warning("%s is no segment and is left out of the catalog: %s", folder / name, problem.detail)


def _altered_archives(store: Store) -> Iterator[Finding]:
    for folder in store.volume.archives():
        if not (folder / MANIFEST).exists():
            continue
        for difference in differences(folder, read_manifest(folder)):
            yield Finding(f"archive {folder.name!r}: {difference}", repairable=False)


# ---- the batch in hand and the next one


def _missing_hand(store: Store) -> Iterator[Finding]:
    if store.hand.folder.exists():
        return
    if store.metadata.read_description() is None and store.metadata.read_stats() is None:
        store.advance()  # an empty volume is a fine place to start
        return
    yield Finding("the batch in hand is not there: it was being archived; finished that", store.advance)


def _leftovers(store: Store) -> Iterator[Finding]:
    for path in store.volume.leftovers():
        yield Finding(
            f"{path.name} was being written when the buffer stopped; set aside",
            partial(store.volume.set_aside, path, "was being written when the buffer stopped; never acknowledged"),
        )
    copied_log = store.hand.folder / store.hand.log.name
    if copied_log.exists():
        yield Finding(
            "archiving had stopped before it moved anything; the batch is still in hand",
            partial(store.volume.discard, copied_log),
        )


def _state(store: Store) -> Iterator[Finding]:
    if store.metadata.read_description() is None:
        yield Finding(
            "the state could not be read; it is OPERATIONAL now", partial(store.metadata.write_description, OPERATIONAL)
        )
    yield from _clear_token(store)
    for slot in (store.hand, store.next):
        if slot.folder.exists():
            yield from _name_and_row(store, slot)


def _clear_token(store: Store) -> Iterator[Finding]:
    """Earlier versions kept the holder's token itself."""
    description = store.metadata.read_description() or OPERATIONAL
    if description.dstatus is DatastoreState.FROZEN and not is_fingerprint(description.token):
        yield Finding(
            "the holder's token was stored in clear; its fingerprint is kept now",
            lambda: store.metadata.write_description(
                msgspec.structs.replace(description, token=fingerprint(description.token))
            ),
        )


def _name_and_row(store: Store, slot: Slot) -> Iterator[Finding]:
    place, mark = slot.folder.name, store.volume.mark(slot.folder)
    if mark is None:
        yield Finding(f"the batch in {place} had no name", partial(store.mark_anew, slot))
        return
    row = store.catalog.batch(mark.id)
    if row is None:
        new = open_row(mark, slot.folder)
        yield Finding(f"the batch in {place} was not in the catalog", partial(store.catalog.put_batch, new))
    elif row.path != place:
        moved = replace(row, path=place)
        yield Finding(
            f"the batch in {place} was in {row.path} for the catalog", partial(store.catalog.put_batch, moved)
        )


def _thawing(store: Store) -> Iterator[Finding]:
    """A thaw is finished before files and rows are compared: its segments keep their keys and places in the order."""
    description = store.metadata.read_description() or OPERATIONAL
    if description.dstatus is DatastoreState.OPERATIONAL and store.next.folder.exists():
        yield Finding("the batch was being thawed; the next one's segments are in it now", store.merge)


def _files_and_rows(store: Store, slot: Slot, *, thorough: bool) -> Iterator[Finding]:
    mark = store.volume.mark(slot.folder)
    rows = store.catalog.sizes(mark.id) if mark else {}
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
        yield Finding(
            f"{len(lost)} segments are in the catalog, but not in {slot.folder.name}: {', '.join(lost[:3])}",
            partial(store.catalog.remove, mark.id, lost),
        )


def _nowhere(store: Store) -> Iterator[Finding]:
    slots = [slot for slot in (store.hand, store.next) if slot.folder.exists()]
    there = {mark.id for slot in slots if (mark := store.volume.mark(slot.folder))}
    for row in store.catalog.batches():
        if row.state is not BatchState.ARCHIVED and row.id not in there:
            yield Finding(f"batch {row.id} is nowhere on the volume", partial(store.catalog.drop_batch, row.id))


def _altered_files(store: Store, slot: Slot, files: dict[str, int]) -> Iterator[Finding]:
    mark = store.volume.mark(slot.folder)
    for row in store.catalog.segments(SegmentFilter(batch=mark.id if mark else "", limit=-1)):
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
        store.catalog.remove(store.load(slot).id, [name])

    return Finding(f"{name}: {reason}; set aside", repair)


def _add_rows(store: Store, batch: str, entries: list[ManifestEntry], *, recovered: bool = False) -> None:
    for start in range(0, len(entries), _PORTION):
        rows = [_row(store, entry, recovered=recovered) for entry in entries[start : start + _PORTION]]
        store.catalog.add(batch, rows)
        if start and start % (10 * _PORTION) == 0:
            log.info("read %d of %d segments into the catalog", start, len(entries))


def _row(store: Store, entry: ManifestEntry, *, recovered: bool) -> SegmentRow:
    return SegmentRow(
        name=entry.name,
        bytes=entry.size,
        sha256=entry.sha256,
        channel=entry.channel,
        t0=entry.t0,
        dt=entry.dt,
        n=entry.n,
        stored=store.volume.number(entry.name) or 0,
        recovered=recovered,
    )


def _files_and_log(store: Store, slot: Slot) -> Iterator[Finding]:
    sizes = store.volume.sizes(slot.folder)
    entries = {entry.name: entry for entry in slot.log.entries()}
    if list(entries) == list(sizes) and slot.log.content().count(b"\n") == len(entries):
        return
    matching = [
        entries.get(name) or stored_entry(name, size, store.volume.number(name) or 0) for name, size in sizes.items()
    ]
    yield Finding(
        f"{slot.log.name} did not tell the segments of {slot.folder.name}", partial(slot.log.replace, matching)
    )


def _seals(store: Store) -> Iterator[Finding]:
    """The state in Dsstat.json is what was decided; whatever goes with it is made to follow."""
    description = store.metadata.read_description() or OPERATIONAL
    hand, manifest = store.load(store.hand), _readable_manifest(store.hand.folder)
    row = store.catalog.batch(hand.id)
    open_row = row is not None and row.state is BatchState.OPEN
    if description.dstatus is DatastoreState.FROZEN:
        if manifest is None or manifest.batch != hand.id:
            yield Finding(
                "the frozen batch had no manifest", lambda: store.seal(hand, description.user, time.time_ns())
            )
        elif open_row:
            yield Finding("the catalog did not know that the batch is frozen", partial(store.note_seal, hand, manifest))
        return
    if (store.hand.folder / MANIFEST).exists() or not open_row:
        yield Finding("the batch was being frozen or thawed; it is open", partial(store.unseal, hand))


def _readable_manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except VolumeFailed:
        return None


def _counts(store: Store) -> Iterator[Finding]:
    stats, told = store.load(store.hand).stats, store.metadata.read_stats()
    if told == stats:
        return
    said = f"said {told.n_itm} segments, {told.buff_size} bytes" if told else "could not be read"
    yield Finding(
        f"the counts {said}; there are {stats.n_itm} segments, {stats.buff_size} bytes",
        partial(store.metadata.write_stats, stats),
    )
