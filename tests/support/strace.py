"""The buffer's system calls, as recorded by strace."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scripts.trio import Trio, free_ports

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
    """Parse the output of `strace -f`; calls of several threads are interleaved, in two parts each."""
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


@contextmanager
def traced_buffer(folder: Path, calls: str, *tampering: str) -> Iterator[tuple[Trio, Path]]:
    """Run a buffer and trace these calls into a file; skip the test if strace is missing or not permitted.

    `tampering` are strace's own expressions, such as `fsync:delay_exit=20000` for a disk that needs 20 ms.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    probe = subprocess.run([strace, "-f", "-y", "-o", str(folder / "probe"), "true"], check=False)
    if probe.returncode:
        pytest.skip("strace is not permitted here")
    trace = folder / "trace"
    home = folder / "home"
    home.mkdir()
    with (home / "services.log").open("ab") as log:
        trio = Trio(home, free_ports(), output=log, services=1)
        [buffer] = trio.services
        # -D: the buffer itself, not its tracer, is the process that is started, and stopped.
        options = ["-D", "-f", "-y", "-s", "200", "-e", f"trace={calls}", "-o", str(trace)]
        options += [word for each in tampering for word in ("-e", f"inject={each}")]
        trio.services = [replace(buffer, command=[strace, *options, *buffer.command])]
        with trio:
            yield trio, trace


def stop_and_read(trio: Trio, trace: Path) -> list[SystemCall]:
    """Stop the buffer and return its calls; the tracer writes for a moment after the buffer has ended."""
    process = trio.processes["databuffer"]
    trio.stop()
    while f"{process.pid} +++ exited with {process.returncode} +++" not in re.sub(" +", " ", trace.read_text()):
        time.sleep(0.01)
    return list(calls_in(trace.read_text()))
