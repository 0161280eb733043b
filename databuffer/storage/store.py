"""Steps that change more than one of volume, state files, log and catalog, in an order that survives a crash."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from databuffer.errors import VolumeError, VolumeFailed, VolumeFull
from databuffer.storage.catalog import BatchRow, Catalog, SegmentFilter
from databuffer.storage.clock import unix_ns, utc_text
from databuffer.storage.files import (
    Space,
    make_folder,
    make_own_folder,
    move_no_folder_aside,
    move_unusable_aside,
    probe_file,
    volume_errors,
)
from databuffer.storage.marks import BatchMark
from databuffer.storage.metadata import LogStream, Metadata
from databuffer.storage.reserve import Reserve
from databuffer.storage.tally import Tally
from databuffer.storage.volume import Volume
from gwservice.atomic import locked
from gwwire.datastore import Description
from gwwire.manifest import MANIFEST, encode_manifest, seal
from gwwire.public import BatchState, DatastoreState, Manifest, ManifestEntry, Stats

log = logging.getLogger(__name__)

OPERATIONAL = Description(DatastoreState.OPERATIONAL)


@dataclass(frozen=True)
class Slot:
    """A folder in which a batch is filled, and its log."""

    folder: Path
    log: LogStream


@dataclass(frozen=True)
class Seal:
    """The time of a freeze in nanoseconds of Unix time, and the digest of the batch."""

    at: int
    digest: str


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not archived: its slot, its counts, and its seal if it is frozen."""

    slot: Slot
    mark: BatchMark
    stats: Stats
    tally: Tally
    seal: Seal | None = None

    @property
    def id(self) -> str:
        """The batch id."""
        return self.mark.id


