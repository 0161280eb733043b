import re
from pathlib import Path

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from gwwire.gps import GPS_EPOCH, LEAPS, gps_of_unix, gps_of_utc, gps_text, unix_of_gps, utc_of_gps

SCRIPT = Path(__file__).parents[2] / "dslogic" / "static" / "format.js"


def test_the_page_counts_the_same_leap_seconds() -> None:
    table = re.search(r"const LEAPS = \[([^\]]*)\]", SCRIPT.read_text())
    assert table
    assert tuple(int(word.replace("_", "")) for word in re.findall(r"[\d_]+", table[1])) == LEAPS


@pytest.mark.parametrize("gps", [0, 1, 1126259446, 1479283000, *(leap + step for leap in LEAPS for step in (-2, 0, 1))])
def test_utc_is_astropys(gps: int) -> None:
    assert f"{utc_of_gps(gps):%Y-%m-%d %H:%M:%S}" == Time(gps, format="gps", scale="tai").utc.iso[:19]


@pytest.mark.parametrize(
    ("text", "gps"),
    [
        ("2015-09-14T09:50:45Z", 1126259462.0),
        ("2015-09-14 09:50:45.5", 1126259462.5),
        ("2015-09-14T09:50", 1126259417.0),
        ("2017-01-01", 1167264018.0),
        ("2015-09-14T09:50:45+02:00", None),
        ("2015-02-30", None),
        ("20150914", None),
        ("1126259462", None),
    ],
)
def test_a_date_in_utc_is_a_gps_time(text: str, gps: float | None) -> None:
    assert gps_of_utc(text) == gps


@given(gps=st.integers(0, 2 * 10**9))
def test_gps_time_comes_back_from_unix_time_but_for_the_leap_seconds(gps: int) -> None:
    back = gps_of_unix(unix_of_gps(gps))
    assert back == (gps + 1 if gps + 1 in LEAPS else gps)


def test_gps_time_was_unix_time_at_the_epoch_and_is_18_s_ahead_since_2017() -> None:
    assert unix_of_gps(0) == GPS_EPOCH
    assert unix_of_gps(1_400_000_000.25) == GPS_EPOCH - 18 + 1_400_000_000.25
    assert gps_of_unix(GPS_EPOCH - 18 + 1_400_000_000.25) == 1_400_000_000.25


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
def test_different_gps_times_have_different_texts(seconds: float, text: str) -> None:
    assert gps_text(seconds) == text
