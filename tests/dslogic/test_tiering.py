"""The policy of the tiers: what follows from it and from what is there."""

import pytest

from dslogic.settings import LogicSettings
from dslogic.tiering import check_tiers, copy_rates, evictions, plan, with_states
from gwwire.decoding import InvalidRequest
from gwwire.records import Record, Step, StepState
from gwwire.tiering import DISK, BatchReplicas, Move, Replica, ReplicaState, Tiering

NOW, ARCHIVED, SIZE = 1000.0, 900.0, 10
BOTH = Tiering(("object", "tape"), keep_on_disk=0)
VERIFIED, WRITTEN, WRITING = ReplicaState.VERIFIED, ReplicaState.WRITTEN, ReplicaState.WRITING
LOST, DELETING = ReplicaState.LOST, ReplicaState.DELETING


def replica(tier: str, state: ReplicaState = VERIFIED, *, used: float | None = None, pinned: bool = False) -> Replica:
    return Replica(tier, "batches/b1.tar", SIZE, "ab", state, 1.0, 2.0, used, pinned)


def batch(*replicas: Replica, name: str = "b1", archived: float = ARCHIVED, keep: int | None = None) -> BatchReplicas:
    return BatchReplicas(name, SIZE, archived, Tiering(("tape",), keep), list(replicas))


def moves_of(wanted: Tiering, **states: ReplicaState) -> list[tuple[str, list[str]]]:
    found = plan(wanted, [batch(*(replica(tier, state) for tier, state in states.items()))], NOW)
    assert not found.blocked
    return [(each.step, each.after) for each in found.moves]


@pytest.mark.parametrize(
    ("wanted", "states", "expected"),
    [
        (Tiering(), {"disk": WRITTEN}, []),
        (Tiering(("tape",)), {"disk": WRITTEN}, [("copy:tape", [])]),
        (Tiering(("tape",)), {"disk": WRITTEN, "tape": VERIFIED}, []),
        (Tiering(("tape",)), {"disk": WRITTEN, "tape": WRITTEN}, [("copy:tape", [])]),
        (Tiering(("tape",)), {"disk": WRITTEN, "tape": WRITING}, [("copy:tape", [])]),
        (Tiering(("tape",)), {"disk": LOST, "object": VERIFIED, "tape": LOST}, [("copy:tape", []), ("copy:disk", [])]),
        (BOTH, {"disk": VERIFIED, "object": VERIFIED, "tape": VERIFIED}, [("drop:disk", [])]),
        (BOTH, {"disk": VERIFIED, "object": VERIFIED}, [("copy:tape", []), ("drop:disk", ["copy:tape"])]),
        (
            BOTH,
            {"disk": VERIFIED, "object": VERIFIED, "tape": WRITTEN},
            [("copy:tape", []), ("drop:disk", ["copy:tape"])],
        ),
        (
            BOTH,
            {"disk": WRITTEN},
            [("copy:object", []), ("copy:tape", []), ("drop:disk", ["copy:object", "copy:tape"])],
        ),
        (BOTH, {"object": VERIFIED}, [("copy:tape", [])]),
        (BOTH, {"disk": DELETING, "object": VERIFIED, "tape": VERIFIED}, [("drop:disk", [])]),
        (BOTH, {"disk": LOST, "object": VERIFIED, "tape": VERIFIED}, [("drop:disk", [])]),
        (BOTH, {"object": VERIFIED, "tape": VERIFIED}, []),
        (Tiering(("tape",)), {"tape": VERIFIED}, []),
        (Tiering(("tape",)), {"disk": WRITING, "tape": VERIFIED}, [("copy:disk", [])]),
        (Tiering(("tape",), 600), {"tape": VERIFIED}, []),
        (Tiering(("tape",), 600), {"disk": LOST, "tape": VERIFIED}, [("copy:disk", []), ("drop:disk", ["copy:disk"])]),
        (Tiering(), {"disk": LOST, "object": VERIFIED}, [("copy:disk", [])]),
        (Tiering(), {"disk": VERIFIED, "tape": VERIFIED}, []),
    ],
)
def test_what_is_missing_is_copied_and_the_disk_is_dropped_last(
    wanted: Tiering, states: dict[str, ReplicaState], expected: list[tuple[str, list[str]]]
) -> None:
    assert moves_of(wanted, **states) == expected


