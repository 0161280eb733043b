"""A file that is replaced under a running service."""

import logging
import os
from pathlib import Path

import pytest

from gwservice.watched_file import FileBroken, WatchedFile


def parse(text: bytes) -> int:
    return int(text)


def watched(path: Path) -> WatchedFile[int]:
    return WatchedFile(path, parse, look_seconds=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


@pytest.mark.parametrize("text", [None, "no number"])
def test_an_unusable_file_is_named_at_the_start(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(FileBroken, match=str(path)):
        watched(path)


@pytest.mark.timeout(60)
def test_a_pipe_or_an_immense_file_is_named_and_not_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = watched(path)
    path.unlink()
    os.mkfifo(path)
    assert file.current() == 1
    assert "cannot be read: not a regular file; the previous content is still used" in caplog.messages[-1]
    path.unlink()
    path.touch()
    os.truncate(path, 10**12)
    assert file.current() == 1
    assert "has 1,000,000,000,000 bytes; the limit is" in caplog.messages[-1]
    path.write_text("2")
    assert file.current() == 2


def test_a_change_is_seen_and_an_unchanged_file_is_not_read_again(path: Path) -> None:
    reads: list[bytes] = []

    def parse_once(text: bytes) -> int:
        reads.append(text)
        return parse(text)

    file = WatchedFile(path, parse_once, look_seconds=0)
    assert [file.current(), file.current()] == [1, 1]
    path.write_text("2")
    assert [file.current(), file.current()] == [2, 2]
    assert reads == [b"1", b"2"]


def test_a_secrets_mount_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """The kubelet renames a new link over `..data`; the name that the service opens stays the same link."""
    for version, text in (("v1", "1"), ("v2", "2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "number").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "number").symlink_to("..data/number")
    file = watched(tmp_path / "number")
    assert file.current() == 1
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert file.current() == 2


def test_an_invalid_change_keeps_the_previous_content_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = watched(path)
    path.write_text("no number")
    with caplog.at_level(logging.ERROR):
        assert [file.current(), file.current()] == [1, 1]
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    path.unlink()
    assert file.current() == 1
    path.write_text("3")
    assert file.current() == 3


def test_a_file_is_checked_at_most_once_per_interval(path: Path) -> None:
    file = WatchedFile(path, parse, look_seconds=3600)
    path.write_text("2")
    assert file.current() == 1
