import pytest

from preproc.gps import gps_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1126259462.0, "1126259462"),
        (1126259446.5, "1126259446.5"),
        (0.0, "0"),
        (-100.25, "-100.25"),
        (1e-6, "0.000001"),
    ],
)
def test_gps_times_keep_what_tells_them_apart(seconds: float, text: str) -> None:
    assert gps_text(seconds) == text
