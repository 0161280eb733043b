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
        ({"mismatch": 1}, "mismatch must be below 1"),
        ({"fduration": 4}, "fduration 4 s is not below psd_fftlength 4 s"),
        ({"window": 1, "stride": 1}, "window 1 s does not hold q = 12 cycles of fmin 8 Hz"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        Parameters(**chosen)


def test_a_rate_too_low_for_the_highest_frequency_is_refused_with_what_would_do() -> None:
    with pytest.raises(BadParameter, match=r"fmax 500 Hz is too high for data at 1024 Hz: at most 401\.1 Hz"):
        Parameters().check_rate(1024)
    Parameters(fmax=401).check_rate(1024)


def test_a_highpass_above_the_nyquist_frequency_is_refused() -> None:
    with pytest.raises(BadParameter, match="highpass 600 Hz is too high for data at 1024 Hz"):
        Parameters(fmax=400, highpass=600).check_rate(1024)
