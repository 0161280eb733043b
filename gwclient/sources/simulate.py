"""Simulated strain: noise of each detector's design sensitivity with injected glitches, and the truth about them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.glitches import Glitch, draw, optimal_snr
from gwclient.noise import SENSITIVITIES, coloured_noise
from gwclient.strain import Run


class Truth(msgspec.Struct, frozen=True):
    """The parameters of a simulation, and every glitch in it, in the order of time."""

    seed: int
    t0: int
    seconds: float
    rate: int
    glitch_rate: float
    sensitivities: dict[str, str]
    glitches: list[Glitch]


@dataclass(frozen=True)
class SimulatedSource:
    """Simulates one run for each detector, whose strain follows from (seed, detector, t0) alone."""

    detectors: tuple[str, ...]
    duration: float  # s, of each detector's run
    rate: int  # Hz
    seed: int  # from 0
    t0: int  # GPS seconds of the first sample
    glitch_rate: float  # mean number of glitches per second and detector

    def __post_init__(self) -> None:
        if unknown := [detector for detector in self.detectors if detector not in SENSITIVITIES]:
            names, known = ", ".join(unknown), ", ".join(SENSITIVITIES)
            raise InvalidSource(f"no design sensitivity of {names} is known here, only of {known}")

    @property
    def seconds(self) -> float:
        """Return the length of the strain of all detectors in s."""
        return self.duration * len(self.detectors)

    @property
    def identity(self) -> str:
        """The parameters, which decide the strain."""
        what = f"{','.join(self.detectors)} {self.duration!r} s at {self.rate} Hz from GPS {self.t0}"
        return f"simulation of {what}, seed {self.seed}, {self.glitch_rate!r} glitches/s"

    def runs(self) -> Iterator[Run]:
        """Return one run for each detector."""
        return map(next, map(self._stream, self.detectors))

    def endless_runs(self) -> Iterator[Run]:
        """Yield one run for each detector, then the next of each, which continues it without a seam, and so on."""
        return map(next, cycle([self._stream(detector) for detector in self.detectors]))

    def truth(self, runs: Sequence[Run]) -> Truth:
        """Return the truth about the runs of this source."""
        glitches = sorted((glitch for run in runs for glitch in run.glitches), key=lambda glitch: glitch.gps)
        names = {detector: SENSITIVITIES[detector].name for detector in self.detectors}
        return Truth(self.seed, self.t0, self.duration, self.rate, self.glitch_rate, names, glitches)

    def _stream(self, detector: str) -> Iterator[Run]:
        entropy = [self.seed, int.from_bytes(detector.encode()), self.t0]
        for_noise, for_glitches = (
            np.random.Generator(np.random.PCG64(seed)) for seed in np.random.SeedSequence(entropy).spawn(2)
        )
        noise = coloured_noise(SENSITIVITIES[detector], round(self.duration * self.rate), self.rate, for_noise)
        meta = {"detector": detector, "source": "simulation", "seed": self.seed}
        for number, strain in enumerate(noise):
            t0 = self.t0 + number * self.duration
            glitches = tuple(self._inject(strain, t0, detector, for_glitches))
            yield Run(strain, t0, 1 / self.rate, f"{detector}:SIM-STRAIN", meta, glitches)

    def _inject(
        self, strain: NDArray[np.floating[Any]], t0: float, detector: str, rng: np.random.Generator
    ) -> Iterator[Glitch]:
        """Add glitches to strain, shape [samples], that begins at t0 GPS seconds, and yield them."""
        psd = SENSITIVITIES[detector].psd
        for centre, kind, snr, waveform in draw(rng, self.glitch_rate, self.duration):
            half = waveform.duration / 2
            first = math.ceil((centre - half) * self.rate)
            last = min(math.ceil((centre + half) * self.rate), len(strain))
            shape = waveform.strain(np.arange(first, last) / self.rate - centre)
            strain[first:last] += shape * (snr / optimal_snr(shape, self.rate, psd))
            yield Glitch(kind, detector, t0 + centre, waveform.frequency, snr, waveform.duration)
