"""Packs are written and read past the page cache, wherever the file system can."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from databuffer.tiers.backends import uncached
from databuffer.tiers.backends.folder import CHUNK, FolderTier
from databuffer.tiers.backends.uncached import UncachedWriter, read_uncached
from databuffer.tiers.tier import TierError

BLOCK = 64 << 10
#: Around the sizes that direct I/O can write, and the blocks that are written at once.
SIZES = (0, 1, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 777)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncached, "_BLOCK", BLOCK)
    monkeypatch.setattr(uncached, "_PORTION", BLOCK // 4)


def split(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def write(path: Path, content: bytes, size: int = 10_000) -> None:
    with path.open("wb", buffering=0) as file, UncachedWriter(file.fileno()) as writer:
        for chunk in split(content, size):
            writer.add(chunk)
        writer.finish()


def read(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return b"".join(read_uncached(file.fileno(), start, stop))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [1000, 10_000, 3 * BLOCK])
def test_files_of_every_size_are_written_from_chunks_of_every_size(tmp_path: Path, size: int, chunk: int) -> None:
    content = os.urandom(size)
    write(tmp_path / "one.tar", content, chunk)
    assert (tmp_path / "one.tar").read_bytes() == content


@pytest.mark.parametrize("aligned", [4096, 1], ids=["direct", "as a disk that wants larger multiples"])
def test_every_range_of_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aligned: int) -> None:
    monkeypatch.setattr(uncached, "_ALIGNED", aligned)
    content = os.urandom(3 * BLOCK + 777)
    write(path := tmp_path / "one.tar", content)
    assert path.read_bytes() == content
    for start in (0, 1, 4096, BLOCK - 1, 2 * BLOCK + 3):
        for stop in (start, start + 1, start + 4096, start + BLOCK, len(content)):
            assert read(path, start, stop) == content[start:stop]
    assert read(path, 3 * BLOCK, len(content) + 5000) == content[3 * BLOCK :], "what ends early is cut"


def is_cached(path: Path) -> bool:
    """Return whether the first bytes of a file are read without waiting for the disk."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False


def test_what_is_written_and_read_back_is_not_in_the_page_cache() -> None:
    content = os.urandom(8 * BLOCK)
    with TemporaryDirectory(dir="/var/tmp") as folder:  # the folders of the other tests may be in memory
        write(path := Path(folder) / "one.tar", content)
        assert read(path, 0, len(content)) == content
        assert not is_cached(path)
        path.read_bytes()
        assert is_cached(path), "else the question is asked wrongly"


def test_a_file_system_without_direct_io_is_used_with_its_cache() -> None:
    with Path("/proc/self/environ").open("rb", buffering=0) as file:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            fcntl.fcntl(file.fileno(), fcntl.F_SETFL, os.O_DIRECT)
        assert b"".join(read_uncached(file.fileno(), 0, 1 << 20)) == Path("/proc/self/environ").read_bytes()


def test_an_error_of_a_block_fails_the_write_of_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    tier = FolderTier("object", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(TierError, match="Input/output error"):
            tier.write("one.tar", 10 * BLOCK, split(bytes(10 * BLOCK), 10_000))
    assert tier.stat("one.tar") is None


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    tier = FolderTier("object", tmp_path)
    tier.write("one.tar", 2 * CHUNK, [bytes(2 * CHUNK)])
    chunks = tier.read("one.tar")
    os.truncate(tmp_path / "one.tar", BLOCK)
    with pytest.raises(TierError, match=f"one.tar ended {2 * CHUNK - BLOCK} bytes early"):
        list(chunks)
