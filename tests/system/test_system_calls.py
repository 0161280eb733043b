"""A segment costs the buffer five calls of the file system; all other calls are made once for a group of segments."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.strace import SystemCall, stop_and_read, traced_buffer
from tools.benchmark.load import Order, run_load
from tools.clients import Connection

_CREATE = ("open", "openat", "creat")
_RENAME = ("rename", "renameat", "renameat2")
#: The calls for each segment: a file is created, written, synced, closed and renamed.
_PER_SEGMENT = {"create", "write", "fsync", "close", "rename"}
_ALONE, _TOGETHER, _IN_FLIGHT = 16, 160, 16
#: Upper limit of the calls of a large group, relative to a group of one segment: the catalog writes more pages.
_GROWTH = 2
#: A disk that needs 20 ms for a sync: while it syncs a group, all other requests arrive, however busy the machine is.
_SLOW_DISK = "fsync,fdatasync:delay_exit=20000"


def kind(call: SystemCall) -> str:
    """Return the effect of a call, whichever of its variants was used."""
    if call.name in _CREATE:
        return "create" if "O_CREAT" in call.arguments or call.name == "creat" else "open"
    if call.name in _RENAME:
        return "rename"
    return {"fdatasync": "fsync", "pwrite64": "write", "writev": "write"}.get(call.name, call.name)


class Phase:
    """The calls on the buffer's files while some segments were stored."""

    def __init__(self, calls: list[SystemCall], home: Path) -> None:
        volume = re.escape(str(home / "datavar"))
        of_a_segment = re.compile(rf'{volume}/(?:\.incoming|data)(?:/|>, ")[^">]+')
        mine = [call for call in calls if str(home) in call.arguments and "services.log" not in call.arguments]
        self.segments = Counter(kind(call) for call in mine if of_a_segment.search(call.arguments))
        self.others = [call for call in mine if not of_a_segment.search(call.arguments)]
        folder = f"<{home / 'datavar' / 'data'}>"
        self.groups = sum(kind(call) == "fsync" and folder in call.arguments for call in self.others)

    def others_of(self, *kinds: str) -> list[SystemCall]:
        return [call for call in self.others if kind(call) in kinds]


def push(url: str, segments: int, connections: int) -> None:
    load = run_load(Order(f"{url}/sendF", "single", 300, connections, 60, segments))
    assert (load.created, load.refused) == (segments, 0)


def mark(connection: Connection) -> None:
    """Write a mark into the trace: the answer to a segment that is not stored."""
    assert connection.post("/sendF", b"{}")[0] == 422


def phases_of(calls: list[SystemCall], home: Path) -> list[Phase]:
    """Return the phases between the marks."""
    marks = [place for place, call in enumerate(calls) if "HTTP/1.1 422" in call.arguments]
    return [Phase(calls[begin:end], home) for begin, end in pairwise(marks)]


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> list[Phase]:
    """Return the phases of segments stored one at a time and with 16 concurrent requests, after a warm-up."""
    folder = tmp_path_factory.mktemp("traced")
    with traced_buffer(folder, "%file,%desc,sendto,sendmsg", _SLOW_DISK) as (trio, trace):
        connection = Connection(trio.url)
        push(trio.url, _IN_FLIGHT, _IN_FLIGHT)
        mark(connection)
        push(trio.url, _ALONE, 1)
        mark(connection)
        push(trio.url, _TOGETHER, _IN_FLIGHT)
        mark(connection)
        return phases_of(stop_and_read(trio, trace), trio.home)


def test_a_segment_is_created_written_synced_closed_and_renamed_once_and_no_more(phases: list[Phase]) -> None:
    alone, together = phases
    assert alone.segments == dict.fromkeys(_PER_SEGMENT, _ALONE)
    assert together.segments == dict.fromkeys(_PER_SEGMENT, _TOGETHER)


def test_segments_that_wait_together_share_one_sync_of_their_folder(phases: list[Phase]) -> None:
    alone, together = phases
    assert alone.groups == _ALONE
    assert 0 < together.groups <= _TOGETHER / 2
    for phase in phases:
        assert len(phase.others_of("fsync")) == phase.groups


def test_no_other_file_is_created_replaced_or_changed_in_mode(phases: list[Phase]) -> None:
    for phase in phases:
        assert phase.others_of("unlink", "unlinkat", "mkdir", "chmod", "fchmod", "fchmodat") == []
        # The new counts replace the old ones by a link, and the log is appended to, at most once per group.
        for name, pattern in (("link", "StatDesc"), ("rename", "StatDesc"), ("create", r"LogStream|\.StatDesc.*\.\d")):
            calls = phase.others_of(name)
            assert [call for call in calls if not re.search(pattern, call.arguments)] == []
            assert len(calls) <= phase.groups * (pattern.count("|") + 1)


def test_the_cost_of_a_group_does_not_grow_with_its_segments(phases: list[Phase]) -> None:
    alone, together = phases
    assert len(together.others) / together.groups <= _GROWTH * len(alone.others) / alone.groups
    for name in ("StatDesc.json", "LogStream.json"):
        for phase in phases:
            written = [call for call in phase.others_of("write") if name in call.arguments]
            assert 0 < len(written) <= phase.groups
