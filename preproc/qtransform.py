"""The single-Q transform: the energy of a window at each time and frequency.

The plane of one Q is tiled after Chatterji, Blackburn, Martin and Katsavounidis, Class. Quantum Grav. 21, S1809 (2004),
doi:10.1088/0264-9381/21/20/024: the frequencies are so close that a signal between two of them loses no more than the
mismatch, and each is selected by a bisquare window whose width follows from Q. The choice of tiles (rounded
to the bins of the Fourier transform) and the interpolation onto a regular grid are those of gwpy, so that the
spectrograms are comparable with it.

The strain is treated as periodic, as in gwpy: within about Q / (2 pi f) seconds of its ends, a tile includes strain of
the other end. A window is therefore transformed with padding, as with gwpy's `outseg`, and cut out afterwards.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import make_interp_spline

from preproc.parameters import Parameters


@dataclass(frozen=True)
class Tile:
    """One row of tiles: its bins in the spectrum of the window, their weights, and the number of tiles."""

    bins: NDArray[np.int64]
    weights: NDArray[np.float64]
    count: int


class QTransform:
    """Turns windows of whitened strain, at a sample rate in Hz, into spectrograms of normalised energy.

    Raises BadParameter if the sample rate cannot carry fmax.

    Attributes:
        span: samples that are transformed for one window: the window and the padding at both ends.
        padding: samples of padding at each end if the window lies in the middle.
        frequency: frequencies of the rows in Hz, lowest first, shape [F].
        time_offset: times of the columns in s since the start of the window, shape [T].

    """

    def __init__(self, parameters: Parameters, samples: int, sample_rate: float) -> None:
        parameters.check_rate(sample_rate)
        self.parameters, self.samples = parameters, samples
        self.window = samples / sample_rate
        # As many columns of padding at each end as make both ends together a whole number of samples.
        step = parameters.columns // math.gcd(2 * samples, parameters.columns)
        padding = math.ceil(parameters.padding / self.window * parameters.columns / step) * step
        self._columns = parameters.columns + 2 * padding
        self.span = samples * self._columns // parameters.columns
        self.padding = (self.span - samples) // 2
        self.duration = self.span / sample_rate
        self.frequency = np.asarray(np.geomspace(parameters.fmin, parameters.fmax, parameters.rows), np.float64)
        self.time_offset = np.arange(parameters.columns, dtype=np.float64) * (self.window / parameters.columns)

    def __call__(self, strain: NDArray[np.float64], offset: NDArray[np.int64] | int = 0) -> NDArray[np.float32]:
        """Transform windows of whitened strain into energies, shape [..., F, T].

        Each tile's row of energies is divided by its median over the strain: 1.0 is a typical noise pixel. A window
        without signal (a median of zero) is NaN. `strain` holds the windows with their padding, shape [..., span];
        `offset` is the first sample of each window in it, shape [...].
        """
        spectrum = fft.rfft(strain, axis=-1)
        # The phase of each bin between the start of the strain and the start of the window.
        bins = np.arange(max(len(tile.bins) for tile in self._tiles))
        turn = np.exp(2j * math.pi / self.span * bins * np.asarray(offset)[..., np.newaxis])
        tiles = np.stack([self._row(spectrum, tile, turn) for tile in self._tiles], axis=-2)
        # A cubic spline undershoots next to sharp peaks, but energy is never negative; NaN stays NaN.
        return np.maximum(self._frequency_weights @ tiles, 0).astype(np.float32)

    def _row(self, spectrum: NDArray[np.complex128], tile: Tile, turn: NDArray[np.complex128]) -> NDArray[np.float64]:
        cut = spectrum[..., tile.bins] * tile.weights
        median = np.median(_energy(cut, tile.count), axis=-1, keepdims=True)
        energy = _energy(cut * turn[..., : len(tile.bins)], self._columns)[..., : self.parameters.columns]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(median > 0, energy / median, np.nan)

    @cached_property
    def _tile_frequencies(self) -> NDArray[np.float64]:
        """Central frequencies of the rows of tiles in Hz, each on a bin of the window's spectrum."""
        p = self.parameters
        step = p.mismatch_of_range / p.tile_rows
        exact = p.fmin * np.exp(2 / math.sqrt(2 + p.q**2) * (np.arange(p.tile_rows) + 0.5) * step)
        return np.unique(exact // (1 / self.duration) * (1 / self.duration))

    @cached_property
    def _tiles(self) -> list[Tile]:
        return [self._tile(frequency) for frequency in self._tile_frequencies]

    def _tile(self, frequency: float) -> Tile:
        q_prime = self.parameters.q / math.sqrt(11)
        half = int(frequency / q_prime * self.duration)
        index = np.arange(-half, half + 1)
        weights = (1 - (index / self.duration * q_prime / frequency) ** 2) ** 2
        # The tiles of gwpy, and those of the training code, are one bin above their nominal frequency.
        bins = np.round(index + 1 + frequency * self.duration).astype(np.int64)
        cumulative_mismatch = self.duration * 2 * math.pi * frequency / self.parameters.q
        count = 2 ** math.ceil(math.log2(cumulative_mismatch / self.parameters.tile_mismatch))
        return Tile(bins, weights, count)

    @cached_property
    def _frequency_weights(self) -> NDArray[np.float64]:
        """The cubic spline from the rows of tiles to the rows of the spectrogram as a matrix, shape [F, tiles]."""
        known = self._tile_frequencies
        wanted = np.clip(self.frequency, known[0], known[-1])
        degree = min(3, len(known) - 1)
        return np.asarray(make_interp_spline(known, np.eye(len(known)), k=degree)(wanted))


def _energy(cut: NDArray[np.complex128], count: int) -> NDArray[np.float64]:
    """Return the energy of a piece of a spectrum at `count` times evenly over the window, exactly, shape [..., count].

    The position of the piece in the spectrum changes the phase only. A piece with more bins than `count` is folded,
    which samples its signal without a transform at the full rate.
    """
    missing = -cut.shape[-1] % count
    padded = np.concatenate([cut, np.zeros((*cut.shape[:-1], missing))], axis=-1)
    folded = padded.reshape(*cut.shape[:-1], -1, count).sum(axis=-2)
    signal = fft.ifft(folded, axis=-1, norm="forward")
    return np.asarray(signal.real**2 + signal.imag**2)
