"""Comparing bytes with the manifest of a pack: of its members, its headers, and the SHA-256 of the whole."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import BinaryIO

from databuffer.tar import Member, Part
from databuffer.tiers.lanes import Lane
from databuffer.tiers.packs.pack import CHUNK, Pack, PackDamaged, read_head
from gwwire.manifest import MANIFEST


class Comparison:
    """The comparison of bytes, which are added one after the other, with a pack.

    Large packs are hashed in threads, until `check` or `close`; `problems` are then found a little later.
    """

    def __init__(self, pack: Pack, sha256: str | None = None) -> None:
        """Compare with a pack; its SHA-256 is not computed again if it is known from an earlier comparison."""
        self.problems: list[str] = []
        self._pack = pack
        self._known = sha256
        self._whole = hashlib.sha256()
        self._size = 0
        self._members = MemberComparison(pack, self.problems)
        self._lanes = [Lane() for _ in range(1 if sha256 else 2)] if pack.size > CHUNK else []

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far, if it is not that of the whole pack that was known."""
        self._wait()
        return self._known or self._whole.hexdigest()

    def add(self, chunk: bytes) -> None:
        """Compare the next bytes."""
        self._size += len(chunk)
        works = [self._members.add] if self._known else [self._members.add, self._whole.update]
        for number, work in enumerate(works):
            if self._lanes:
                self._lanes[number].do(work, chunk)
            else:
                work(chunk)

    def check(self) -> str:
        """Return the SHA-256 of the whole; raise PackDamaged if it is not this pack."""
        self._wait()
        self.close()
        if self._size < self._pack.size:
            self.problems.append(f"it ends after {self._size} of {self._pack.size} bytes")
        elif self._size > self._pack.size:
            self.problems.append(f"{self._size - self._pack.size} bytes follow its end")
        if self.problems:
            raise PackDamaged(self.problems)
        return self.sha256

    def close(self) -> None:
        """End the threads."""
        for lane in self._lanes:
            lane.close()
        self._lanes = []

    def _wait(self) -> None:
        for lane in self._lanes:
            lane.wait()


class MemberComparison:
    """The comparison of bytes, which are added one after the other, with the members and headers of a pack."""

    def __init__(self, pack: Pack, problems: list[str]) -> None:
        self._problems = problems
        self._manifest = pack.tar.members[0].content
        self._parts = pack.tar.parts()
        self._part: Part | None = None
        self._done = 0
        self._digest = hashlib.sha256()
        self._next()

    def add(self, chunk: bytes) -> None:
        """Compare the next bytes."""
        rest = memoryview(chunk)
        while rest and self._part:
            length = self._part.stop - self._part.start
            piece, rest = rest[: length - self._done], rest[length - self._done :]
            self._compare(piece, self._part)
            self._done += len(piece)
            if self._done == length:
                self._end(self._part)
                self._next()

    def _next(self) -> None:
        self._part, self._done = next(self._parts, None), 0
        if self._part and isinstance(self._part.source, Member):
            self._digest = hashlib.sha256()
        self._differs = False

    def _compare(self, piece: memoryview, part: Part) -> None:
        if isinstance(part.source, Member):
            self._digest.update(piece)
        else:
            start = part.start + self._done
            self._differs |= bytes(piece) != part.source[start : start + len(piece)]

    def _end(self, part: Part) -> None:
        if isinstance(part.source, Member):
            if self._digest.hexdigest() != part.source.sha256:
                self._problems.append(f"{part.source.name} differs in sha256")
        elif self._differs:
            is_manifest = part.source is self._manifest
            self._problems.append(f"{MANIFEST} differs" if is_manifest else "a header of the tar differs")


def checked(comparison: Comparison, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks as long as they are those of a pack; raise PackDamaged before the end if one is not."""
    with closing(comparison):
        for chunk in chunks:
            comparison.add(chunk)
            if comparison.problems:
                raise PackDamaged(comparison.problems)
            yield chunk
        comparison.check()


def compare(pack: Pack, chunks: Iterable[bytes], sha256: str | None = None) -> str:
    """Return the SHA-256 of bytes; raise PackDamaged if they are not those of a pack.

    If the SHA-256 of the pack is given, only members and headers are compared, from which it follows.
    """
    with closing(Comparison(pack, sha256)) as comparison:
        for chunk in chunks:
            comparison.add(chunk)
        return comparison.check()


def file_problems(file: BinaryIO) -> tuple[list[str], Pack | None, str]:
    """Compare a file with the manifest at its head; return the differences, the pack, and the file's SHA-256."""

    def read(start: int, stop: int) -> bytes:
        file.seek(start)
        return file.read(stop - start)

    try:
        pack = read_head(read)
    except ValueError as error:
        return [str(error)], None, ""
    file.seek(0)
    comparison = Comparison(pack)
    with closing(comparison), suppress(PackDamaged):
        while chunk := file.read(CHUNK):
            comparison.add(chunk)
        comparison.check()
    return [*pack.wrong_totals(), *comparison.problems], pack, comparison.sha256
