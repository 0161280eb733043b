import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from preproc.parameters import Parameters
from preproc.qtransform import QTransform
from preproc.runs import Run
from preproc.whiten import design_filter, estimate_spectrum, whiten
from tests.preproc.batches import RATE, Series, read_strain

PARAMETERS = Parameters()
SAMPLES = round(PARAMETERS.window * RATE)
EDGE = 10  # columns, 0.23 s: the longest tile


def white_windows(path: Path) -> Series:
    """The five whitened windows of a GW150914 file, shape [5, SAMPLES]."""
    run = Run("X1", 0, read_strain(path))
    white = whiten(run, design_filter(estimate_spectrum([run], RATE, PARAMETERS), RATE, PARAMETERS))
    return white.h[: 5 * SAMPLES].reshape(5, SAMPLES)


def gwpy_spectrogram(window: Series, parameters: Parameters = PARAMETERS, rate: float = RATE) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what gwpy imports warns about what it imports
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds to import, and only this needs it)

        plane = TimeSeries(window, sample_rate=rate).q_transform(
            qrange=(parameters.q, parameters.q),
            frange=(parameters.fmin, parameters.fmax),
            mismatch=parameters.mismatch,
            whiten=False,
            logf=True,
            fres=parameters.rows,
            tres=parameters.window / parameters.columns,
        )
    return np.asarray(plane.value).T


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_it_agrees_with_gwpy_on_real_data(gw150914_files: dict[str, Path], detector: str) -> None:
    windows = white_windows(gw150914_files[detector])
    for ours, window in zip(QTransform(PARAMETERS, SAMPLES, RATE)(windows), windows, strict=True):
        theirs = gwpy_spectrogram(window)
        inner = slice(None), slice(EDGE, -EDGE)
        assert correlation(ours[inner], theirs[inner]) > 0.9999
        assert correlation(ours, theirs) > 0.999
        assert np.argmax(ours[inner]) == np.argmax(theirs[inner])


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [
        (Parameters(q=20, fmin=20, fmax=1000, rows=100, columns=512), 4096.0),
        (Parameters(window=4, stride=4, mismatch=0.35, columns=200), 2048.0),
        (Parameters(window=8, stride=8, fmax=80, columns=64), 512.0),
    ],
)
def test_it_agrees_with_gwpy_for_other_parameters(parameters: Parameters, rate: float) -> None:
    window = np.random.default_rng(1).normal(size=round(parameters.window * rate))
    window[len(window) // 2 :][:3] += 5
    ours = QTransform(parameters, len(window), rate)(window)
    theirs = gwpy_spectrogram(window, parameters, rate)
    inner = slice(None), slice(parameters.columns // 20, -parameters.columns // 20)
    assert ours.shape == theirs.shape == (parameters.rows, parameters.columns)
    assert correlation(ours[inner], theirs[inner]) > 0.999


def test_many_windows_at_a_time_give_what_each_gives_alone() -> None:
    windows = np.random.default_rng(1).normal(size=(3, 2, SAMPLES))
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    together = transform(windows)
    assert together.shape == (3, 2, 64, 256)
    assert together.dtype == np.float32
    assert np.array_equal(together[2, 1], transform(windows[2, 1]))


@pytest.mark.parametrize("frequency", [12.0, 40.0, 150.0, 400.0])
@pytest.mark.parametrize("time", [1.5, 3.4])
def test_a_sine_gaussian_is_loudest_where_it_is(frequency: float, time: float) -> None:
    t = np.arange(SAMPLES) / RATE - time
    burst = np.exp(-((2 * np.pi * frequency * t / 12) ** 2)) * np.sin(2 * np.pi * frequency * t)
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    energy = transform(np.random.default_rng(1).normal(size=SAMPLES) + 20 * burst)
    row, column = np.unravel_index(np.argmax(energy), energy.shape)
    assert transform.frequency[row] == pytest.approx(frequency, rel=0.1)
    # Half a column, or a tenth of the length of the burst where that is longer.
    assert transform.time_offset[column] == pytest.approx(time, abs=max(0.012, 0.1 * 12 / frequency))


def test_the_loudness_of_the_data_makes_no_difference() -> None:
    window = np.random.default_rng(1).normal(size=SAMPLES)
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    assert np.allclose(transform(window), transform(window * 1e-20), rtol=1e-5)


def test_typical_noise_is_one_and_energy_is_never_negative() -> None:
    window = np.random.default_rng(1).normal(size=SAMPLES)
    window[12000:12010] += 100
    energy = QTransform(PARAMETERS, SAMPLES, RATE)(window)
    assert np.median(energy) == pytest.approx(1, abs=0.1)
    assert energy.min() >= 0


def test_a_window_without_signal_is_not_a_number() -> None:
    assert np.isnan(QTransform(PARAMETERS, SAMPLES, RATE)(np.zeros(SAMPLES))).all()


def test_the_axes_are_those_of_the_parameters() -> None:
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    assert transform.frequency[[0, -1]].tolist() == pytest.approx([8, 500])
    assert np.allclose(np.diff(np.log(transform.frequency)), np.log(500 / 8) / 63)
    assert transform.time_offset[[0, 1, -1]].tolist() == [0, 6 / 256, 6 - 6 / 256]
