from typing import Any

import pytest

from preproc.errors import BadParameter
from preproc.parameters import Parameters


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"window": 0}, "window must be a positive number, got 0"),
        ({"q": float("nan")}, "q must be a positive number, got nan"),
        ({"highpass": float("inf")}, "highpass must be a positive number"),
        ({"columns": -1}, "columns must be"),
        ({"rows": 1}, "rows must be at least 2"),
        ({"columns": 1}, "columns must be at least 2"),
        ({"stride": 7}, "stride 7 s is longer than window 6 s"),
        ({"fmin": 500}, "fmin 500 Hz is not below fmax 500 Hz"),
        ({"q": 3.3}, "q must be above"),
        ({"mismatch": 1}, "mismatch must be at least 1e-06 and below 1, got 1"),
        ({"mismatch": 5e-324}, "mismatch must be at least 1e-06 and below 1, got 4.94066e-324"),
        ({"mismatch": 9e-7}, "mismatch must be at least 1e-06"),
        ({"fduration": 4.5}, "fduration 4.5 s is longer than psd_fftlength 4 s"),
        ({"padding": -1}, "padding must be zero or a positive number, got -1"),
        ({"padding": 3.5}, r"padding 3\.5 s is longer than half a window of 6 s"),
        ({"psd_nfft": 0}, "psd_nfft must be a positive number"),
        ({"train_proportion": 0.95}, r"train_proportion and validation_proportion are 1\.05 together, more than 1"),
        ({"rows": 10**9}, "rows 1000000000, columns 256 and 49 rows of tiles .* numbers for a window; the limit is 83"),
        ({"rows": 2, "columns": 10**6}, "rows 2, columns 1000000 and 49 rows of tiles"),
        ({"rows": 10**6, "columns": 2}, "rows 1000000, columns 2 and 49 rows of tiles"),
        ({"mismatch": 1e-6, "columns": 1000}, r"rows of tiles \(q 12, mismatch 1e-06\) make"),
        ({"window": 1, "stride": 1, "padding": 0}, "window 1 s does not hold q = 12 cycles of fmin 8 Hz"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        Parameters(**chosen)


def test_a_rate_too_low_for_the_highest_frequency_is_refused_with_what_would_do() -> None:
    with pytest.raises(BadParameter, match=r"fmax 500 Hz is too high for data at 1024 Hz: at most 401\.1 Hz"):
        Parameters().check_rate(1024)
    Parameters(fmax=401).check_rate(1024)


def test_spectrograms_of_2048_by_2048_pixels_are_not_too_large() -> None:
    Parameters(rows=2048, columns=2048, mismatch=0.01)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"fduration": 1e-6}, "fduration 1e-06 s is shorter than 6 samples of data at 1024 Hz"),
        ({"fduration": 5 / 1024}, "fduration 0.00488281 s is shorter than 6 samples"),
        ({"fduration": 0.001, "psd_nfft": 2}, r"fduration 0\.001 s is shorter than 6 samples"),
        ({"stride": 1e-12}, "stride 1e-12 s is shorter than a sample of data at 1024 Hz"),
    ],
)
def test_what_is_too_short_for_the_rate_of_the_data_is_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        Parameters(fmax=400, **chosen).check_rate(1024)


def test_a_highpass_above_the_nyquist_frequency_is_refused() -> None:
    with pytest.raises(BadParameter, match="highpass 600 Hz is too high for data at 1024 Hz"):
        Parameters(fmax=400, highpass=600).check_rate(1024)


def test_a_periodogram_in_samples_is_checked_where_the_rate_is_known() -> None:
    parameters = Parameters(fmax=300, psd_nfft=8192)
    parameters.check_rate(4096)
    assert parameters.spectrum_samples(4096) == 8192
    assert Parameters().spectrum_samples(4096) == 16384
    with pytest.raises(BadParameter, match=r"fduration 2 s is longer than psd_nfft 8192 at 8192 Hz"):
        parameters.check_rate(8192)
