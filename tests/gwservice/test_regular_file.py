"""A pipe, link or device in the place of a file is neither waited for, nor followed, nor read without end."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from gwservice.atomic import locked
from gwservice.regular_file import UnusableFile, append_regular, open_regular, read_regular
from tests.support.foreign import NO_FILES
from tests.support.lease import leased

LIMIT = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("kind", NO_FILES)
def test_only_a_regular_file_is_opened(path: Path, kind: str) -> None:
    NO_FILES[kind](path)
    for use in (open_regular, append_regular, lambda path: locked(path).__enter__()):
        with pytest.raises(UnusableFile, match="not a regular file"):
            use(path)


def test_a_link_is_followed_where_the_user_may_name_one(path: Path) -> None:
    path.symlink_to(__file__)
    assert read_regular(path, 10**6, follow=True) == Path(__file__).read_bytes()
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UnusableFile):
        read_regular(path, LIMIT, follow=True)


def test_a_file_that_a_file_server_has_leased_is_waited_for(path: Path) -> None:
    path.write_bytes(b"content")
    lease = leased(path)
    with ThreadPoolExecutor(1) as threads:
        content = threads.submit(read_regular, path, LIMIT)
        assert not wait([content], timeout=0.1).done
        os.close(lease)
        assert content.result() == b"content"


@pytest.mark.parametrize("size", [LIMIT + 1, 2**40])
def test_a_larger_file_is_not_read(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)
    with pytest.raises(UnusableFile, match=rf"it has {size:,} bytes; the limit is 1,000"):
        read_regular(path, LIMIT)
    os.truncate(path, LIMIT)
    assert len(read_regular(path, LIMIT)) == LIMIT


def test_a_pipe_of_a_shell_is_read_up_to_the_limit_and_one_without_a_writer_is_empty(path: Path) -> None:
    os.mkfifo(path)
    assert read_regular(path, LIMIT, pipes=True) == b""
    assert read_pipe(bytes(LIMIT)) == bytes(LIMIT)
    with pytest.raises(UnusableFile, match="it has more bytes; the limit is 1,000"):
        read_pipe(bytes(LIMIT + 1))


def read_pipe(content: bytes) -> bytes:
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
        os.close(writing)
        return read_regular(f"/dev/fd/{reading}", LIMIT, follow=True, pipes=True)
    finally:
        os.close(reading)
