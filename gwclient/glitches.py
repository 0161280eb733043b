"""Glitches: short disturbances of one detector, as waveforms of a given signal-to-noise ratio.

Three families that training sets distinguish:
blip: a single short pulse over a wide band, here a Ricker wavelet (Cabero et al. 2019, CQG 36 155010);
sine_gaussian: a ringing with quality factor Q (Chatterji et al. 2004, CQG 21 S1809);
scattered_light: arches in the time-frequency plane, from stray light that returns from a swinging surface
(Accadia et al. 2010, CQG 27 194011).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Strain = NDArray[np.floating[Any]]

#: Signal-to-noise ratios are drawn log-uniformly between these.
SNR_RANGE = (8.0, 40.0)


class Glitch(msgspec.Struct, frozen=True):
    """The truth about one injected glitch, of a kind in `KINDS`."""

    kind: str
    detector: str
    gps: float  # GPS seconds of its centre
    frequency: float  # Hz: where a blip or sine-Gaussian is strongest, the top of scattered-light arches
    snr: float  # the optimal signal-to-noise ratio against the detector's design PSD
    duration: float  # s, of the injected waveform, half of it on either side of `gps`

    def overlaps(self, start: float, stop: float) -> bool:
        """Return whether any of it lies in [start, stop) GPS seconds."""
        return self.gps - self.duration / 2 < stop and start < self.gps + self.duration / 2


@dataclass(frozen=True)
class Waveform:
    """The shape of a glitch: `strain(tau)` of the time in s since its centre, in no unit yet."""

    frequency: float
    duration: float
    strain: Callable[[Strain], Strain]


def _blip(rng: np.random.Generator) -> Waveform:
    frequency = rng.uniform(50, 150)

    def strain(tau: Strain) -> Strain:
        u = (math.pi * frequency * tau) ** 2
        pulse: Strain = (1 - 2 * u) * np.exp(-u)
        return pulse

    return Waveform(frequency, 3 / frequency, strain)


def _sine_gaussian(rng: np.random.Generator) -> Waveform:
    frequency = math.exp(rng.uniform(math.log(40), math.log(400)))
    quality, phase = rng.uniform(5, 20), rng.uniform(0, 2 * math.pi)
    width = quality / (math.sqrt(2) * math.pi * frequency)
    omega = 2 * math.pi * frequency
    return Waveform(frequency, 8 * width, lambda tau: np.exp(-((tau / width) ** 2)) * np.cos(omega * tau + phase))


def _scattered_light(rng: np.random.Generator) -> Waveform:
    frequency, swing, arches = rng.uniform(30, 90), rng.uniform(0.2, 0.5), int(rng.integers(2, 4))
    duration = arches / (2 * swing)

    def strain(tau: Strain) -> Strain:
        # The light's phase follows the surface; its fringes pass fastest when the surface does, at the arch's top.
        phase = frequency / swing * np.cos(2 * math.pi * swing * (tau + duration / 2))
        edge = np.clip((duration / 2 - np.abs(tau)) / (duration / 10), 0, 1)
        arching: Strain = np.sin(math.pi / 2 * edge) ** 2 * np.sin(phase)
        return arching

    return Waveform(frequency, duration, strain)


KINDS: dict[str, Callable[[np.random.Generator], Waveform]] = {
    "blip": _blip,
    "sine_gaussian": _sine_gaussian,
    "scattered_light": _scattered_light,
}


def draw(rng: np.random.Generator, per_second: float, seconds: float) -> Iterator[tuple[float, str, float, Waveform]]:
    """Draw (centre in s, kind, snr, waveform) of a Poisson process; what would not lie wholly inside is left out."""
    centre = 0.0
    while per_second > 0:
        centre += rng.exponential(1 / per_second)
        if centre >= seconds:
            return
        kind = str(rng.choice(list(KINDS)))
        snr = math.exp(rng.uniform(math.log(SNR_RANGE[0]), math.log(SNR_RANGE[1])))
        waveform = KINDS[kind](rng)
        if waveform.duration / 2 <= min(centre, seconds - centre):
            yield centre, kind, snr, waveform


def optimal_snr(strain: Strain, rate: float, psd: Callable[[Strain], Strain]) -> float:
    """Return the optimal matched-filter signal-to-noise ratio of a waveform, sqrt(4 ∫ |h(f)|²/S(f) df).

    The waveform is dimensionless, shape [samples], its rate in Hz; S is one-sided, in 1/Hz, of the frequency in Hz.
    """
    size = 2 ** math.ceil(math.log2(2 * len(strain)))
    spectrum = np.fft.rfft(strain, size)[1:] / rate
    frequency = np.fft.rfftfreq(size, 1 / rate)[1:]
    return float(np.sqrt(4 * rate / size * np.sum(np.abs(spectrum) ** 2 / psd(frequency))))
