from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwclient.errors import InvalidSource
from gwclient.groups import BLOCK, Grouper, Sendable
from gwclient.pieces import Piece, cut
from gwclient.strain import Run


def some_pieces(pieces: int, samples: int = 4) -> Iterator[Piece]:
    strain = np.full(pieces * samples, 1.2345678901234567e-21)
    return cut(Run(strain, 1e9, 1 / samples, "L1:STRAIN"), 1)


def failing_after(pieces: int) -> Iterator[Piece]:
    yield from some_pieces(pieces)
    raise InvalidSource("the second file is broken")


def take_all(grouper: Grouper, most: int = BLOCK) -> list[list[str]]:
    """Give the keys of the parcels in each group."""
    groups = iter(lambda: grouper.take(most), None)
    return [[parcel.key for parcel in group.parcels] for group in groups if group]


def test_pieces_are_packed_in_their_order_a_block_at_a_time() -> None:
    pieces = list(some_pieces(2 * BLOCK + 3))
    grouper = Grouper(pieces)
    groups = [grouper.take(BLOCK), grouper.take(BLOCK), grouper.take(BLOCK)]
    assert [[parcel.piece for parcel in group.parcels] for group in groups if group] == [
        pieces[:BLOCK], pieces[BLOCK : 2 * BLOCK], pieces[2 * BLOCK :],
    ]  # fmt: skip
    assert [parcel.body for parcel in groups[0].parcels] == [piece.body() for piece in pieces[:BLOCK]]  # type: ignore[union-attr]
    assert grouper.take(BLOCK) is None


@given(pieces=st.integers(1, 40), most=st.integers(1, 2 * BLOCK), done=st.sets(st.integers(0, 39)))
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


def test_line_i_of_a_request_has_the_key_of_its_piece() -> None:
    grouper = Grouper(some_pieces(BLOCK + 1))
    whole, alone = grouper.take(BLOCK), grouper.take(BLOCK)
    assert whole
    assert alone
    assert [parcel.key for parcel in whole.parcels] == [f"{whole.key}/{i}" for i in range(BLOCK)]
    assert [parcel.key for parcel in alone.parcels] == [f"{alone.key}/0"]


def test_no_key_is_given_to_other_bytes() -> None:
    keys = [key for group in take_all(Grouper(some_pieces(100))) for key in group]
    assert len(set(keys)) == 100
    other = [key for group in take_all(Grouper(some_pieces(100, samples=5))) for key in group]
    assert not set(keys) & set(other)


def test_with_another_salt_the_same_pieces_have_other_keys() -> None:
    keys = take_all(Grouper(some_pieces(3)))
    assert take_all(Grouper(some_pieces(3), salt="again")) != keys
    assert take_all(Grouper(some_pieces(3))) == keys


def test_a_block_of_large_pieces_is_small() -> None:
    group = Grouper(some_pieces(6, 65536)).take(BLOCK)
    assert group
    assert [piece.piece.samples for piece in group.parcels] == [65536] * 3


def test_a_live_source_that_has_nothing_yet_gives_an_empty_group() -> None:
    first, second = some_pieces(2)
    grouper = Grouper([first, None, second], block=1)
    taken = [grouper.take(BLOCK) for _ in range(4)]
    assert [[parcel.piece for parcel in group.parcels] if group else None for group in taken] == [
        [first], [], [second], None,
    ]  # fmt: skip


def test_a_block_that_was_too_large_for_a_request_is_not_tried_again() -> None:
    grouper = Grouper(some_pieces(3 * BLOCK))
    first = grouper.take(BLOCK)
    assert first
    grouper.shrink(first)
    sizes = [len(group) for group in take_all(grouper)]
    assert sizes == [1] * (2 * BLOCK)


def test_a_source_that_fails_is_told_of_only_when_what_it_gave_is_taken() -> None:
    grouper = Grouper(failing_after(BLOCK + 1))
    assert [len(group.parcels) for group in (grouper.take(BLOCK), grouper.take(BLOCK)) if group] == [BLOCK, 1]
    with pytest.raises(InvalidSource, match="second file"):
        grouper.take(BLOCK)


def test_what_was_not_taken_is_given_before_the_failure_is_told() -> None:
    grouper = Grouper(failing_after(BLOCK + 3))
    grouper.take(2)  # a whole block is more than that: its first piece alone
    rest: list[Sendable] = []
    with pytest.raises(InvalidSource, match="second file"):
        rest.extend(grouper.rest())
    assert [piece.span.start - 1e9 for piece in rest] == list(range(1, BLOCK + 3))
