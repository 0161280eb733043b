"""The metadata files: counts, state and log."""

import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from databuffer.storage.metadata import LogStream, Metadata, stored_entries
from gwwire.public import Stats


@pytest.mark.parametrize("last", [1, 2, 699, 700, 701, 5000])
def test_the_newest_lines_of_a_log_are_those_at_its_end(tmp_path: Path, last: int) -> None:
    log = LogStream(tmp_path / "LogStream.json")
    assert log.lines(last) == []
    log.append(stored_entries([(f"gwb{number}.json", number) for number in range(700)], 10**9))
    assert log.size() > 64 * 1024
    every = log.lines()
    assert len(every) == 700
    assert log.lines(last) == every[-last:]


def test_an_incomplete_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    log = LogStream(tmp_path / "LogStream.json")
    log.append(stored_entries([(f"gwb{number}.json", number) for number in range(3)], 0))
    whole = log.lines()
    (tmp_path / "LogStream.json").write_bytes(log.content()[:-10])
    assert log.lines() == whole[:2]
    assert log.lines(1) == whole[1:2]


def test_lines_that_are_no_entries_are_left_out(tmp_path: Path) -> None:
    log = LogStream(tmp_path / "LogStream.json")
    entries = stored_entries([(f"gwb{number}.json", number) for number in range(3)], 0)
    for entry, damage in zip(entries, (b"junk", b'\xff{"level"', b'[1,2]\n\n{"level":"info"}'), strict=True):
        log.append([entry])
        with log.path.open("ab") as file:
            file.write(damage + b"\n")
    with_waste = log.lines()[0].replace(b"}", b',"x":"\xff"}')
    log.path.write_bytes(with_waste + b"\n" + log.content())
    assert [msgspec.json.decode(line)["name"] for line in log.lines()] == [entry.name for entry in entries]
    assert log.lines(5) == log.lines()[-1:]
    assert log.entries() == entries


_READ_ON = """
import json, pathlib, sys
path, size, seen = pathlib.Path(sys.argv[1]), int(sys.argv[2]), set()
while len(seen) < 300:
    content = path.read_bytes()
    told = json.loads(content)
    assert len(content) == 64 and told["buff_size"] == told["n_itm"] * size, content
    seen.add(told["n_itm"])
"""


def test_a_reader_in_a_loop_never_sees_torn_or_empty_counts(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "StatDesc.json", tmp_path / "Dsstat.json")
    size = 98_123
    metadata.write_stats(Stats(1, size))
    arguments = [sys.executable, "-c", _READ_ON, str(tmp_path / "StatDesc.json"), str(size)]
    with subprocess.Popen(arguments) as reader:
        for number in itertools.count(1):
            metadata.write_stats(Stats(number, number * size))
            if number % 100 == 0 and reader.poll() is not None:
                break
    assert reader.returncode == 0, "the reader found counts that do not belong together"


def test_counts_take_no_new_inode_after_the_start(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "StatDesc.json", tmp_path / "Dsstat.json")
    (tmp_path / "StatDesc.json").write_text('{"n_itm": 1, "buff_size": 2, "next_n_itm": 3, "next_buff_size": 4}')
    metadata.prepare()
    prepared = {path.stat().st_ino for path in tmp_path.iterdir()}
    inodes = []
    for number in (*range(100), 10**18, 7):
        metadata.write_stats(Stats(number, number))
        assert metadata.read_stats() == Stats(number, number)
        inodes.append((tmp_path / "StatDesc.json").stat().st_ino)
    assert set(inodes) <= prepared
