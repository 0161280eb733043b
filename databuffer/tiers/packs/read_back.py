"""Comparing what is read back from a tier with what was written to it.

The bytes are compared with the SHA-256 of the manifest on their way to the tier. After that, XXH3 with 128 bits
(https://xxhash.com) is enough to find an error of a disk, a network or a server, at a tenth of the time.
"""

from collections.abc import Iterable, Iterator

from xxhash import xxh3_128

from databuffer.tiers.packs.pack import PackDamaged


class Written:
    """Bytes that were written, by their number and digest."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = xxh3_128()

    @property
    def digest(self) -> bytes:
        """The XXH3 digest with 128 bits."""
        return self._digest.digest()

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks to write, and remember them."""
        for chunk in chunks:
            self._size += len(chunk)
            self._digest.update(chunk)
            yield chunk

    def compare(self, chunks: Iterable[bytes]) -> None:
        """Raise PackDamaged unless the chunks are what was written."""
        found = Written()
        for _ in found.through(chunks):
            pass
        if found._size != self._size:
            raise PackDamaged([f"{found._size} bytes were read back after {self._size} were written"])
        if found.digest != self.digest:
            raise PackDamaged(["the bytes that were read back are not those that were written"])
