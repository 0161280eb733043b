import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from preproc.parameters import Parameters
from preproc.qtransform import QTransform
from preproc.whiten import design_filter, estimate_spectrum, whiten
from tests.preproc.batches import GPS, RATE, Series, Strain, find, read_strain

PARAMETERS = Parameters()
BARE = Parameters(padding=0)
SAMPLES = round(PARAMETERS.window * RATE)
EDGE = 10  # columns, 0.23 s: the longest tile


@pytest.fixture(scope="module")
def white(gw150914_files: dict[str, Path]) -> dict[str, Series]:
    """The whitened strain of GW150914 in each detector, 30 s."""
    return {detector: whiten_file(path) for detector, path in gw150914_files.items()}


def whiten_file(path: Path) -> Series:
    h = read_strain(path)
    found = find([Strain("H1:A", GPS, 1 / RATE, h, "a")])
    spectrum = estimate_spectrum(found.of(), found.reader, RATE, PARAMETERS)
    return whiten(h, design_filter(spectrum, RATE, PARAMETERS))


def gwpy_spectrogram(
    strain: Series, parameters: Parameters = PARAMETERS, rate: float = RATE, offset: int = 0
) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what gwpy imports warns about what it imports
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds to import, and only this needs it)

        plane = TimeSeries(strain, sample_rate=rate).q_transform(
            qrange=(parameters.q, parameters.q),
            frange=(parameters.fmin, parameters.fmax),
            outseg=(offset / rate, offset / rate + parameters.window),
            mismatch=parameters.mismatch,
            whiten=False,
            logf=True,
            fres=parameters.rows,
            tres=parameters.window / parameters.columns,
        )
    return np.asarray(plane.value).T[:, : parameters.columns]


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_it_agrees_with_gwpy_on_real_data(white: dict[str, Series], detector: str) -> None:
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    for start in range(0, len(white[detector]) - SAMPLES + 1, SAMPLES):
        first = min(max(start - transform.padding, 0), len(white[detector]) - transform.span)
        strain = white[detector][first : first + transform.span]
        ours = transform(strain, start - first)
        theirs = gwpy_spectrogram(strain, offset=start - first)
        inner = slice(None), slice(EDGE, -EDGE)
        assert correlation(ours[inner], theirs[inner]) > 0.9995
        assert correlation(ours, theirs) > 0.999
        assert np.argmax(ours[inner]) == np.argmax(theirs[inner])


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_it_agrees_with_gwpy_without_padding_too(white: dict[str, Series], detector: str) -> None:
    for window in white[detector][: 5 * SAMPLES].reshape(5, SAMPLES)[::2]:
        ours, theirs = QTransform(BARE, SAMPLES, RATE)(window), gwpy_spectrogram(window)
        inner = slice(None), slice(EDGE, -EDGE)
        assert correlation(ours[inner], theirs[inner]) > 0.9999
        assert np.argmax(ours[inner]) == np.argmax(theirs[inner])


@pytest.mark.parametrize(("detector", "frequencies"), [("H1", (100, 250)), ("L1", (100, 250))])
def test_gw150914_is_loudest_when_and_where_it_was_heard(
    white: dict[str, Series], detector: str, frequencies: tuple[float, float]
) -> None:
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    start = round(12 * RATE)  # GPS 1126259459: a second is lost to the filter
    energy = transform(white[detector][start - transform.padding :][: transform.span], transform.padding)
    row, column = np.unravel_index(np.argmax(energy), energy.shape)
    assert 1126259459 + transform.time_offset[column] == pytest.approx(1126259462.42, abs=0.02)
    assert frequencies[0] < transform.frequency[row] < frequencies[1]


def test_padding_keeps_one_end_of_a_window_out_of_the_other() -> None:
    transform, bare = QTransform(PARAMETERS, SAMPLES, RATE), QTransform(BARE, SAMPLES, RATE)
    strain = np.random.default_rng(1).normal(size=transform.span)
    t = (np.arange(transform.span) - transform.padding - SAMPLES) / RATE + 0.02
    strain += 30 * np.exp(-((2 * np.pi * 20 * t / 12) ** 2)) * np.sin(2 * np.pi * 20 * t)
    window = strain[transform.padding :][:SAMPLES]
    first = slice(None), slice(0, 3)
    assert bare(window)[first].max() > 50
    assert transform(strain, transform.padding)[first].max() < 15


