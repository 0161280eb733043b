"""The cost of a plan of tiers, and the moves that are left."""

from typing import Any

import pytest

from gwclient.commands.queries import batch_text
from gwclient.commands.tiers import plan_lines, tier_lines
from gwclient.tiering import Estimate, estimates, unfinished
from gwwire.public import Batch, BatchState
from gwwire.records import StepState
from gwwire.tiering import Move, Replica, ReplicaState, Tiering, TieringPlan, TierOverview

GB = 10**9
COPY = Move("b1", "copy:object", 2 * GB)
AGAIN = Move("b2", "copy:object", GB)
DROP = Move("b1", "drop:disk", 2 * GB, ["copy:object"], due=5000.0)


def plan(*moves: Move, rates: dict[str, float] | None = None) -> TieringPlan:
    return TieringPlan(1000.0, Tiering(("object",), 4000), ["b1", "b2"], list(moves), [], [], rates or {})


@pytest.mark.parametrize(
    ("rate", "seen", "seconds"),
    [(None, {}, None), (None, {"object": 3e6}, 1000.0), (1e6, {"object": 3e6}, 3000.0), (None, {"tape": 3e6}, None)],
)
def test_the_time_follows_from_the_rate_given_or_else_seen(
    rate: float | None, seen: dict[str, float], seconds: float | None
) -> None:
    [copy, drop] = estimates(plan(COPY, DROP, AGAIN, rates=seen), rate, {})
    assert copy == Estimate("copy:object", 2, 3 * GB, seconds, None)
    assert drop == Estimate("drop:disk", 1, 2 * GB, None, None)


def test_a_copy_costs_and_a_drop_saves_the_price_of_its_tier() -> None:
    [copy, drop] = estimates(plan(COPY, DROP, AGAIN), None, {"object": 0.5, "disk": 2.0, "tape": 9.0})
    assert (copy.per_month, drop.per_month) == (1.5, -4.0)


def with_state(move: Move, state: StepState) -> Move:
    return Move(move.batch, move.step, move.bytes, move.after, move.due, state)


def test_what_follows_a_failed_move_is_not_waited_for() -> None:
    failed = with_state(COPY, StepState.FAILED)
    running = with_state(AGAIN, StepState.RUNNING)
    now_drop = Move("b1", "drop:disk", 2 * GB, ["copy:object"])
    assert unfinished(plan(failed, now_drop, running)) == ([running], [], [failed])
    assert unfinished(plan(COPY, DROP, AGAIN)) == ([COPY, AGAIN], [DROP], [])
    assert unfinished(plan()) == ([], [], [])


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, "the disk keeps them forever"),
        (0, "the disk does not keep them"),
        (7 * 86_400, "the disk keeps them for 7d"),
    ],
)
def test_a_plan_says_how_long_the_disk_keeps_batches(kept: int | None, words: str) -> None:
    found = TieringPlan(1000.0, Tiering(("object",), kept), [], [], [], [], {})
    assert plan_lines(found, [], of_settings=False)[0] == f"policy: copies in object; {words}"


def test_a_plan_by_the_settings_is_not_about_the_policies_that_batches_have() -> None:
    found = TieringPlan(1000.0, Tiering(), ["b1", "b2"], [], [], [], {})
    assert plan_lines(found, [], of_settings=True) == [
        "policy of the settings (batches may have others): copies in no other tier; the disk keeps them forever",
        "nothing moves by this policy: 2 batches compared",
    ]


def test_the_tiers_are_a_table_in_which_a_folder_is_not_named_as_the_disk() -> None:
    mine = TierOverview("disk", "disk", 100 * GB, 34 * GB, 1, GB, quota=3 * GB, quota_used=2 * GB)
    copy = TierOverview("object", "disk", None, None, 2, 2 * GB, missing=1, error="tier object: it is away")
    assert tier_lines([mine, copy, TierOverview("tape", "tape", 10 * GB, 0)]) == [
        "TIER    KIND    USED                 PACKS",
        "disk    volume  34.0 GB of 100.0 GB  1 pack, 1.0 GB, quota of a group 3.0 GB, of which yours uses 2.0 GB",
        "object  folder  unknown              2 packs, 2.0 GB, 1 missing, last error: tier object: it is away",
        "tape    tape    0 bytes of 10.0 GB   0 packs, 0 bytes",
    ]


def test_a_copy_in_a_tier_that_there_is_not_is_named_apart() -> None:
    copies = [
        Replica("object", "k", GB, None, ReplicaState.VERIFIED),
        Replica("tape", "k", GB, None, ReplicaState.VERIFIED, in_tiers=False),
    ]
    values: dict[str, Any] = {"frozen": None, "archived": None, "holder": None, "digest": None, "path": "p"}
    batch = Batch(id="b1", state=BatchState.ARCHIVED, opened="now", n_itm=4, buff_size=GB, replicas=copies, **values)
    assert batch_text(batch).endswith("verified copies in object, tape (not in TIERS)")
