"""The benchmark of tiers judges moves by the plain copies beside them."""

from pathlib import Path
from types import ModuleType

import pytest

from tools.benchmark import __main__ as bench
from tools.benchmark import tiers
from tools.benchmark.moves import PLAIN, RCLONE, READ_BACK, Moves, Plan
from tools.benchmark.plain import FilePlace, copy_by_rclone, rclone
from tools.benchmark.pushes import Pushes
from tools.benchmark.report import Circumstances
from tools.benchmark.tiers import goals_of, section


def test_a_move_is_compared_with_each_plain_copy_and_every_second_one_comes_last() -> None:
    order: list[str] = []

    def takes(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    moves = Moves("copy to a folder")
    for seconds in (2.0, 4.0, 5.0):
        copies = {PLAIN: lambda: takes("plain", 2.0), READ_BACK: lambda: takes("back", 3.0)}
        moves.measure(4_000_000, lambda seconds=seconds: takes("move", seconds), copies)  # type: ignore[misc]
    assert order == ["move", "plain", "back", "back", "plain", "move", "move", "plain", "back"]
    assert (moves.speed(), moves.speed(PLAIN), moves.ratio(PLAIN), moves.ratio(READ_BACK)) == (1.0, 2.0, 0.5, 0.75)


def test_goals_and_measurements_are_reported() -> None:
    moves = Moves("copy to a folder", [1_000_000], [1.0], {PLAIN: [0.9]})
    pushes = Pushes("buffer", idle=[100.0, 120.0], busy=[80.0, 90.0], copied=[5.0, 7.0])
    reached = [goal.reached for goal in goals_of([moves], [pushes])]
    assert reached == [True, False]
    lines = section(Plan(1_000_000, 4096, 1), [moves], [pushes], Circumstances("today", "it", "a machine", "1"))
    assert "| copy to a folder | 1 | plain | 1 | 0.90 |" in lines
    assert "| buffer | 110 | 85 | 0.78 | 6 |" in lines


def test_the_goals_are_about_rclone_where_it_was_measured() -> None:
    moves = Moves("copy to a folder", [1_000_000], [1.0], {RCLONE: [0.9], PLAIN: [0.5]})
    [goal] = goals_of([moves], [])
    assert (goal.reached, goal.measured) == (True, "0.90 x (1 against 1 MB/s)")


def test_rclone_copies_files_compares_them_and_names_what_it_cannot_copy(tmp_path: Path) -> None:
    if (program := rclone()) is None:
        pytest.skip("rclone is not installed (Debian: apt-get install rclone)")
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"bytes")
    for number, path in enumerate((source, source / "one")):
        target = Path(FilePlace(tmp_path).target(str(number)))
        copy_by_rclone(program, path, str(target), check=True)
        assert (target / "one").read_bytes() == b"bytes"
    with pytest.raises(OSError, match="rclone ended with status"):
        copy_by_rclone(program, tmp_path / "missing", str(tmp_path / "three"), check=False)


@pytest.mark.parametrize("command", [tiers, bench])
def test_a_home_that_does_not_exist_is_named(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--home", str(tmp_path / "missing")])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(f"argument --home: '{tmp_path}/missing' is not a folder; it has to exist")
