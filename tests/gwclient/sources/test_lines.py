import os
import threading
import time

import pytest

from gwclient.pieces import Length
from gwclient.sources import lines
from gwclient.sources.lines import pieces_of_lines, read_lines


def read_from_a_pipe(content: bytes) -> tuple[list[bytes], float]:
    """Return the lines that are read of a pipe with this content, and the CPU time in s of the reader."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            view = memoryview(content)
            while view:
                view = view[pipe.write(view[: 2**20]) :]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        began = time.thread_time()
        lines = [line for line in read_lines(reading) if line]
        return lines, time.thread_time() - began
    finally:
        writer.join()
        os.close(reading)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_lines_are_read_whatever_their_length_and_end(end: bytes) -> None:
    expected = [b"a", b"b" * 300_000, b"c" * 2**18, b" d", b"e" * 1_000_001]
    assert read_from_a_pipe(b"\n\n".join(expected) + end)[0] == expected


def test_the_time_for_one_line_grows_as_its_length() -> None:
    size = 4_000_000
    short = min(read_from_a_pipe(b"x" * size)[1] for _ in range(3))
    [line], long = read_from_a_pipe(b"x" * (16 * size))
    assert len(line) == 16 * size
    assert long < 48 * short + 0.5


def test_a_line_beyond_the_limit_is_named_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 1_000_000)
    segment = b'{"h":[1e-21],"t":[100.0,0.25]}'
    found, _ = read_from_a_pipe(segment + b"\n" + b"x" * 20_000_000 + b"\n" + segment)
    assert len(found[1]) < 2_000_000
    unread: list[str] = []
    assert len(list(pieces_of_lines(iter(found), Length(), unread))) == 2
    assert unread == ["line 2 of standard input is not a segment: it is longer than 1 MB"]
