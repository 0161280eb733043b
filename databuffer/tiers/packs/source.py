"""The source of a pack: its manifest, and its members on the disk."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from databuffer.storage.dropped import read_dropped
from databuffer.storage.files import open_stored, volume_errors
from databuffer.tar import Member
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.packs.pack import CHUNK, Pack, pack_chunks
from gwservice.regular_file import UnusableFile
from gwwire.tiering import DISK, ReplicaState


class Digest(Protocol):
    """A digest of `hashlib` or `xxhash`."""

    def update(self, chunk: bytes, /) -> None:
        """Add the next bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes."""


@dataclass(frozen=True)
class PackSource(ABC):
    """A pack and its members on the disk; VolumeError is raised if they cannot be read.

    Attributes:
        name: the batch or the transaction.
        folder: the folder with its MANIFEST.json, and with TIERS.json if the disk has dropped it.

    """

    name: str
    folder: Path

    def keep_meta(self) -> None:  # noqa: B027 (most have none)
        """Store beside the manifest what only the members have and searches need, before they are dropped."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The id of the pack, and of the record on which the steps of its moves are."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The key of the pack in every tier."""

    @property
    @abstractmethod
    def pack(self) -> Pack:
        """The pack, from its manifest."""

    @property
    @abstractmethod
    def text(self) -> str:
        """Return the name of the pack for messages, such as `batch b1`."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, str]:
        """The fields of log lines about it."""

    @abstractmethod
    def path_of(self, member: Member) -> Path:
        """Return where a member is on the disk, if it is there."""

    @abstractmethod
    def present(self) -> Sequence[str]:
        """Return the members that are on the disk because of this pack."""

    @abstractmethod
    def put(self, members: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Write members to the disk, given by names and chunks, durably; one whose chunks raise an error is not."""

    @abstractmethod
    def delete(self, names: Sequence[str], check: Callable[[], object]) -> None:
        """Delete members from the disk, durably, as far as nothing else needs them; `check` is called now and then."""

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return self.pack.names

    @property
    def is_dropped(self) -> bool:
        """Return whether members were dropped from the disk."""
        return read_dropped(self.folder) is not None

    def chunks(self) -> Generator[bytes]:
        """Yield the pack from the disk, as `pack_chunks` does."""
        return pack_chunks(self.pack, self.path_of)

    def has_whole(self, name: str, check: Callable[[], object]) -> bool:
        """Return whether a member on the disk is as the manifest says; `check` is called now and then."""
        return self.digest(name, hashlib.sha256(), check) == bytes.fromhex(self.pack.member(name).sha256)

    def digest(self, name: str, empty: Digest, check: Callable[[], object]) -> bytes | None:
        """Return a digest of a member on the disk, None if it is not there; `check` is called now and then."""
        with volume_errors():
            try:
                with open_stored(self.path_of(self.pack.member(name)), buffering=0) as file:
                    while chunk := file.read(CHUNK):
                        check()
                        empty.update(chunk)
            except (FileNotFoundError, UnusableFile):
                return None
        return empty.digest()

    def on_disk(self, state: ReplicaState, sha256: str | None = None, verified: int | None = None) -> ReplicaRow:
        """Return the row of the replica on the disk."""
        return ReplicaRow(self.id, DISK, self.folder.name, self.pack.size, state, sha256, None, verified)

    def in_tier(self, tier: str, sha256: str, verified: int) -> ReplicaRow:
        """Return the row of a verified replica in a tier."""
        state = ReplicaState.VERIFIED
        return ReplicaRow(self.id, tier, self.key, self.pack.size, state, sha256, None, verified)
