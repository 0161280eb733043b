import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gwservice.atomic import locked, replace_file, replacing

ROOT = Path(__file__).parents[2]


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(2)]
    replace_file(path, contents[0])
    done = threading.Event()

    def replace() -> None:
        for i in range(100):
            replace_file(path, contents[i % 2], durable=False)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        assert path.read_bytes() in contents
    writer.join()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as temporary:  # noqa: PT012 (the block is what is tested)
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_renamed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "folder", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_leftover_of_a_crash_is_named_after_the_file_and_is_harmless(tmp_path: Path) -> None:
    left = tmp_path / f".file.{os.getpid()}.part"
    left.symlink_to("/dev/full")
    replace_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(("mode", "umask", "expected"), [(0o666, 0o022, 0o644), (0o600, 0, 0o600), (0o666, 0, 0o666)])
def test_the_mode_is_that_of_a_new_file_or_the_one_that_is_asked_for(
    tmp_path: Path, mode: int, umask: int, expected: int
) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "file", b"secret", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected


@pytest.mark.parametrize("folder", [True, False])
def test_a_lock_is_held_until_the_block_ends(tmp_path: Path, *, folder: bool) -> None:
    path = tmp_path if folder else tmp_path / ".lock"
    with locked(path, folder=folder):
        with pytest.raises(BlockingIOError), locked(path, folder=folder):
            pass
        with pytest.raises(BlockingIOError), locked(path, folder=folder):
            pass
    with locked(path, folder=folder):
        pass


def test_a_waiting_process_gets_a_lock_next(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with locked(tmp_path / ".lock", wait=True):
            order.append("second")

    with locked(tmp_path / ".lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        started.wait()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_folder_that_is_missing_is_not_made_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing", folder=True):
        pass
    assert not list(tmp_path.iterdir())


def test_the_client_needs_nothing_but_the_standard_library_for_it() -> None:
    program = (
        "import sys; import gwservice.atomic; names = {name.partition('.')[0] for name in sys.modules}; "
        "print(*sorted(names - set(sys.stdlib_module_names) - {'gwservice', '__main__'}))"
    )
    printed = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not printed.stdout.strip()
