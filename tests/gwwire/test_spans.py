import math
import sys
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.spans import (
    TOLERANCE,
    close_gaps,
    distance,
    first_sample,
    gaps,
    join,
    join_pairs,
    sample_period,
    sampling,
    series_period,
    stop_of,
)

GPS = 1126259446.0
rates = st.sampled_from([1, 10, 256, 1000, 4096, 10_000, 16384])
#: Half-open ranges of samples: few places, so that they meet.
ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 8)).map(lambda each: (each[0], each[0] + each[1])), max_size=30
)


def covered(spans: list[tuple[int, int]]) -> set[int]:
    return {k for start, stop in spans for k in range(start, stop)}


@given(spans=ranges)
def test_joined_spans_cover_the_same_samples_are_in_order_and_never_touch(spans: list[tuple[int, int]]) -> None:
    joined = join_pairs(spans)
    assert covered(joined) == covered(spans)
    assert all(one[1] < other[0] for one, other in pairwise(joined))
    assert sum(count for _, _, count in join((*span, 1) for span in spans)) == len(spans)


@given(spans=ranges)
def test_gaps_and_joined_spans_cover_everything_from_the_first_sample_to_the_last(spans: list[tuple[int, int]]) -> None:
    joined = join_pairs(spans)
    between = list(gaps(joined))
    assert not covered(joined) & covered(between)
    if joined:
        assert covered(joined) | covered(between) == set(range(joined[0][0], joined[-1][1]))


@given(spans=ranges, cut=st.integers(0, 30))
def test_joining_in_parts_gives_the_same_as_joining_at_once(spans: list[tuple[int, int]], cut: int) -> None:
    parts = join_pairs(spans[:cut]), join_pairs(spans[cut:])
    assert join_pairs([*parts[0], *parts[1]]) == join_pairs(spans)


@given(
    spans=ranges,
    rate=rates,
    t0=st.integers(0, 2 * 10**9).map(float) | st.floats(0, 2e9),
    off=st.lists(st.floats(-0.003, 0.003), min_size=30, max_size=30),
)
def test_segments_join_as_their_samples_do_although_float64_rounds_their_times(
    spans: list[tuple[int, int]], rate: int, t0: float, off: list[float]
) -> None:
    dt = 1 / rate
    timed = [
        (float(Fraction(t0) + (Fraction(start) + Fraction(error)) / rate), stop - start)
        for (start, stop), error in zip(spans, off, strict=False)
    ]
    joined = join(((start, stop_of(start, n, dt), 1) for start, n in timed), dt)
    expected = join_pairs(spans)
    assert [(round((a - t0) * rate), round((b - t0) * rate)) for a, b, _ in joined] == expected


@given(rate=rates, off=st.floats(-0.5, 0.5), t0=st.integers(0, 2 * 10**9))
def test_a_hundredth_of_a_sample_is_rounding_and_more_is_a_gap_or_an_overlap(rate: int, off: float, t0: int) -> None:
    found = distance(float(t0), t0 + off / rate, 1 / rate)
    apart = abs(t0 + off / rate - t0)
    assert (found == 0) == (apart <= max(TOLERANCE / rate, math.ulp(float(t0))))
    assert found == 0 or (found > 0) == (off > 0)


lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30)


@given(lengths=lengths, limit=st.integers(1, 30))
def test_the_smallest_gaps_are_closed_and_no_more_than_have_to_be(lengths: list[tuple[int, int]], limit: int) -> None:
    place, whole = 0.0, []
    for gap, length in lengths:
        whole.append((place + gap, place + gap + length, 1))
        place += gap + length
    seen, largest = close_gaps(whole, limit)
    assert len(seen) <= limit
    assert sum(span[2] for span in seen) == len(whole)
    assert (seen[0][0], seen[-1][1]) == (whole[0][0], whole[-1][1])
    left = [later[0] - earlier[1] for earlier, later in pairwise(seen)]
    assert all(gap > largest for gap in left)
    if largest:
        # With one more gap open there would be one span too many.
        assert sum(later[0] - earlier[1] >= largest for earlier, later in pairwise(whole)) >= limit
    else:
        assert seen == whole


def test_segments_that_are_contiguous_except_for_rounding_are_one_span() -> None:
    dt = 1 / 4096
    starts = [GPS + number * 4095 * dt for number in range(1000)]
    assert len(join(((t0, t0 + 4095 * dt, 1) for t0 in starts), dt)) == 1
    missing = [t0 for number, t0 in enumerate(starts) if number != 500]
    assert len(join(((t0, t0 + 4095 * dt, 1) for t0 in missing), dt)) == 2
    one_sample = [(0.0, 1.0, 1), (1.0 + dt, 2.0, 1)]
    assert join(one_sample, dt) == one_sample