@pytest.mark.parametrize(
    "states",
    [
        {},
        {"disk": LOST},
        {"disk": LOST, "tape": WRITING},
        {"disk": LOST, "tape": WRITTEN},
    ],
)
def test_a_batch_without_readable_bytes_is_neither_copied_nor_dropped(states: dict[str, ReplicaState]) -> None:
    found = plan(BOTH, [batch(*(replica(tier, state) for tier, state in states.items()))], NOW)
    assert not found.moves
    assert ("copy:tape", "no replica of the batch can be read") in [(each.step, each.reason) for each in found.blocked]


@pytest.mark.parametrize("state", ReplicaState)
def test_no_state_of_another_tier_but_verified_lets_the_disk_be_dropped_at_once(state: ReplicaState) -> None:
    found = plan(Tiering(("tape",), 0), [batch(replica(DISK), replica("tape", state))], NOW)
    drop = next(each for each in found.moves if each.step == "drop:disk")
    assert (drop.after == []) == (state is VERIFIED)


@pytest.mark.parametrize(("keep", "due"), [(0, None), (100, None), (101, 1001.0), (600, 1500.0)])
def test_the_disk_keeps_a_batch_for_as_long_as_the_policy_says(keep: int, due: float | None) -> None:
    [drop] = plan(Tiering(("tape",), keep), [batch(replica(DISK), replica("tape"))], NOW).moves
    assert (drop.step, drop.due, drop.bytes) == ("drop:disk", due, SIZE)


def test_the_oldest_batch_comes_first_and_its_moves_stay_together() -> None:
    young, old = (batch(replica(DISK), name=name, archived=at) for name, at in (("a", 2.0), ("b", 1.0)))
    found = plan(Tiering(("tape",), 0), [young, old], NOW).moves
    assert [(each.batch, each.step) for each in found] == [
        ("b", "copy:tape"),
        ("b", "drop:disk"),
        ("a", "copy:tape"),
        ("a", "drop:disk"),
    ]


def test_a_tier_that_the_buffer_does_not_have_is_refused_by_name() -> None:
    check_tiers(BOTH, {"disk", "object", "tape"})
    with pytest.raises(InvalidRequest, match=r"no tier 'tape'; its setting TIERS names object") as refused:
        check_tiers(BOTH, {"disk", "object"})
    assert refused.value.field == "tiering.archive_to"
    with pytest.raises(InvalidRequest, match="TIERS names none"):
        check_tiers(BOTH, {"disk"})


def evicted(*batches: BatchReplicas, used: int, target: int) -> list[str]:
    return [each.batch for each in evictions("object", used=used, target=target, batches=batches)]


def test_the_least_recently_used_packs_leave_until_the_tier_is_below_its_mark() -> None:
    batches = [
        batch(replica("object", used=used), replica("tape"), name=name)
        for name, used in (("new", 30.0), ("old", 10.0), ("never", None), ("middle", 20.0))
    ]
    assert evicted(*batches, used=40, target=40) == []
    assert evicted(*batches, used=40, target=39) == ["never"]
    assert evicted(*batches, used=40, target=15) == ["never", "old", "middle"]
    assert len(evicted(*batches, used=1000, target=0)) == 4
    coming = [Move("b2", "copy:object", 2), Move("b2", "copy:tape", 10)]
    [first, *others] = evictions("object", used=38, target=39, batches=batches, moves=coming)
    assert (first.batch, first.step, first.bytes, others) == ("never", "drop:object", SIZE, [])


