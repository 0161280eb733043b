"""What the kernel was asked, and when: a segment is on the disk before its sender hears of it."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scripts.trio import Trio, free_ports
from tests.support.segments import segment_body
from tools.clients import Connection

_CALLS = "write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2"
_WHOLE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_BEGUN = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(?P<thread>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>-?\d+)")


@dataclass(frozen=True)
class SystemCall:
    """A system call that succeeded; `begin` and `end` are its places in the order of events."""

    name: str
    arguments: str
    begin: int
    end: int


def calls_in(trace: str) -> Iterator[SystemCall]:
    """Read what `strace -f` wrote; calls of several threads lie interleaved in it, in two parts each."""
    begun: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(trace.splitlines()):
        if match := _WHOLE.match(line):
            begin, arguments = place, match["arguments"]
        elif match := _BEGUN.match(line):
            begun[match["thread"]] = place, match["arguments"]
            continue
        elif match := _ENDED.match(line):
            begin, first = begun.pop(match["thread"])
            arguments = first + match["arguments"]
        else:
            continue
        if int(match["result"]) >= 0:
            yield SystemCall(match["name"], arguments, begin, place)


def only(calls: list[SystemCall], names: str, *parts: str) -> SystemCall:
    """Give the one call of these names whose arguments have these parts."""
    those = [call for call in calls if re.fullmatch(names, call.name) and all(part in call.arguments for part in parts)]
    assert len(those) == 1, (names, parts, those)
    return those[0]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[0]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Trio, Path]]:
    """Run a buffer whose system calls are written down; skips where that is not allowed."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace here")
    probe = subprocess.run([strace, "-f", "-y", "-o", str(tmp_path / "probe"), "true"], check=False)
    if probe.returncode:
        pytest.skip("strace is not permitted here")
    trace = tmp_path / "trace"
    home = tmp_path / "home"
    home.mkdir()
    with (home / "services.log").open("ab") as log:
        trio = Trio(home, free_ports(), output=log, tiers=1)
        [buffer] = trio.services
        # -D: the buffer itself, not its tracer, is the process that is started, and stopped.
        options = ["-D", "-f", "-y", "-s", "200", "-e", f"trace={_CALLS}", "-o", str(trace)]
        trio.services = [replace(buffer, command=[strace, *options, *buffer.command])]
        with trio:
            yield trio, trace


def stop_and_read(trio: Trio, trace: Path) -> str:
    """Give all that was traced; the tracer writes on for a moment after the buffer has ended."""
    process = trio.processes["databuffer"]
    trio.stop()
    while f"{process.pid} +++ exited with {process.returncode} +++" not in re.sub(" +", " ", trace.read_text()):
        time.sleep(0.01)
    return trace.read_text()


def test_data_then_name_then_folder_are_synced_before_the_sender_hears_of_it(traced: tuple[Trio, Path]) -> None:
    trio, trace = traced
    status, answer = Connection(trio.url).post("/sendF", segment_body(1))
    assert status == 201
    name = found(r"gwb\d+\.json", answer["body"])
    calls = list(calls_in(stop_and_read(trio, trace)))
    volume = trio.home / "datavar"
    renamed = only(calls, "rename(at2?)?", f"{volume}/data/{name}")
    staged = found(rf"{volume}/\.incoming/[^\"<>]+", renamed.arguments)
    written = only(calls, "write|pwrite64", f"<{staged}>")
    synced = only(calls, "fsync|fdatasync", f"<{staged}>")
    answered = only(calls, "write|writev|sendto|sendmsg", "<socket:", "HTTP/1.1 201 Created")
    named = [
        call
        for call in calls
        if call.name == "fsync" and f"<{volume}/data>" in call.arguments and renamed.end < call.begin < answered.begin
    ]

    assert r"{\"h\":[1.0," in written.arguments
    assert written.end < synced.begin
    assert synced.end < renamed.begin
    assert len(named) == 1
    assert named[0].end < answered.begin
