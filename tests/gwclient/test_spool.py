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


def test_a_spool_that_cannot_be_used_is_told(tmp_path: Path, open_spool: OpenSpool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        open_spool(tmp_path / "file", 10**6)
    (tmp_path / "000000000000.json").write_text("{")
    with pytest.raises(SpoolError, match="is not a segment"):
        open_spool(tmp_path, 10**6)
