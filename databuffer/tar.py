"""Tar files that are read without being built: header arithmetic instead of a copy.

A `VirtualTar` is a pure function of its members: headers (ustar, with pax records for what ustar cannot hold) have a
fixed owner, mode and time. Its size is known before a byte is read, and any range of it can be read by itself.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from gwwire.tar import tar_digest

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_MODE = 0o644
#: 1980-01-06, the start of GPS time: GNU tar warns of files from 1970.
_TIME = 315_964_800
_LONGEST_NAME = 100
_LARGEST = 8**11 - 1
_CHUNK = 256 * 1024


class MemberChanged(Exception):
    """A member has fewer bytes than the tar has for it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar; `content` is that of a member that is no file on the disk."""

    name: str
    size: int
    sha256: str
    content: bytes | None = None

    @classmethod
    def of(cls, name: str, content: bytes) -> "Member":
        """Return a member with this content."""
        return cls(name, len(content), hashlib.sha256(content).hexdigest(), content)


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes [start, stop) of some bytes or of a member's file."""

    source: bytes | Member
    start: int
    stop: int


class VirtualTar:
    """The tar of some members, in their order; raise ValueError if they have no names that a tar can hold."""

    def __init__(self, members: Sequence[Member]) -> None:
        for member in members:
            _check_name(member.name)
        if len({member.name for member in members}) < len(members):
            raise ValueError("two members have the same name")
        self.members = members
        self._ends = array("q", accumulate(map(_length, members)))
        #: See `gwwire.tar.tar_digest`; it has a version, which changes with the headers.
        self.digest = tar_digest((member.name, member.size, member.sha256) for member in members)
        #: Bytes.
        self.size = (self._ends[-1] if members else 0) + len(_END)

    def offset(self, index: int) -> int:
        """Return where the content of a member begins."""
        begin = self._ends[index - 1] if index else 0
        return begin + len(_headers(self.members[index]))

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Part]:
        """Yield the parts of the bytes [start, stop), by default of all, in order."""
        stop = self.size if stop is None else stop
        first = bisect_right(self._ends, start)
        position = self._ends[first - 1] if first else 0
        for source, length in self._sources(first):
            if position >= stop:
                return
            begin, end = max(start - position, 0), min(stop - position, length)
            if begin < end:
                yield Part(source, begin, end)
            position += length

    def _sources(self, first: int) -> Iterator[tuple[bytes | Member, int]]:
        """Yield what the tar consists of, from a member on, and the length of each."""
        for index in range(first, len(self.members)):
            member = self.members[index]
            headers, padding = _headers(member), _padding(member.size)
            yield headers, len(headers)
            yield member if member.content is None else member.content, member.size
            yield padding, len(padding)
        yield _END, len(_END)


def read_parts(
    parts: Iterable[Part], open_member: Callable[[Member], BinaryIO], chunk: int = _CHUNK
) -> Iterator[bytes]:
    """Yield the bytes of some parts, at most `chunk` at a time; raise MemberChanged if a file is too short."""
    for part in parts:
        if isinstance(part.source, bytes):
            yield part.source[part.start : part.stop]
            continue
        with open_member(part.source) as file:
            if part.start:
                file.seek(part.start)
            left = part.stop - part.start
            while left:
                content = file.read(min(left, chunk))
                if not content:
                    raise MemberChanged(f"{part.source.name} ends {left} bytes too early")
                left -= len(content)
                yield content


def in_portions(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join chunks until they have at least `size` bytes."""
    waiting: list[bytes] = []
    length = 0
    for chunk in chunks:
        waiting.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield b"".join(waiting)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if "\0" in name or not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"{name!r} is no name for a member of a tar")
    name.encode()  # UnicodeEncodeError is a ValueError


def _length(member: Member) -> int:
    headers = _BLOCK if _fits_ustar(member) else len(_headers(member))
    return headers + member.size + -member.size % _BLOCK


def _fits_ustar(member: Member) -> bool:
    name = member.name  # an ASCII character is a byte
    return len(name) <= _LONGEST_NAME and name.isascii() and member.size <= _LARGEST


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _headers(member: Member) -> bytes:
    """Return the header of a member, with a header of pax records before it if ustar cannot hold its name or size."""
    name = member.name.encode()
    records = b""
    if len(name) > _LONGEST_NAME or not name.isascii():
        records += _record(b"path", name)
    if member.size > _LARGEST:
        records += _record(b"size", b"%d" % member.size)
    if not records:
        return _header(name, member.size, b"0")
    extension = _header(b"././@PaxHeader", len(records), b"x") + records + _padding(len(records))
    return extension + _header(name[:_LONGEST_NAME], member.size if member.size <= _LARGEST else 0, b"0")


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, which begins with its own length."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _header(name: bytes, size: int, kind: bytes) -> bytes:
    before = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_LONGEST_NAME, b"\0"), _MODE, 0, 0, size, _TIME)
    after = (kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" % (0, 0)).ljust(_BLOCK - 156, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after
