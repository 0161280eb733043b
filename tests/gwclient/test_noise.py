from math import exp

import numpy as np
import pytest
from scipy.signal import welch

from gwclient.noise import SENSITIVITIES, coloured_noise


@pytest.mark.parametrize("detector", ["H1", "V1", "K1"])
@pytest.mark.parametrize("rate", [2048, 4096])
def test_the_welch_psd_of_the_noise_is_the_design_sensitivity(detector: str, rate: int) -> None:
    sensitivity = SENSITIVITIES[detector]
    noise = next(coloured_noise(sensitivity, 128 * rate, rate, np.random.default_rng(1)))
    frequency, measured = welch(noise, rate, "hann", 4 * rate)
    for low, high in [(10, 20), (20, 40), (40, 80), (80, 160), (160, 320), (320, 0.49 * rate)]:
        band = (frequency >= low) & (frequency < high)
        ratio = measured[band] / sensitivity.psd(frequency[band])
        assert np.mean(ratio) == pytest.approx(1, abs=0.06), (low, high)


@pytest.mark.parametrize("detector", SENSITIVITIES)
def test_a_second_generation_detector_reaches_a_few_times_1e_24_per_root_hertz_at_100_hz(detector: str) -> None:
    psd = SENSITIVITIES[detector].psd(np.array([100.0]))
    assert 2e-24 < float(np.sqrt(psd[0])) < 6e-24


@pytest.mark.parametrize(
    ("detector", "frequency", "psd"),
    [
        ("L1", 215.0, 1e-49 * (1 - 5 + 111 * 0.5 / 1.5)),
        (
            "V1",
            300.0,
            (1.259e-24 * (0.07 * exp(-0.142) + 3.1 * exp(-0.466) + 0.4 * exp(-0.304) + 0.09 * exp(1.466))) ** 2,
        ),
        ("K1", 100.0, (6.499e-25 * (9.72e-9 * exp(-1.43) + 2.87 * exp(0.14) + 1.25 * exp(0.071))) ** 2),
    ],
)
def test_a_fit_has_its_published_value_at_its_reference_frequency(detector: str, frequency: float, psd: float) -> None:
    assert float(SENSITIVITIES[detector].psd(np.array([frequency]))[0]) == pytest.approx(psd, abs=0)


def test_below_its_low_cut_a_sensitivity_is_flat_and_nowhere_zero() -> None:
    for sensitivity in SENSITIVITIES.values():
        psd = sensitivity.psd(np.array([0.0, 1.0, sensitivity.low_cut]))
        assert np.all(psd == psd[-1])
        assert psd[0] > 0


def test_the_noise_of_a_shorter_run_is_the_beginning_of_that_of_a_longer_one() -> None:
    ligo = SENSITIVITIES["H1"]
    short, long = (next(coloured_noise(ligo, n, 1024, np.random.default_rng(5))) for n in (1000, 200_000))
    assert np.array_equal(short, long[:1000])


def test_noise_has_no_seam_between_the_blocks_it_is_made_in() -> None:
    noise = next(coloured_noise(SENSITIVITIES["H1"], 100_000, 1024, np.random.default_rng(5)))
    steps = np.abs(np.diff(noise))
    assert steps.max() < 6 * np.sqrt(np.mean(steps**2))
