"""Sort segments on one integer sample grid and join them into runs without a gap.

Nothing is filled and nothing is averaged. What the runs are depends on the samples alone, never on how they were
cut into segments or in which order these arrived.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from preproc.batch import TOLERANCE, Strain
from preproc.findings import Finding, Reason
from preproc.gps import gps_text

#: Strain that does not change for so many seconds is a dead channel, not a quiet one.
CONSTANT_SECONDS = 0.1


@dataclass(frozen=True)
class Grid:
    """The times at which samples lie: `origin + k * dt` for integer k, in GPS seconds."""

    origin: float
    dt: float

    @property
    def sample_rate(self) -> float:
        """Samples per second."""
        return 1 / self.dt

    def gps(self, k: int) -> float:
        """GPS seconds of sample k."""
        return self.origin + k * self.dt

    def finding(self, run: "Run", reason: Reason, detail: str = "") -> Finding:
        """Say something about the span of a run."""
        return Finding(run.channel, self.gps(run.start), self.gps(run.stop), reason, detail)


@dataclass(frozen=True, eq=False)
class Run:
    """Contiguous samples of one channel.

    Attributes:
        channel: whose strain it is.
        start: the first sample's place on the grid.
        h: strain, shape [samples].

    """

    channel: str
    start: int
    h: NDArray[np.float64]

    @property
    def stop(self) -> int:
        """The place on the grid after the last sample."""
        return self.start + len(self.h)

    def cut(self, start: int, stop: int) -> "Run":
        """Give the samples of [start, stop), both on the grid and within the run."""
        return Run(self.channel, start, self.h[start - self.start : stop - self.start])


@dataclass(frozen=True, eq=False)
class _Placed(Run):
    """The samples of one file, on the grid."""

    file: str


@dataclass(frozen=True)
class Runs:
    """What segments of one dt come to.

    Attributes:
        grid: the sample grid they share.
        by_channel: the runs of each channel, in the order of time; channels sorted by name.
        rejected: what is not in the runs.
        notes: duplicates, gaps, and what is in the runs but looks suspicious.

    """

    grid: Grid
    by_channel: dict[str, list[Run]]
    rejected: list[Finding]
    notes: list[Finding]


def most_sampled_rate(segments: Sequence[Strain]) -> tuple[list[Strain], list[Finding]]:
    """Give the segments of the sample spacing with the most samples, and a finding for each of the others."""
    samples: dict[float, int] = {}
    for segment in segments:
        samples[segment.dt] = samples.get(segment.dt, 0) + len(segment.h)
    dt = max(samples, key=lambda dt: (samples[dt], -dt))
    rejected = [
        Finding(
            segment.channel, segment.t0, segment.stop, Reason.OTHER_RATE, f"{1 / segment.dt:.10g} Hz, not {1 / dt:.10g}"
        )
        for segment in segments
        if segment.dt != dt
    ]
    return [segment for segment in segments if segment.dt == dt], rejected


def find_runs(segments: Sequence[Strain]) -> Runs:
    """Join segments of one sample spacing into the runs of each channel.

    Two segments that overlap must agree in every bit of the samples they share, which are then taken once; where
    they do not, nobody can tell which is true, and both are rejected. A stretch of constant strain ends a run.
    """
    grid = find_grid(segments)
    placed, rejected = _place(segments, grid)
    runs = Runs(grid, {}, rejected, [])
    for channel, group in groupby(placed, key=lambda one: one.channel):
        _sort_channel(channel, list(group), runs)
    return runs


def find_grid(segments: Sequence[Strain]) -> Grid:
    """Find the grid that most samples lie on; where that is a tie, the one nearest to the full GPS seconds."""
    dt = segments[0].dt
    second = math.floor(min(segment.t0 for segment in segments))
    position = (np.array([segment.t0 for segment in segments]) - second) / dt
    samples = np.array([len(segment.h) for segment in segments])
    phases = np.unique(np.round(np.append(position - np.rint(position), 0.0), 3))
    phases = phases[np.argsort(np.abs(phases), kind="stable")]
    votes = [samples[_off_grid(position - phase) <= TOLERANCE].sum() for phase in phases]
    return Grid(second + float(phases[int(np.argmax(votes))]) * dt, dt)


def _off_grid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(position - np.rint(position)))


def _place(segments: Sequence[Strain], grid: Grid) -> tuple[list[_Placed], list[Finding]]:
    """Put segments on the grid, sorted by channel, place, length and name."""
    position = (np.array([segment.t0 for segment in segments]) - grid.origin) / grid.dt
    placed, rejected = [], []
    for segment, at, off in zip(segments, position, _off_grid(position), strict=True):
        if off <= TOLERANCE:
            placed.append(_Placed(segment.channel, round(at), segment.h, segment.file))
        else:
            detail = f"{segment.file} lies {off:.2g} samples beside the grid of most others"
            rejected.append(Finding(segment.channel, segment.t0, segment.stop, Reason.OFF_GRID, detail))
    placed.sort(key=lambda one: (one.channel, one.start, -len(one.h), one.file))
    return placed, rejected


def _sort_channel(channel: str, placed: list[_Placed], runs: Runs) -> None:
    agreeing, conflicts = _split_conflicts(placed)
    for one, other in conflicts:
        runs.rejected.append(runs.grid.finding(one, Reason.CONFLICT, f"{one.file} and {other.file} overlap and differ"))
    runs.notes.extend(_repeated(agreeing, runs.grid))
    found: list[Run] = []
    for piece in _joined(agreeing, runs):
        for run, constant in _split_constant(piece, math.ceil(CONSTANT_SECONDS / runs.grid.dt)):
            if constant:
                runs.rejected.append(runs.grid.finding(run, Reason.CONSTANT, f"{run.h[0]:g} all the time"))
            else:
                found.append(run)
    if found:
        runs.by_channel[channel] = found
    runs.notes.extend(
        Finding(channel, runs.grid.gps(before.stop), runs.grid.gps(after.start), Reason.GAP)
        for before, after in pairwise(found)
    )


def _split_conflicts(placed: Sequence[_Placed]) -> tuple[list[_Placed], list[tuple[_Placed, _Placed]]]:
    """Part the segments that agree with all others from those that do not, each of these with one it differs from."""
    conflicts: dict[str, tuple[_Placed, _Placed]] = {}
    active: list[_Placed] = []
    for one in placed:
        active = [other for other in active if other.stop > one.start]
        for other in active:
            if not _agree(other, one):
                conflicts.setdefault(one.file, (one, other))
                conflicts.setdefault(other.file, (other, one))
        # A copy meets whatever its original meets; without it many copies do not cost their square.
        if not any(_same_span(one, other) and _agree(one, other) for other in active):
            active.append(one)
    return _with_copies(placed, conflicts)


def _with_copies(
    placed: Sequence[_Placed], conflicts: dict[str, tuple[_Placed, _Placed]]
) -> tuple[list[_Placed], list[tuple[_Placed, _Placed]]]:
    """Let the copies of a conflicting segment share its fate."""
    tainted: dict[tuple[int, bytes], tuple[_Placed, _Placed]] = {}
    for one, other in conflicts.values():
        tainted.setdefault((one.start, _fingerprint(one.h)), (one, other))
    agreeing, conflicting = [], []
    for one in placed:
        pair = tainted.get((one.start, _fingerprint(one.h))) if tainted else None
        if pair is None:
            agreeing.append(one)
        else:
            conflicting.append((one, pair[1]))
    return agreeing, conflicting


def _same_span(one: Run, other: Run) -> bool:
    return one.start == other.start and one.stop == other.stop


def _agree(one: Run, other: Run) -> bool:
    """Tell whether two runs that overlap are the same, bit for bit, where they do."""
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    return one.cut(start, stop).h.tobytes() == other.cut(start, stop).h.tobytes()


def _fingerprint(h: NDArray[np.float64]) -> bytes:
    return hashlib.sha256(h.tobytes()).digest()


def _repeated(placed: Iterable[_Placed], grid: Grid) -> Iterator[Finding]:
    """Find segments whose samples came before, at another time: measured noise never repeats itself."""
    first: dict[bytes, _Placed] = {}
    for one in placed:
        if np.ptp(one.h) == 0:
            continue
        earlier = first.setdefault(_fingerprint(one.h), one)
        if earlier.start != one.start:
            detail = f"{one.file} holds the same samples as {earlier.file} at GPS {gps_text(grid.gps(earlier.start))}"
            yield grid.finding(one, Reason.REPEATED, detail)


def _joined(placed: Sequence[_Placed], runs: Runs) -> Iterator[Run]:
    """Join what touches or overlaps, every sample once."""
    pieces: list[_Placed] = []
    for one in placed:
        if pieces and one.start > pieces[-1].stop:
            yield _join(pieces)
            pieces = []
        if pieces and one.start < pieces[-1].stop:
            shared = one.cut(one.start, min(one.stop, pieces[-1].stop))
            runs.notes.append(runs.grid.finding(shared, Reason.DUPLICATE, f"{one.file} repeats what others hold"))
        if not pieces or one.stop > pieces[-1].stop:
            pieces.append(one)
    if pieces:
        yield _join(pieces)


def _join(pieces: Sequence[_Placed]) -> Run:
    """Join segments sorted by start, each of which reaches further than the one before."""
    starts = [pieces[0].start, *(piece.stop for piece in pieces[:-1])]
    h = np.concatenate([piece.cut(start, piece.stop).h for start, piece in zip(starts, pieces, strict=True)])
    return Run(pieces[0].channel, pieces[0].start, h)


def _split_constant(run: Run, least: int) -> Iterator[tuple[Run, bool]]:
    """Split a run at its stretches of at least `least` equal samples; True marks such a stretch."""
    changes = np.flatnonzero(np.diff(run.h)) + 1
    bounds = np.concatenate([[0], changes, [len(run.h)]])
    long = np.flatnonzero(np.diff(bounds) >= max(2, least))
    done = run.start
    for index in long:
        start, stop = run.start + int(bounds[index]), run.start + int(bounds[index + 1])
        if start > done:
            yield run.cut(done, start), False
        yield run.cut(start, stop), True
        done = stop
    if done < run.stop:
        yield run.cut(done, run.stop), False
