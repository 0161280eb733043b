"""The files that tell about the data."""

from pathlib import Path

import pytest

from databuffer.storage.metadata import LogStream, stored_entry


@pytest.mark.parametrize("last", [1, 2, 699, 700, 701, 5000])
def test_the_newest_lines_of_a_log_are_those_at_its_end(tmp_path: Path, last: int) -> None:
    log = LogStream(tmp_path / "LogStream.json")
    assert log.lines(last) == []
    log.append(stored_entry(f"gwb{number}.json", number, number * 10**9) for number in range(700))
    assert log.size() > 64 * 1024
    every = log.lines()
    assert len(every) == 700
    assert log.lines(last) == every[-last:]


def test_a_line_that_is_cut_short_is_not_told(tmp_path: Path) -> None:
    log = LogStream(tmp_path / "LogStream.json")
    log.append(stored_entry(f"gwb{number}.json", number, 0) for number in range(3))
    whole = log.lines()
    (tmp_path / "LogStream.json").write_bytes(log.content()[:-10])
    assert log.lines() == whole[:2]
    assert log.lines(1) == whole[1:2]
