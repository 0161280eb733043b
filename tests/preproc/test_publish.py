from pathlib import Path

import pytest

from preproc.errors import OutputFailed
from preproc.publish import published


def test_a_file_is_there_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file"
    with published(target) as partial:
        partial.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, stop: type[BaseException]) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(stop), published(target) as partial:  # noqa: PT012 (the block is what is tested)
        partial.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(OutputFailed, match=r"cannot write .*dataset\.h5: File exists"),
        published(tmp_path / "file" / "dataset.h5"),
    ):
        pass
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(OutputFailed, match=r"cannot write .*folder: Is a directory"),
        published(tmp_path / "folder") as partial,
    ):
        partial.write_text("half")
    assert not list(tmp_path.glob(".*"))
