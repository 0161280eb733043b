from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gwclient.glitches import KINDS, SNR_RANGE, Glitch, draw, optimal_snr
from gwclient.noise import SENSITIVITIES

RATE = 4096


def waveform_of(kind: str, seed: int) -> tuple[NDArray[Any], NDArray[Any], float]:
    waveform = KINDS[kind](np.random.default_rng(seed))
    half = int(waveform.duration / 2 * RATE)
    tau = np.arange(-half, half + 1) / RATE
    return tau, waveform.strain(tau), waveform.frequency


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_glitch_begins_and_ends_near_zero(kind: str, seed: int) -> None:
    _, strain, _ = waveform_of(kind, seed)
    assert max(abs(strain[0]), abs(strain[-1])) < 0.02 * np.max(np.abs(strain))


@pytest.mark.parametrize("kind", ["blip", "sine_gaussian"])
@pytest.mark.parametrize("seed", range(5))
def test_a_pulse_is_strongest_at_the_frequency_it_is_said_to_have(kind: str, seed: int) -> None:
    _, strain, frequency = waveform_of(kind, seed)
    spectrum = np.abs(np.fft.rfft(strain, 2**18))
    assert np.argmax(spectrum) * RATE / 2**18 == pytest.approx(frequency, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_scattered_light_arches_up_to_the_frequency_it_is_said_to_have_and_back(seed: int) -> None:
    tau, strain, top = waveform_of("scattered_light", seed)
    crossings = tau[1:][np.diff(np.signbit(strain))]
    fringe = 1 / (2 * np.diff(crossings))
    assert fringe.max() == pytest.approx(top, rel=0.1)
    rising = np.sum(np.diff(fringe > 0.8 * top) != 0)
    assert rising >= 4, "at least two arches go up and come down"


def test_the_optimal_snr_of_a_tone_in_white_noise_is_amplitude_times_root_t_over_s() -> None:
    tone = 3e-22 * np.sin(2 * np.pi * 100 * np.arange(2 * RATE) / RATE)
    level = 1e-46
    expected = 3e-22 * np.sqrt(2.0 / level)
    assert optimal_snr(tone, RATE, lambda f: np.full_like(f, level)) == pytest.approx(expected, rel=0.01)


def test_optimal_snr_grows_with_amplitude_only_by_that_factor() -> None:
    _, strain, _ = waveform_of("blip", 1)
    psd = SENSITIVITIES["L1"].psd
    assert optimal_snr(3 * strain, RATE, psd) == pytest.approx(3 * optimal_snr(strain, RATE, psd))


def test_glitches_come_at_the_rate_asked_for_with_snr_in_range_and_lie_inside() -> None:
    drawn = list(draw(np.random.default_rng(3), 0.5, 2000))
    assert 880 <= len(drawn) <= 1100
    assert {kind for _, kind, _, _ in drawn} == set(KINDS)
    assert all(SNR_RANGE[0] <= snr <= SNR_RANGE[1] for _, _, snr, _ in drawn)
    assert all(waveform.duration / 2 <= centre <= 2000 - waveform.duration / 2 for centre, _, _, waveform in drawn)


def test_without_a_rate_there_are_no_glitches() -> None:
    assert not list(draw(np.random.default_rng(3), 0, 2000))


def test_a_glitch_overlaps_a_span_that_has_any_of_it() -> None:
    glitch = Glitch("blip", "L1", 100.0, 90.0, 9.0, 0.2)
    assert glitch.overlaps(100.05, 101)
    assert glitch.overlaps(99, 99.95)
    assert not glitch.overlaps(100.1, 101)
    assert not glitch.overlaps(98, 99.9)
