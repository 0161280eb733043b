import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from gwclient.cursor import Cursor
from gwclient.errors import CursorError, NoStateFolder
from gwclient.pieces import Length, cut
from gwclient.strain import Run
from gwfiles.stretches import Span

GATEWAY = "http://gateway:8000"
SECOND = Length(seconds=1)
OpenCursor = Callable[..., Cursor]


@pytest.fixture
def open_cursor(tmp_path: Path) -> Iterator[OpenCursor]:
    with ExitStack() as stack:

        def open_one(source: str = "files a.hdf5", length: Length = SECOND, *, restart: bool = False) -> Cursor:
            return stack.enter_context(closing(Cursor.open(tmp_path, source, GATEWAY, length, restart=restart)))

        yield open_one


def test_what_was_acknowledged_is_known_the_next_time_and_nothing_else(open_cursor: OpenCursor) -> None:
    first = open_cursor()
    for start in (100.0, 102.0, 101.0):
        first.acknowledge(Span("L1:A", start, start + 1))
    first.close()
    again = open_cursor()
    assert [again.covers(Span("L1:A", float(t), t + 1.0)) for t in range(99, 104)] == [False, True, True, True, False]
    assert not again.covers(Span("H1:A", 100.0, 101.0))
    assert not again.covers(Span("L1:A", 102.0, 104.0))


def test_two_samplings_of_a_channel_do_not_hide_each_other(open_cursor: OpenCursor) -> None:
    [slow], [fast] = (cut(Run(np.zeros(n), 100.0, 1 / n, "L1:A"), SECOND) for n in (16, 4096))
    cursor = open_cursor()
    cursor.acknowledge(slow.recorded)
    cursor.save()
    assert cursor.covers(slow.recorded)
    assert not cursor.covers(fast.recorded)
    [rounded] = cut(Run(np.zeros(4096), 100.0, 0.00024414, "L1:A"), SECOND)
    assert rounded.recorded.channel == fast.recorded.channel


def test_each_source_has_a_cursor_of_its_own(open_cursor: OpenCursor) -> None:
    first = open_cursor("files a.hdf5")
    first.acknowledge(Span("L1:A", 100.0, 101.0))
    assert open_cursor("files b.hdf5").empty


def test_a_source_whose_path_is_not_utf_8_has_a_cursor(open_cursor: OpenCursor) -> None:
    for byte in ("\udcff", "\udcfe"):
        cursor = open_cursor(f"files {byte}.hdf5")
        assert cursor.empty
        cursor.acknowledge(Span("H1:X", 0.0, 1.0))
        cursor.close()
        assert open_cursor(f"files {byte}.hdf5").covers(Span("H1:X", 0.0, 1.0))
    assert cursor.state.source == r"files \xfe.hdf5"


def test_two_processes_never_send_the_same_source_at_once(open_cursor: OpenCursor) -> None:
    first = open_cursor()
    with pytest.raises(CursorError, match="another process is sending this source"):
        open_cursor()
    first.close()
    open_cursor()


def test_with_another_length_what_was_acknowledged_is_settled(open_cursor: OpenCursor) -> None:
    first = open_cursor()
    first.acknowledge(Span("L1:A", 100.0, 101.0))
    first.close()
    second = open_cursor(length=Length(samples=100))
    assert not second.covers(Span("L1:A", 100.0, 101.0))
    assert second.state.settled == {"L1:A": [(100.0, 101.0)]}
    second.acknowledge(Span("L1:A", 101.0, 103.0))
    second.close()
    assert open_cursor().state.settled == {"L1:A": [(100.0, 103.0)]}


def test_restart_forgets_and_makes_other_keys(open_cursor: OpenCursor) -> None:
    first = open_cursor()
    assert first.state.salt == ""
    first.acknowledge(Span("L1:A", 100.0, 101.0))
    first.close()
    second = open_cursor(restart=True)
    assert second.empty
    salt = second.state.salt
    assert salt
    second.close()
    assert open_cursor().state.salt == salt  # an interrupted restart goes on with its own keys


def test_what_another_datastore_acknowledged_is_forgotten(open_cursor: OpenCursor) -> None:
    first = open_cursor()
    first.belong_to("b1")
    first.acknowledge(Span("L1:A", 100.0, 101.0))
    first.close()
    second = open_cursor()
    assert second.state.datastore == "b1"
    second.belong_to("b2")
    assert second.empty


def test_spans_can_be_forgotten(open_cursor: OpenCursor) -> None:
    cursor = open_cursor()
    cursor.acknowledge(Span("L1:A", 100.0, 110.0))
    cursor.save()
    assert not cursor.forget([Span("L1:A", 110.0, 120.0), Span("H1:A", 100.0, 110.0)])
    assert cursor.forget([Span("L1:A", 102.0, 104.0), Span("L1:A", 109.0, 200.0)])
    assert cursor.state.acknowledged == {"L1:A": [(100.0, 102.0), (104.0, 109.0)]}


def test_the_newest_segment_is_kept_in_whatever_order_the_answers_come(open_cursor: OpenCursor) -> None:
    cursor = open_cursor()
    for number in (9, 11, 10):
        cursor.note_stored(f"gwb{number}.json", b"%d" % number)
        cursor.save()
    cursor.close()
    assert open_cursor().state.newest == ("gwb11.json", hashlib.sha256(b"11").hexdigest())


@pytest.mark.parametrize("content", ['{"source": 1}', '{"x":' * 5000])
def test_a_cursor_that_cannot_be_read_is_kept_and_reported(
    open_cursor: OpenCursor, tmp_path: Path, content: str
) -> None:
    open_cursor().close()
    (path,) = tmp_path.glob("*.json")
    path.write_text(content)
    with pytest.raises(CursorError, match="cannot be read as a cursor"):
        open_cursor()
    assert path.read_text() == content


def test_where_no_folder_can_be_made_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoStateFolder, match="cannot be kept in"):
        Cursor.open(tmp_path / "file", "files", GATEWAY, SECOND)
