import os

import pytest

from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.read_back import Written

CONTENT = os.urandom(100_000)


def written() -> Written:
    found = Written()
    assert b"".join(found.through([CONTENT[:1], CONTENT[1:70_000], b"", CONTENT[70_000:]])) == CONTENT
    return found


def test_what_is_read_back_may_come_in_other_chunks() -> None:
    written().compare([CONTENT])
    Written().compare([])


@pytest.mark.parametrize(
    "wrong", [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), bytes([CONTENT[0] ^ 128]) + CONTENT[1:], CONTENT[::-1]]
)
def test_one_wrong_bit_is_found(wrong: bytes) -> None:
    with pytest.raises(PackDamaged, match="are not those that were written"):
        written().compare([wrong])


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"\0", b""])
def test_too_few_or_too_many_bytes_are_found(wrong: bytes) -> None:
    with pytest.raises(PackDamaged, match=f"{len(wrong)} bytes were read back after 100000 were written"):
        written().compare([wrong])