class Store:
    """All files of the buffer; the slot `next` is filled while the batch in the slot `current` is frozen."""

    def __init__(
        self, volume: Volume, metadata: Metadata, catalog: Catalog, stream: LogStream, next_stream: LogStream
    ) -> None:
        self.volume = volume
        self.metadata = metadata
        self.catalog = catalog
        self.current = Slot(volume.data, stream)
        self.next = Slot(volume.next, next_stream)
        self.reserve = Reserve(volume.root / ".reserve")
        self._unlock: ExitStack | None = None

    def open(self, *, thorough: bool = False) -> None:
        """Lock the volume, create the folders other than those of batches, lock them, and open the catalog."""
        if self.volume.is_empty() and self.metadata.read_description() is not None:
            with ExitStack() as stack:
                self._lock_folder(stack, "ADMROOT")  # the batch may be that of a running buffer
            raise VolumeFailed(
                f"{self.volume.root} (DTVOLROOT) is empty, but {self.metadata.path} records a batch on it: mount the"
                f" volume, or remove {self.metadata.path} to begin a new datastore"
            )
        self.volume.lock()
        if os.path.lexists(data := self.volume.data) and not data.is_dir():
            raise VolumeFailed(f"{data} (DATAROOT) is not a folder; move it away, or name another folder")
        with volume_errors():
            for folder in (self.volume.root, *self._other_folders()):
                make_folder(folder)
            for folder in (self.volume.incoming, self.volume.quarantine):
                make_own_folder(folder)
            for folder in self._later_folders():
                move_no_folder_aside(folder)
        self._lock_folders()
        self.metadata.prepare()
        for slot in (self.current, self.next):
            move_unusable_aside(slot.log.path, os.R_OK | os.W_OK)
            move_unusable_aside(self.volume.marks.path(slot.folder))
        self.catalog.open(thorough=thorough, is_first=self.is_new)

    @property
    def is_new(self) -> bool:
        """True if nothing was ever stored."""
        state = self.metadata.read_description() or self.metadata.read_stats()
        return state is None and not self.current.folder.exists()

    def close(self) -> None:
        """Close the catalog, and unlock it, the log and the volume."""
        self.catalog.close()
        if self._unlock:
            self._unlock.close()
            self._unlock = None
        self.volume.unlock()

    def is_scarce(self) -> bool:
        """Return whether a file system that a segment needs may have no space for one."""
        return any(Space.of(folder).scarce for folder in (self.volume.root, *self._other_folders()))

    def probe(self, size: int) -> None:
        """Write the files that a segment of `size` bytes needs in each folder; raise VolumeError if that fails.

        The files exist at the same time, as those of a segment do: each needs an inode.
        """
        folder = self.volume.incoming
        try:
            with volume_errors(), ExitStack() as files:
                files.enter_context(probe_file(folder, size))
                for folder in self._other_folders():
                    files.enter_context(probe_file(folder))
            folder = self.catalog.database.path.parent
            self.catalog.probe()
        except VolumeFull as error:
            raise VolumeFull(f"{error.detail} ({Space.of(folder)})") from error

    def trace(self) -> str:
        """Return a text that changes whenever a file or a segment's row is added or removed, or a log changes."""
        slots = (self.current, self.next)
        logs = " ".join(f"{slot.log.name}:{slot.log.size()}" for slot in slots)
        ids = " ".join(mark.id for slot in slots if (mark := self.volume.marks.read(slot.folder)))
        rows = sum(self.catalog.segments.numbers().values())
        return f"{self.volume.trace()} {logs} {ids} rows:{rows}"

    def load(self, slot: Slot) -> OpenBatch:
        """Return the batch in a slot, with the counts of the catalog."""
        mark = self.volume.marks.read(slot.folder) or self.assign_new_id(slot)
        row = self.catalog.batches.get(mark.id)
        seal = Seal(row.frozen, row.digest) if row and row.frozen and row.digest else None
        return self._counted(slot, mark, seal)

    def begin(self, slot: Slot) -> OpenBatch:
        """Begin an empty batch. Its folder is created last: a start-up takes the folder for the batch."""
        mark = self.assign_new_id(slot)
        slot.log.replace(())
        self.volume.make_open_folder(slot.folder)
        return OpenBatch(slot, mark, Stats(0, 0), {})

    def assign_new_id(self, slot: Slot) -> BatchMark:
        """Assign a new id to the batch in a slot."""
        opened = time.time_ns()
        mark = BatchMark(f"b{opened}", opened)
        self.volume.marks.write(slot.folder, mark)
        self.catalog.batches.put(open_row(mark, slot.folder))
        return mark

    def keep_mark(self, batch: OpenBatch) -> None:
        """Write the mark of a batch again unless it is on the volume: the steps below read it, as a start-up does."""
        if self.volume.marks.read(batch.slot.folder) != batch.mark:
            log.warning("the id of batch %s was not on the volume any more; it is written again", batch.id)
            self.volume.marks.write(batch.slot.folder, batch.mark)

    def seal(self, batch: OpenBatch, holder: str, now: int) -> Manifest:
        """Write a batch's manifest to its folder, and mark the batch as frozen in the catalog, or change neither."""
        entries = [
            ManifestEntry(row.name, row.bytes, row.sha256, row.channel, row.t0, row.dt, row.n)
            for row in self.catalog.segments.find(SegmentFilter(batch=batch.id, limit=-1))
        ]
        if len(entries) != batch.stats.n_itm:  # another program changed the catalog
            raise VolumeFailed(
                f"the catalog has {len(entries)} of {batch.stats.n_itm} segments: it was changed while the buffer ran",
                retry_after=1,
            )
        opened, sealed = utc_text(batch.mark.opened), utc_text(now)
        manifest = seal(batch=batch.id, opened=opened, sealed=sealed, holder=holder, segments=entries)
        try:
            self.volume.put_file(batch.slot.folder, MANIFEST, encode_manifest(manifest))
            self.catalog.batches.put(_sealed_row(batch, manifest, now))
        except VolumeError:  # a manifest that stayed would freeze the batch
            with suppress(VolumeError):
                self._remove_manifest(batch)
            raise
        return manifest

    def note_seal(self, batch: OpenBatch, manifest: Manifest) -> None:
        """Mark a batch that has a manifest as frozen in the catalog."""
        self.catalog.batches.put(_sealed_row(batch, manifest, unix_ns(manifest.sealed)))

    def unseal(self, batch: OpenBatch) -> None:
        """Remove the manifest of a batch, durably, and mark the batch as open in the catalog."""
        self._remove_manifest(batch)
        self.catalog.batches.put(open_row(batch.mark, batch.slot.folder))

    def _remove_manifest(self, batch: OpenBatch) -> None:
        self.volume.discard(batch.slot.folder / MANIFEST)
        self.volume.sync(batch.slot.folder)

    def archive(self, batch: OpenBatch, manifest: Manifest, now: int) -> Path:
        """Move the current batch to an archive folder, with its manifest and log. Call `advance` next."""
        self.volume.put_file(batch.slot.folder, batch.slot.log.name, batch.slot.log.content())
        folder = self.volume.archive(datetime.fromtimestamp(now // 10**9, UTC))
        row = self.catalog.batches.get(batch.id) or _sealed_row(batch, manifest, now)
        self.catalog.batches.put(replace(row, state=BatchState.ARCHIVED, path=folder.name, archived=now))
        self._back_up_ledger(self.catalog.backups.write, now)
        return folder

    def ledger_backup_due(self) -> None:
        """Write a backup of the ledger if it changed and the last one is 10 minutes old.

        Call it between two groups of segments, while memory and volume agree: a key in a backup has to belong to a
        segment that is on the disk. A failure is logged, and the next attempt is made 10 minutes later.
        """
        self._back_up_ledger(self.catalog.backups.write_if_due, time.time_ns())

    def drop_empty(self, batch: OpenBatch) -> None:
        """Remove the current batch, which is empty, and its folder. Call `advance` next."""
        self.volume.discard(batch.slot.folder / MANIFEST)
        self.catalog.batches.drop(batch.id)
        self.volume.close_empty()

    def advance(self) -> OpenBatch:
        """Make the next batch the current one, or begin an empty one, after the data folder was moved.

        The data folder appears last: a start-up that does not find it repeats this step.
        """
        self.metadata.write_description(OPERATIONAL)
        if not self.next.folder.exists():
            self.metadata.write_stats(Stats(0, 0))
            return self.begin(self.current)
        self.current.log.take_over(self.next.log)
        mark = self.volume.marks.read(self.next.folder) or self._mark_moved_first() or self.assign_new_id(self.next)
        batch = self._counted(self.current, mark)
        self.metadata.write_stats(batch.stats)
        self.catalog.batches.put(open_row(mark, self.current.folder))
        self.volume.advance()
        return batch

    def _mark_moved_first(self) -> BatchMark | None:
        """Return the mark that a step which was cut short moved to the data folder before the batch, or None."""
        mark = self.volume.marks.read(self.current.folder)
        row = self.catalog.batches.get(mark.id) if mark else None
        return None if row and row.state is BatchState.ARCHIVED else mark

    def merge(self) -> OpenBatch:
        """Move the segments of the next batch to the current one.

        The folder of the next batch disappears last: a start-up that finds it repeats this step.
        """
        current, following = self.load(self.current), self.load(self.next)
        self.volume.merge_next()
        self.catalog.batches.merge(following.id, current.id)
        current.slot.log.append(following.slot.log.entries())
        following.slot.log.remove()
        self.volume.close_next()
        return self.load(self.current)

    def _counted(self, slot: Slot, mark: BatchMark, seal: Seal | None = None) -> OpenBatch:
        tally = self.catalog.segments.tally(mark.id)
        n_itm, buff_size = (sum(each.segments for each in tally.values()), sum(each.bytes for each in tally.values()))
        return OpenBatch(slot, mark, Stats(n_itm, buff_size), tally, seal)

    def _lock_folders(self) -> None:
        """Lock catalog and log until `close`; raise VolumeFailed if a buffer of another volume has locked one."""
        if self._unlock:
            return
        with ExitStack() as stack:
            for setting in ("ADMROOT", "LOGROOT"):
                self._lock_folder(stack, setting)
            self._unlock = stack.pop_all()

    def _lock_folder(self, stack: ExitStack, setting: Literal["ADMROOT", "LOGROOT"]) -> None:
        catalog, stream = self.catalog.database.path, self.current.log.path
        path = catalog.with_name(".catalog.lock") if setting == "ADMROOT" else stream.with_name(".log.lock")
        with volume_errors():
            try:
                stack.enter_context(locked(path))
            except BlockingIOError:
                raise VolumeFailed(f"another buffer uses {path.parent} ({setting})") from None

    def _other_folders(self) -> set[Path]:
        return self.metadata.folders | {self.current.log.path.parent}

    def _later_folders(self) -> Iterator[Path]:
        """Return the folders on the volume that are created when they are needed."""
        yield from (self.volume.next, self.volume.bundles, self.volume.holdings)
        yield from (self.catalog.backups.folder, self.reserve.folder)

    @staticmethod
    def _back_up_ledger(write: Callable[[int], object], now: int) -> None:
        """Log a failed backup: it must not fail the step that it belongs to."""
        try:
            write(now)
        except VolumeError as error:
            log.warning("the ledger could not be backed up: %s", error.detail, extra={"event": "ledger-backup-failed"})


def open_row(mark: BatchMark, folder: Path) -> BatchRow:
    """Return the catalog row of an open batch."""
    return BatchRow(mark.id, BatchState.OPEN, mark.opened, folder.name)


def _sealed_row(batch: OpenBatch, manifest: Manifest, now: int) -> BatchRow:
    return replace(
        open_row(batch.mark, batch.slot.folder),
        state=BatchState.FROZEN,
        frozen=now,
        holder=manifest.holder,
        n_itm=manifest.n_itm,
        buff_size=manifest.buff_size,
        digest=manifest.digest,
    )
