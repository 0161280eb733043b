import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Event, Semaphore

import pytest

from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners, TapeRobot
from databuffer.tiers.tier import Locality, NotOnline, NotThere, Staged, StageState, TierError
from tests.support.tier_conformance import bring_online, content_of, write

FAST = TapeManners(mount=0, seek=0, rate=10**12)
COMPLETED = Staged(StageState.COMPLETED, 100)
SUBMITTED = Staged(StageState.SUBMITTED)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def states(tier: TapeTier, request: str) -> list[str]:
    return [each.state for each in tier.staged(request).values()]


def test_bytes_on_tape_can_be_read_only_after_they_were_staged_and_until_they_are_released(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    write(tier, "one.tar", b"some bytes")
    for _ in range(2):
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.NEARLINE}
        with pytest.raises(NotOnline, match=r"one\.tar is on tape"):
            tier.read("one.tar")
        bring_online(tier, "one.tar")
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.ONLINE}
        assert b"".join(tier.read("one.tar")) == b"some bytes"
        tier.release(["one.tar"])


def test_a_request_ends_when_its_last_key_is_released(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    write(tier, "one.tar")
    write(tier, "two.tar")
    request = bring_online(tier, "one.tar", "two.tar")
    tier.release(["one.tar"])
    assert tier.staged(request) == {"two.tar": COMPLETED}
    tier.release(["two.tar"])
    with pytest.raises(NotThere):
        tier.staged(request)


def test_a_reader_of_a_released_key_reads_to_the_end(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    content = bytes(3_000_000)
    write(tier, "one.tar", content)
    bring_online(tier, "one.tar")
    chunks = tier.read("one.tar")
    tier.release(["one.tar"])
    assert b"".join(chunks) == content


@pytest.mark.parametrize("drives", [1, 2])
def test_one_drive_brings_one_key_after_another_and_two_drives_two_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drives: int
) -> None:
    tier = TapeTier("tape", tmp_path, replace(FAST, drives=drives))
    for key in ("one.tar", "two.tar"):
        write(tier, key)
    at_work, may_end, real = Semaphore(0), Semaphore(0), TapeRobot.at_rate

    def held(robot: TapeRobot, chunks: Iterable[bytes]) -> Iterator[bytes]:
        at_work.release()
        may_end.acquire()
        return real(robot, chunks)

    monkeypatch.setattr(TapeRobot, "at_rate", held)
    request = tier.stage(["one.tar", "two.tar"])
    for _ in range(drives):
        assert at_work.acquire(timeout=60)
    assert sorted(states(tier, request)) == ["STARTED"] * drives + ["SUBMITTED"] * (2 - drives)
    may_end.release(2)
    wait_until(lambda: states(tier, request) == ["COMPLETED", "COMPLETED"])


def test_mount_seek_and_rate_take_their_time(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, TapeManners(mount=0.1, seek=0.05, rate=10_000_000))
    content = bytes(1_000_000)
    for call in (lambda: write(tier, "one.tar", content), lambda: bring_online(tier, "one.tar")):
        begin = time.monotonic()
        call()
        assert time.monotonic() - begin > 0.1 + 0.05 + 0.1


def test_progress_is_reported_in_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(TapeTier("tape", tmp_path, FAST), "one.tar", bytes(8_000_000))
    tier = TapeTier("tape", tmp_path, FAST)
    half, may_end = Event(), Event()

    def held(_: TapeRobot, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == 4:  # of 8
                half.set()
                may_end.wait()
            yield chunk

    monkeypatch.setattr(TapeRobot, "at_rate", held)
    request = tier.stage(["one.tar"])
    assert half.wait(60)
    assert tier.staged(request)["one.tar"] == Staged(StageState.STARTED, 100 * (4 << 20) // 8_000_000)
    may_end.set()
    wait_until(lambda: tier.staged(request) == {"one.tar": COMPLETED})


def test_what_does_not_fit_into_the_online_area_waits_until_something_is_released(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, replace(FAST, online=1000))
    for key in ("a.tar", "b.tar", "c.tar"):
        write(tier, key, bytes(400))
    request = tier.stage(["a.tar", "b.tar", "c.tar"])
    wait_until(lambda: states(tier, request)[:2] == ["COMPLETED", "COMPLETED"])
    for _ in range(5):
        assert tier.staged(request)["c.tar"] == SUBMITTED
    tier.release(["a.tar"])
    wait_until(lambda: tier.staged(request)["c.tar"] == COMPLETED)
    assert tier.locality(["a.tar"]) == {"a.tar": Locality.NEARLINE}


def test_what_is_larger_than_the_online_area_fails(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, replace(FAST, online=1000))
    write(tier, "big.tar", bytes(1001))
    request = tier.stage(["big.tar"])
    wait_until(lambda: states(tier, request) == ["FAILED"])
    assert "1001 bytes; the online area has 1000" in tier.staged(request)["big.tar"].reason


def test_what_a_crash_or_an_outage_left_online_goes_offline_with_the_next_request(tmp_path: Path) -> None:
    crashed, tier, away = TapeTier("tape", tmp_path, FAST), TapeTier("tape", tmp_path, FAST), tmp_path.with_name("away")
    for key in ("a.tar", "b.tar", "c.tar"):
        write(tier, key)
    bring_online(crashed, "a.tar")
    assert tier.locality(["a.tar"]) == {"a.tar": Locality.ONLINE}
    bring_online(tier, "b.tar")
    tmp_path.rename(away)
    with pytest.raises(TierError, match=str(tmp_path)):
        tier.release(["b.tar"])
    with pytest.raises(TierError, match=str(tmp_path)):
        tier.stage(["c.tar"])
    away.rename(tmp_path)
    tier.release(["c.tar"])
    assert set(tier.locality(["a.tar", "b.tar", "c.tar"]).values()) == {Locality.NEARLINE}


def test_after_a_crash_in_the_middle_of_a_key_it_is_read_again(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, replace(FAST, rate=1000))
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "one.tar").write_bytes(b"x" * 10_000)  # 10 s at this rate
    request = tier.stage(["one.tar"])
    wait_until(lambda: states(tier, request) == ["STARTED"])
    again = TapeTier("tape", tmp_path, FAST)
    bring_online(again, "one.tar")
    assert b"".join(again.read("one.tar")) == b"x" * 10_000


def test_a_key_that_was_written_again_is_never_read_with_its_old_bytes(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    write(tier, "one.tar", b"old")
    request = bring_online(tier, "one.tar")
    write(tier, "one.tar", b"new")
    with pytest.raises(NotOnline):
        tier.read("one.tar")
    wait_until(lambda: tier.staged(request) == {"one.tar": COMPLETED})
    assert b"".join(tier.read("one.tar")) == b"new"


def test_a_failure_on_request_fails_with_its_reason_until_the_request_is_withdrawn(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    for key in ("batches/good.tar", "batches/bad.tar"):
        write(tier, key)
    faults = tmp_path / "faults"
    faults.write_text("stage batches/b* the tape is torn\nwrite *.txt no such tape\nread */good.tar a scratch\n")
    request = tier.stage(["batches/good.tar", "batches/bad.tar"])
    wait_until(lambda: states(tier, request) == ["COMPLETED", "FAILED"])
    assert "the tape is torn" in tier.staged(request)["batches/bad.tar"].reason
    with pytest.raises(TierError, match="no such tape"):
        write(tier, "a.txt")
    with pytest.raises(TierError, match="a scratch"):
        tier.read("batches/good.tar")
    faults.unlink()
    assert content_of(tier, "batches/bad.tar") is not None


def test_nothing_stays_online_that_nobody_wants(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    for key in ("one.tar", "a/two.tar"):
        write(tier, key)
        content_of(tier, key)
    assert [path for path in (tmp_path / "online").iterdir() if path.name != ".incoming"] == []


def test_bytes_come_online_on_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    tier = TapeTier("tape", tmp_path, FAST)
    write(tier, "one.tar")
    linked = content_of(tier, "one.tar")
    monkeypatch.setattr(os, "link", refuse)
    assert content_of(tier, "one.tar") == linked


_OTHER_BUFFER = """
import sys
from pathlib import Path
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
tier = TapeTier("tape", Path(sys.argv[1]), TapeManners())
print(tier.stat("one.tar"), flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_buffer_uses_is_refused_until_that_one_is_gone(tmp_path: Path) -> None:
    tier = TapeTier("tape", tmp_path, FAST)
    with Popen([sys.executable, "-c", _OTHER_BUFFER, tmp_path], stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"None\n"
        told = rf"tier tape: {tmp_path}: another buffer \(process {other.pid} on .+\) uses the folder"
        for call in (
            lambda: write(tier, "one.tar"),
            lambda: tier.stage(["one.tar"]),
            lambda: tier.release(["one.tar"]),
        ):
            with pytest.raises(TierError, match=told):
                call()
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.UNAVAILABLE}
        other.kill()
    write(tier, "one.tar", b"some bytes")
    assert content_of(tier, "one.tar") == b"some bytes"
