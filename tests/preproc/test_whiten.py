from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from preproc.errors import UnusableChannel
from preproc.parameters import Parameters
from preproc.runs import Run
from preproc.whiten import Spectrum, design_filter, estimate_spectrum, whiten
from tests.preproc.batches import GPS, RATE, Series, Strain, find, noise, read_strain

PARAMETERS = Parameters()


def spectrum_of(*series: Series, starts: Sequence[int] = (0,), rate: float = RATE) -> Spectrum:
    """Estimate the spectrum of runs that start at these places on the grid."""
    pieces = [
        Strain("H1:A", GPS + start / rate, 1 / rate, h, f"{start:09d}") for start, h in zip(starts, series, strict=True)
    ]
    found = find(pieces)
    runs = [Run("H1:A", start, start + len(h)) for start, h in zip(starts, series, strict=True)]
    return estimate_spectrum(runs, found.reader, rate, PARAMETERS)


def taps_of(h: Series) -> Series:
    return design_filter(spectrum_of(h), RATE, PARAMETERS)


def coloured(seconds: float, seed: int = 1) -> Series:
    """Noise that falls steeply with frequency, and a line."""
    times = np.arange(round(seconds * RATE)) / RATE
    red = signal.sosfilt(signal.butter(2, 60, fs=RATE, output="sos"), noise(seconds, seed))
    return np.asarray(red + noise(seconds, seed + 1) / 30 + 1e-23 * np.sin(2 * np.pi * 300 * times))


def test_the_spectrum_of_white_noise_has_its_density() -> None:
    spectrum = spectrum_of(noise(64))
    assert spectrum.seconds == 64
    assert spectrum.frequency[[0, 1, -1]].tolist() == [0, 0.25, RATE / 2]
    # Variance over the Nyquist frequency; without the correction the median of 31 would be 29 % low.
    assert np.mean(spectrum.density[1:-1]) / (2e-44 / RATE) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_the_median_is_unbiased_for_few_periodograms_too(count: int) -> None:
    densities = [spectrum_of(noise(2 + 2 * count, seed)).density[1:-1] for seed in range(3)]
    # The overlap makes the periodograms not quite independent.
    assert np.mean(densities) / (2e-44 / RATE) == pytest.approx(1, abs=0.03)


