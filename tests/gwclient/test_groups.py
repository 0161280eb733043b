from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwclient.errors import InvalidSource
from gwclient.groups import MOST_IN_GROUP, Grouper, Sendable
from gwclient.pieces import Piece, cut
from gwclient.strain import Run


def some_pieces(pieces: int, samples: int = 4) -> Iterator[Piece]:
    strain = np.full(pieces * samples, 1.2345678901234567e-21)
    return cut(Run(strain, 1e9, 1 / samples, "L1:STRAIN"), 1)


def failing_after(pieces: int) -> Iterator[Piece]:
    yield from some_pieces(pieces)
    raise InvalidSource("the second file is broken")


def take_all(grouper: Grouper, most: int = MOST_IN_GROUP) -> list[list[str]]:
    """Return the keys of the parcels in each group."""
    return [[parcel.key for parcel in group] for group in iter(lambda: grouper.take(most), None) if group]


def test_pieces_are_packed_in_their_order_a_group_at_a_time() -> None:
    pieces = list(some_pieces(2 * MOST_IN_GROUP + 3))
    grouper = Grouper(pieces)
    groups = [grouper.take(MOST_IN_GROUP) or [] for _ in range(3)]
    assert [[parcel.piece for parcel in group] for group in groups] == [
        pieces[:MOST_IN_GROUP], pieces[MOST_IN_GROUP : 2 * MOST_IN_GROUP], pieces[2 * MOST_IN_GROUP :],
    ]  # fmt: skip
    assert [parcel.body for parcel in groups[0]] == [piece.body() for piece in pieces[:MOST_IN_GROUP]]
    assert grouper.take(MOST_IN_GROUP) is None


@given(pieces=st.integers(1, 40), most=st.integers(1, 2 * MOST_IN_GROUP), done=st.sets(st.integers(0, 39)))
def test_a_piece_has_the_same_key_however_it_travels_and_whatever_was_done_before(
    pieces: int, most: int, done: set[int]
) -> None:
    keys = [key for group in take_all(Grouper(some_pieces(pieces))) for key in group]
    acknowledged = {1e9 + i for i in done}
    resumed = Grouper(some_pieces(pieces), is_done=lambda span: span.start in acknowledged)
    assert [key for group in take_all(resumed, most) for key in group] == [
        key for i, key in enumerate(keys) if i not in done
    ]
    assert len(resumed.done_before) == len([i for i in done if i < pieces])


def test_a_piece_has_the_same_key_whatever_it_is_sent_with() -> None:
    pieces = list(some_pieces(20))
    keys = [key for group in take_all(Grouper(pieces)) for key in group]
    others = list(some_pieces(20, samples=5))
    mixed = [piece for pair in zip(others, pieces, strict=True) for piece in pair]
    assert [key for group in take_all(Grouper(mixed)) for key in group][1::2] == keys


def test_no_key_is_given_to_other_bytes() -> None:
    keys = [key for group in take_all(Grouper(some_pieces(100))) for key in group]
    assert len(set(keys)) == 100
    other = [key for group in take_all(Grouper(some_pieces(100, samples=5))) for key in group]
    assert not set(keys) & set(other)


def test_with_another_salt_the_same_pieces_have_other_keys() -> None:
    keys = take_all(Grouper(some_pieces(3)))
    assert take_all(Grouper(some_pieces(3), salt="again")) != keys
    assert take_all(Grouper(some_pieces(3))) == keys


def test_a_group_of_large_pieces_is_small() -> None:
    group = Grouper(some_pieces(6, 65536)).take(MOST_IN_GROUP)
    assert group
    assert [piece.piece.samples for piece in group] == [65536] * 3


def test_a_live_source_that_has_nothing_yet_gives_an_empty_group() -> None:
    first, second = some_pieces(2)
    grouper = Grouper([first, None, second])
    taken = [grouper.take(MOST_IN_GROUP) for _ in range(4)]
    assert [None if group is None else [parcel.piece for parcel in group] for group in taken] == [
        [first], [second], None, None,
    ]  # fmt: skip
    assert Grouper([None, first]).take(MOST_IN_GROUP) == []


def test_a_group_that_was_too_large_for_a_request_is_not_tried_again() -> None:
    grouper = Grouper(some_pieces(3 * MOST_IN_GROUP))
    sizes = []
    while (group := grouper.take(MOST_IN_GROUP)) and len(group) > 1:
        sizes.append(len(group))
        grouper.shrink(group)
    assert sizes == [8, 4, 2]
    assert {len(group) for group in take_all(grouper)} == {1}


def test_a_source_that_fails_is_reported_only_when_its_pieces_are_taken() -> None:
    grouper = Grouper(failing_after(MOST_IN_GROUP + 1))
    assert [len(grouper.take(MOST_IN_GROUP) or []) for _ in range(2)] == [MOST_IN_GROUP, 1]
    with pytest.raises(InvalidSource, match="second file"):
        grouper.take(MOST_IN_GROUP)


def test_what_was_not_taken_is_returned_before_the_failure_is_raised() -> None:
    grouper = Grouper(failing_after(MOST_IN_GROUP + 3))
    grouper.take(1)
    rest: list[Sendable] = []
    with pytest.raises(InvalidSource, match="second file"):
        rest.extend(grouper.rest())
    assert [piece.span.start - 1e9 for piece in rest] == list(range(1, MOST_IN_GROUP + 3))