@pytest.mark.parametrize("offset", [0, 1, 4000, 8256])
def test_the_place_of_a_window_in_its_padding_makes_no_difference(offset: int) -> None:
    transform = QTransform(PARAMETERS, SAMPLES, RATE)
    strain = np.random.default_rng(1).normal(size=transform.span)
    # The tiles that the median is taken over lie elsewhere; there are few of them at the lowest frequencies.
    assert correlation(transform(np.roll(strain, offset), offset), transform(strain, 0)) > 0.999


@pytest.mark.parametrize(
    ("samples", "columns", "rate"),
    [(24576, 256, 4096.0), (6000, 256, 1000.0), (24571, 256, 4096.0), (98304, 200, 16384.0)],
)
def test_window_and_padding_are_whole_samples_and_whole_columns(samples: int, columns: int, rate: float) -> None:
    transform = QTransform(Parameters(columns=columns, fmax=300), samples, rate)
    assert transform.padding >= rate
    assert transform.padding <= samples / 2 + 1
    assert (transform.span * columns) % samples == 0
    assert transform(np.random.default_rng(1).normal(size=transform.span)).shape == (64, columns)


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [
        (Parameters(padding=0, q=20, fmin=20, fmax=1000, rows=100, columns=512), 4096.0),
        (Parameters(padding=0, window=4, stride=4, mismatch=0.35, columns=200), 2048.0),
        (Parameters(padding=0, window=8, stride=8, fmax=80, columns=64), 512.0),
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
    transform = QTransform(BARE, SAMPLES, RATE)
    together = transform(windows)
    assert together.shape == (3, 2, 64, 256)
    assert together.dtype == np.float32
    assert np.array_equal(together[2, 1], transform(windows[2, 1]))


@pytest.mark.parametrize("frequency", [12.0, 40.0, 150.0, 400.0])
@pytest.mark.parametrize("time", [1.5, 3.4])
def test_a_sine_gaussian_is_loudest_where_it_is(frequency: float, time: float) -> None:
    t = np.arange(SAMPLES) / RATE - time
    burst = np.exp(-((2 * np.pi * frequency * t / 12) ** 2)) * np.sin(2 * np.pi * frequency * t)
    transform = QTransform(BARE, SAMPLES, RATE)
    energy = transform(np.random.default_rng(1).normal(size=SAMPLES) + 20 * burst)
    row, column = np.unravel_index(np.argmax(energy), energy.shape)
    assert transform.frequency[row] == pytest.approx(frequency, rel=0.1)
    # Half a column, or a tenth of the length of the burst where that is longer.
    assert transform.time_offset[column] == pytest.approx(time, abs=max(0.012, 0.1 * 12 / frequency))


def test_the_loudness_of_the_data_makes_no_difference() -> None:
    window = np.random.default_rng(1).normal(size=SAMPLES)
    transform = QTransform(BARE, SAMPLES, RATE)
    assert np.allclose(transform(window), transform(window * 1e-20), rtol=1e-5)


def test_typical_noise_is_one_and_energy_is_never_negative() -> None:
    window = np.random.default_rng(1).normal(size=SAMPLES)
    window[12000:12010] += 100
    energy = QTransform(BARE, SAMPLES, RATE)(window)
    assert np.median(energy) == pytest.approx(1, abs=0.1)
    assert energy.min() >= 0


def test_a_window_without_signal_is_not_a_number() -> None:
    assert np.isnan(QTransform(BARE, SAMPLES, RATE)(np.zeros(SAMPLES))).all()


def test_the_axes_are_those_of_the_parameters() -> None:
    transform = QTransform(BARE, SAMPLES, RATE)
    assert transform.frequency[[0, -1]].tolist() == pytest.approx([8, 500])
    assert np.allclose(np.diff(np.log(transform.frequency)), np.log(500 / 8) / 63)
    assert transform.time_offset[[0, 1, -1]].tolist() == [0, 6 / 256, 6 - 6 / 256]
