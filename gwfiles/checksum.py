"""The checksum of POSIX cksum, which frame files use."""

import zlib

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PORTION = 2**20


class PosixChecksum:
    """The CRC of 32 bits of what was added, and of its length.

    It is the CRC of zlib with the bits of each byte, and those of the result, in reversed order.
    """

    def __init__(self, content: bytes = b"") -> None:
        self._crc = 0xFFFFFFFF  # zlib inverts it: POSIX begins with 0
        self._length = 0
        self.add(content)

    def add(self, content: bytes | memoryview) -> None:
        """Add bytes."""
        for at in range(0, len(content), _PORTION):
            part = bytes(content[at : at + _PORTION])
            self._crc = zlib.crc32(part.translate(_REVERSED), self._crc)
        self._length += len(content)

    @property
    def value(self) -> int:
        """The checksum."""
        length = self._length.to_bytes((self._length.bit_length() + 7) // 8, "little")
        return int(f"{zlib.crc32(length.translate(_REVERSED), self._crc):032b}"[::-1], 2)
