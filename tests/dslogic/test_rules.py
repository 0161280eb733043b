import pytest

from dslogic.page import readable_size
from dslogic.rules import fill, may_freeze, smallest_meant
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


def test_the_fill_ends_at_one() -> None:
    assert fill(BufferStats(1, 25), max_size=100) == 0.25
    assert fill(BufferStats(1, 250), max_size=100) == 1.0
    assert fill(BufferStats(0, 0), max_size=0) == 1.0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (7130, "7.13 kB"), (50_000_000, "50 MB"), (1.5e12, "1.5 TB"), (2e15, "2000 TB")],
)
def test_a_size_is_written_for_people(size: float, text: str) -> None:
    assert readable_size(size) == text
