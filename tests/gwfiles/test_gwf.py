"""Frame files, judged by the two libraries of the detectors: frameCPP (gwframe) and FrameL (lalframe)."""

import math
from fractions import Fraction
from pathlib import Path

import gwframe
import numpy as np
import pytest

from gwfiles.gwf import check_times, writing
from gwfiles.layout import NotDescribable
from gwfiles.stretches import Stretch

#: Of the bindings of LAL.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")

GPS, CHANNEL = 1126259446, "L1:GWOSC-4KHZ_R1_STRAIN"


def write(path: Path, t0: float, rate: int = 64, count: int = 100, channel: str = CHANNEL) -> np.ndarray:
    samples = np.resize([1.1e-21, -0.0, math.nan, -1.7e308, 5e-324], count)
    with writing(path, Stretch(channel, t0, Fraction(1, rate), count)) as append:
        append(samples[: count // 3])
        append(samples[count // 3 :])
    return samples


@pytest.mark.parametrize(("t0", "rate", "count"), [(GPS, 4096, 8192), (GPS + 0.5, 64, 1), (0.0, 1, 3), (1 / 3, 3, 4)])
def test_samples_and_times_are_exact_for_framecpp_and_its_checks_of_each_structure(
    t0: float, rate: int, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "file.gwf"
    samples = write(path, t0, rate, count)
    series = gwframe.read(str(path), CHANNEL, validate_checksum=True)
    assert series.array.tobytes() == samples.tobytes()
    assert (series.dt, series.unit, series.name) == (1 / rate, "strain", CHANNEL)
    assert series.start == pytest.approx(t0, abs=1e-9)
    (frame,) = gwframe.inspect.get_info(str(path)).frames
    assert frame.duration == count / rate


def test_framel_reads_a_part_and_agrees_with_the_checksum_of_the_file(tmp_path: Path) -> None:
    import lal  # noqa: PLC0415 (takes a second)
    import lalframe  # noqa: PLC0415

    path = tmp_path / "L-L1_TEST-1126259446-2.gwf"
    samples = write(path, GPS, rate=64, count=128)
    assert lalframe.FrFileCksumValid(lalframe.FrFileOpenURL(str(path)))
    stream = lalframe.FrStreamOpen(str(tmp_path), path.name)
    series = lalframe.FrStreamReadREAL8TimeSeries(stream, CHANNEL, lal.LIGOTimeGPS(GPS + 0.5), 1.0, 0)
    assert series.data.data.tobytes() == samples[32:96].tobytes()
    assert (float(series.epoch), series.deltaT, series.name) == (GPS + 0.5, 1 / 64, CHANNEL)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.gwf"
    samples = write(path, GPS)
    content = bytearray(path.read_bytes())
    content[content.index(samples[:5].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(Exception, match="Object checksum failure"):
        gwframe.read(str(path), CHANNEL, validate_checksum=True)


def test_a_channel_may_be_any_text(tmp_path: Path) -> None:
    path = tmp_path / "file.gwf"
    samples = write(path, GPS, channel="µ\0 ")
    series = gwframe.read(str(path), "µ\u2400 ")
    assert series.array.tobytes() == samples.tobytes()


def test_a_file_without_all_of_its_samples_is_an_error(tmp_path: Path) -> None:
    stretch = Stretch(CHANNEL, GPS, Fraction(1, 64), 3)
    with (
        pytest.raises(ValueError, match="16 bytes of samples were written, not 24"),
        writing(tmp_path / "f", stretch) as append,
    ):
        append(np.zeros(2))


@pytest.mark.parametrize(
    ("t0", "dt", "reason"),
    [
        (-1.0, Fraction(1, 64), r"GPS -1.0 is not within \[0, 4.29497e\+09\) s"),
        (2.0**32, Fraction(1, 64), r"GPS 4294967296.0 is not within"),
        (GPS, Fraction(1, 10**7), r"dt 1e-07 is not within \[1e-06, 1e\+06\] s"),
    ],
)
def test_times_that_a_frame_cannot_have_are_refused(t0: float, dt: Fraction, reason: str) -> None:
    with pytest.raises(NotDescribable, match=reason):
        check_times(Stretch(CHANNEL, t0, dt, 1))