@pytest.mark.parametrize(
    ("kept", "leaves"),
    [
        (batch(replica("object"), replica("tape")), True),
        (batch(replica("object"), replica("tape"), keep=60), True),
        (batch(replica("object"), replica(DISK)), False),
        (batch(replica("object"), replica(DISK), keep=60), False),
        (batch(replica("object")), False),
        (batch(replica("object", pinned=True), replica("tape")), False),
        (batch(replica("tape"), replica(DISK)), False),
        *((batch(replica("object"), replica("tape", state)), False) for state in (WRITTEN, WRITING, LOST, DELETING)),
        *((batch(replica("object", state), replica("tape")), False) for state in (WRITTEN, WRITING, LOST, DELETING)),
    ],
)
def test_only_a_pack_that_another_tier_has_and_nobody_has_pinned_leaves(kept: BatchReplicas, leaves: bool) -> None:  # noqa: FBT001 (a parameter of the table)
    assert evicted(kept, used=100, target=0) == ["b1"] * leaves


def record(name: str, step: Step) -> Record:
    return Record(f"batch/{name}", "batch", 1, 1, steps=[step])


def test_the_rate_of_a_tier_is_the_median_of_its_finished_copies() -> None:
    done = [
        record(name, Step("copy:tape", [], StepState.DONE, started=10.0, ended=10.0 + seconds))
        for name, seconds in (("a", 1), ("b", 2), ("c", 100))
    ]
    others = [
        record("a", Step("copy:object", [], StepState.RUNNING, started=10.0)),
        record("a", Step("verify", [], StepState.DONE, started=1.0, ended=2.0)),
        record("a", Step("copy:object", [], StepState.DONE, started=1.0, ended=2.0, result={"moved": False})),
        record("unknown", Step("copy:tape", [], StepState.DONE, started=1.0, ended=2.0)),
    ]
    assert copy_rates([*done, *others], {"a": 1000, "b": 1000, "c": 1000}) == {"tape": 500.0}


@pytest.mark.parametrize("state", StepState)
def test_a_move_has_the_state_of_its_step_and_one_that_is_required_again_waits(state: StepState) -> None:
    moves = plan(Tiering(("tape",), 0), [batch(replica(DISK))], NOW).moves
    steps = [record("b1", Step("copy:tape", [], state, reason="the drive is busy"))]
    copy, drop = with_states(moves, steps)
    assert copy.state == (StepState.WAITING if state is StepState.DONE else state)
    assert copy.reason == "the drive is busy"
    assert (drop.state, drop.reason) == (StepState.WAITING, None)


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({}, None),
        ({"ARCHIVE_TO": "", "KEEP_ON_DISK": ""}, None),
        ({"ARCHIVE_TO": "tape,object"}, Tiering(("object", "tape"))),
        ({"ARCHIVE_TO": "tape", "KEEP_ON_DISK": "7d"}, Tiering(("tape",), 7 * 86_400)),
        ({"ARCHIVE_TO": "tape", "KEEP_ON_DISK": "0"}, Tiering(("tape",), 0)),
        ({"ARCHIVE_TO": "tape", "KEEP_ON_DISK": "forever"}, Tiering(("tape",))),
    ],
)
def test_the_settings_are_the_policy(settings: dict[str, str], policy: Tiering | None) -> None:
    assert LogicSettings.model_validate(settings).tiering == policy


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"KEEP_ON_DISK": "7d"}, "KEEP_ON_DISK=7d needs a tier in ARCHIVE_TO; without one the disk has the only copy"),
        ({"ARCHIVE_TO": "disk"}, "'disk' is not a tier to archive to"),
        ({"ARCHIVE_TO": "tape", "KEEP_ON_DISK": "7w"}, "as 90m, 12h or 7d, or forever"),
        *(({"OBJECT_HIGH_WATER": text}, "a percentage above 0%") for text in ("", "0%", "101%", "0.8", "80")),
    ],
)
def test_settings_that_cannot_hold_stop_the_service(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LogicSettings.model_validate(settings)
