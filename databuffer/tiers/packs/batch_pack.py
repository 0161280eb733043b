"""The pack of an archived batch: its segments are files in the folder of the archive."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from databuffer.errors import NotFound, VolumeFailed
from databuffer.storage.catalog import BatchRow
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.dropped import write_meta
from databuffer.storage.files import volume_errors
from databuffer.storage.store import Store
from databuffer.tar import Member
from databuffer.tiers.packs.pack import SegmentPack, folder_pack, key_of
from databuffer.tiers.packs.source import PackSource
from gwservice.atomic import sync as sync_folder
from gwwire.manifest import MANIFEST
from gwwire.public import BatchState

#: Files that are deleted before it is checked whether the deletion was stopped.
_PORTION = 100


@dataclass(frozen=True)
class BatchPack(PackSource):
    """An archived batch with a manifest."""

    store: Store

    @property
    def id(self) -> str:
        """The id of the pack, and of the batch's record."""
        return BATCH_RECORD + self.name

    @property
    def key(self) -> str:
        """The key of the pack in every tier."""
        return key_of(self.name)

    @cached_property
    def pack(self) -> SegmentPack:
        """The pack; raise VolumeFailed, as for a malformed manifest, if that is not the one that was sealed."""
        pack = folder_pack(self.folder)
        if (batch := pack.manifest.batch) != self.name:
            raise VolumeFailed(f"{self.folder / MANIFEST} is damaged: it is that of batch {batch!r}")
        return pack

    @property
    def text(self) -> str:
        """Return the name of the pack for messages."""
        return f"batch {self.name}"

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of log lines about it."""
        return {"batch": self.name}

    def path_of(self, member: Member) -> Path:
        """Return where a segment is, if it is on the disk."""
        return self.folder / member.name

    def present(self) -> Sequence[str]:
        """Return the segments of the manifest whose files are in the folder."""
        with volume_errors():
            files = {path.name for path in self.folder.iterdir()}
        return [name for name in self.names if name in files]

    def keep_meta(self) -> None:
        """Store what the `meta` of the segments contains that can be searched."""
        if conditions := self.store.catalog.segments.conditions(self.name):
            write_meta(self.folder, conditions)

    def put(self, members: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Write the files of segments, durably."""
        self.store.volume.put_files(self.folder, ((name, b"".join(chunks)) for name, chunks in members))

    def delete(self, names: Sequence[str], check: Callable[[], object]) -> None:
        """Delete the files of segments, durably."""
        with volume_errors():
            for number, name in enumerate(names):
                if number % _PORTION == 0:
                    check()
                (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)


def batch_pack(store: Store, record: str) -> BatchPack:
    """Return the batch with a record; raise NotFound unless it is archived and has a manifest."""
    batch = record.removeprefix(BATCH_RECORD)
    row = store.catalog.batches.get(batch)
    if row is None or not has_pack(row):
        raise NotFound(f"there is no archived batch {batch!r} with a manifest")
    return _of(store, row)


def batch_packs(store: Store) -> Iterator[BatchPack]:
    """Yield the archived batches with a manifest."""
    return (_of(store, row) for row in store.catalog.batches.all() if has_pack(row))


def has_pack(row: BatchRow) -> bool:
    """Return whether a batch can be packed: it is archived, and has a manifest."""
    return row.state is BatchState.ARCHIVED and row.frozen is not None


def _of(store: Store, row: BatchRow) -> BatchPack:
    return BatchPack(row.id, store.volume.root / row.path, store)
