"""Runs of strain, as every source returns them, and the GPS spans they cover."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gwclient.glitches import Glitch
from gwfiles.stretches import Span
from gwwire.spans import first_sample, join_pairs, sample_period, sampling


class Exclusion(NamedTuple):
    """The samples [first, last) of a run, which are not to be sent, and why."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, eq=False)
class Quality:
    """The data-quality bits of strain."""

    #: The name of each bit, the lowest first, as "CBC_CAT1", or ""; a set bit says that the data pass.
    names: tuple[str, ...]
    mask: NDArray[np.unsignedinteger[Any]]  # shape [intervals], unsigned integers
    t0: float  # GPS seconds of the first interval
    dt: float  # the length of an interval, s

    def holding(self, start: float, stop: float) -> list[str]:
        """Return the names of the bits that are set all through [start, stop), in GPS seconds."""
        first = math.floor((start - self.t0) / self.dt)
        last = math.ceil((stop - self.t0) / self.dt)
        if not 0 <= first < last <= len(self.mask):
            return []
        common = int(np.bitwise_and.reduce(self.mask[first:last]))
        return [name for bit, name in enumerate(self.names) if name and common >> bit & 1]


class Samples(Protocol):
    """Real numbers: an array of shape [samples], or what reads parts of it from a file."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, part: slice, /) -> NDArray[Any]:
        """Return a part of the samples."""


@dataclass(frozen=True, eq=False)
class Run:
    """Evenly spaced strain of one channel; samples that are not finite are missing."""

    strain: Samples  # dimensionless
    t0: float  # GPS seconds of the first sample
    dt: float  # sample spacing, s
    channel: str  # `DET:NAME`; empty if unknown
    meta: Mapping[str, Any] = field(default_factory=dict)  # part of the meta of each of its segments
    glitches: tuple[Glitch, ...] = ()  # those injected; each goes into the meta of the segments it overlaps
    exclusions: tuple[Exclusion, ...] = ()  # samples that are not to be sent; if they overlap, the first one counts
    quality: Quality | None = None  # those bits set all through a segment go into its meta
    digest: str = ""  # of a segment that overlaps others of its channel; a cursor distinguishes them by it
    #: Raises InvalidSource if samples that were just read are not those of the file that the meta names.
    check: Callable[[], None] = lambda: None

    @property
    def recorded_as(self) -> str:
        """The name by which a cursor records the spans of the run."""
        name = recorded_name(self.channel, self.dt)
        return f"{name} {self.digest}" if self.digest else name

    def first_sample(self, gps: float) -> int:
        """Return the index of the first sample at or after a GPS time; from 0 to the number of samples."""
        return first_sample(gps, self.t0, self.dt, len(self.strain))

    def gps(self, k: int) -> float:
        """Return the GPS seconds of sample `k`."""
        return gps_of(self.t0, k, self.dt)


def recorded_name(channel: str, dt: float) -> str:
    """Return the name by which a cursor records a series; a channel may be there with several samplings."""
    return f"{channel} {sampling(dt)!r}"


def gps_of(t0: float, k: int, dt: float) -> float:
    """Return the GPS seconds of sample `k` after `t0`: the closest float64, however long the grid is."""
    return float(Fraction(t0) + k * sample_period(dt))


def stretches(wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the [first, last) of each stretch of samples that are wanted, shape [samples]."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def gps_text(gps: float) -> str:
    """Return a GPS time in full, as people write it."""
    return repr(gps).removesuffix(".0")


def window_text(start: float, stop: float) -> str:
    """Return the words ` in GPS [start, stop)`, or none if the window has no end."""
    return f" in GPS [{gps_text(start)}, {gps_text(stop)})" if math.isfinite(start) or math.isfinite(stop) else ""


def join_spans(spans: Iterable[Span]) -> dict[str, list[tuple[float, float]]]:
    """Return the (start, stop) pairs of each channel in order, those that touch or overlap joined."""
    by_channel: dict[str, list[tuple[float, float]]] = {}
    for channel, start, stop in spans:
        by_channel.setdefault(channel, []).append((start, stop))
    return {channel: join_pairs(by_channel[channel]) for channel in sorted(by_channel)}
