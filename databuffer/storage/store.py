"""Volume, papers and catalog together: steps that touch more than one of them, in the order that survives a crash."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from databuffer.storage.catalog import BatchRow, Catalog, SegmentFilter
from databuffer.storage.clock import unix_ns, utc_text
from databuffer.storage.manifest import MANIFEST, encode_manifest, seal
from databuffer.storage.metadata import LogStream, Metadata
from databuffer.storage.tally import Tally
from databuffer.storage.volume import BatchMark, Volume, new_mark
from gwwire.datastore import Description
from gwwire.public import BatchState, DatastoreState, Manifest, ManifestEntry, Stats

log = logging.getLogger(__name__)

OPERATIONAL = Description(DatastoreState.OPERATIONAL)


@dataclass(frozen=True)
class Slot:
    """A place where a batch is filled: its folder, and its log."""

    folder: Path
    log: LogStream


@dataclass(frozen=True)
class Seal:
    """When a batch was frozen, in nanoseconds of Unix time, and its digest."""

    at: int
    digest: str


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not archived: where it is, what it counts, and its seal where it is frozen."""

    slot: Slot
    mark: BatchMark
    stats: Stats
    tally: Tally
    seal: Seal | None = None

    @property
    def id(self) -> str:
        """The batch's id."""
        return self.mark.id


