"""A buffer that is killed at any moment loses no acknowledged segment, and starts again without help."""

from pathlib import Path

import pytest

from tests.support.forked import ForkedTrio
from tools.torture import Torture

ROUNDS = 10


def test_a_killed_buffer_loses_nothing_acknowledged_and_stores_no_retry_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.torture.Trio", ForkedTrio)
    torture = Torture(tmp_path / "home", seed=1)
    for _ in range(ROUNDS):
        torture.kill_once()
    torture.finish()
    assert len(torture.ledger.acknowledged) > ROUNDS
