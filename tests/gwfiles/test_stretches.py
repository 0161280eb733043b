import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwfiles.stretches import LeftOut, Span, assemble, not_stored
from gwwire.public import SegmentRecord
from gwwire.spans import join, stop_of

GPS = 1126259446.0
DT = 1 / 4096


def record(seq: int, t0: float, n: int, dt: float = DT) -> SegmentRecord:
    return SegmentRecord(seq, f"gwb{seq}.json", "b", 0, str(seq), "H1:A", t0, dt, n, "")


@pytest.mark.parametrize("written", [0.00024414, DT])
def test_a_sample_spacing_that_was_rounded_is_one_stretch(written: float) -> None:
    records = [record(i, GPS + i, 4096, written if i % 3 else DT) for i in range(32)]
    (stretch,), dropped = assemble(records, -math.inf, math.inf)
    assert (stretch.t0, stretch.stop, stretch.dt, stretch.count) == (GPS, GPS + 32, DT, 32 * 4096)
    assert not dropped


@given(lengths=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=30))
def test_stretches_of_segments_that_do_not_overlap_are_the_spans_of_the_coverage(
    lengths: list[tuple[int, int]],
) -> None:
    at, records = 0, []
    for seq, (gap, n) in enumerate(lengths):
        records.append(record(seq, GPS + (at + gap) * DT, n))
        at += gap + n
    stretches, dropped = assemble(records, -math.inf, math.inf)
    spans = join(((each.t0, stop_of(each.t0, each.n, each.dt), 1) for each in records), DT)
    assert [(each.t0, each.stop, len(each.placed)) for each in stretches] == spans
    assert not dropped


def test_times_that_follow_from_a_rounded_sample_spacing_are_one_stretch_of_that_spacing() -> None:
    written = 0.00024414
    records = [record(k, GPS + k * 4096 * written, 4096, written) for k in range(16)]
    (stretch,), dropped = assemble(records, -math.inf, math.inf)
    assert (stretch.t0, stretch.dt, stretch.count, dropped) == (GPS, written, 16 * 4096, [])


@pytest.mark.parametrize(("segments", "most"), [(80, 1), (2000, 2)])
def test_times_on_another_grid_than_the_sample_spacing_are_one_stretch_up_to_half_a_sample(
    segments: int, most: int
) -> None:
    stretches, dropped = assemble([record(k, GPS + 10 * k, 30, 0.33333) for k in range(segments)], -math.inf, math.inf)
    assert (len(stretches), sum(each.count for each in stretches), dropped) == (most, 30 * segments, [])
    for each in stretches:
        assert all(abs(each.t0 + placed.at * each.dt - placed.record.t0) < each.dt / 2 for placed in each.placed)


def test_a_segment_that_overlaps_another_is_kept_from_its_first_new_sample() -> None:
    records = [record(0, GPS, 8), record(1, GPS + 5 * DT, 8), record(2, GPS + 6 * DT, 2), record(3, GPS + 13 * DT, 1)]
    (stretch,), dropped = assemble(records, -math.inf, math.inf)
    assert [(each.record.seq, each.at, each.first, each.last) for each in stretch.placed] == [
        (0, 0, 0, 8), (1, 8, 3, 8), (3, 13, 0, 1),
    ]  # fmt: skip
    spans = [(GPS + 5 * DT, GPS + 8 * DT), (GPS + 6 * DT, GPS + 8 * DT)]
    assert [(each.span.start, each.span.stop) for each in dropped] == spans


@pytest.mark.parametrize(
    ("start", "stop"), [(GPS + 0.25 * DT, GPS + 0.75 * DT), (GPS + 7.25 * DT, GPS + 8 * DT), (GPS + 3, GPS + 4)]
)
def test_a_span_between_two_samples_of_a_channel_is_left_out(start: float, stop: float) -> None:
    stretches, dropped = assemble([record(0, GPS, 8), record(1, GPS + 1, 8)], start, stop)
    assert stretches == []
    between = [LeftOut(Span("H1:A", start, stop), "no sample is in this span")]
    assert dropped == (between if stop < GPS + 2 else [])


def test_a_span_with_a_sample_of_another_segment_is_not_left_out() -> None:
    (stretch,), dropped = assemble([record(0, GPS, 8), record(1, GPS + 8 * DT, 8)], GPS + 7.5 * DT, GPS + 9 * DT)
    assert (stretch.t0, stretch.count, dropped) == (GPS + 8 * DT, 1, [])


def test_what_is_not_stored_of_a_span_is_told_to_the_sample() -> None:
    stretches, _ = assemble([record(0, GPS, 4096), record(1, GPS + 2, 4096)], -math.inf, math.inf)
    assert not_stored(stretches, -math.inf, math.inf) == []
    assert not_stored(stretches, GPS, math.inf) == [Span("H1:A", GPS + 1, GPS + 2)]
    assert not_stored(stretches, GPS - DT / 2, GPS + 3 + DT) == [
        Span("H1:A", GPS + 1, GPS + 2),
        Span("H1:A", GPS + 3, GPS + 3 + DT),
    ]
