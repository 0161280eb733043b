"""What every source gives and segmenting takes: runs of strain, and the GPS spans they cover."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gwclient.glitches import Glitch


class Span(NamedTuple):
    """The half-open span [start, stop) of one channel, in GPS seconds."""

    channel: str
    start: float
    stop: float


@dataclass(frozen=True, eq=False)
class Run:
    """Evenly spaced strain of one channel; samples that are not finite are samples that are not there.

    Attributes:
        strain: strain, dimensionless, float64, shape [samples].
        t0: GPS seconds of the first sample.
        dt: sample spacing, s.
        channel: the channel, `DET:NAME`.
        meta: what is known of the whole run; goes into the meta of each of its segments.
        glitches: the glitches injected into it; each goes into the meta of the segments it overlaps.

    """

    strain: NDArray[np.floating[Any]]
    t0: float
    dt: float
    channel: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    glitches: tuple[Glitch, ...] = ()

    def gps(self, k: int) -> float:
        """GPS seconds of sample `k`: the float64 closest to it on the sample grid, however long the run is."""
        return float(Fraction(self.t0) + k * sample_period(self.dt))


def sample_period(dt: float) -> Fraction:
    """Give the sample spacing in s as it is meant: 1/rate where the float is the closest one to that."""
    rate = round(1 / dt)
    return Fraction(1, rate) if rate and 1 / rate == dt else Fraction(dt)


def join_spans(spans: Iterable[Span]) -> dict[str, list[tuple[float, float]]]:
    """Join spans that touch or overlap; gives the (start, stop) pairs of each channel, in order."""
    joined: dict[str, list[tuple[float, float]]] = {}
    for channel, start, stop in sorted(spans):
        of_channel = joined.setdefault(channel, [])
        if of_channel and start <= of_channel[-1][1]:
            of_channel[-1] = (of_channel[-1][0], max(stop, of_channel[-1][1]))
        else:
            of_channel.append((start, stop))
    return joined
