"""Batches to preprocess: real strain, noise, and the files they come in."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from gwwire.segment import Segment, encode_segment
from preproc.batch import Load, Piece, describe
from preproc.findings import Finding
from preproc.runs import Run, Runs, StrainReader, find_runs

GPS = 1126259446.0
RATE = 4096.0
#: The released time of GW150914's merger in the detectors.
EVENT = 1126259462.42
Series = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Strain:
    """A segment that is not written to a file yet."""

    channel: str
    t0: float
    dt: float
    h: Series
    file: str


def read_strain(path: Path) -> Series:
    """Return the strain of a GWOSC file."""
    with h5py.File(path) as file:
        return np.asarray(file["strain/Strain"][:], dtype=np.float64)


def noise(seconds: float, seed: int = 1, rate: float = RATE) -> Series:
    """Return white noise as loud as a detector's."""
    return np.random.default_rng(seed).normal(0, 1e-22, round(seconds * rate))


def cut(series: Series, channel: str, *, t0: float = GPS, rate: float = RATE, seconds: float = 1.0) -> list[Strain]:
    """Cut a series into segments."""
    size = round(seconds * rate)
    return [
        Strain(channel, t0 + at / rate, 1 / rate, series[at : at + size], f"{channel}-{at:09d}")
        for at in range(0, len(series), size)
    ]


def described(segments: Sequence[Strain]) -> tuple[list[Piece], Load]:
    """Return descriptions of segments and a loader of their samples, without any file."""
    held = {one.file: one.h for one in segments}
    return [describe(one.channel, one.t0, one.dt, one.h, one.file) for one in segments], held.__getitem__


@dataclass(frozen=True)
class Found:
    """The runs of segments, and their samples."""

    runs: Runs
    reader: StrainReader

    @property
    def rejected(self) -> list[Finding]:
        return self.runs.rejected

    @property
    def notes(self) -> list[Finding]:
        return self.runs.notes

    def of(self, channel: str = "H1:A") -> list[Run]:
        return self.runs.by_channel.get(channel, [])

    def h(self, run: Run) -> Series:
        return self.reader.read(run.channel, run.start, run.stop)


def find(segments: Iterable[Strain]) -> Found:
    """Find the runs of segments."""
    pieces, load = described(list(segments))
    runs = find_runs(pieces, load)
    return Found(runs, StrainReader(runs.pieces, load))


def write_batch(directory: Path, segments: Iterable[Strain], *, seed: int = 0) -> Path:
    """Write segments as a buffer would, in an order that a seed decides."""
    directory.mkdir(parents=True, exist_ok=True)
    order = list(segments)
    random.Random(seed).shuffle(order)
    for number, one in enumerate(order):
        segment = Segment(one.h.tolist(), (one.t0, one.dt), {"channel": one.channel})
        (directory / f"gwb{1_700_000_000_000_000_000 + number}.json").write_bytes(encode_segment(segment))
    return directory
