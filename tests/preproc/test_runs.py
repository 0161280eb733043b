from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preproc.batch import read_batch
from preproc.findings import Finding, Reason
from preproc.progress import silent
from preproc.runs import find_runs, most_sampled_rate
from tests.preproc.batches import GPS, RATE, Found, Strain, cut, described, find, noise, read_strain

DT = 1 / RATE
REPEATABLE = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def strain(h: list[float], k: float, file: str, channel: str = "H1:A") -> Strain:
    return Strain(channel, GPS + k * DT, DT, np.array(h, dtype=np.float64), file)


def spans(found: Found, channel: str = "H1:A") -> list[tuple[float, list[float]]]:
    return [(found.runs.grid.gps(run.start), found.h(run).tolist()) for run in found.of(channel)]


def reasons(findings: list[Finding]) -> list[Reason]:
    return [found.reason for found in findings]


def test_touching_segments_make_one_run_in_whatever_order_they_came() -> None:
    pieces = cut(noise(4), "H1:A", seconds=0.3)
    runs = find(pieces[::-1])
    (run,) = runs.of()
    assert runs.h(run).tobytes() == noise(4).tobytes()
    assert runs.runs.grid.gps(run.start) == GPS


def test_a_gap_splits_a_run_and_is_reported() -> None:
    runs = find([strain([1, 2], 0, "a"), strain([4, 5], 3, "b")])
    assert spans(runs) == [(GPS, [1, 2]), (GPS + 3 * DT, [4, 5])]
    assert runs.notes == [Finding("H1:A", GPS + 2 * DT, GPS + 3 * DT, Reason.GAP)]
    assert not runs.rejected


def test_a_duplicate_is_taken_once_and_reported() -> None:
    runs = find([strain([1, 2], 0, "a"), strain([1, 2], 0, "b"), strain([3], 2, "c")])
    assert spans(runs) == [(GPS, [1, 2, 3])]
    assert [str(note) for note in runs.notes] == ["duplicate: b repeats samples of other segments"]


def test_samples_that_overlap_and_agree_are_taken_once() -> None:
    runs = find([strain([1, 2, 3], 0, "a"), strain([3, 4], 2, "b"), strain([2], 1, "c")])
    assert spans(runs) == [(GPS, [1, 2, 3, 4])]
    assert reasons(runs.notes) == [Reason.DUPLICATE, Reason.OVERLAP]


def test_of_two_that_contradict_each_other_neither_is_believed() -> None:
    segments = [strain([1, 2], 0, "a"), strain([1, 9], 0, "b"), strain([3, 4], 2, "c")]
    runs = find(segments)
    assert spans(runs) == [(GPS + 2 * DT, [3, 4])]
    assert sorted(str(found) for found in runs.rejected) == [
        "conflicting strain: a and b overlap and differ",
        "conflicting strain: b and a overlap and differ",
    ]


def test_a_copy_of_a_contradicted_segment_is_not_believed_either() -> None:
    segments = [strain([1, 2], 0, "a"), strain([1, 2], 0, "b"), strain([8, 9], 1, "c")]
    runs = find(segments)
    assert not runs.runs.by_channel
    assert reasons(runs.rejected) == [Reason.CONFLICT] * 3


def test_minus_zero_contradicts_zero() -> None:
    runs = find([strain([1, 0.0], 0, "a"), strain([1, -0.0], 0, "b")])
    assert reasons(runs.rejected) == [Reason.CONFLICT] * 2


def test_the_same_strain_at_another_time_is_kept_and_reported() -> None:
    runs = find([strain([1, 2], 0, "a"), strain([1, 2], 2, "b")])
    assert spans(runs) == [(GPS, [1, 2, 1, 2])]
    assert reasons(runs.notes) == [Reason.REPEATED]
    assert runs.notes[0].detail == "b holds the same samples as a at GPS 1126259446"


def test_channels_are_never_mixed() -> None:
    runs = find([strain([1, 2], 0, "a"), strain([3, 4], 2, "b", "L1:A"), strain([5, 6], 2, "c")])
    assert spans(runs) == [(GPS, [1, 2, 5, 6])]
    assert spans(runs, "L1:A") == [(GPS + 2 * DT, [3, 4])]
    assert list(runs.runs.by_channel) == ["H1:A", "L1:A"]


@pytest.mark.parametrize("off", [0.02, -0.02, 0.5, -0.3])
def test_a_segment_between_the_samples_is_rejected_and_reported(off: float) -> None:
    runs = find([*cut(noise(1), "H1:A"), strain([1, 2], 5000 + off, "odd")])
    assert len(runs.of()) == 1
    (found,) = runs.rejected
    assert found.reason is Reason.OFF_GRID
    assert found.detail.startswith(f"odd is {abs(off):.2g} samples off")


