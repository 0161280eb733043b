import time
from collections.abc import Iterator

import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.grouping import Grouping
from gwclient.segmenting import Piece, cut
from gwclient.strain import Run

#: s; no group of these tests is cut short because the machine was busy.
PATIENT = 60.0


def some_pieces(pieces: int, samples: int = 4) -> Iterator[Piece]:
    return cut(Run(np.full(pieces * samples, 1.2345678901234567e-21), 1e9, 1 / samples, "L1:STRAIN"), 1)


def failing_after(pieces: int) -> Iterator[Piece]:
    yield from some_pieces(pieces)
    raise InvalidSource("the second file is broken")


def take_all(grouping: Grouping, most: int) -> list[list[str]]:
    """Give the keys of the parcels in each group."""
    groups = iter(lambda: grouping.take(most), None)
    return [[parcel.key for parcel in group.parcels] for group in groups if group]


def test_pieces_are_packed_in_their_order_up_to_the_number_asked_for() -> None:
    pieces = list(some_pieces(7))
    grouping = Grouping(pieces, PATIENT)
    groups = [grouping.take(3), grouping.take(3), grouping.take(3)]
    assert [[parcel.piece for parcel in group.parcels] for group in groups if group] == [
        pieces[:3], pieces[3:6], pieces[6:],
    ]  # fmt: skip
    assert [parcel.body for parcel in groups[0].parcels] == [piece.body() for piece in pieces[:3]]  # type: ignore[union-attr]
    assert grouping.take(3) is None


def test_a_key_says_the_place_in_the_push_and_in_the_request() -> None:
    first, second = take_all(Grouping(some_pieces(4), PATIENT), 3)
    push = second[0].removesuffix("-3")
    assert len(push) == 32
    assert first == [f"{push}-0/0", f"{push}-0/1", f"{push}-0/2"]
    assert second == [f"{push}-3"]


def test_no_key_is_given_twice() -> None:
    keys = [key for most in (1, 2, 3) for group in take_all(Grouping(some_pieces(20), PATIENT), most) for key in group]
    assert len(set(keys)) == len(keys) == 60


def test_a_group_is_full_with_4_megabytes() -> None:
    grouping = Grouping(some_pieces(6, 65536), PATIENT)
    group = grouping.take(32)
    assert group
    assert group.size >= 4 * 2**20 > group.size - len(group.parcels[-1].body)


def test_a_slow_source_is_not_waited_for() -> None:
    def slowly() -> Iterator[Piece]:
        for piece in some_pieces(3):
            time.sleep(0.02)
            yield piece

    assert [len(group) for group in take_all(Grouping(slowly(), patience=0.01), 32)] == [1, 1, 1]
    assert [len(group) for group in take_all(Grouping(slowly(), PATIENT), 32)] == [3]


def test_groups_become_smaller_until_they_are_small_enough() -> None:
    grouping = Grouping(some_pieces(100), PATIENT)
    sizes = []
    while group := grouping.take(16):
        sizes.append(len(group.parcels))
        if len(group.parcels) > 3:
            grouping.shrink(group)
    assert sizes[:4] == [16, 8, 4, 2]
    assert sum(sizes) == 100


def test_a_source_that_fails_is_told_of_only_when_what_it_gave_is_taken() -> None:
    grouping = Grouping(failing_after(5), PATIENT)
    assert [len(group.parcels) for group in (grouping.take(4), grouping.take(4)) if group] == [4, 1]
    with pytest.raises(InvalidSource, match="second file"):
        grouping.take(4)


def test_what_was_not_taken_is_given_before_the_failure_is_told() -> None:
    grouping = Grouping(failing_after(5), PATIENT)
    grouping.take(2)
    rest: list[Piece] = []
    with pytest.raises(InvalidSource, match="second file"):
        rest.extend(grouping.rest())
    assert [piece.span.start - 1e9 for piece in rest] == [2, 3, 4]
