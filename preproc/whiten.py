"""Whiten strain: estimate a channel's noise once, design one filter from it, filter every run with it.

All of it in float64: strain of 1e-23 squared is far below what float32 can hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from preproc.errors import UnusableChannel
from preproc.parameters import Parameters
from preproc.runs import Run

#: Seconds of data a power spectrum should have, and must have.
WANTED_SECONDS = 16.0
LEAST_SECONDS = 8.0
#: More periodograms than this add no accuracy worth their memory; they are then taken evenly over the batch.
MOST_PERIODOGRAMS = 128
# Beyond so many of its bins the spectrum of a Hann window is below 1e-9 of its peak.
_LOBES = 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The one-sided power spectral density of a channel.

    Attributes:
        frequency: in Hz, shape [K].
        density: in 1/Hz, shape [K].
        seconds: how much data it was estimated from.

    """

    frequency: NDArray[np.float64]
    density: NDArray[np.float64]
    seconds: float


def estimate_spectrum(runs: Sequence[Run], sample_rate: float, parameters: Parameters) -> Spectrum:
    """Estimate the noise of a channel from all of its runs, never across a gap.

    The median of Hann-windowed periodograms that overlap by half, corrected for the bias of the median, is not moved
    by a glitch: Allen, Anderson, Brady, Brown and Creighton, Phys. Rev. D 85, 122006 (2012), appendix B.

    Raises:
        UnusableChannel: less than `LEAST_SECONDS` in runs as long as a periodogram, or no noise at some frequency.

    """
    length = 2 * round(parameters.psd_fftlength * sample_rate / 2)
    if length == 0:
        raise UnusableChannel(f"{sample_rate:g} Hz are too slow for periodograms of {parameters.psd_fftlength:g} s")
    step = length // 2
    pieces = [piece for run in runs for piece in _pieces(run, length, step)]
    seconds = sum(_covered(run, length, step) for run in runs) / sample_rate
    least = max(LEAST_SECONDS, parameters.psd_fftlength)
    if seconds < least:
        raise UnusableChannel(
            f"{seconds:.4g} s in runs of at least {parameters.psd_fftlength:g} s, a power spectrum needs {least:g} s"
        )
    chosen = np.linspace(0, len(pieces) - 1, min(len(pieces), MOST_PERIODOGRAMS)).round().astype(int)
    density = _median([_periodogram(pieces[index], sample_rate) for index in chosen])
    frequency = fft.rfftfreq(length, 1 / sample_rate)
    _require_noise(frequency, density)
    return Spectrum(frequency, density, seconds)


def design_filter(spectrum: Spectrum, sample_rate: float, parameters: Parameters) -> NDArray[np.float64]:
    """Design the zero-phase filter that whitens, an odd number of taps spanning `fduration` seconds.

    Its response is one over the amplitude spectral density times that of a Butterworth highpass of order 4, made
    short by a Hann window on its impulse response; noise of the spectrum's density comes out with a variance of about
    1, less what the highpass takes.
    """
    half = round(parameters.fduration * sample_rate / 2)
    density = _blurred(spectrum.density, 4 * half)
    response = np.zeros_like(density)
    positive = spectrum.frequency > 0
    highpass = 1 / np.sqrt(1 + (parameters.highpass / spectrum.frequency[positive]) ** 8)
    response[positive] = highpass / np.sqrt(density[positive] * sample_rate / 2)
    impulse = np.roll(fft.irfft(response, n=2 * (len(response) - 1)), half)[: 2 * half + 1]
    return np.asarray(impulse * signal.windows.hann(2 * half + 1))


def whiten(run: Run, taps: NDArray[np.float64]) -> Run:
    """Detrend and filter a run; what the filter's edges touch, half its length at each end, is dropped."""
    half = len(taps) // 2
    detrended = signal.detrend(run.h, type="linear")
    return Run(run.channel, run.start + half, signal.oaconvolve(detrended, taps, mode="valid"))


def _pieces(run: Run, length: int, step: int) -> list[NDArray[np.float64]]:
    return [run.h[at : at + length] for at in range(0, len(run.h) - length + 1, step)]


def _covered(run: Run, length: int, step: int) -> int:
    """Count the samples of a run that at least one periodogram sees."""
    return (len(run.h) - length) // step * step + length if len(run.h) >= length else 0


def _periodogram(h: NDArray[np.float64], sample_rate: float) -> NDArray[np.float64]:
    return np.asarray(signal.periodogram(h, sample_rate, window="hann", detrend="linear", scaling="density")[1])


def _median(periodograms: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    terms = np.arange(1, (len(periodograms) - 1) // 2 + 1) * 2
    bias = 1 + np.sum(1 / (terms + 1) - 1 / terms)
    return np.asarray(np.median(periodograms, axis=0) / bias)


def _blurred(density: NDArray[np.float64], support: int) -> NDArray[np.float64]:
    """Blur a density to what a filter's power response can resolve, by the spectrum of a Hann window of that length.

    The autocorrelation of a filter is twice as long as the filter: a notch narrower than this would be filled up when
    the filter is cut to its length, and a line of a thousand times the noise come through.
    """
    length = 2 * (len(density) - 1)
    support = min(support, length)
    reach = min(math.ceil(_LOBES * length / support), len(density) - 1)
    lobe = np.abs(fft.rfft(signal.windows.hann(support, sym=False), n=length)[: reach + 1]) ** 2
    kernel = np.concatenate([lobe[:0:-1], lobe])
    return np.asarray(ndimage.convolve1d(density, kernel / kernel.sum(), mode="mirror"))


def _require_noise(frequency: NDArray[np.float64], density: NDArray[np.float64]) -> None:
    """Refuse a density that is zero, or not finite, where it is divided by."""
    bad = (frequency > 0) & ~(np.isfinite(density) & (density >= np.finfo(np.float64).tiny))
    if bad.any():
        raise UnusableChannel(f"its power spectral density is {density[bad][0]:g} at {frequency[bad][0]:g} Hz")
