from threading import Event, Thread

import pytest

from databuffer.records.performer import Attempt, Stopped
from databuffer.tiers.moves.turns import Turns


def test_the_moves_of_a_pack_in_a_tier_take_turns_and_leave_no_lock() -> None:
    turns, inside = Turns(), Event()

    def second() -> None:
        with turns.taking("batch/b1", "object", Attempt()):
            inside.set()

    with turns.taking("batch/b1", "object", Attempt()):
        thread = Thread(target=second)
        thread.start()
        with turns.taking("batch/b1", "tape", Attempt()), turns.taking("batch/b2", "object", Attempt()):
            assert not inside.wait(0.05)
            assert len(turns) == 3
    thread.join()
    assert inside.is_set()
    assert len(turns) == 0


def test_a_move_that_is_stopped_does_not_wait_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("databuffer.tiers.moves.turns._TURN_SECONDS", 0.01)
    turns, stopped = Turns(), Attempt()
    stopped.stop()
    with turns.taking("batch/b1", "object", Attempt()):
        with pytest.raises(Stopped), turns.taking("batch/b1", "object", stopped):
            pass
        assert len(turns) == 1
    assert len(turns) == 0
