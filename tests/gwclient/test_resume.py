"""A push that is cut short, and goes on: against the real trio."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gwclient.sources.simulate import SimulatedSource
from scripts.trio import Trio
from tests.support.forked import Forked

#: Enough that a push is far from its end when it is interrupted.
SECONDS = 240
SIMULATE = ("simulate", "--detectors", "H1,L1", "--seconds", str(SECONDS), "--rate", "1024", "--concurrency", "8")


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1kB"})


def start(trio: Trio, *arguments: str) -> Forked:
    return Forked(["gwclient", *arguments, "--json"], os.environ | {"SRV": trio.url})


def finish(process: Forked) -> Any:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return json.loads(out)


def stored(trio: Trio) -> list[Path]:
    return list((trio.home / "datavar" / "data").glob("gwb*.json"))


def number_stored(trio: Trio) -> int:
    return sum(1 for _ in (trio.home / "datavar" / "data").iterdir())  # faster than a pattern


def interrupt(trio: Trio, words: Sequence[str], after: int, how: signal.Signals) -> int | None:
    """Start a command and send it a signal when so many segments more are stored; return the exit status."""
    target, deadline = number_stored(trio) + after, time.monotonic() + 60
    process = start(trio, *words)
    while number_stored(trio) < target:
        assert process.poll() is None, "it ended before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate(timeout=30)
    return process.returncode


def check_stored_once(trio: Trio, seed: int) -> None:
    """Every sample of the simulation is stored, bit for bit, in one segment and no other."""
    segments = [json.loads(path.read_bytes()) for path in stored(trio)]
    mine = [segment for segment in segments if segment["meta"].get("seed") == seed]
    places = Counter((segment["meta"]["channel"], segment["t"][0]) for segment in mine)
    assert set(places.values()) == {1}
    assert len(places) == 2 * SECONDS
    for run in SimulatedSource(("H1", "L1"), float(SECONDS), 1024, seed, 1_400_000_000, 0.1).runs():
        of_channel = sorted((s["t"][0], s["h"]) for s in mine if s["meta"]["channel"] == run.channel)
        assert np.concatenate([h for _, h in of_channel]).tobytes() == run.strain[:].tobytes()


def test_killed_again_and_again_it_sends_what_is_missing_and_nothing_twice(trio: Trio) -> None:
    push = (*SIMULATE, "--seed", "11")
    for after in (1, 37, 60):
        assert interrupt(trio, push, after, signal.SIGKILL) == -signal.SIGKILL
    account = finish(start(trio, *push))
    assert account["acknowledged"] + account["before"] == 2 * SECONDS
    assert account["before"] > 0
    check_stored_once(trio, 11)
    again = finish(start(trio, *push))
    assert (again["acknowledged"], again["before"]) == (0, 2 * SECONDS)


def test_after_ctrl_c_exactly_what_is_missing_is_sent(trio: Trio) -> None:
    push = (*SIMULATE, "--seed", "12")
    assert interrupt(trio, push, 100, signal.SIGINT) == 130
    there = sum(b'"seed":12' in path.read_bytes() for path in stored(trio))
    account = finish(start(trio, *push))
    assert (account["before"], account["acknowledged"]) == (there, 2 * SECONDS - there)
    check_stored_once(trio, 12)


def test_a_cursor_that_was_lost_costs_time_and_stores_nothing_twice(trio: Trio, fresh_home: Path) -> None:
    push = (*SIMULATE, "--seed", "13")
    interrupt(trio, push, 60, signal.SIGKILL)
    for path in (fresh_home / "state" / "gwclient").iterdir():
        path.unlink()
    assert finish(start(trio, *push))["acknowledged"] == 2 * SECONDS
    check_stored_once(trio, 13)


def test_restart_forgets_what_was_acknowledged(trio: Trio) -> None:
    push = ("simulate", "--detectors", "L1", "--seconds", "3", "--rate", "1024", "--seed", "14")
    assert finish(start(trio, *push))["acknowledged"] == 3
    assert finish(start(trio, *push))["acknowledged"] == 0
    before = len(stored(trio))
    assert finish(start(trio, *push, "--restart"))["acknowledged"] == 3
    assert len(stored(trio)) == before + 3


def test_different_segments_of_one_span_are_all_stored_each_once(trio: Trio, tmp_path: Path) -> None:
    path = tmp_path / "twins.ndjson"
    segments = [([1.0, 2.0], 100.0), ([1.0, 3.0], 100.0), ([1.0, 2.0], 100.0), ([9.0], 100.5), ([4.0], 101.0)]
    lines = [json.dumps({"h": h, "t": [t0, 0.5], "meta": {"channel": "L1:TWINS"}}) for h, t0 in segments]
    path.write_text("\n".join(lines))
    before = len(stored(trio))
    first, again = (finish(start(trio, "push", str(path), "--concurrency", "1")) for _ in range(2))
    assert (first["acknowledged"], first["before"], len(stored(trio)) - before) == (4, 0, 4)
    assert (again["acknowledged"], again["before"], again["left_out"]) == (0, 4, [])


def test_a_replay_that_is_killed_goes_on_with_its_spool_and_stores_nothing_twice(
    trio: Trio, gw150914_files: dict[str, Path]
) -> None:
    replay = ("replay", *map(str, gw150914_files.values()), "--rate", "20", "--poll", "0.1")
    for after in (4, 9):
        assert interrupt(trio, replay, after, signal.SIGKILL) == -signal.SIGKILL
    frozen = start(trio, "train", "--user", "ada", "--token", "t")
    finish(frozen)
    process = start(trio, *replay)
    there = len(stored(trio))
    time.sleep(1.5)
    assert len(stored(trio)) == there  # frozen: what comes about waits
    finish(start(trio, "thaw", "--user", "ada", "--token", "t"))
    account = finish(process)
    assert not account["dropped_spans"]
    segments = [json.loads(path.read_bytes()) for path in stored(trio)]
    mine = [segment for segment in segments if "GWOSC" in segment["meta"]["channel"]]
    places = Counter((segment["meta"]["channel"], segment["t"][0]) for segment in mine)
    assert set(places.values()) == {1}
    assert len(places) == 64
    assert finish(start(trio, *replay))["before"] == 64
