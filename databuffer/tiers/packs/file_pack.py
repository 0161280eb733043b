"""The pack of the files that a transaction has put into a holding: they are contents under their SHA-256.

A content that files of several transactions have stays on the disk as long as the disk keeps one of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from databuffer.errors import NotFound, VolumeFailed
from databuffer.holdings import packed
from databuffer.holdings.contents import Contents
from databuffer.holdings.packed import Packed
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.store import Store
from databuffer.tar import Member
from databuffer.tiers.packs.pack import FilesPack, files_key, files_pack
from databuffer.tiers.packs.source import PackSource
from gwwire.manifest import MANIFEST


@dataclass(frozen=True)
class FilePack(PackSource):
    """The files of a transaction, whose number is `transaction`."""

    transaction: int
    store: Store
    contents: Contents

    @property
    def id(self) -> str:
        """The id of the pack, and of its record."""
        return FILES_RECORD + self.name

    @property
    def key(self) -> str:
        """The key of the pack in every tier."""
        return files_key(self.name)

    @cached_property
    def pack(self) -> FilesPack:
        """The pack; raise VolumeFailed, as for a malformed manifest, if that is not the one that was sealed."""
        pack = files_pack(self.folder)
        if (transaction := pack.manifest.transaction) != self.name:
            raise VolumeFailed(f"{self.folder / MANIFEST} is damaged: it is that of transaction {transaction}")
        return pack

    @property
    def text(self) -> str:
        """Return the name of the pack for messages."""
        return f"the pack of transaction {self.name}"

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of log lines about it."""
        return {"transaction": self.name}

    def path_of(self, member: Member) -> Path:
        """Return where the content of a file is, if it is on the disk."""
        return self.contents.path(member.sha256)

    def present(self) -> Sequence[str]:
        """Return the files whose contents are on the disk and needed for no other file."""
        with self.store.catalog.database.reading() as connection:
            others = packed.needed_by_others(connection, self.transaction)
        members = self.pack.tar.members[1:]
        return [each.name for each in members if each.sha256 not in others and self.path_of(each).exists()]

    def put(self, members: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Write the contents of files, durably."""
        for name, chunks in members:
            self.contents.put(self.pack.member(name).sha256, chunks)

    def delete(self, names: Sequence[str], check: Callable[[], object]) -> None:
        """Delete contents that the disk does not have to keep."""
        for name in names:
            check()
            self.contents.remove(self.pack.member(name).sha256, self._is_needed)

    def _is_needed(self, digest: str) -> bool:
        with self.store.catalog.database.reading() as connection:
            return packed.is_needed_on_disk(connection, digest)


class FilePacks:
    """Finds the packs of files by the ids of their records."""

    def __init__(self, store: Store, contents: Contents) -> None:
        self._store = store
        self._contents = contents

    def get(self, record: str) -> FilePack:
        """Return the pack with a record; raise NotFound if there is none."""
        with self._store.catalog.database.reading() as connection:
            row = packed.find(connection, record)
        if row is None:
            raise NotFound(f"there is no pack {record!r}")
        return self.of(row)

    def all(self) -> Iterator[FilePack]:
        """Yield all packs."""
        with self._store.catalog.database.reading() as connection:
            rows = packed.all_packs(connection)
        return map(self.of, rows)

    def of(self, row: Packed) -> FilePack:
        """Return the pack of a row."""
        name = row.pack.removeprefix(FILES_RECORD)
        return FilePack(name, self._contents.packs / name, row.transaction, self._store, self._contents)
