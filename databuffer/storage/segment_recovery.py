"""Find and repair differences between the segment files of a batch and its rows in the catalog and lines in the log."""

import errno
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from databuffer.errors import VolumeFailed
from databuffer.storage.catalog import SegmentFilter, SegmentRow
from databuffer.storage.clock import LATEST
from databuffer.storage.dropped import read_meta
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import read_manifest, readable_manifest
from databuffer.storage.metadata import stored_entries
from databuffer.storage.scalars import Scalars, scalars_of_file
from databuffer.storage.store import Slot, Store
from gwservice.regular_file import UnusableFile
from gwwire.manifest import batch_digest, entry_of, wrong_totals
from gwwire.problems import ProblemError
from gwwire.public import DatastoreState, Manifest, ManifestEntry

log = logging.getLogger(__name__)

_PORTION = 1000
_BAD_FILE = {errno.EIO, errno.ENOENT}


def files_and_rows(store: Store, slot: Slot, *, thorough: bool) -> Iterator[Finding]:
    """Make the catalog follow the files of a batch; if `thorough`, the bytes of each file are compared too."""
    mark = store.volume.marks.read(slot.folder)
    rows = store.catalog.segments.sizes(mark.id) if mark else {}
    files = store.volume.sizes(slot.folder)
    for name in [name for name in files if name in rows and files[name] != rows[name]]:
        yield _untrustworthy(store, slot, name, f"has {files[name]} bytes, not the {rows[name]} that were stored")
    if thorough:
        yield from _altered_files(store, slot, files)
    new, sealed = [], _sealed(store, slot)
    for name in [name for name in files if name not in rows]:
        if sealed is not None and name not in sealed:
            yield _untrustworthy(
                store, slot, name, "is not in the manifest of the frozen batch; another program put it there"
            )
            continue
        try:
            new.append(entry_of(name, store.volume.read(slot.folder / name)))
        except ProblemError as problem:
            check_reachable(problem)
            yield _untrustworthy(store, slot, name, problem.detail)
    if new:
        named = ", ".join(entry.name for entry in new[:3]) + (", …" if len(new) > 3 else "")  # noqa: PLR2004 (some)
        yield Finding(
            f"{len(new)} segments were not in the catalog: {named}",
            "added",
            lambda: add_rows(store, store.load(slot).id, slot.folder, new, recovered=True),
        )
    lost = sorted(rows.keys() - files.keys())
    if lost and mark:
        named, remove = ", ".join(lost[:3]), partial(store.catalog.segments.remove, mark.id, lost)
        yield Finding(
            f"{len(lost)} segments are in the catalog, but not in {slot.folder.name}: {named}", "dropped", remove
        )


def _sealed(store: Store, slot: Slot) -> set[str] | None:
    """Return the names of the segments of a frozen batch, or None if the batch is open or they are unknown."""
    state, mark = store.metadata.read_description(), store.volume.marks.read(slot.folder)
    if slot is not store.current or mark is None or state is None or state.dstatus is not DatastoreState.FROZEN:
        return None
    manifest = readable_manifest(slot.folder)
    if manifest and manifest.holder and not any(wrong_totals(manifest)):
        return {entry.name for entry in manifest.segments}
    row, rows = store.catalog.batches.get(mark.id), store.catalog.segments.find(SegmentFilter(batch=mark.id, limit=-1))
    if row and row.digest == batch_digest((each.name, each.sha256) for each in rows):
        return {each.name for each in rows}
    return None


def files_and_log(store: Store, slot: Slot) -> Iterator[Finding]:
    """Make the log list the files of a batch."""
    sizes = store.volume.sizes(slot.folder)
    entries = {entry.name: entry for entry in slot.log.entries()}
    if list(entries) == list(sizes) and slot.log.content().count(b"\n") == len(entries):
        return
    matching = [
        entries.get(name) or stored_entries([(name, size)], _stored_at(store, name))[0] for name, size in sizes.items()
    ]
    replaced = partial(slot.log.replace, matching)
    yield Finding(f"{slot.log.name} did not list the segments of {slot.folder.name}", "rewritten", replaced)