def test_a_hundredth_of_a_sample_is_rounding() -> None:
    runs = find([strain([1, 2], 0, "a"), strain([3, 4], 2.005, "b")])
    assert spans(runs) == [(GPS, [1, 2, 3, 4])]


def test_the_grid_is_the_one_most_samples_lie_on() -> None:
    segments = [strain([9], 0, "early"), strain([1, 2, 3], 10.4, "a"), strain([4, 5, 6], 13.4, "b")]
    runs = find(segments)
    assert [h for _, h in spans(runs)] == [[1, 2, 3, 4, 5, 6]]
    assert runs.runs.grid.gps(runs.of()[0].start) == pytest.approx(GPS + 10.4 * DT, abs=1e-6)
    assert [found.detail.split()[0] for found in runs.rejected] == ["early"]


@pytest.mark.parametrize("t0", [0.0, -3.5, -1e-4, 1126259446.0, 1400000000.123])
@pytest.mark.parametrize("rate", [0.5, 256.0, 4096.0, 10000.0, 16384.0, 65536.0, 16384 / 3])
def test_any_t0_and_rate_make_one_run_of_what_belongs_together(t0: float, rate: float) -> None:
    series = noise(1000 / rate, rate=rate)
    runs = find(cut(series, "H1:A", t0=t0, rate=rate, seconds=7 / rate))
    (run,) = runs.of()
    assert runs.h(run).tobytes() == series.tobytes()
    assert runs.runs.grid.gps(run.start) == pytest.approx(t0, abs=0.01 / rate)


@pytest.mark.parametrize("written", [0.00024414, 0.000244140625, 0.00024414063])
def test_a_sample_spacing_that_was_rounded_makes_one_run_with_the_others(written: float) -> None:
    pieces = [replace(one, dt=written) if number % 3 else one for number, one in enumerate(cut(noise(32), "H1:A"))]
    kept, rejected = most_sampled_rate(described(pieces)[0])
    assert not rejected
    assert {piece.dt for piece in kept} == {DT}
    (run,) = find(pieces).of()
    assert run.samples == 32 * RATE


def test_constant_strain_ends_a_run_and_is_reported() -> None:
    series = noise(2)
    series[2000:3000] = 0.0
    runs = find(cut(series, "H1:A", seconds=0.25))
    assert [(run.start, run.stop) for run in runs.of()] == [(0, 2000), (3000, 8192)]
    (found,) = runs.rejected
    assert str(found) == "constant strain: 0 throughout"
    assert (found.start, found.stop) == (GPS + 2000 * DT, GPS + 3000 * DT)


def test_a_channel_that_is_constant_throughout_has_no_run() -> None:
    runs = find(cut(np.full(8192, 3e-22), "H1:A"))
    assert not runs.runs.by_channel
    assert reasons(runs.rejected) == [Reason.CONSTANT]


def test_a_few_equal_samples_are_no_reason_to_split() -> None:
    series = noise(1)
    series[100:200] = 1e-22
    assert len(find(cut(series, "H1:A")).of()) == 1


def test_the_rate_with_the_most_samples_is_taken_and_the_others_are_reported() -> None:
    slow = cut(noise(3, rate=16.0), "V1:SLOW", rate=16.0)
    fast = cut(noise(1), "H1:A")
    # One sample that claims to last for ages is little data.
    huge = [Strain("X1:HUGE", 0.0, 1e9, np.array([1.0]), "huge")]
    kept, rejected = most_sampled_rate(described([*slow, *huge, *fast])[0])
    assert [piece.file for piece in kept] == [one.file for one in fast]
    assert reasons(rejected) == [Reason.OTHER_RATE] * 4
    assert str(rejected[0]) == "other sample rate: 16 Hz, not 4096"


def test_the_original_systems_files_make_two_runs_and_one_suspicion(original_segments: list[Path]) -> None:
    batch = read_batch(original_segments[0].parent, silent)
    runs = find_runs(batch.pieces, batch.load)
    assert [(run.start, run.stop) for run in runs.by_channel["#unnamed"]] == [(0, 300), (901, 1801)]
    assert reasons(runs.notes) == [Reason.REPEATED, Reason.GAP]
    assert not runs.rejected


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Return the length of a series and pieces of it: overlapping, repeated, missing, in any order."""
    length = draw(st.integers(1, 60))
    span = st.tuples(st.integers(0, length - 1), st.integers(1, 12)).map(lambda p: (p[0], min(p[0] + p[1], length)))
    pieces = draw(st.lists(span, min_size=1, max_size=25))
    again = draw(st.lists(st.sampled_from(pieces), max_size=5))
    return length, draw(st.permutations(pieces + again))


def remaining(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches that pieces cover, found sample by sample."""
    have = sorted({k for start, stop in pieces for k in range(start, stop)})
    breaks = [k for k, after in pairwise(have) if after != k + 1]
    starts = [have[0], *(after for k, after in pairwise(have) if after != k + 1)]
    return list(zip(starts, [k + 1 for k in [*breaks, have[-1]]], strict=True))


