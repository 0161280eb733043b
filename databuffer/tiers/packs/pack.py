"""A pack: an archived batch, or the files of a transaction, as one tar file.

MANIFEST.json is the first member, then come the segments or files in its order. The tar is a pure function of the
manifest and the files, so that every replica has the same SHA-256. Its head alone has the manifest, from which follows
where each member begins.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from databuffer.amounts import count
from databuffer.errors import VolumeFailed
from databuffer.storage.files import open_stored, read_stored, volume_errors
from databuffer.tar import Member, MemberChanged, VirtualTar, in_portions, read_parts
from databuffer.tiers.tier import Tier
from gwservice.regular_file import UnusableFile
from gwwire.file_manifest import decode_file_manifest, is_file_manifest, member_name, wrong_file_totals
from gwwire.holdings import PathType
from gwwire.manifest import MANIFEST, decode_manifest, wrong_totals

#: The prefixes of the keys of batches, and of the files of a transaction.
BATCHES, FILES = "batches/", "files/"
#: The prefixes of all packs.
PREFIXES = (BATCHES, FILES)
#: Bytes of a chunk of a pack.
CHUNK = 1 << 20
#: Of a tar's header: its bytes, and where the size of the file is.
_HEADER, _SIZE = 512, slice(124, 135)
#: Bytes; the manifest of a million segments has fewer.
_LARGEST_MANIFEST = 1 << 30
_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)

P = TypeVar("P", bound="Pack")

#: Return the bytes [start, stop) of a pack, fewer at its end.
ReadRange = Callable[[int, int], bytes]


class PackDamaged(Exception):
    """Bytes of a pack, or of the files that it is made of, are not those of its manifest."""

    def __init__(self, problems: list[str]) -> None:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class Pack(ABC):
    """A pack with a manifest, the content of MANIFEST.json, and members."""

    def __init__(self, content: bytes, members: Iterable[Member]) -> None:
        #: MANIFEST.json, byte for byte.
        self.content = content
        self.tar = VirtualTar([Member.of(MANIFEST, content), *members])
        #: Bytes.
        self.size = self.tar.size
        self._indices: dict[str, int] = {}

    @property
    @abstractmethod
    def text(self) -> str:
        """Its content in words."""

    @abstractmethod
    def wrong_totals(self) -> Iterator[str]:
        """Yield a line for each total of the manifest that its members do not add up to."""

    @property
    def names(self) -> list[str]:
        """The names of the members but MANIFEST.json, in their order."""
        return [member.name for member in self.tar.members[1:]]

    def span(self, name: str) -> tuple[int, int]:
        """Return where the bytes of a member begin and end; raise KeyError if there is no such member."""
        index = self._index(name)
        start = self.tar.offset(index)
        return start, start + self.tar.members[index].size

    def member(self, name: str) -> Member:
        """Return a member, or raise KeyError."""
        return self.tar.members[self._index(name)]

    def stretches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Group members, given in their order, that lie beside each other."""
        stretch: list[str] = []
        index = 0
        for name in names:
            before, index = index, self._index(name)
            if stretch and index != before + 1:
                yield stretch
                stretch = []
            stretch.append(name)
        if stretch:
            yield stretch

    def _index(self, name: str) -> int:
        if not self._indices:
            self._indices = {member.name: index for index, member in enumerate(self.tar.members)}
        return self._indices[name]


class SegmentPack(Pack):
    """The pack of the batch with a manifest; raise ValueError if that cannot be read."""

    def __init__(self, content: bytes) -> None:
        self.manifest = decode_manifest(content)
        super().__init__(content, [Member(each.name, each.size, each.sha256) for each in self.manifest.segments])

    @property
    def text(self) -> str:
        """Its content in words."""
        return f"batch {self.manifest.batch}, {self.manifest.n_itm} segments"

    def wrong_totals(self) -> Iterator[str]:
        """Yield a line for each total of the manifest that its segments do not add up to."""
        return wrong_totals(self.manifest)


class FilesPack(Pack):
    """The pack of the files of the transaction with a manifest; raise ValueError if that cannot be read.

    Directories and links are in the manifest only.
    """

    def __init__(self, content: bytes) -> None:
        self.manifest = decode_file_manifest(content)
        files = [each for each in self.manifest.files if each.type is PathType.FILE]
        super().__init__(content, [Member(member_name(each.path), each.size, each.sha256 or "") for each in files])

    @property
    def text(self) -> str:
        """Its content in words."""
        return f"transaction {self.manifest.transaction}, {count(len(self.tar.members) - 1, 'file')}"

    def wrong_totals(self) -> Iterator[str]:
        """Yield a line for each total of the manifest that its files do not add up to."""
        return wrong_file_totals(self.manifest)


def decode_pack(content: bytes) -> SegmentPack | FilesPack:
    """Return the pack with a manifest of either kind; raise ValueError if it cannot be read."""
    return FilesPack(content) if is_file_manifest(content) else SegmentPack(content)


