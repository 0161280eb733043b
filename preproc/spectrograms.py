"""From strain to spectrograms: the computation that every worker runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preproc.parameters import Parameters
from preproc.qtransform import QTransform
from preproc.runs import Run, StrainReader
from preproc.whiten import whiten
from preproc.windows import Span

#: Windows that are transformed at a time: many enough for efficient FFTs, few enough for the CPU cache.
WINDOWS_AT_A_TIME = 8


@dataclass(frozen=True)
class Place:
    """The strain that the window starting at a position on the grid is computed from."""

    start: int
    padded: bool  # whether every channel has strain before and after the window
    taken: tuple[Span, ...]  # the span of whitened strain that is transformed, for each channel


@dataclass(frozen=True, eq=False)
class Task:
    """Windows to be transformed together."""

    strain: NDArray[np.float64]  # not whitened, with the extra samples that the filter needs, shape [W, C, n]
    offset: NDArray[np.int64]  # where in the whitened strain each window begins, shape [W, C]
    padded: bool  # whether there is strain before and after the windows


class Transformation:
    """Whitens and transforms windows of so many samples; a worker needs this and a `Task`, and nothing else.

    The spectrograms of a window depend on its own samples only, not on the rest of the batch, on which windows are
    transformed together, or on the worker. The filters of all channels, `taps`, have the shape [C, m].
    """

    def __init__(self, parameters: Parameters, samples: int, sample_rate: float, taps: NDArray[np.float64]) -> None:
        self.padded = QTransform(parameters, samples, sample_rate)
        self.bare = QTransform(replace(parameters, padding=0.0), samples, sample_rate)
        self.taps = taps
        #: Samples that the filter removes at each end.
        self.reach = taps.shape[-1] // 2

    @np.errstate(over="ignore", invalid="ignore")  # windows whose energies are not finite are left out
    def __call__(self, task: Task) -> NDArray[np.float32]:
        """Return normalised energies, shape [W, C, F, T]; NaN for a window without signal."""
        transform = self.padded if task.padded else self.bare
        return transform(whiten(task.strain, self.taps), task.offset)


def place_window(
    start: int, channels: Sequence[str], whitened: Mapping[str, Sequence[Run]], transform: Transformation
) -> Place:
    """Return which strain is transformed for a window.

    The padding is the same at both ends, except near the end of a run, where the span moves inwards. A run that is
    shorter than window and padding leaves its windows without any.
    """
    span, samples = transform.padded.span, transform.padded.samples
    runs = [next(run for run in whitened[name] if run.start <= start < run.stop) for name in channels]
    if any(run.samples < span for run in runs):
        return Place(start, padded=False, taken=tuple((start, start + samples) for _ in channels))
    firsts = [min(max(start - transform.padded.padding, run.start), run.stop - span) for run in runs]
    return Place(start, padded=True, taken=tuple((first, first + span) for first in firsts))


def tasks(
    places: Sequence[Place], channels: Sequence[str], reader: StrainReader, transform: Transformation
) -> Iterator[Task]:
    """Read the strain of windows, some at a time; the windows of one task are next to each other in `places`."""
    for group in grouped(places):
        strain = [
            [reader.read(name, first - transform.reach, stop + transform.reach) for name, (first, stop) in named]
            for named in (zip(channels, place.taken, strict=True) for place in group)
        ]
        offset = [[place.start - first for first, _ in place.taken] for place in group]
        yield Task(np.array(strain), np.array(offset), group[0].padded)


def grouped(places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """Return the windows of each task."""
    first = 0
    for at in range(1, len(places) + 1):
        full = at - first == WINDOWS_AT_A_TIME
        if at == len(places) or full or places[at].padded != places[first].padded:
            yield places[first:at]
            first = at
