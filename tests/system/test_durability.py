"""The order of system calls: a segment is on the disk before its sender gets the answer."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.trio import Trio
from tests.support.segments import segment_body
from tests.support.strace import SystemCall, stop_and_read, traced_buffer
from tools.clients import Connection

_CALLS = "write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2"


def only(calls: list[SystemCall], names: str, *parts: str) -> SystemCall:
    """Return the only call of these names whose arguments contain these parts."""
    those = [call for call in calls if re.fullmatch(names, call.name) and all(part in call.arguments for part in parts)]
    assert len(those) == 1, (names, parts, those)
    return those[0]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[0]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Trio, Path]]:
    with traced_buffer(tmp_path, _CALLS) as traced:
        yield traced


def test_data_then_name_then_folder_are_synced_before_the_sender_is_answered(traced: tuple[Trio, Path]) -> None:
    trio, trace = traced
    status, answer = Connection(trio.url).post("/sendF", segment_body(1))
    assert status == 201
    name = found(r"gwb\d+\.json", answer["body"])
    calls = stop_and_read(trio, trace)
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
