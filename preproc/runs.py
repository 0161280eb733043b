"""Sort segments on one integer sample grid, and join them into runs without a gap.

Gaps are not filled and samples are not averaged. The runs depend on the samples alone, not on how they were cut into
segments or in which order these arrived.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from gwwire.gps import gps_text
from gwwire.spans import TOLERANCE, join_pairs, sampling, series_period
from preproc.batch import Load, Piece, constant_samples
from preproc.findings import Finding, Reason


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

    def finding(self, span: "Run", reason: Reason, detail: str = "") -> Finding:
        """Return a finding about a span of a channel."""
        return Finding(span.channel, self.gps(span.start), self.gps(span.stop), reason, detail)


@dataclass(frozen=True)
class Run:
    """Contiguous samples of one channel: the positions [start, stop) on the grid."""

    channel: str
    start: int
    stop: int

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.stop - self.start


@dataclass(frozen=True)
class Placed(Run):
    """A segment on the grid."""

    piece: Piece

    @property
    def identity(self) -> tuple[int, bytes]:
        """The position and the fingerprint, which are equal for copies only."""
        return self.start, self.piece.fingerprint


@dataclass(frozen=True)
class Runs:
    """The runs of segments of one sampling."""

    grid: Grid
    by_channel: dict[str, list[Run]]  # in the order of time; channels sorted by name
    pieces: dict[str, list[Placed]]  # the segments with the samples of the runs, each ending later than the one before
    rejected: list[Finding]  # data that are not in the runs
    notes: list[Finding]  # duplicates, gaps, and suspicious data in the runs

    @property
    def all(self) -> list[Run]:
        """The runs of all channels."""
        return [run for found in self.by_channel.values() for run in found]


class StrainReader:
    """Reads samples of runs from their segments (see `Runs.pieces`)."""

    def __init__(self, pieces: Mapping[str, Sequence[Placed]], load: Load) -> None:
        self._pieces = pieces
        self._stops = {channel: [one.stop for one in placed] for channel, placed in pieces.items()}
        self._load = load

    def read(self, channel: str, start: int, stop: int) -> NDArray[np.float64]:
        """Return the samples of a channel at the positions [start, stop), which are within one run."""
        h = np.empty(stop - start)
        pieces = self._pieces[channel]
        index, at = bisect_right(self._stops[channel], start), start
        while at < stop:
            one = pieces[index]
            until = min(stop, one.stop)
            h[at - start : until - start] = self._load(one.piece.file)[at - one.start : until - one.start]
            index, at = index + 1, until
        return h


def most_sampled_rate(segments: Sequence[Piece]) -> tuple[list[Piece], list[Finding]]:
    """Return the segments of the sample spacing with the most samples, and a finding for each of the others.

    The exact value of a rounded spacing is decided for each channel (see `gwwire.spans.series_period`).
    """
    segments = _decide_spacings(segments)
    samples: dict[float, int] = {}
    for segment in segments:
        samples[segment.dt] = samples.get(segment.dt, 0) + segment.samples
    dt = max(samples, key=lambda dt: (samples[dt], -dt))
    rejected = [
        Finding(one.channel, one.t0, one.stop, Reason.OTHER_RATE, f"{1 / one.dt:.10g} Hz, not {1 / dt:.10g}")
        for one in segments
        if one.dt != dt
    ]
    return [segment for segment in segments if segment.dt == dt], rejected


def _decide_spacings(segments: Sequence[Piece]) -> list[Piece]:
    series: dict[tuple[str, float], list[Piece]] = {}
    for one in segments:
        series.setdefault((one.channel, sampling(one.dt)), []).append(one)
    periods = {key: float(series_period((one.t0, one.dt) for one in group)) for key, group in series.items()}
    return [replace(one, dt=periods[one.channel, sampling(one.dt)]) for one in segments]


def find_runs(segments: Sequence[Piece], load: Load) -> Runs:
    """Join segments of one sample spacing into the runs of each channel.

    Samples that two segments share are used once if they are equal in every bit; if not, both segments are rejected.
    Constant strain ends a run.
    """
    grid = find_grid(segments)
    placed, rejected = _place(segments, grid)
    runs = Runs(grid, {}, {}, rejected, [])
    for channel, group in groupby(placed, key=lambda one: one.channel):
        _sort_channel(channel, list(group), runs, load)
    return runs


def find_grid(segments: Sequence[Piece]) -> Grid:
    """Return the grid of most samples; in a tie, the one nearest to whole GPS seconds."""
    dt = segments[0].dt
    second = math.floor(min(segment.t0 for segment in segments))
    position = (np.array([segment.t0 for segment in segments]) - second) / dt
    samples = np.array([segment.samples for segment in segments])
    phases = np.unique(np.round(np.append(position - np.rint(position), 0.0), 3))
    phases = phases[np.argsort(np.abs(phases), kind="stable")]
    votes = [samples[_off_grid(position - phase) <= TOLERANCE].sum() for phase in phases]
    return Grid(second + float(phases[int(np.argmax(votes))]) * dt, dt)


def _off_grid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(position - np.rint(position)))


def _place(segments: Sequence[Piece], grid: Grid) -> tuple[list[Placed], list[Finding]]:
    position = (np.array([segment.t0 for segment in segments]) - grid.origin) / grid.dt
    placed, rejected = [], []
    for segment, at, off in zip(segments, position, _off_grid(position), strict=True):
        if off <= TOLERANCE:
            placed.append(Placed(segment.channel, round(at), round(at) + segment.samples, segment))
        else:
            detail = f"{segment.file} is {off:.2g} samples off the grid of most segments"
            rejected.append(Finding(segment.channel, segment.t0, segment.stop, Reason.OFF_GRID, detail))
    placed.sort(key=lambda one: (one.channel, one.start, -one.samples, one.piece.file))
    return placed, rejected


def _sort_channel(channel: str, placed: list[Placed], runs: Runs, load: Load) -> None:
    conflicts = _conflicts(placed, load)
    agreeing = [one for one in placed if one.identity not in conflicts]
    for one in placed:
        if other := conflicts.get(one.identity):
            detail = f"{one.piece.file} and {other.piece.file} overlap and differ"
            runs.rejected.append(runs.grid.finding(one, Reason.CONFLICT, detail))
    runs.notes.extend(_repeated(agreeing, runs.grid))
    runs.pieces[channel] = _cover(agreeing, runs)
    constant = _constant(agreeing, constant_samples(runs.grid.dt))
    found: list[Run] = []
    for start, stop in join_pairs((one.start, one.stop) for one in runs.pieces[channel]):
        for run, value in _split_constant(Run(channel, start, stop), constant):
            if value is None:
                found.append(run)
            else:
                runs.rejected.append(runs.grid.finding(run, Reason.CONSTANT, f"{value:g} throughout"))
    if found:
        runs.by_channel[channel] = found
    between = (Run(channel, before.stop, after.start) for before, after in pairwise(found))
    runs.notes.extend(runs.grid.finding(gap, Reason.GAP) for gap in between)


def _conflicts(placed: Sequence[Placed], load: Load) -> dict[tuple[int, bytes], Placed]:
    conflicts: dict[tuple[int, bytes], Placed] = {}
    active: list[Placed] = []
    for one in placed:
        active = [other for other in active if other.stop > one.start]
        copied = False
        for other in active:
            if one.identity == other.identity:
                copied = True
            elif not _agree(other, one, load):
                conflicts.setdefault(one.identity, other)
                conflicts.setdefault(other.identity, one)
        # A copy overlaps the same segments as its original; without this, many copies would take quadratic time.
        if not copied:
            active.append(one)
    return conflicts


def _agree(one: Placed, other: Placed, load: Load) -> bool:
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    shared = [load(each.piece.file)[start - each.start : stop - each.start].tobytes() for each in (one, other)]
    return shared[0] == shared[1]


def _repeated(placed: Iterable[Placed], grid: Grid) -> Iterator[Finding]:
    """Yield the segments with the samples of an earlier one at another time: measured noise does not repeat."""
    first: dict[bytes, Placed] = {}
    for one in placed:
        if one.piece.constant[0][:2] == (0, one.samples):
            continue
        earlier = first.setdefault(one.piece.fingerprint, one)
        if earlier.start != one.start:
            same, gps = earlier.piece.file, gps_text(grid.gps(earlier.start))
            detail = f"{one.piece.file} holds the same samples as {same} at GPS {gps}"
            yield grid.finding(one, Reason.REPEATED, detail)


def _cover(placed: Sequence[Placed], runs: Runs) -> list[Placed]:
    cover: list[Placed] = []
    for one in placed:
        reached = cover[-1].stop if cover else one.start
        if one.start < reached:
            reason = Reason.DUPLICATE if one.stop <= reached else Reason.OVERLAP
            shared = Run(one.channel, one.start, min(one.stop, reached))
            runs.notes.append(runs.grid.finding(shared, reason, f"{one.piece.file} repeats samples of other segments"))
        if one.stop > reached:
            cover.append(one)
    return cover


def _constant(placed: Sequence[Placed], least: int) -> list[tuple[int, int, float]]:
    stretches = sorted(
        (one.start + start, one.start + stop, value) for one in placed for start, stop, value in one.piece.constant
    )
    merged: list[tuple[int, int, float]] = []
    for start, stop, value in stretches:
        if merged and start <= merged[-1][1] and value == merged[-1][2]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]), value)
        else:
            merged.append((start, stop, value))
    return [one for one in merged if one[1] - one[0] >= least]


def _split_constant(run: Run, constant: Sequence[tuple[int, int, float]]) -> Iterator[tuple[Run, float | None]]:
    done = run.start
    for start, stop, value in constant:
        if not run.start <= start < run.stop:
            continue
        if start > done:
            yield Run(run.channel, done, start), None
        yield Run(run.channel, start, stop), value
        done = stop
    if done < run.stop:
        yield Run(run.channel, done, run.stop), None
