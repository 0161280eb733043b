"""Whiten strain: estimate the noise of a channel once, design one filter from it, and apply it to every window.

All values are float64: the square of strain of 1e-23 is below the range of float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from preproc.errors import UnusableChannel
from preproc.parameters import Parameters
from preproc.runs import Run, StrainReader
from preproc.windows import Span, cover, covered

#: Recommended and required seconds of data for a power spectrum.
WANTED_SECONDS = 16.0
LEAST_SECONDS = 8.0
#: Upper limit of periodograms, for the sake of memory; beyond it, they are chosen evenly over the batch.
MOST_PERIODOGRAMS = 128
#: Power of a periodogram relative to the median, averaged over frequency, beyond which it is left out.
LOUD = 3.0
# With fewer periodograms, a loud one cannot be identified.
_ENOUGH_TO_COMPARE = 4
# Beyond this many of its bins, the spectrum of a Hann window is below 1e-9 of its peak.
_LOBES = 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The one-sided power spectral density of a channel."""

    frequency: NDArray[np.float64]  # in Hz, shape [K]
    density: NDArray[np.float64]  # in 1/Hz, shape [K]
    spans: list[Span]  # the data it was estimated from, on the sample grid
    loud: list[Span]  # the data left out as too loud to be noise, on the sample grid
    seconds: float  # total length of `spans`


@np.errstate(over="ignore", invalid="ignore")  # the square of very loud strain is infinite
def estimate_spectrum(
    runs: Sequence[Run], reader: StrainReader, sample_rate: float, parameters: Parameters
) -> Spectrum:
    """Estimate the noise of a channel from all of its runs, without crossing gaps.

    The median of Hann-windowed periodograms that overlap by half, corrected for its bias, is robust against glitches:
    Allen, Anderson, Brady, Brown and Creighton, Phys. Rev. D 85, 122006 (2012), appendix B. Periodograms
    that are much louder (`LOUD`) are left out, and the median is computed again.

    Raises UnusableChannel if less than `LEAST_SECONDS` are in runs as long as a periodogram, or the noise is zero at a
    frequency.
    """
    length = parameters.spectrum_samples(sample_rate)
    starts = periodogram_starts(runs, sample_rate, parameters)
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), MOST_PERIODOGRAMS)).round().astype(int)
    starts = [starts[index] for index in chosen]
    estimate = partial(signal.periodogram, fs=sample_rate, window="hann", detrend="linear", scaling="density")
    periodograms = np.array([estimate(reader.read(runs[0].channel, at, at + length))[1] for at in starts])
    periodograms[np.isnan(periodograms)] = np.inf
    frequency = fft.rfftfreq(length, 1 / sample_rate)
    quiet = _quiet(periodograms, frequency >= parameters.highpass)
    kept, loud = ([at for at, one in zip(starts, quiet, strict=True) if one == kind] for kind in (True, False))
    density = _median(periodograms[quiet])
    bad = (frequency > 0) & ~(np.isfinite(density) & (density >= np.finfo(np.float64).tiny))
    if bad.any():
        raise UnusableChannel(f"its power spectral density is {density[bad][0]:g} at {frequency[bad][0]:g} Hz")
    spans = cover(kept, length)
    return Spectrum(frequency, density, spans, cover(loud, length), covered(spans) / sample_rate)