def rows_of_archives(store: Store) -> Iterator[Finding]:
    """Add the segments of archives that another program deleted from the catalog."""
    numbers = store.catalog.segments.numbers()
    folders = {folder.name: folder for folder in store.volume.archives()}
    for row in store.catalog.batches.all():
        folder = folders.get(row.path)
        missing = row.n_itm - numbers.get(row.id, 0)
        if folder and missing > 0 and (manifest := readable_manifest(folder)) and manifest.batch == row.id:
            add = partial(add_missing, store, folder, manifest)
            yield Finding(f"{missing} segments of archive {folder.name!r} were not in the catalog", "added", add)


def add_missing(store: Store, folder: Path, manifest: Manifest) -> None:
    """Add the segments of an archive's manifest that the catalog does not have."""
    known = store.catalog.segments.sizes(manifest.batch)
    add_rows(store, manifest.batch, folder, [segment for segment in manifest.segments if segment.name not in known])


def _altered_files(store: Store, slot: Slot, files: dict[str, int]) -> Iterator[Finding]:
    mark = store.volume.marks.read(slot.folder)
    for row in store.catalog.segments.find(SegmentFilter(batch=mark.id if mark else "", limit=-1)):
        if files.get(row.name) != row.bytes:
            continue
        try:
            altered = entry_of(row.name, store.volume.read(slot.folder / row.name)).sha256 != row.sha256
        except ProblemError as problem:
            check_reachable(problem)
            altered = True
        if altered:
            yield _untrustworthy(store, slot, row.name, "its bytes are not those that were stored")


def is_segment(store: Store, path: Path) -> bool:
    """Return whether a file is a segment."""
    try:
        entry_of(path.name, store.volume.read(path))
    except ProblemError as problem:
        check_reachable(problem)
        return False
    return True


def manifest_of(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None if it is missing or malformed; raise VolumeFailed if reading fails."""
    try:
        return read_manifest(folder)
    except VolumeFailed as problem:
        check_reachable(problem)
        return None


def check_reachable(problem: ProblemError) -> None:
    """Raise a read error unless it is in the file's content; the file stays in place."""
    cause = problem.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, UnusableFile) and cause.errno not in _BAD_FILE:
        raise problem


def _untrustworthy(store: Store, slot: Slot, name: str, reason: str) -> Finding:
    def repair() -> None:
        store.volume.set_aside(slot.folder / name, reason)
        store.catalog.segments.remove(store.load(slot).id, [name])

    return Finding(f"{name}: {reason}", "moved to quarantine", repair)


def add_rows(store: Store, batch: str, folder: Path, entries: list[ManifestEntry], *, recovered: bool = False) -> None:
    """Add segments to the catalog, with what can be searched of the `meta` in their files in a folder.

    `recovered`: they were found on the volume.
    """
    kept = read_meta(folder)  # of segments that the disk has dropped
    for start in range(0, len(entries), _PORTION):
        rows = [
            SegmentRow(
                *(e.name, e.size, e.sha256, e.channel, e.t0, e.dt, e.n, _stored_at(store, e.name)),
                conditions=kept.get(e.name) or _conditions(store, folder / e.name),
            )
            for e in entries[start : start + _PORTION]
        ]
        store.catalog.segments.add(batch, rows, recovered=recovered)
        if start and start % (10 * _PORTION) == 0:
            log.info("read %d of %d segments into the catalog", start, len(entries))


def _conditions(store: Store, file: Path) -> Scalars:
    """Return the scalars of a segment's `meta`; none if its file cannot be read, which other checks report."""
    try:
        return scalars_of_file(store.volume.read(file))
    except ProblemError:
        return ()


def _stored_at(store: Store, name: str) -> int:
    """Return the time in a file name in nanoseconds of Unix time, or the latest that the catalog can hold."""
    return min(store.volume.number(name) or 0, LATEST)
