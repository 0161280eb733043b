from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preproc.parameters import Parameters
from preproc.split import Part, block_count, describe_miss, split_windows

PARAMETERS = Parameters()
REPEATABLE = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def hour(start: float = 0.0) -> list[float]:
    return [start + 6.0 * n for n in range(600)]


def test_the_proportions_are_met_and_a_seed_decides_which_blocks_go_where() -> None:
    parts = split_windows(hour(), PARAMETERS)
    shares = {part: parts.count(part) / 600 for part in Part}
    assert shares[Part.TRAIN] == pytest.approx(0.8, abs=0.03)
    assert shares[Part.VALIDATION] == pytest.approx(0.1, abs=0.03)
    assert shares[Part.TEST] == pytest.approx(0.1, abs=0.03)
    assert 0 < shares[Part.GUARD] < 0.04
    assert parts == split_windows(hour(), PARAMETERS)
    assert parts != split_windows(hour(), replace(PARAMETERS, rnd_seed=1))


def test_blocks_stay_together() -> None:
    parts = split_windows(hour(), PARAMETERS)
    for at in range(0, 600, 10):
        assert len(set(parts[at : at + 10]) - {Part.GUARD}) == 1


def test_a_gap_is_guard_enough() -> None:
    starts = [0.0, 6.0, 100.0, 106.0, 200.0, 206.0]
    assert Part.GUARD not in split_windows(starts, replace(PARAMETERS, split_block=12))


@pytest.mark.parametrize(("blocks", "parts"), [(1, 1), (2, 1), (3, 3), (4, 3), (11, 3)])
def test_every_part_gets_a_block_where_there_are_enough(blocks: int, parts: int) -> None:
    starts = [60.0 * n for n in range(blocks)]
    assert block_count(starts, PARAMETERS) == blocks
    assert len(set(split_windows(starts, PARAMETERS))) == parts


def test_a_split_is_compared_with_its_request() -> None:
    assert not describe_miss(split_windows(hour(), PARAMETERS), PARAMETERS)
    train, validation, test = [Part.TRAIN] * 75, [Part.VALIDATION] * 10, [Part.TEST] * 15
    guard = [Part.GUARD] * 50
    assert not describe_miss([*train, *validation, *test, *guard], PARAMETERS)
    assert describe_miss([*train[1:], *validation, Part.TEST, *test], PARAMETERS) == (
        "train 74 % instead of 80 %, validation 10 % instead of 10 %, test 16 % instead of 10 %"
    )


def test_a_part_that_is_not_wanted_gets_nothing() -> None:
    wanted = replace(PARAMETERS, train_proportion=0.9, validation_proportion=0)
    assert set(split_windows(hour(), wanted)) == {Part.TRAIN, Part.TEST, Part.GUARD}
    assert set(split_windows(hour(), replace(wanted, train_proportion=1))) == {Part.TRAIN}


@settings(REPEATABLE, max_examples=80)
@given(
    st.lists(st.floats(1, 40), min_size=1, max_size=120),
    st.floats(6, 60),
    st.floats(0, 20),
    st.integers(0, 5),
)
def test_windows_of_different_parts_never_come_nearer_than_the_guard(
    steps: list[float], block: float, guard: float, seed: int
) -> None:
    starts = [sum(steps[:n]) for n in range(len(steps))]
    parameters = replace(PARAMETERS, split_block=block, guard=guard, rnd_seed=seed)
    split = [one for one in zip(starts, split_windows(starts, parameters), strict=True) if one[1] is not Part.GUARD]
    for (before, one), (after, other) in pairwise(split):
        assert one == other or after >= before + parameters.window + guard