@settings(REPEATABLE, max_examples=150)
@given(cuttings(), st.sampled_from([0.0, -7.25, GPS]), st.sampled_from([256.0, 4096.0, 16384.0]))
def test_any_cutting_shuffling_duplicating_and_dropping_gives_exactly_the_runs_that_remain(
    cutting: tuple[int, list[tuple[int, int]]], t0: float, rate: float
) -> None:
    length, pieces = cutting
    series = np.arange(1.0, length + 1)
    segments = [
        Strain("H1:A", t0 + start / rate, 1 / rate, series[start:stop], f"{number:03d}")
        for number, (start, stop) in enumerate(pieces)
    ]
    runs = find(segments)
    found = [(round((runs.runs.grid.gps(run.start) - t0) * rate), runs.h(run).tolist()) for run in runs.of()]
    assert found == [(start, series[start:stop].tolist()) for start, stop in remaining(pieces)]
    assert not runs.rejected
    overlap = sum(stop - start for start, stop in pieces) - sum(stop - start for start, stop in remaining(pieces))
    duplicates = [note.seconds for note in runs.notes if note.reason in {Reason.DUPLICATE, Reason.OVERLAP}]
    assert round(sum(duplicates) * rate) == overlap


@settings(REPEATABLE, max_examples=60)
@given(cuttings(), st.data())
def test_one_wrong_sample_rejects_just_the_segments_that_meet_it(
    cutting: tuple[int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    length, pieces = cutting
    series = np.arange(1.0, length + 1)
    segments = [
        Strain("H1:A", GPS + start * DT, DT, series[start:stop], f"{number:03d}")
        for number, (start, stop) in enumerate(pieces)
    ]
    liar = data.draw(st.integers(0, len(pieces) - 1))
    wrong = data.draw(st.integers(*pieces[liar]).filter(lambda k: k < pieces[liar][1]))
    h = segments[liar].h.copy()
    h[wrong - pieces[liar][0]] = -1.0
    segments[liar] = replace(segments[liar], h=h)
    runs = find(segments)
    met = {n for n, (start, stop) in enumerate(pieces) if start <= wrong < stop and n != liar}
    expected = met | {liar} if met else set()
    assert {int(found.detail[:3]) for found in runs.rejected} == expected


@st.composite
def stuttering(draw: st.DrawFn) -> list[float]:
    """Return a series that is constant here and there, at 25 Hz: three equal samples are a constant stretch."""
    stretches = draw(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.integers(1, 5)), min_size=1, max_size=12))
    return [value for value, length in stretches for _ in range(length)]


@settings(REPEATABLE, max_examples=150)
@given(stuttering(), st.data())
def test_constant_stretches_are_found_however_the_series_is_cut(series: list[float], data: st.DataObject) -> None:
    dt = 0.04
    span = st.tuples(st.integers(0, len(series) - 1), st.integers(1, 8))
    pieces = [(0, 1), *data.draw(st.lists(span, max_size=12))]
    pieces += [(k, 1) for k in range(len(series)) if not any(start <= k < start + n for start, n in pieces)]
    order = data.draw(st.permutations(pieces))

    def seen(cutting: list[tuple[int, int]]) -> tuple[list[tuple[float, list[float]]], list[tuple[float, float]]]:
        found = find(
            [
                Strain("H1:A", GPS + start * dt, dt, np.array(series[start : start + n]), f"{number:03d}")
                for number, (start, n) in enumerate(cutting)
            ]
        )
        constant = [(one.start, one.stop) for one in found.rejected if one.reason is Reason.CONSTANT]
        return spans(found), constant

    whole = seen([(0, len(series))])
    assert seen(order) == whole
    lengths = [len(h) for _, h in whole[0]]
    assert sum(lengths) + sum(round((stop - start) / dt) for start, stop in whole[1]) == len(series)


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_real_strain_comes_back_bit_for_bit_with_the_gaps_that_were_cut_into_it(
    gw150914_files: dict[str, Path], detector: str
) -> None:
    h = read_strain(gw150914_files[detector])
    pieces = [one for one in cut(h, "H1:A", seconds=0.75) if not 10 <= one.t0 - GPS < 12]
    runs = find(pieces[::-1] + pieces[5:9])
    assert [(run.start / RATE, run.stop / RATE) for run in runs.of()] == [(0, 10.5), (12, 32)]
    for run in runs.of():
        assert runs.h(run).tobytes() == h[run.start : run.stop].tobytes()
    assert [note.reason for note in runs.notes].count(Reason.DUPLICATE) == 4
    assert [(note.start - GPS, note.stop - GPS) for note in runs.notes if note.reason is Reason.GAP] == [(10.5, 12)]
    assert not runs.rejected