class Store:
    """The buffer's files.

    Attributes:
        hand: where the batch in hand is.
        next: where the batch is that is filled while the one in hand is frozen.

    """

    def __init__(
        self, volume: Volume, metadata: Metadata, catalog: Catalog, stream: LogStream, next_stream: LogStream
    ) -> None:
        self.volume = volume
        self.metadata = metadata
        self.catalog = catalog
        self.hand = Slot(volume.data, stream)
        self.next = Slot(volume.next, next_stream)

    def open(self) -> None:
        """Lock the volume, make the folders that hold no batch, and open the catalog.

        Raises:
            VolumeError: another buffer has the volume, or it cannot be used.

        """
        self.volume.lock()
        self.volume.make_folders()
        self.metadata.make_folders()
        self.metadata.drop_unfinished()
        for slot in (self.hand, self.next):
            slot.log.make_folders()
        if self.catalog.open():
            log.info("the catalog is new; what is on the volume is read into it")

    def close(self) -> None:
        """Let another buffer have the volume."""
        self.catalog.close()
        self.volume.unlock()

    def probe(self) -> None:
        """Raise VolumeError where one of the places that a segment needs cannot be written to."""
        self.volume.probe()
        self.metadata.probe()
        self.hand.log.probe()

    def trace(self) -> str:
        """Give what changes whenever a file comes, goes, or a log changes: two alike mean that nothing did."""
        logs = " ".join(f"{slot.log.name}:{slot.log.size()}" for slot in (self.hand, self.next))
        return f"{self.volume.trace()} {logs}"

    def load(self, slot: Slot) -> OpenBatch:
        """Give the batch in a slot, as the catalog counts it."""
        mark = self.volume.mark(slot.folder) or self.mark_anew(slot)
        row = self.catalog.batch(mark.id)
        seal = Seal(row.frozen, row.digest) if row and row.frozen and row.digest else None
        return self._counted(slot, mark, seal)

    def begin(self, slot: Slot) -> OpenBatch:
        """Begin an empty batch. Its folder is made last: only then is it there for a start-up."""
        mark = self.mark_anew(slot)
        slot.log.replace(())
        self.volume.open_folder(slot.folder)
        return OpenBatch(slot, mark, Stats(0, 0), {})

    def mark_anew(self, slot: Slot) -> BatchMark:
        """Name the batch in a slot."""
        mark = new_mark()
        self.volume.set_mark(slot.folder, mark)
        self.catalog.put_batch(open_row(mark, slot.folder))
        return mark

    def seal(self, batch: OpenBatch, holder: str, now: int) -> Manifest:
        """Write the manifest of a batch beside its segments."""
        manifest = seal(
            batch=batch.id,
            opened=utc_text(batch.mark.opened),
            sealed=utc_text(now),
            holder=holder,
            segments=self._entries(batch.id),
        )
        self.volume.put_paper(batch.slot.folder, MANIFEST, encode_manifest(manifest))
        self.catalog.put_batch(_sealed_row(batch, manifest, now))
        return manifest

    def note_seal(self, batch: OpenBatch, manifest: Manifest) -> None:
        """Tell the catalog of a batch that was sealed before."""
        self.catalog.put_batch(_sealed_row(batch, manifest, unix_ns(manifest.sealed)))

    def unseal(self, batch: OpenBatch) -> None:
        """Take the manifest of a batch away: it is open again."""
        self.volume.discard(batch.slot.folder / MANIFEST)
        self.catalog.put_batch(open_row(batch.mark, batch.slot.folder))

    def archive(self, batch: OpenBatch, manifest: Manifest, now: int) -> Path:
        """Move the batch in hand away, with its manifest and its log. `advance` has to follow."""
        self.volume.put_paper(batch.slot.folder, batch.slot.log.name, batch.slot.log.content())
        folder = self.volume.archive(datetime.fromtimestamp(now // 10**9, UTC))
        row = self.catalog.batch(batch.id) or _sealed_row(batch, manifest, now)
        self.catalog.put_batch(_archived_row(row, folder, manifest, now))
        return folder

    def drop_empty(self, batch: OpenBatch) -> None:
        """Forget an empty batch in hand, and take its folder away. `advance` has to follow."""
        self.volume.discard(batch.slot.folder / MANIFEST)
        self.catalog.drop_batch(batch.id)
        self.volume.close_empty()

    def advance(self) -> OpenBatch:
        """Make the next batch the one in hand, or begin an empty one, once the data folder is gone.

        The data folder appears last: its absence tells a start-up that this step has to be done again.
        """
        self.metadata.write_description(OPERATIONAL)
        if not self.next.folder.exists():
            self.metadata.write_stats(Stats(0, 0))
            return self.begin(self.hand)
        self.hand.log.take_over(self.next.log)
        mark = self.volume.mark(self.next.folder) or self.volume.mark(self.hand.folder) or self.mark_anew(self.next)
        batch = self._counted(self.hand, mark)
        self.metadata.write_stats(batch.stats)
        self.catalog.put_batch(open_row(mark, self.hand.folder))
        self.volume.advance()
        return batch

    def merge(self) -> OpenBatch:
        """Move the next batch's segments into the one in hand.

        The next batch's folder disappears last: its presence tells a start-up that this step has to be done again.
        """
        hand, following = self.load(self.hand), self.load(self.next)
        self.volume.merge_next()
        self.catalog.merge(following.id, hand.id)
        hand.slot.log.append(following.slot.log.entries())
        following.slot.log.remove()
        self.volume.close_next()
        return self.load(self.hand)

    def _counted(self, slot: Slot, mark: BatchMark, seal: Seal | None = None) -> OpenBatch:
        tally = self.catalog.tally(mark.id)
        n_itm, buff_size = (sum(each.segments for each in tally.values()), sum(each.bytes for each in tally.values()))
        return OpenBatch(slot, mark, Stats(n_itm, buff_size), tally, seal)

    def _entries(self, batch: str) -> list[ManifestEntry]:
        everything = SegmentFilter(batch=batch, limit=-1)
        return [
            ManifestEntry(row.name, row.bytes, row.sha256, row.channel, row.t0, row.dt, row.n)
            for row in self.catalog.segments(everything)
        ]


def open_row(mark: BatchMark, folder: Path) -> BatchRow:
    """Describe an open batch for the catalog."""
    return BatchRow(mark.id, BatchState.OPEN, mark.opened, folder.name)


def _archived_row(row: BatchRow, folder: Path, manifest: Manifest, now: int) -> BatchRow:
    return BatchRow(
        id=row.id,
        state=BatchState.ARCHIVED,
        opened=row.opened,
        path=folder.name,
        frozen=row.frozen,
        archived=now,
        holder=manifest.holder,
        n_itm=manifest.n_itm,
        buff_size=manifest.buff_size,
        digest=manifest.digest,
    )


def _sealed_row(batch: OpenBatch, manifest: Manifest, now: int) -> BatchRow:
    return BatchRow(
        id=batch.id,
        state=BatchState.FROZEN,
        opened=batch.mark.opened,
        path=batch.slot.folder.name,
        frozen=now,
        holder=manifest.holder,
        n_itm=manifest.n_itm,
        buff_size=manifest.buff_size,
        digest=manifest.digest,
    )