def test_a_glitch_does_not_move_the_spectrum() -> None:
    clean = noise(64)
    loud = clean.copy()
    loud[50_000:50_200] += 1e-18
    one, other = (spectrum_of(h) for h in (clean, loud))
    assert np.mean(other.density[1:-1]) / np.mean(one.density[1:-1]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("factor", [100, 1e180, 1e300])
def test_a_span_far_too_loud_is_left_out_of_the_spectrum_and_named(factor: float) -> None:
    loud = noise(64)
    loud[102_400:110_000] *= factor
    spectrum = spectrum_of(loud)
    (span,) = spectrum.loud
    assert span[0] <= 102_400
    assert span[1] >= 110_000
    assert span[1] - span[0] < 6 * 8192
    assert spectrum.seconds < 62
    assert all(stop <= 102_400 or start >= 110_000 for start, stop in spectrum.spans)
    assert np.mean(spectrum.density[1:-1]) / (2e-44 / RATE) == pytest.approx(1, abs=0.03)


def test_a_real_signal_is_not_loud_enough_to_be_left_out(gw150914_files: dict[str, Path]) -> None:
    assert [spectrum_of(read_strain(path)).loud for path in gw150914_files.values()] == [[], []]


def test_no_periodogram_reaches_across_a_gap() -> None:
    # Two runs at levels so far apart that a periodogram over the seam would be dominated by the step.
    step = 1e-15
    density = spectrum_of(noise(8, 1) - step, noise(8, 2) + step, starts=(0, 40_000)).density[1:-1]
    assert np.mean(density) / (2e-44 / RATE) == pytest.approx(1, abs=0.05)


def test_runs_shorter_than_a_periodogram_do_not_count() -> None:
    starts, series = [100_000 * seed for seed in range(5)], [noise(3.9, seed) for seed in range(5)]
    with pytest.raises(UnusableChannel, match="0 s in runs of at least 4 s; a power spectrum needs 8 s"):
        spectrum_of(*series, starts=starts)
    assert spectrum_of(*series, noise(8), starts=[*starts, 10**6]).seconds == 8


@pytest.mark.parametrize(
    "h", [np.zeros(65536), np.tile([0.0, 5e-324], 32768), noise(16) * 1e182, noise(16) * 1e300 * 1e22]
)
def test_a_channel_without_noise_or_with_too_much_cannot_be_whitened(h: Series) -> None:
    with pytest.raises(UnusableChannel, match=r"its power spectral density is .* at 0\.25 Hz"):
        spectrum_of(h)


def test_a_long_batch_is_estimated_from_all_of_its_length() -> None:
    # 512 s: the first half quiet, the second half ten times as loud; the median lies between the two.
    h = noise(512, rate=512.0)
    h[len(h) // 2 :] *= 10
    spectrum = spectrum_of(h, rate=512.0)
    assert spectrum.seconds == 512
    assert 1.5 < np.mean(spectrum.density[1:-1]) / (2e-44 / 512) < 80


def test_whitened_noise_is_flat_and_of_unit_variance_above_the_highpass() -> None:
    h = coloured(64)
    white = whiten(h, taps_of(h))
    frequency, density = signal.welch(white, RATE, nperseg=round(RATE), average="median")
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
    taps = taps_of(h)
    assert len(taps) == 2 * RATE + 1
    white = whiten(h, taps)
    assert len(white) == 32 * 4096 - 8192
    assert 4096 + int(np.argmax(white)) == 65536


def test_what_is_further_away_than_half_the_filter_does_not_change_a_whitened_sample() -> None:
    h = coloured(32)
    taps = taps_of(h)
    whole, part = whiten(h, taps), whiten(h[40_000:100_000], taps)
    assert np.allclose(part, whole[40_000 : 40_000 + len(part)], atol=1e-9)


def test_channels_and_windows_are_whitened_together_as_they_are_alone() -> None:
    h, taps = noise(8).reshape(2, 2, 8192), np.array([taps_of(coloured(16, seed))[2048:-2048] for seed in (1, 5)])
    together = whiten(h, taps)
    assert together.shape == (2, 2, 8192 - 4096)
    assert together[1, 1].tobytes() == whiten(h[1, 1], taps[1]).tobytes()


def test_a_constant_and_a_trend_are_taken_out() -> None:
    h = noise(32)
    taps = taps_of(h)
    drifting = h + 1e-18 + 1e-19 * np.linspace(0, 1, len(h))
    assert np.allclose(whiten(drifting, taps), whiten(h, taps), atol=1e-6)


def test_a_filter_may_be_as_long_as_a_periodogram() -> None:
    parameters = Parameters(psd_nfft=8192)
    h = noise(32)
    found = find([Strain("H1:A", GPS, 1 / RATE, h, "a")])
    spectrum = estimate_spectrum(found.of(), found.reader, RATE, parameters)
    assert len(spectrum.frequency) == 4097
    assert np.std(whiten(h, design_filter(spectrum, RATE, parameters))) == pytest.approx(1, abs=0.1)


def test_the_shortest_filter_lets_noise_pass() -> None:
    parameters = Parameters(fduration=6 / RATE, psd_nfft=6)
    parameters.check_rate(RATE)
    h = noise(16)
    found = find([Strain("H1:A", GPS, 1 / RATE, h, "a")])
    spectrum = estimate_spectrum(found.of(), found.reader, RATE, parameters)
    assert np.std(whiten(h, design_filter(spectrum, RATE, parameters))) > 0.1


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12])
def test_the_unit_of_the_data_makes_no_difference(scale: float) -> None:
    h = coloured(16)
    white = [whiten(h * factor, taps_of(h * factor)) for factor in (1.0, scale)]
    assert np.allclose(white[0], white[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_real_strain_comes_out_flat(gw150914_files: dict[str, Path], detector: str) -> None:
    h = read_strain(gw150914_files[detector])
    white = whiten(h, taps_of(h))
    frequency, density = signal.welch(white, RATE, nperseg=round(RATE), average="median")
    band = (frequency >= 20) & (frequency < 1500)
    assert np.median(density[band] * RATE / 2) == pytest.approx(1, abs=0.1)
    assert np.std(white) == pytest.approx(1, abs=0.1)
