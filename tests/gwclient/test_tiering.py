"""The cost of a plan of tiers, and the moves that are left."""

from typing import Any

import pytest
from msgspec.structs import replace

from gwclient.commands.doctor import tier_findings
from gwclient.commands.queries import batch_text, result_lines
from gwclient.commands.recall import _kept_text, recall_text
from gwclient.commands.tiers import plan_lines, tier_lines
from gwclient.tiering import Estimate, estimates, unfinished
from gwwire.public import Batch, BatchState, Verification, VerificationState
from gwwire.records import StepState
from gwwire.tiering import (
    Move,
    Recall,
    RecallState,
    Replica,
    ReplicaState,
    Tiering,
    TieringPlan,
    TierOverview,
    Tiers,
)

GB = 10**9
GONE = TierOverview("gone", "", replicas=3, bytes=3 * GB, in_tiers=False, unreadable=2)
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
    mine = TierOverview("disk", "disk", 90 * GB, 34 * GB, 1, GB, quota=3 * GB, quota_used=2 * GB)
    copy = TierOverview("object", "disk", None, None, 2, 2 * GB, missing=1, error="tier object: it is away")
    assert tier_lines([mine, copy, TierOverview("tape", "tape", 10 * GB, 0), replace(GONE, missing=1)]) == [
        "TIER    KIND          USED                VERIFIED PACKS",
        "disk    volume        34.0 GB of 90.0 GB  1 pack, 1.0 GB, quota of a group 3.0 GB, of which yours uses 2.0 GB",
        "object  folder        unknown             2 packs, 2.0 GB, 1 missing, last error: tier object: it is away",
        "tape    tape          0 bytes of 10.0 GB  0 packs, 0 bytes",
        "gone    not in TIERS  unknown             3 packs, 3.0 GB, 2 CANNOT BE READ: no tier of TIERS has them",
    ]


@pytest.mark.parametrize(
    ("replicas", "unreadable", "missing", "finding"),
    [
        (3, 2, 1, "wrong: TIERS does not name gone: 2 of its 3 packs cannot be read, because they are nowhere else"),
        (3, 0, 1, "note: TIERS does not name gone: its 3 packs count for nothing; 1 batch has it in the policy"),
        (1, 0, 2, "note: TIERS does not name gone: its 1 pack counts for nothing; 2 batches have it in the policy"),
        (3, 0, 0, "note: TIERS does not name gone: its 3 packs count for nothing"),
        (0, 0, 1, "note: TIERS does not name gone; 1 batch has it in the policy"),
    ],
)
def test_the_doctor_names_a_tier_with_packs_that_there_is_not(
    replicas: int, unreadable: int, missing: int, finding: str
) -> None:
    gone = replace(GONE, replicas=replicas, unreadable=unreadable, missing=missing)
    found = list(tier_findings(Tiers([TierOverview("disk", "disk"), gone])))
    assert [f"{each.verdict}: {each.words}" for each in found] == [finding]
    [_, last] = tier_findings(Tiers([TierOverview("disk", "disk"), TierOverview("tape", "tape"), gone]))
    assert last.words == "disk, tape answer"


def test_a_plan_names_the_packs_that_a_store_evicts() -> None:
    evictions = [Move("b1", "drop:object", 2 * GB), Move("b2", "drop:object", GB)]
    found = TieringPlan(1000.0, Tiering(("object",)), ["b1", "b2"], [COPY], [], evictions, {})
    assert plan_lines(found, [], of_settings=False)[2:] == [
        "OBJECT_HIGH_WATER lets 2 packs, 3.0 GB, leave the object store:",
        "b1  drop:object  2.0 GB",
        "b2  drop:object  1.0 GB",
    ]


def test_an_estimate_without_a_recall_so_far_is_named_a_guess() -> None:
    recall = Recall("b1", RecallState.QUEUED, position=2, seconds=120, measured=False)
    assert recall_text(recall) == ("b1  QUEUED: number 2 of the queue, about 120 s, a guess: no recall was made yet")
    assert recall_text(replace(recall, measured=True)) == "b1  QUEUED: number 2 of the queue, about 120 s"


def test_a_batch_that_could_not_be_compared_is_not_called_damaged() -> None:
    found = Verification(VerificationState.FAILED, 0.0, 0, 4, ["tape: TIERS does not name it"])
    assert result_lines("b1", found) == ["tape: TIERS does not name it", "b1 could not be compared"]
    found = replace(found, state=VerificationState.DAMAGED, checked=4, problems=["x is missing"])
    assert result_lines("b1", found) == ["x is missing", "b1 is damaged: 4 of 4 files read"]


def test_a_copy_in_a_tier_that_there_is_not_is_named_apart() -> None:
    copies = [
        Replica("object", "k", GB, None, ReplicaState.VERIFIED),
        Replica("tape", "k", GB, None, ReplicaState.VERIFIED, in_tiers=False),
    ]
    values: dict[str, Any] = {"frozen": None, "archived": None, "holder": None, "digest": None, "path": "p"}
    batch = Batch(id="b1", state=BatchState.ARCHIVED, opened="now", n_itm=4, buff_size=GB, replicas=copies, **values)
    assert batch_text(batch).endswith("verified copies in object, tape (not in TIERS)")
    assert batch_text(replace(batch, leaves_disk="2026-12-07T00:00:00Z")).endswith(
        "tape (not in TIERS), leaves the disk after 2026-12-07T00:00:00Z"
    )
    recalled = [Replica("disk", "k", GB, None, ReplicaState.VERIFIED, pinned=True)]
    assert batch_text(replace(batch, leaves_disk="2026-12-07T00:00:00Z", replicas=recalled)).endswith(
        "verified copies in disk, leaves the disk after 2026-12-07T00:00:00Z and when its recall is released"
    )
    running = Verification(VerificationState.RUNNING, 0.0, 0, 4, ["not read: tier tape: it is torn"])
    assert "being verified: 0 of 4 files read; it is tried again, because an attempt failed: not read: tier tape" in (
        batch_text(replace(batch, verification=running))
    )
    assert "being verified: 0 of 4 files read," in batch_text(
        replace(batch, verification=replace(running, problems=[]))
    )


def test_a_release_names_for_whom_else_a_batch_is_kept() -> None:
    released = Recall("b1", RecallState.ONLINE, others={"readers": 1_795_000_000.0, "get": 1_795_000_060.0})
    kept = "; still kept for readers until 2026-11-18 11:06 UTC, for get until 2026-11-18 11:07 UTC"
    assert _kept_text(released) == kept
    assert _kept_text(Recall("b1", RecallState.ONLINE)) == ""
