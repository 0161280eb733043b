from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwclient.errors import InvalidSource
from gwclient.glitches import Glitch
from gwclient.pieces import Length, Piece, cut, in_time_order, left_out, without
from gwclient.sources.lines import pieces_of_lines
from gwclient.strain import Exclusion, Quality, Run, join_spans
from gwfiles.stretches import LeftOut, Span
from gwwire.segment import decode_segment

T0 = 1126259446.0


def a_run(strain: object, *, t0: float = T0, rate: int = 4096, channel: str = "L1:STRAIN", **more: object) -> Run:
    return Run(np.asarray(strain, dtype=np.float64), t0, 1 / rate, channel, **more)  # type: ignore[arg-type]


@given(
    present=st.lists(st.booleans(), min_size=1, max_size=300),
    t0=st.integers(0, 2**31).map(float) | st.floats(0, 2e9),
    rate=st.sampled_from([1, 10, 256, 1000, 4096, 16384]),
    length=st.integers(1, 50),
    nothing=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_every_finite_sample_is_in_exactly_one_segment_at_its_own_gps_time(
    present: list[bool], t0: float, rate: int, length: int, nothing: float
) -> None:
    strain = np.where(present, np.arange(len(present), dtype=float) * 1e-21, nothing)
    run = a_run(strain, t0=t0, rate=rate)
    pieces = list(cut(run, length / rate))
    covered = [k for piece in pieces for k in range(piece.first, piece.last)]
    assert covered == [k for k, there in enumerate(present) if there]
    for piece in pieces:
        segment = decode_segment(piece.body())
        assert segment.h == [k * 1e-21 for k in range(piece.first, piece.last)]
        assert len(segment.h) <= length
        assert segment.t == (float(Fraction(t0) + Fraction(piece.first, rate)), 1 / rate)
        assert piece.span.stop == float(Fraction(t0) + Fraction(piece.last, rate))


@given(present=st.lists(st.booleans(), min_size=1, max_size=100))
def test_segments_and_gaps_together_cover_the_run_and_never_overlap(present: list[bool]) -> None:
    run = a_run(np.where(present, 1.0, np.nan), rate=16)
    spans = sorted([piece.span for piece in cut(run, 0.5)] + [each.span for each in left_out(run)])
    assert spans[0].start == T0
    assert spans[-1].stop == T0 + len(present) / 16
    assert all(left.stop == right.start for left, right in pairwise(spans))


@given(
    present=st.lists(st.booleans(), min_size=1, max_size=120),
    exclusions=st.lists(
        st.builds(
            lambda first, n, reason: Exclusion(first, first + n, reason),
            st.integers(0, 119),
            st.integers(0, 40),
            st.sampled_from(["DATA not set", "CBC_CAT1 not set"]),
        ),
        max_size=4,
    ),
    samples=st.integers(1, 30),
)
def test_every_sample_is_either_in_one_segment_or_left_out_for_one_reason(
    present: list[bool], exclusions: list[Exclusion], samples: int
) -> None:
    inside = tuple(
        Exclusion(e.first, min(e.last, len(present)), e.reason) for e in exclusions if e.first < len(present)
    )
    run = a_run(np.where(present, 1.0, np.nan), rate=16, exclusions=inside)
    pieces = list(cut(run, Length(samples=samples)))
    sent = [k for piece in pieces for k in range(piece.first, piece.last)]
    told = {
        k: each.reason
        for each in left_out(run)
        for k in range(round((each.span.start - T0) * 16), round((each.span.stop - T0) * 16))
    }
    assert sorted([*sent, *told]) == list(range(len(present)))
    for k in sent:
        assert present[k]
        assert not any(e.first <= k < e.last for e in inside)
    for k, reason in told.items():
        excluded_by = [e.reason for e in inside if e.first <= k < e.last]
        assert reason == (excluded_by or ["no finite samples"])[0]
    assert all(piece.last - piece.first <= samples for piece in pieces)
    assert all(Fraction(piece.segment().t0) == Fraction(T0) + Fraction(piece.first, 16) for piece in pieces)


@given(seconds=st.integers(1, 20), acknowledged=st.sets(st.integers(0, 19)), length=st.integers(1, 40))
def test_what_was_acknowledged_in_segments_of_another_length_is_in_no_segment(
    seconds: int, acknowledged: set[int], length: int
) -> None:
    run = a_run(np.arange(seconds * 16.0), rate=16)
    spans = [(T0 + second, T0 + second + 1) for second in acknowledged]
    missing = without(run, spans, "acknowledged before")
    sent = [k for piece in cut(missing, Length(samples=length)) for k in range(piece.first, piece.last)]
    assert sent == [k for k in range(seconds * 16) if k // 16 not in acknowledged]


def test_a_length_is_in_seconds_or_in_samples() -> None:
    run = a_run(np.zeros(10), rate=4)
    assert [piece.samples for piece in cut(run, Length(seconds=2))] == [8, 2]
    assert [piece.samples for piece in cut(run, Length(samples=3))] == [3, 3, 3, 1]
    assert [piece.samples for piece in cut(run, 0.001)] == [1] * 10


def test_a_segments_quality_is_what_holds_all_through_it() -> None:
    quality = Quality(("DATA", "CBC_CAT1", "CBC_CAT2"), np.array([7, 3, 1], dtype=np.uint32), T0, 1.0)
    run = a_run(np.zeros(12), rate=4, quality=quality)
    metas = [decode_segment(piece.body()).meta for piece in cut(run, 1.5)]
    assert [meta["quality"] for meta in metas] == [["DATA", "CBC_CAT1"], ["DATA"]]  # type: ignore[index]
    assert quality.holding(T0 - 1, T0 + 1) == []


def test_the_last_short_segment_is_kept() -> None:
    assert [piece.last - piece.first for piece in cut(a_run(np.zeros(10), rate=4), 1)] == [4, 4, 2]


def test_a_nan_splits_the_run_and_is_reported_as_a_gps_span() -> None:
    strain = np.zeros(16)
    strain[5:7] = np.nan
    run = a_run(strain, rate=4)
    assert [(piece.first, piece.last) for piece in cut(run, 100)] == [(0, 5), (7, 16)]
    assert left_out(run) == [LeftOut(Span("L1:STRAIN", T0 + 1.25, T0 + 1.75), "no finite samples")]


def test_t0_does_not_drift_over_a_long_run_of_a_rate_that_floats_cannot_divide() -> None:
    run = a_run(np.broadcast_to(0.0, 10_000_000), rate=1000, t0=1.0)
    assert run.gps(9_999_999) == 10000.999


def test_segments_carry_the_channel_the_runs_meta_and_the_glitches_that_overlap_them() -> None:
    glitch = Glitch("blip", "L1", T0 + 1.5, 100.0, 12.0, 0.5)
    run = a_run(np.zeros(16), rate=4, meta={"detector": "L1"}, glitches=(glitch,))
    metas = [decode_segment(piece.body()).meta for piece in cut(run, 1)]
    plain = {"channel": "L1:STRAIN", "detector": "L1"}
    told = {"kind": "blip", "detector": "L1", "gps": T0 + 1.5, "frequency": 100.0, "snr": 12.0, "duration": 0.5}
    assert metas == [plain, {**plain, "glitches": [told]}, plain, plain]


def test_pieces_of_overlapping_runs_come_in_the_order_of_time() -> None:
    first, second = a_run(np.zeros(12), rate=4), a_run(np.zeros(12), rate=4, channel="H1:STRAIN")
    pieces = list(in_time_order([first, second], 1, lambda _gap: None))
    assert [piece.span.start - T0 for piece in pieces] == [0, 0, 1, 1, 2, 2]
    assert {piece.run.channel for piece in pieces[:2]} == {"L1:STRAIN", "H1:STRAIN"}


def test_a_later_run_is_not_read_before_the_earlier_one_is_used_up() -> None:
    read: list[float] = []

    def runs() -> Iterator[Run]:
        for t0 in (T0, T0 + 4, T0 + 8):
            read.append(t0)
            yield a_run(np.zeros(16), rate=4, t0=t0)

    pieces: Iterator[Piece] = in_time_order(runs(), 1, lambda _gap: None)
    next(pieces)
    assert read == [T0, T0 + 4]


def test_spans_that_touch_are_joined_for_each_channel() -> None:
    spans = [Span("L1", 2.0, 3.0), Span("H1", 1.0, 2.0), Span("L1", 1.0, 2.0), Span("L1", 4.0, 5.0)]
    assert join_spans(spans) == {"H1": [(1.0, 2.0)], "L1": [(1.0, 3.0), (4.0, 5.0)]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            b'{"h":[1.0],"t":[0,1],"meta":{"channel":"H1:A","channel":"L1:A"}}',
            'the key "channel" appears more than once',
        ),
        (b'{"h":[1.0],"t":[1126259462000,1]}', "1e12 looks like milliseconds"),
        (b'{"h":[1.0],"t":[0,5e-324]}', "dt is 5e-324 s"),
    ],
)
def test_a_line_that_the_datastore_would_refuse_is_refused_before_it_is_cut(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidSource, match=f"line 1 of standard input is not a segment: .*{reason}"):
        list(pieces_of_lines(iter([line]), Length(), []))


def test_a_segment_has_the_seconds_that_its_rounded_spacing_stands_for() -> None:
    assert Length(3600.0).of(0.00024414) == Length(3600.0).of(1 / 4096) == 3600 * 4096
