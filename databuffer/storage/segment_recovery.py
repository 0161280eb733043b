"""Find and repair differences between the segment files of a batch and its rows in the catalog and lines in the log."""

import errno
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from databuffer.storage.catalog import SegmentFilter, SegmentRow
from databuffer.storage.finding import Finding
from databuffer.storage.metadata import stored_entries
from databuffer.storage.scalars import Scalars, meta_scalars
from databuffer.storage.store import Slot, Store
from gwwire.manifest import entry_of
from gwwire.problems import ProblemError
from gwwire.public import ManifestEntry

log = logging.getLogger(__name__)

_PORTION = 1000
_LATEST = 2**63 - 1
_BAD_FILE = {errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENOENT}


class _Meta(msgspec.Struct, frozen=True):
    meta: dict[str, Any] = {}


def files_and_rows(store: Store, slot: Slot, *, thorough: bool) -> Iterator[Finding]:
    """Make the catalog follow the files of a batch; if `thorough`, the bytes of each file are compared too."""
    mark = store.volume.marks.read(slot.folder)
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


def check_reachable(problem: ProblemError) -> None:
    """Raise a read error unless it is in the file's content; the file stays in place."""
    if isinstance(problem.__cause__, OSError) and problem.__cause__.errno not in _BAD_FILE:
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
    for start in range(0, len(entries), _PORTION):
        rows = [
            SegmentRow(
                *(e.name, e.size, e.sha256, e.channel, e.t0, e.dt, e.n, _stored_at(store, e.name)),
                conditions=_conditions(store, folder / e.name),
            )
            for e in entries[start : start + _PORTION]
        ]
        store.catalog.segments.add(batch, rows, recovered=recovered)
        if start and start % (10 * _PORTION) == 0:
            log.info("read %d of %d segments into the catalog", start, len(entries))


def _conditions(store: Store, file: Path) -> Scalars:
    """Return the scalars of a segment's `meta`; none if its file cannot be read, which other checks report."""
    try:
        return meta_scalars(msgspec.json.decode(store.volume.read(file), type=_Meta).meta)
    except (ProblemError, ValueError):
        return ()


def _stored_at(store: Store, name: str) -> int:
    """Return the time in a file name in nanoseconds of Unix time, or the latest that the catalog can hold."""
    return min(store.volume.number(name) or 0, _LATEST)
