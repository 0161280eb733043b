import pytest

from dslogic.rules import may_freeze, smallest_meant
from gwwire.datastore import Description
from gwwire.public import DatastoreState, Stats

OPERATIONAL = Description(DatastoreState.OPERATIONAL)
FROZEN = Description(DatastoreState.FROZEN, "alice", "secret")


@pytest.mark.parametrize(
    ("stats", "granted"),
    [
        (Stats(0, 0), False),
        (Stats(1, 99), False),
        (Stats(1, 100), True),
        (Stats(50, 5000), True),
    ],
)
def test_a_batch_may_be_frozen_from_max_size_on(stats: Stats, granted: bool) -> None:  # noqa: FBT001 (an expectation)
    assert may_freeze(stats, OPERATIONAL, max_size=100) is granted


def test_an_empty_batch_is_never_frozen() -> None:
    assert not may_freeze(Stats(0, 0), OPERATIONAL, max_size=0)
    assert smallest_meant(Stats(0, 0)) > 0


def test_a_frozen_batch_may_be_asked_for_again_whatever_its_size() -> None:
    assert may_freeze(Stats(1, 1), FROZEN, max_size=100)