def files_key(transaction: str) -> str:
    """Return the key of the pack of a transaction's files in every tier."""
    return f"{FILES}{transaction}.tar"


def key_of(batch: str) -> str:
    """Return the key of a batch's pack in every tier."""
    safe = _SAFE_ID.fullmatch(batch)
    return f"{BATCHES}{batch if safe else hashlib.sha256(batch.encode()).hexdigest()}.tar"


def read_head(read: ReadRange) -> SegmentPack | FilesPack:
    """Return the pack that begins with some bytes; raise ValueError if they are not the head of one."""
    header = read(0, _HEADER)
    name = MANIFEST.encode()
    try:
        size = int(header[_SIZE], 8)
    except ValueError:
        size = 0
    if len(header) < _HEADER or header[: len(name) + 1] != name + b"\0" or not 0 < size <= _LARGEST_MANIFEST:
        raise ValueError(f"it does not begin with {MANIFEST}")
    content = read(_HEADER, _HEADER + size)
    if len(content) < size:
        raise ValueError(f"it ends within {MANIFEST}")
    return decode_pack(content)


def tier_range(tier: Tier, key: str) -> ReadRange:
    """Return the function that reads a range of what lies under a key; it raises TierError."""
    return lambda start, stop: b"".join(tier.read(key, start, stop))


def read_members(tier: Tier, key: str, pack: Pack, names: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield members of a pack in a tier, given in their order, with the chunks of each, to be taken before the next.

    Those that lie beside each other are one stream. Raise KeyError if there is no such member, or TierError.
    """
    for stretch in pack.stretches(names):
        spans = {name: pack.span(name) for name in stretch}
        first, last = spans[stretch[0]][0], spans[stretch[-1]][1]
        stream = _Stream(tier.read(key, first, last), first)
        for name, (start, stop) in spans.items():
            deque(stream.until(start), maxlen=0)
            yield name, stream.until(stop)


class _Stream:
    """The bytes of a pack from a place on, in chunks, which do not end before what is asked for."""

    def __init__(self, chunks: Iterator[bytes], place: int) -> None:
        self._chunks = chunks
        self._place = place
        self._rest = memoryview(b"")

    def until(self, stop: int) -> Iterator[bytes]:
        """Yield the next bytes, up to a place in the pack."""
        while self._place < stop:
            self._rest = self._rest or memoryview(next(self._chunks))
            piece, self._rest = self._rest[: stop - self._place], self._rest[stop - self._place :]
            self._place += len(piece)
            yield bytes(piece)


def checked_member(member: Member, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a member; raise PackDamaged at its end if it differs from the manifest."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != member.sha256:
        raise PackDamaged([f"{member.name} differs in sha256"])


def folder_pack(folder: Path) -> SegmentPack:
    """Return the pack of the batch in a folder; raise VolumeFailed if its manifest is missing, malformed or altered."""
    return _readable(folder, SegmentPack)


def files_pack(folder: Path) -> FilesPack:
    """Return the pack of the files whose manifest is in a folder; raise VolumeFailed as `folder_pack`."""
    return _readable(folder, FilesPack)


def _readable(folder: Path, kind: Callable[[bytes], P]) -> P:
    with volume_errors():
        content = read_stored(folder / MANIFEST)
    try:
        pack = kind(content)
    except ValueError as error:
        raise VolumeFailed(f"{folder / MANIFEST} cannot be understood: {error}") from error
    if problems := list(pack.wrong_totals()):
        raise VolumeFailed(f"{folder / MANIFEST} is damaged: {'; '.join(problems)}")
    return pack


def folder_chunks(folder: Path, pack: Pack) -> Iterator[bytes]:
    """Yield the pack of the batch in a folder, as `pack_chunks` does."""
    return pack_chunks(pack, lambda member: folder / member.name)


def pack_chunks(pack: Pack, path_of: Callable[[Member], Path]) -> Generator[bytes]:
    """Yield a pack whose members are files on the disk, `CHUNK` bytes at a time, without a comparison.

    Raise PackDamaged before the end if a file is missing or has another size, VolumeError if one cannot be read.
    """

    def open_member(member: Member) -> BinaryIO:
        try:
            file = open_stored(path_of(member), buffering=0)
        except FileNotFoundError as error:
            raise PackDamaged([f"{member.name} is missing"]) from error
        except UnusableFile as error:
            raise PackDamaged([f"{member.name} is {error.strerror}"]) from error
        if (size := os.fstat(file.fileno()).st_size) != member.size:
            file.close()
            raise PackDamaged([f"{member.name} has {size} bytes, not {member.size}"])
        return file

    try:
        with volume_errors():
            yield from in_portions(read_parts(pack.tar.parts(), open_member), CHUNK)
    except MemberChanged as error:
        raise PackDamaged([str(error)]) from error
