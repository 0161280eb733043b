"""Trees of files are found however odd they are, and what a holding has leads to nothing outside the target."""

import inspect
import sys
from pathlib import Path

import pytest
from msgspec import structs

from gwclient.commands.getfile import _caught
from gwclient.commands.holdings import _file_text
from gwclient.errors import FolderError
from gwclient.trees import find_files, restore_directory, restore_link
from gwwire.holdings import FileState, HoldingFile, PathType


def held(path: str, kind: PathType = PathType.FILE, mtime: float = 0.0) -> HoldingFile:
    state = FileState.COMPLETE
    return HoldingFile(path, kind, 0, 0o777, mtime, None, None, state, None, 1, "t", None, None)


def test_one_file_out_of_bounds_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "long").symlink_to("x" * 2049)
    (tmp_path / "screen").symlink_to("\x1b[2J")
    (tmp_path / "good").touch()
    (tmp_path / "good").chmod(0o600)
    found = find_files([str(tmp_path)])
    assert [each.path for each in found.files] == [str(tmp_path), f"{tmp_path}/good"]
    assert [(each.path, each.reason) for each in found.failures] == [
        (f"{tmp_path}/long", "link: expected at most 2048 characters"),
        (f"{tmp_path}/screen", r"link: '\x1b[2J': the target has a line break or another control character"),
    ]


def test_a_tree_may_be_deeper_than_functions_can_call_each_other(tmp_path: Path) -> None:
    tmp_path.joinpath(*"a" * 300).mkdir(parents=True)
    usually = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = find_files([str(tmp_path)])
    finally:
        sys.setrecursionlimit(usually)
    assert len(found.files) == 301


def test_files_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a/2", "a/1", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [each.path.removeprefix(f"{tmp_path}") for each in find_files([str(tmp_path)]).files] == [
        *("", "/a", "/a/1", "/a/2", "/b", "/c")
    ]


def test_a_mode_is_never_given_to_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "a").symlink_to(tmp_path / "private")
    with pytest.raises(FolderError, match="is a link already"):
        restore_directory(tmp_path / "target", held("/a", PathType.DIRECTORY))


@pytest.mark.anyio
async def test_a_link_to_what_no_path_can_be_is_a_failure_of_its_own(tmp_path: Path) -> None:
    async def restore(file: HoldingFile) -> None:
        restore_link(tmp_path, file)

    links = {"/a": "no\0path", "/b": "stored by an earlier\nversion", "/c": "x"}
    files = [structs.replace(held(path, PathType.LINK), link=link) for path, link in links.items()]
    [failure, *others] = [await _caught(restore)(each) for each in files]
    assert failure
    assert (failure.path, failure.reason, others) == ("/a", "the target of the link has a NUL", [None, None])
    assert [str((tmp_path / name).readlink()) for name in "bc"] == [links["/b"], "x"]


def test_a_time_beyond_every_calendar_is_shown() -> None:
    assert "@1099511627776" in _file_text(held("/a", mtime=2.0**40))
    assert "@-1099511627776" in _file_text(held("/a", mtime=-(2.0**40)))
