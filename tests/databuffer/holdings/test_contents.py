"""Pipes and links that another program puts into the folders of contents are neither waited for nor followed."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from databuffer.holdings.contents import Contents
from tests.support.foreign import NO_FILES

CONTENT = b"content"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    contents = Contents(tmp_path / "holdings")
    contents.open()
    return contents


@pytest.mark.parametrize("kind", NO_FILES)
def test_a_content_that_is_no_file_is_missing_and_can_be_restored(contents: Contents, kind: str) -> None:
    path = contents.path(DIGEST)
    path.parent.mkdir()
    NO_FILES[kind](path)
    assert contents.file(DIGEST, len(CONTENT)) is None
    if kind == "a folder":
        path.rmdir()
    contents.put(DIGEST, [CONTENT])
    file = contents.file(DIGEST, len(CONTENT))
    assert file
    with file:
        assert file.read() == CONTENT


@pytest.mark.parametrize("kind", NO_FILES)
def test_bytes_are_received_and_restored_into_new_files_only(contents: Contents, kind: str, tmp_path: Path) -> None:
    incoming, outside = tmp_path / "holdings" / "incoming", tmp_path / "outside"
    NO_FILES[kind](incoming / "upload")
    NO_FILES[kind](incoming / f"{DIGEST}-0")
    if kind == "a link to a file":
        outside.write_bytes(b"outside")
        for path in incoming.iterdir():
            path.unlink()
            path.symlink_to(outside)
    arriving = contents.receive("upload", len(CONTENT))
    arriving.open()
    arriving.write(CONTENT)
    arriving.close()
    assert (incoming / "upload").read_bytes() == CONTENT
    contents.put(DIGEST, [CONTENT])
    assert contents.path(DIGEST).read_bytes() == CONTENT
    assert not os.path.lexists(incoming / f"{DIGEST}-0")
    assert not outside.exists() or outside.read_bytes() == b"outside"
