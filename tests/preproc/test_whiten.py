from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from preproc.errors import UnusableChannel
from preproc.parameters import Parameters
from preproc.runs import Run
from preproc.whiten import design_filter, estimate_spectrum, whiten
from tests.preproc.batches import RATE, Series, noise, read_strain

PARAMETERS = Parameters()


def run(h: Series, start: int = 0) -> Run:
    return Run("H1:A", start, h)


def coloured(seconds: float, seed: int = 1) -> Series:
    """Noise that falls steeply with frequency, and a line."""
    times = np.arange(round(seconds * RATE)) / RATE
    red = signal.sosfilt(signal.butter(2, 60, fs=RATE, output="sos"), noise(seconds, seed))
    return np.asarray(red + noise(seconds, seed + 1) / 30 + 1e-23 * np.sin(2 * np.pi * 300 * times))


def test_the_spectrum_of_white_noise_has_its_density() -> None:
    spectrum = estimate_spectrum([run(noise(64))], RATE, PARAMETERS)
    assert spectrum.seconds == 64
    assert spectrum.frequency[[0, 1, -1]].tolist() == [0, 0.25, RATE / 2]
    # Variance over the Nyquist frequency; without the correction the median of 31 would be 29 % low.
    assert np.mean(spectrum.density[1:-1]) / (2e-44 / RATE) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_the_median_is_unbiased_for_few_periodograms_too(count: int) -> None:
    densities = [
        estimate_spectrum([run(noise(2 + 2 * count, seed))], RATE, PARAMETERS).density[1:-1] for seed in range(3)
    ]
    # The overlap makes the periodograms not quite independent.
    assert np.mean(densities) / (2e-44 / RATE) == pytest.approx(1, abs=0.03)


def test_a_glitch_does_not_move_the_spectrum() -> None:
    clean = noise(64)
    loud = clean.copy()
    loud[50_000:50_200] += 1e-18
    one, other = (estimate_spectrum([run(h)], RATE, PARAMETERS).density[1:-1] for h in (clean, loud))
    assert np.mean(other) / np.mean(one) == pytest.approx(1, abs=0.15)


def test_no_periodogram_reaches_across_a_gap() -> None:
    # Two runs at levels so far apart that a periodogram over the seam would be dominated by the step.
    step = 1e-15
    runs = [run(noise(8, 1) - step), run(noise(8, 2) + step, start=40_000)]
    density = estimate_spectrum(runs, RATE, PARAMETERS).density[1:-1]
    assert np.mean(density) / (2e-44 / RATE) == pytest.approx(1, abs=0.05)


def test_runs_shorter_than_a_periodogram_do_not_count() -> None:
    runs = [run(noise(3.9, seed), start=100_000 * seed) for seed in range(1, 6)]
    with pytest.raises(UnusableChannel, match="0 s in runs of at least 4 s, a power spectrum needs 8 s"):
        estimate_spectrum(runs, RATE, PARAMETERS)
    assert estimate_spectrum([*runs, run(noise(8), 10**6)], RATE, PARAMETERS).seconds == 8


@pytest.mark.parametrize("silence", [np.zeros(65536), np.tile([0.0, 5e-324], 32768)])
def test_a_channel_without_noise_cannot_be_whitened(silence: Series) -> None:
    with pytest.raises(UnusableChannel, match=r"its power spectral density is .* at 0\.25 Hz"):
        estimate_spectrum([run(silence)], RATE, PARAMETERS)


def test_a_long_batch_is_estimated_from_all_of_its_length() -> None:
    # 512 s: the first half quiet, the second half ten times as loud; the median lies between the two.
    h = noise(512, rate=512.0)
    h[len(h) // 2 :] *= 10
    spectrum = estimate_spectrum([run(h)], 512.0, PARAMETERS)
    assert spectrum.seconds == 512
    assert 1.5 < np.mean(spectrum.density[1:-1]) / (2e-44 / 512) < 80


def test_whitened_noise_is_flat_and_of_unit_variance_above_the_highpass() -> None:
    h = coloured(64)
    spectrum = estimate_spectrum([run(h)], RATE, PARAMETERS)
    white = whiten(run(h), design_filter(spectrum, RATE, PARAMETERS))
    frequency, density = signal.welch(white.h, RATE, nperseg=round(RATE), average="median")
    level = density * RATE / 2
    for low, high in ((20, 100), (100, 290), (310, 1000), (1000, 2000)):
        band = (frequency >= low) & (frequency < high)
        assert np.mean(level[band]) == pytest.approx(1, abs=0.12), (low, high)
    # The line stands 25,000 times above the noise before.
    assert np.max(level[frequency > 20]) < 50
    assert np.mean(level[frequency < 4]) < 1e-3


def test_half_the_filter_is_dropped_at_each_end_and_time_is_kept() -> None:
    h = noise(32)
    h[65536] += 1e-19
    taps = design_filter(estimate_spectrum([run(h)], RATE, PARAMETERS), RATE, PARAMETERS)
    assert len(taps) == 2 * RATE + 1
    white = whiten(run(h, start=1000), taps)
    assert (white.start, white.stop) == (1000 + 4096, 1000 + 32 * 4096 - 4096)
    assert white.start + int(np.argmax(white.h)) == 1000 + 65536


def test_what_lies_outside_a_run_does_not_change_its_whitened_samples() -> None:
    h = coloured(32)
    taps = design_filter(estimate_spectrum([run(h)], RATE, PARAMETERS), RATE, PARAMETERS)
    whole, part = whiten(run(h), taps), whiten(run(h).cut(40_000, 100_000), taps)
    assert np.allclose(part.h, whole.cut(part.start, part.stop).h, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12])
def test_the_unit_of_the_data_makes_no_difference(scale: float) -> None:
    h = coloured(16)
    white = []
    for factor in (1.0, scale):
        spectrum = estimate_spectrum([run(h * factor)], RATE, PARAMETERS)
        white.append(whiten(run(h * factor), design_filter(spectrum, RATE, PARAMETERS)).h)
    assert np.allclose(white[0], white[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_real_strain_comes_out_flat(gw150914_files: dict[str, Path], detector: str) -> None:
    h = read_strain(gw150914_files[detector])
    white = whiten(run(h), design_filter(estimate_spectrum([run(h)], RATE, PARAMETERS), RATE, PARAMETERS))
    frequency, density = signal.welch(white.h, RATE, nperseg=round(RATE), average="median")
    band = (frequency >= 20) & (frequency < 1500)
    assert np.median(density[band] * RATE / 2) == pytest.approx(1, abs=0.1)
    assert np.std(white.h) == pytest.approx(1, abs=0.1)
