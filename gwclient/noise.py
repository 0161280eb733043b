"""Detector noise: published design sensitivities, and Gaussian noise of their shape."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

#: Half the length of the colouring filter in s: it resolves a quarter of a hertz.
_REACH_S = 4


def _advanced_ligo(frequency: Array) -> Array:
    x = frequency / 215
    return 1e-49 * (x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + x**4 / 2) / (1 + x**2 / 2))


def _advanced_virgo(frequency: Array) -> Array:
    x = np.log(frequency / 300)
    terms = (
        0.07 * np.exp(-0.142 - 1.437 * x + 0.407 * x**2)
        + 3.1 * np.exp(-0.466 - 1.043 * x - 0.548 * x**2)
        + 0.4 * np.exp(-0.304 + 2.896 * x - 0.293 * x**2)
        + 0.09 * np.exp(1.466 + 3.722 * x - 0.984 * x**2)
    )
    return (1.259e-24 * terms) ** 2


def _kagra(frequency: Array) -> Array:
    x = np.log(frequency / 100)
    terms = (
        9.72e-9 * np.exp(-1.43 - 9.88 * x - 0.23 * x**2)
        + 1.17 * np.exp(0.14 - 3.10 * x - 0.26 * x**2)
        + 1.70 * np.exp(0.14 + 1.09 * x - 0.013 * x**2)
        + 1.25 * np.exp(0.071 + 2.83 * x - 4.91 * x**2)
    )
    return (6.499e-25 * terms) ** 2


@dataclass(frozen=True)
class Sensitivity:
    """A design sensitivity.

    Below `low_cut` Hz the fit means nothing and the PSD keeps the value it has there: noise without
    power in some band could not be whitened.
    """

    name: str
    low_cut: float
    fit: Callable[[Array], Array]

    def psd(self, frequency: Array) -> Array:
        """One-sided power spectral density of the strain noise in 1/Hz, at `frequency` in Hz, same shape."""
        return self.fit(np.maximum(frequency, self.low_cut))


_LIGO = Sensitivity(
    "Advanced LIGO (Sathyaprakash & Schutz 2009, Living Rev. Relativ. 12:2, Table 1)", 20, _advanced_ligo
)
_VIRGO = Sensitivity("Advanced Virgo (Manzotti & Dietz 2012, arXiv:1202.4031, Eq. 6)", 10, _advanced_virgo)
_KAGRA = Sensitivity("KAGRA (Manzotti & Dietz 2012, arXiv:1202.4031, Eq. 5)", 10, _kagra)

#: The design sensitivity of each detector.
SENSITIVITIES: Mapping[str, Sensitivity] = {"H1": _LIGO, "L1": _LIGO, "V1": _VIRGO, "K1": _KAGRA}


def coloured_noise(sensitivity: Sensitivity, samples: int, rate: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield Gaussian noise of the given sensitivity, shape [samples], each array the continuation of the one before.

    White noise is filtered with the zero-phase kernel whose gain is sqrt(S(f)·rate/2), for the one-sided PSD S and a
    rate in Hz, block by block (overlap-save): no seam, no period, and the noise of a shorter run is the beginning of
    that of a longer one.
    """
    kernel = _colouring_kernel(sensitivity, rate)
    size = 4 * len(kernel)
    step = size - len(kernel) + 1
    gain = np.fft.rfft(kernel, size)
    white = rng.standard_normal(len(kernel) - 1)
    left = np.empty(0)
    while True:
        blocks = [left]
        for _ in range(math.ceil((samples - len(left)) / step)):
            white = np.concatenate([white[-(len(kernel) - 1) :], rng.standard_normal(step)])
            blocks.append(np.fft.irfft(gain * np.fft.rfft(white), size)[len(kernel) - 1 :])
        noise = np.concatenate(blocks)
        yield noise[:samples]
        left = noise[samples:]


def _colouring_kernel(sensitivity: Sensitivity, rate: int) -> Array:
    size = 2 * _REACH_S * rate
    gain = np.sqrt(sensitivity.psd(np.fft.rfftfreq(size, 1 / rate)) * rate / 2)
    return np.fft.fftshift(np.fft.irfft(gain, size)) * np.hanning(size + 1)[:-1]