@given(rate=st.integers(1, 20_000), error=st.floats(-9e-6, 9e-6))
def test_a_rounded_sample_spacing_is_the_same_sampling(rate: int, error: float) -> None:
    assert sampling((1 + error) / rate) == sampling(1 / rate) == 1 / rate
    assert sample_period((1 + error) / rate) == Fraction(1, rate)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.00024414, 1 / 4096),
        (6.1035e-05, 1 / 16384),
        (0.000244140625, 1 / 4096),
        (0.0000625, 1 / 16000),
        (59.9999999, 60.0),
    ],
)
def test_decimals_that_are_meant_as_a_rate_are_that_rate(written: float, meant: float) -> None:
    assert sampling(written) == meant


@pytest.mark.parametrize("dt", [3 / 16384, 0.7, 2.5, 1 / 65536.3, 1 / 4096.5, 5e-324, 1e-300, 1.7e308, 1e-9])
def test_any_other_sample_spacing_is_itself(dt: float) -> None:
    assert sampling(dt) == dt


@given(dt=st.floats(min_value=5e-324, allow_infinity=False))
def test_a_sampling_is_its_own_sampling(dt: float) -> None:
    assert sampling(sampling(dt)) == sampling(dt)


ROUNDED = [(4096, 0.00024414), (16384, 6.1035e-05), (6000, 0.000166667), (256, 0.00390628)]
orders = st.permutations(range(40))
#: Samples in a segment, and how many segments follow each other before some seconds are missing.
sizes, lengths_of_runs = st.integers(300, 20_000), st.integers(2, 40)


@given(case=st.sampled_from(ROUNDED), n=sizes, order=orders)
def test_times_that_are_exact_make_a_rounded_spacing_the_one_it_stands_for(
    case: tuple[int, float], n: int, order: list[int]
) -> None:
    rate, written = case
    assert series_period((GPS + k * n / rate, written) for k in order) == Fraction(1, rate)
    assert series_period((GPS + k * n / rate, written if k % 2 else 1 / rate) for k in order) == Fraction(1, rate)


@given(case=st.sampled_from(ROUNDED), n=sizes, order=orders, run=lengths_of_runs)
def test_times_that_follow_from_a_rounded_spacing_are_on_the_grid_that_is_found_for_them(
    case: tuple[int, float], n: int, order: list[int], run: int
) -> None:
    rate, written = case
    starts = [GPS + 100 * (k // run) + (k % run) * n * written for k in order]
    dt = float(series_period((t0, written) for t0 in starts))
    ordered = sorted(starts)
    followed = [one for one in pairwise(ordered) if one[1] - one[0] < 99 - 40 * n / rate]
    assert all(abs(after - before - n * dt) <= TOLERANCE * dt for before, after in followed)


def test_the_spacing_of_any_series_can_be_found() -> None:
    assert series_period([(GPS, 0.00024414)]) == Fraction(1, 4096)
    assert series_period([(-1.7e308, 0.00024414), (1.7e308, 0.00024414)]) == Fraction(1, 4096)
    assert series_period([(GPS, 0.7), (GPS + 1, 0.7)]) == Fraction(0.7)
    period = series_period((GPS + k * 4096 * 0.00024414, 0.00024414) for k in range(2))
    assert stop_of(GPS, 4096, period) == GPS + 4096 * 0.00024414


@given(
    t0=st.floats(allow_nan=False, allow_infinity=False),
    samples=st.integers(1, 10**7),
    dt=st.floats(min_value=5e-324, allow_infinity=False),
)
def test_the_end_of_any_segment_is_finite(t0: float, samples: int, dt: float) -> None:
    assert -sys.float_info.max <= stop_of(t0, samples, dt) <= sys.float_info.max


@pytest.mark.parametrize("rate", [3, 7, 60, 44100, 1000 / 3, 30000 / 1001, math.pi, 16384 / 3])
@pytest.mark.parametrize("t0", [1.4e9, 1.4e9 + 1 / 3])
def test_the_first_sample_at_the_rounded_time_of_a_sample_is_that_sample(t0: float, rate: float) -> None:
    times = [(k, gps) for k in range(200) for gps in (t0 + k / rate, t0 + k * (1 / rate), stop_of(t0, k, 1 / rate))]
    assert [first_sample(gps, t0, 1 / rate, 1000) for _, gps in times] == [k for k, _ in times]
    assert first_sample(t0 + 1.1 / rate, t0, 1 / rate, 1000) == 2


@given(t0=st.integers(0, 2 * 10**9), rate=rates, samples=st.integers(1, 10**6), gps=st.integers(-10, 10))
def test_the_first_sample_at_a_gps_time_is_the_first_that_is_not_before_it(
    t0: int, rate: int, samples: int, gps: int
) -> None:
    k = first_sample(float(t0 + gps), float(t0), 1 / rate, samples)
    assert k == min(max(gps * rate, 0), samples)
    assert first_sample(-math.inf, float(t0), 1 / rate, samples) == 0
    assert first_sample(math.inf, float(t0), 1 / rate, samples) == samples
