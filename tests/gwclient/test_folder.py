from pathlib import Path

import numpy as np
import pytest

from gwclient.errors import FolderError
from gwclient.folder import prepare_folder, write_batch, write_file
from gwclient.pieces import cut
from gwclient.strain import Run
from gwwire.segment import decode_segment

RUN = Run(np.arange(40.0), 1400000000.0, 0.25, "L1:STRAIN", {"detector": "L1"})


def test_a_batch_folder_holds_one_segment_in_each_file_named_as_the_buffer_does(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new" / "batch")
    write_batch(tmp_path / "new" / "batch", cut(RUN, 1), lambda _piece, _size: None)
    files = sorted((tmp_path / "new" / "batch").iterdir())
    assert [len(file.name) for file in files] == [len("gwb") + 19 + len(".json")] * 10
    segments = [decode_segment(file.read_bytes()) for file in files]
    assert [segment.t0 for segment in segments] == [1400000000.0 + k for k in range(10)]
    assert [h for segment in segments for h in segment.h] == RUN.strain[:].tolist()
    assert b" " not in files[0].read_bytes()


def test_segments_of_the_same_time_get_names_of_their_own(tmp_path: Path) -> None:
    write_batch(tmp_path, [*cut(RUN, 10), *cut(RUN, 10)], lambda _piece, _size: None)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_holds_a_batch_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "gwb1724170688599724923.json").write_text("{}")
    with pytest.raises(FolderError, match="already holds a batch"):
        prepare_folder(tmp_path)


def test_other_files_in_a_folder_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    prepare_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FolderError, match="cannot be used"):
        prepare_folder(tmp_path / "file")


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(FolderError, match="cannot be written"):
        write_file(tmp_path / "name", b"body")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
