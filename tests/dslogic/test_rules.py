import pytest

from dslogic.rules import may_freeze, smallest_meant
from gwwire.datastore import BufferStats, DatastoreState, Description

OPERATIONAL = Description(DatastoreState.OPERATIONAL)
FROZEN = Description(DatastoreState.FROZEN, "alice", "secret")


@pytest.mark.parametrize(
    ("stats", "granted"),
    [
        (BufferStats(0, 0), False),
        (BufferStats(1, 99), False),
        (BufferStats(1, 100), True),
        (BufferStats(50, 5000), True),
    ],
)
def test_a_batch_may_be_frozen_from_max_size_on(stats: BufferStats, granted: bool) -> None:  # noqa: FBT001 (an expectation)
    assert may_freeze(stats, OPERATIONAL, max_size=100) is granted


def test_an_empty_batch_is_never_frozen() -> None:
    assert not may_freeze(BufferStats(0, 0), OPERATIONAL, max_size=0)
    assert smallest_meant(BufferStats(0, 0)) > 0


def test_a_frozen_batch_may_be_asked_for_again_whatever_its_size() -> None:
    assert may_freeze(BufferStats(1, 1), FROZEN, max_size=100)
