from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preproc.runs import Run
from preproc.windows import Span, cover, covered, intersect, lay_windows, subtract

REPEATABLE = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def runs(channel: str, *spans: Span) -> list[Run]:
    return [Run(channel, start, stop) for start, stop in spans]


def test_windows_follow_each_other_from_the_start_of_each_run() -> None:
    layout = lay_windows({"H1": runs("H1", (0, 25), (30, 41))}, length=10, stride=10)
    assert layout.starts == [0, 10, 30]
    assert layout.channels == ["H1"]


def test_a_stride_below_the_length_makes_windows_overlap() -> None:
    assert lay_windows({"H1": runs("H1", (3, 25))}, length=10, stride=4).starts == [3, 7, 11, 15]


def test_a_window_lies_where_every_channel_has_data() -> None:
    layout = lay_windows({"H1": runs("H1", (0, 50)), "L1": runs("L1", (5, 27), (30, 44))}, length=10, stride=10)
    assert layout.common == [(5, 27), (30, 44)]
    assert layout.starts == [5, 15, 30]


def test_a_short_channel_does_not_remove_everything() -> None:
    found = {"V1": runs("V1", (90, 105)), "H1": runs("H1", (0, 50)), "L1": runs("L1", (0, 100))}
    layout = lay_windows(found, length=10, stride=10)
    assert layout.channels == ["H1", "L1"]
    assert layout.left_out == ["V1"]
    assert layout.starts == [0, 10, 20, 30, 40]


def test_nothing_long_enough_gives_no_window() -> None:
    layout = lay_windows({"H1": runs("H1", (0, 9))}, length=10, stride=10)
    assert (layout.channels, layout.starts, layout.left_out) == ([], [], ["H1"])


def spans_of(samples: set[int]) -> list[Span]:
    return cover([at for at in sorted(samples)], 1)  # noqa: C416 (sorted gives a list of its own)


sets = st.sets(st.integers(-20, 40), max_size=40)


@REPEATABLE
@given(sets, sets)
def test_spans_intersect_and_subtract_as_sets_of_samples_do(one: set[int], other: set[int]) -> None:
    assert intersect(spans_of(one), spans_of(other)) == spans_of(one & other)
    assert subtract(spans_of(one), spans_of(other)) == spans_of(one - other)
    assert covered(spans_of(one)) == len(one)
