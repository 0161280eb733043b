"""The files of a dataset: their spans and names."""

from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitchflow_api.strain_files import Dataset, Stored, datasets, parse_name
from gwwire.public import ChannelCoverage
from gwwire.spans import first_sample, sample_period

SPANS = [(100, 300), (511, 513), (1000, 1001), (1024, 2048)]
GPS = st.floats(-1e308, 1e308) | st.floats(0, 2100) | st.integers(0, 2100).map(float)


def dataset(*spans: tuple[int, int]) -> Dataset:
    return Dataset("L1:STRAIN", "hdf5", Fraction(1, 4096), [Stored(*span, float(span[0])) for span in spans])


def test_files_are_cut_at_boundaries_and_gaps() -> None:
    assert list(dataset(*SPANS).files()) == [
        *[(100, 256), (256, 300), (511, 512), (512, 513), (1000, 1001)],
        *[(1024, 1280), (1280, 1536), (1536, 1792), (1792, 2048)],
    ]
    assert dataset(*SPANS).latest() == [(1792, 2048)]
    assert dataset().latest() == []


@given(dt=st.floats(1, 2000), offset=st.floats(-2000, 0), last=st.integers(1, 3000))
def test_files_with_a_sample_are_found_as_the_samples_are_selected(dt: float, offset: float, last: int) -> None:
    found = Dataset("L1:TREND", "gwf", period := sample_period(dt), [Stored(0, last, offset)])
    begins = (first_sample(start, offset, period, 10**6) for start in range(0, last, 256))
    ends = (first_sample(min(start + 256, last), offset, period, 10**6) for start in range(0, last, 256))
    expected = [number for number, (begin, end) in enumerate(zip(begins, ends, strict=True)) if begin < end]
    assert [start // 256 for start, _ in found.files()] == expected


@given(start=GPS, stop=GPS)
def test_the_files_of_a_span_are_those_that_overlap_it(start: float, stop: float) -> None:
    found = dataset(*SPANS)
    overlapping = [(first, last) for first, last in found.files() if first < stop and last > start]
    assert list(found.files(start, stop)) == overlapping


def test_the_files_of_a_span_of_centuries_are_computed_one_by_one() -> None:
    found = dataset((-(10**10), 10**10))
    assert list(islice(found.files(0.5), 2)) == [(0, 256), (256, 512)]
    assert list(found.files(1e9, 1e9 + 1)) == [(10**9, 10**9 + 256)]
    assert found.latest() == [(10**10 - 256, 10**10)]


def test_only_files_with_a_sample_are_offered() -> None:
    minutes = Dataset("L1:TREND", "gwf", Fraction(60), [Stored(101, 700, 100.5)])
    assert list(minutes.files()) == [(101, 256), (256, 512), (512, 700)]
    assert minutes.has_file(101, 161)
    assert not minutes.has_file(101, 160), "its first two samples are at 100.5 s and 160.5 s"
    hours = Dataset("L1:TREND", "gwf", Fraction(3600), [Stored(101, 7300, 100.5)])
    assert list(hours.files()) == [(3584, 3840)]
    assert hours.latest() == [(3584, 3840)]
    assert hours.spans == hours.within(0, 10_000) == [(101, 7300)]


def test_only_times_that_a_name_and_a_format_can_describe_are_offered() -> None:
    spans = [(-10.0, 5.0, 1), (2.0**32 - 3, 2.0**32 + 3, 1)]
    channels = [ChannelCoverage("L1:STRAIN", 1.0, spans, 0.0)]
    [hdf5], [gwf] = datasets(channels, "hdf5"), datasets(channels, "gwf")
    assert hdf5.spans == [(0, 5), (2**32 - 3, 2**32 + 3)]
    assert gwf.spans == [(0, 5), (2**32 - 3, 2**32 - 1)]


@pytest.mark.parametrize(
    "name",
    [
        *("L-L1_A-0100-1.hdf5", "L-L1_A-100-01.hdf5", "L-L1_A-100-0.hdf5", "L-L1_A-\u0661100-1.hdf5"),
        *("L-L1_A-100-1.h5", "L-L1_A-100-1.hdf5\n", "L-L1_A-255-2.hdf5", "1-L1_A-100-1.hdf5"),
    ],
)
def test_no_file_has_another_form_of_its_name(name: str) -> None:
    assert parse_name(name) is None


def test_the_name_of_a_file_is_parsed() -> None:
    assert parse_name(dataset().name(100, 200)) == ("L", "L1_STRAIN", 100, 200, "hdf5")
