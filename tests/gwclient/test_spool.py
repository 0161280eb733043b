import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gwclient.errors import SpoolError
from gwclient.pieces import Piece, cut
from gwclient.spool import Spool
from gwclient.strain import Run

OpenSpool = Callable[[Path, int], Spool]

T0 = 1126259446.0


def pieces(count: int = 4) -> list[Piece]:
    return list(cut(Run(np.arange(count * 4) * 1e-21, T0, 0.25, "L1:STRAIN"), 1))


def test_what_waits_is_given_in_order_and_so_is_what_comes_meanwhile(tmp_path: Path, open_spool: OpenSpool) -> None:
    spool = open_spool(tmp_path, 10**6)
    first, second, third, _ = pieces()
    assert spool.put(first)
    assert spool.put(second)
    pending = spool.pending()
    given = [next(pending), next(pending), next(pending)]
    assert spool.put(third)
    given.append(next(pending))
    assert [each and each.body() for each in given] == [first.body(), second.body(), None, third.body()]
    assert [each and each.span for each in given] == [first.span, second.span, None, third.span]


def test_a_file_that_is_no_segment_is_set_aside_and_named_and_the_others_wait(
    tmp_path: Path, open_spool: OpenSpool
) -> None:
    spool = open_spool(tmp_path, 10**6)
    for piece in pieces(3):
        spool.put(piece)
    spool.close()
    (tmp_path / "1abc.json").touch()
    (tmp_path / ".000000000002.json.999.part").touch()
    (tmp_path / "000000000001.json").write_text("{")
    os.mkfifo(tmp_path / "000000000003.json")
    again = open_spool(tmp_path, 10**6)
    assert again.spans == [piece.span for piece in (pieces(3)[0], pieces(3)[2])]
    reasons = ("is not a segment: the body is not JSON: input data was truncated", "cannot be read: not a regular file")
    assert again.unusable == [
        f"{tmp_path}/{name} in the spool {reason}; it is kept as {name}.unusable"
        for name, reason in zip(("000000000001.json", "000000000003.json"), reasons, strict=True)
    ]
    assert again.put(pieces(4)[3])
    names = [f"00000000000{n}.json" for n in ("0", "1", "2", "3", "4")]
    names[1], names[3] = f"{names[1]}.unusable", f"{names[3]}.unusable"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", *names, "1abc.json"]
    for entry in (*tmp_path.glob("*[0-4].json"),):
        entry.unlink()
    again.close()
    after = open_spool(tmp_path, 10**6)
    assert after.put(pieces()[0])
    assert (tmp_path / "000000000004.json").exists(), "the name of a file that is kept is not used again"


def test_a_full_spool_takes_nothing_until_there_is_space(tmp_path: Path, open_spool: OpenSpool) -> None:
    first, second, *_ = pieces()
    spool = open_spool(tmp_path, len(first.body()) + len(second.body()) - 1)
    assert spool.put(first)
    assert not spool.put(second)
    waiting = next(spool.pending())
    assert waiting
    spool.remove(waiting)
    assert spool.size == 0
    assert spool.put(second)
    assert len(list(tmp_path.glob("*.json"))) == len(spool) == 1


def test_what_a_killed_process_left_waits_still(tmp_path: Path, open_spool: OpenSpool) -> None:
    spool = open_spool(tmp_path, 10**6)
    for piece in pieces(3):
        spool.put(piece)
    first = next(spool.pending())
    assert first
    spool.remove(first)
    spool.close()
    again = open_spool(tmp_path, 10**6)
    assert again.spans == [piece.span for piece in pieces(3)[1:]]
    waiting = again.pending()
    assert [each and each.recorded for each in (next(waiting), next(waiting))] == [
        piece.recorded for piece in pieces(3)[1:]
    ]
    assert again.size == sum(len(piece.body()) for piece in pieces(3)[1:])
    again.put(pieces()[3])
    assert sorted(path.stem[-1] for path in tmp_path.glob("*.json")) == ["1", "2", "3"]


def test_two_processes_do_not_share_a_spool(tmp_path: Path, open_spool: OpenSpool) -> None:
    spool = open_spool(tmp_path, 10**6)
    with pytest.raises(SpoolError, match="another process is using the spool"):
        open_spool(tmp_path, 10**6)
    spool.close()
    open_spool(tmp_path, 10**6)


def test_a_spool_that_cannot_be_used_is_reported(tmp_path: Path, open_spool: OpenSpool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        open_spool(tmp_path / "file", 10**6)
