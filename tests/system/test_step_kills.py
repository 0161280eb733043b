"""Listeners that are killed at any moment, with the buffer and the gateway: each step is DONE once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.trio import Trio
from tests.support.forked import Forked
from tools.torture_steps import Plan, StepTorture


class ForkedTorture(StepTorture):
    def start_listener(self, arguments: Sequence[str], environment: Mapping[str, str], report: Path) -> Any:
        with report.open("ab") as output:
            return Forked(["gwclient", *arguments], environment, output)


def test_each_step_is_done_once_by_its_last_attempt_whatever_is_killed(
    start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    torture = ForkedTorture(tmp_path / "torture", 1, Plan(records=40, seconds=4, listeners=3, pause=0.1))
    asyncio.run(torture.run(start_trio()))
    assert len(torture.attempts) == 40
    assert torture.kills["listener"]
    assert torture.kills["databuffer"] + torture.kills["glitchflow_api"]