def periodogram_starts(runs: Sequence[Run], sample_rate: float, parameters: Parameters) -> list[int]:
    """Return the first sample of each periodogram that fits into the runs of a channel.

    Raises UnusableChannel if less than `LEAST_SECONDS` are in runs as long as a periodogram.
    """
    length = parameters.spectrum_samples(sample_rate)
    step = parameters.psd_hop_length or max(1, length // 2)
    starts = [at for run in runs for at in range(run.start, run.stop - length + 1, step)]
    seconds, periodogram = covered(cover(starts, length)) / sample_rate, length / sample_rate
    if seconds < (least := max(LEAST_SECONDS, periodogram)):
        had = f"{seconds:.4g} s in runs of at least {periodogram:g} s"
        raise UnusableChannel(f"{had}; a power spectrum needs {least:g} s")
    return starts


def filter_reach(sample_rate: float, parameters: Parameters) -> int:
    """Return how many samples before and after a sample its whitened value depends on."""
    # A filter as long as a periodogram would need one tap more than there is.
    return min(round(parameters.fduration * sample_rate / 2), parameters.spectrum_samples(sample_rate) // 2 - 1)


def design_filter(spectrum: Spectrum, sample_rate: float, parameters: Parameters) -> NDArray[np.float64]:
    """Design the zero-phase filter that whitens, an odd number of taps spanning `fduration` seconds.

    Its response is that of a Butterworth highpass of order 4 divided by the amplitude spectral density, with a Hann
    window on the impulse response. Filtered noise has a variance of about 1, less the share below the highpass.
    """
    half = filter_reach(sample_rate, parameters)
    density = _blurred(spectrum.density, 4 * half)
    response = np.zeros_like(density)
    positive = spectrum.frequency > 0
    highpass = 1 / np.sqrt(1 + (parameters.highpass / spectrum.frequency[positive]) ** 8)
    response[positive] = highpass / np.sqrt(density[positive] * sample_rate / 2)
    impulse = np.roll(fft.irfft(response, n=2 * (len(response) - 1)), half)[: 2 * half + 1]
    window = signal.windows.hann(2 * half + 1)
    taps = impulse * window
    # Symmetric taps with a sum of zero remove constants and linear trends, which replaces detrending.
    return np.asarray(taps - window * (taps.sum() / window.sum()))


def whiten(h: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter strain, and drop half the length of the filter at each end.

    `h` is strain, shape [..., n]; `taps` are filters of an odd length m, shape [m], or [C, m] for `h` of shape
    [..., C, n]. The whitened strain has the shape [..., n - m + 1]; each sample depends on the m samples around it.
    """
    samples, reach = h.shape[-1], taps.shape[-1] - 1
    size = fft.next_fast_len(samples, real=True)
    # The end of a circular convolution wraps around into its first samples only, and these are dropped.
    filtered = fft.irfft(fft.rfft(h, size) * fft.rfft(taps, size), size)
    return np.asarray(filtered[..., reach:samples])


def _quiet(periodograms: NDArray[np.float64], band: NDArray[np.bool_]) -> NDArray[np.bool_]:
    median = np.median(periodograms[:, band], axis=0)
    if len(periodograms) < _ENOUGH_TO_COMPARE or not ((median > 0) & np.isfinite(median)).all():
        return np.ones(len(periodograms), dtype=bool)
    loudness = (periodograms[:, band] / median).mean(axis=1)
    return np.asarray(loudness <= LOUD * np.median(loudness))


def _median(periodograms: NDArray[np.float64]) -> NDArray[np.float64]:
    terms = np.arange(1, (len(periodograms) - 1) // 2 + 1) * 2
    bias = 1 + np.sum(1 / (terms + 1) - 1 / terms)
    return np.asarray(np.median(periodograms, axis=0) / bias)


def _blurred(density: NDArray[np.float64], support: int) -> NDArray[np.float64]:
    """Smooth a density with the spectrum of a Hann window of `support` samples.

    A filter cannot resolve more than the spectrum of its autocorrelation, which is twice as long as the filter: a
    narrower notch would be filled when the filter is truncated, and a line of a thousand times the noise would remain.
    """
    length = 2 * (len(density) - 1)
    support = min(support, length)
    reach = min(math.ceil(_LOBES * length / support), len(density) - 1)
    lobe = np.abs(fft.rfft(signal.windows.hann(support, sym=False), n=length)[: reach + 1]) ** 2
    kernel = np.concatenate([lobe[:0:-1], lobe])
    return np.asarray(ndimage.convolve1d(density, kernel / kernel.sum(), mode="mirror"))
