import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.tier import NotThere, TierError
from tests.support.faulty_volume import Crash, Fault, FaultyVolume
from tests.support.tier_conformance import content_of, keys_of, write

BEFORE, AFTER = b"before" * 1000, b"after" * 2000


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, None], ids=["EIO", "ENOSPC", "crash"])
def test_at_each_system_call_of_a_write_a_reader_sees_the_old_bytes_or_the_new(
    tmp_path: Path, number: int | None, *, late: bool
) -> None:
    strikes = 0
    for call in range(30):
        root = tmp_path / str(call)
        root.mkdir()
        tier = FolderTier("copy", root)
        write(tier, "a/one.tar", BEFORE)
        with FaultyVolume() as faults:
            faults.arm(Fault(call, number, late=late))
            with suppress(TierError, Crash):
                write(tier, "a/one.tar", AFTER)
            with suppress(TierError, Crash):
                write(tier, "new/folder/two.tar", AFTER)
            faults.heal()
            strikes += faults.struck
        assert content_of(tier, "a/one.tar") in {BEFORE, AFTER}
        assert content_of(tier, "new/folder/two.tar") in {None, AFTER}
        assert set(keys_of(tier)) <= {"a/one.tar", "new/folder/two.tar"}
        write(tier, "a/one.tar", b"again")
        assert content_of(tier, "a/one.tar") == b"again"
    assert 10 < strikes < 30


def test_what_is_written_is_synced_with_its_name_before_the_write_returns(tmp_path: Path) -> None:
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*given: object, **more: object) -> object:
            calls.append(name)
            return real(*given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "fsync", "rename", "mkdir"):
            patch.setattr(os, name, recorded(name))
        write(FolderTier("copy", tmp_path), "a/one.tar", BEFORE)
    assert calls == ["mkdir", "write", "write", "fsync", "mkdir", "fsync", "rename", "fsync"]


def test_a_file_that_a_crash_left_behind_is_deleted_after_a_day_and_one_that_is_written_is_kept(tmp_path: Path) -> None:
    tier = FolderTier("copy", tmp_path)
    write(tier, "one.tar")
    old, young = tmp_path / ".incoming" / "old", tmp_path / ".incoming" / "young"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    write(tier, "two.tar")
    assert (old.exists(), young.exists()) == (False, True)
    assert keys_of(tier) == ["one.tar", "two.tar"]


def test_other_files_in_the_folder_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "a").mkdir()
    tier = FolderTier("copy", tmp_path)
    assert keys_of(tier) == []
    assert tier.stat("a") is None


def test_what_is_not_a_file_is_not_there_and_not_waited_for(tmp_path: Path) -> None:
    tier = FolderTier("copy", tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe")
    assert keys_of(tier) == []
    with pytest.raises(NotThere, match="pipe is not a file"):
        tier.read("pipe")
    write(tier, "pipe", AFTER)
    assert content_of(tier, "pipe") == AFTER
