"""dslogic's plan and the buffer's own comparison of policy and replicas say the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from databuffer.tiers.ledger.replicas import Archive, ReplicaRow
from databuffer.tiers.ledger.wanted import missing_steps
from dslogic.tiering import plan
from gwwire.tiering import DISK, BatchReplicas, Replica, ReplicaState, Tiering

NOW, SECOND = 1000, 10**9
TIERS = ("object", "tape")
#: The buffer ends a deletion before it copies there again; the plan already says so.
STATES = st.sampled_from([state for state in ReplicaState if state is not ReplicaState.DELETING])
POLICIES = st.builds(
    lambda tiers, keep: Tiering(tuple(tiers), keep if tiers else None),
    st.sets(st.sampled_from(TIERS)),
    st.sampled_from([None, 0, 50, 500]),
)


@given(POLICIES, st.dictionaries(st.sampled_from(TIERS), STATES), st.none() | st.sampled_from(ReplicaState))
@settings(max_examples=200, deadline=None)
def test_what_the_plan_would_do_now_is_what_the_buffer_begins(
    wanted: Tiering, states: dict[str, ReplicaState], disk: ReplicaState | None
) -> None:
    rows = states | ({} if disk is None else {DISK: disk})
    told = dict(rows)
    if disk is None and ReplicaState.VERIFIED not in states.values():
        told[DISK] = ReplicaState.WRITTEN  # the buffer knows no replica on the disk before a copy has read it
    archive = Archive(
        "batch/b", 900 * SECOND, wanted, {tier: ReplicaRow("batch/b", tier, "k", 1, s) for tier, s in rows.items()}
    )
    seen = BatchReplicas("b", 1, 900.0, wanted, [Replica(tier, "k", 1, None, state) for tier, state in told.items()])

    found = plan(wanted, [seen], NOW)
    now = [move.step for move in found.moves if not move.after and move.due is None]
    now += [each.step for each in found.blocked if each.step.startswith("copy:")]
    begun = missing_steps(archive, TIERS, NOW * SECOND)
    assert sorted(now) == sorted(begun)
