from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gwclient.glitches import Glitch
from gwclient.segmenting import Piece, cut, gaps, in_time_order
from gwclient.strain import Run, Span, join_spans
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
    spans = sorted([piece.span for piece in cut(run, 0.5)] + gaps(run))
    assert spans[0].start == T0
    assert spans[-1].stop == T0 + len(present) / 16
    assert all(left.stop == right.start for left, right in pairwise(spans))


def test_the_last_short_segment_is_kept() -> None:
    assert [piece.last - piece.first for piece in cut(a_run(np.zeros(10), rate=4), 1)] == [4, 4, 2]


def test_a_nan_splits_the_run_and_is_reported_as_a_gps_span() -> None:
    strain = np.zeros(16)
    strain[5:7] = np.nan
    run = a_run(strain, rate=4)
    assert [(piece.first, piece.last) for piece in cut(run, 100)] == [(0, 5), (7, 16)]
    assert gaps(run) == [Span("L1:STRAIN", T0 + 1.25, T0 + 1.75)]


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
