"""The packs that can be moved, by the ids of their records."""

from collections.abc import Iterator

from databuffer.storage.catalog.batches import BATCH_RECORD, FILES_RECORD
from databuffer.storage.store import Store
from databuffer.tiers.packs.batch_pack import batch_pack, batch_packs
from databuffer.tiers.packs.file_pack import FilePacks
from databuffer.tiers.packs.source import PackSource


class Packs:
    """Finds the packs of archived batches and of the files of transactions."""

    def __init__(self, store: Store, files: FilePacks) -> None:
        self._store = store
        self._files = files

    def get(self, record: str) -> PackSource:
        """Return the pack with a record; raise NotFound if there is none."""
        return self._files.get(record) if is_of_files(record) else batch_pack(self._store, record)

    def all(self) -> Iterator[PackSource]:
        """Yield all packs."""
        yield from batch_packs(self._store)
        yield from self._files.all()


def is_of_files(record: str) -> bool:
    """Return whether a record is that of the files of a transaction."""
    return record.startswith(FILES_RECORD)


def public_name(record: str) -> str:
    """Return the name that clients know a pack by: a batch id, or `files/` and a transaction."""
    return record.removeprefix(BATCH_RECORD)


def record_of(name: str) -> str:
    """Return the id of the record of a pack from its name; the ids of batches have no slash."""
    return name if is_of_files(name) else BATCH_RECORD + name
