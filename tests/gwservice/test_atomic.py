import errno
import fcntl
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
    with pytest.raises(IsADirectoryError) as failed:
        replace_file(tmp_path / "folder", b"new")
    assert (failed.value.filename, failed.value.filename2) == (str(tmp_path / "folder"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_names_the_file_and_not_its_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as failed:
        replace_file(path, b"new")
    assert failed.value.filename == str(path)


def test_the_leftover_of_a_crash_is_removed_with_the_next_content(tmp_path: Path) -> None:
    crash = (
        "import os, pathlib, sys; from gwservice.atomic import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary: temporary.write_text('half'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash, str(tmp_path / "file")], check=True, cwd=ROOT)
    (left,) = tmp_path.iterdir()
    assert (left.name[:6], left.suffix, left.read_text()) == (".file.", ".part", "half")
    replace_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_another_program_put_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as temporary:
        pass
    temporary.symlink_to("/dev/full")
    replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_two_writers_of_a_file_have_a_temporary_file_each(tmp_path: Path) -> None:
    """Their process ids may be equal: those of threads are, and those of containers."""
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_taken_for_abandoned_before_it_is_locked_is_left_to_the_other_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "file", fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        replace_file(path, b"second")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    replace_file(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_without_locks_each_writer_still_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with replacing(tmp_path / "file") as first:
        first.write_text("first")
        replace_file(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_text() == "first"


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
