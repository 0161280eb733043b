"""The way from a directory of segments to a dataset: read, sort, whiten, lay windows, transform, write."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preproc.batch import read_batch
from preproc.dataset import created
from preproc.errors import NoWindow, UnusableChannel
from preproc.findings import Finding, Reason, tally
from preproc.parameters import Parameters
from preproc.progress import Progress
from preproc.qtransform import QTransform
from preproc.runs import Grid, Run, Runs, find_runs, most_sampled_rate
from preproc.whiten import WANTED_SECONDS, Spectrum, design_filter, estimate_spectrum, whiten
from preproc.windows import Layout, Span, intersect, lay_windows, merge, subtract

#: So many windows are transformed at a time: enough to keep the FFTs busy, few enough for the cache.
_WINDOWS_AT_A_TIME = 8


@dataclass(frozen=True)
class Whitened:
    """Whitened runs of each channel, the noise they were whitened with, and what was lost on the way."""

    spectra: dict[str, Spectrum] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    rejected: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def preprocess(data: Path, output: Path, parameters: Parameters, progress: Progress) -> None:
    """Make the dataset `output` of the segments in the directory `data`.

    Raises:
        UnusableBatch: there is nothing to read.
        NoWindow: what there is does not fill a window.
        BadParameter: the parameters do not fit the data.
        OutputFailed: the dataset could not be written.

    """
    batch = read_batch(data, progress)
    segments, other_rate = most_sampled_rate(batch.segments)
    runs = find_runs(segments)
    rate = runs.grid.sample_rate
    length, stride = round(parameters.window * rate), max(1, round(parameters.stride * rate))
    transform = QTransform(parameters, length, rate)
    whitened = whiten_channels(runs, parameters, progress)
    layout = lay_windows(whitened.runs, length, stride)
    rejected = [*batch.rejected, *other_rate, *runs.rejected, *whitened.rejected]
    if not layout.starts:
        raise NoWindow(_why_no_window(runs, rejected, parameters))
    rejected += _outside(layout, whitened.runs, runs.grid, length)
    with created(output) as dataset:
        dataset.write_axes(layout.channels, transform.frequency, transform.time_offset)
        for start, energy in _spectrograms(layout, whitened.runs, transform, progress):
            if np.isfinite(energy).all():
                dataset.append(runs.grid.gps(start), energy)
            else:
                rejected += _silent(layout, start, runs.grid, length)
        if not dataset.windows:
            raise NoWindow(_why_no_window(runs, rejected, parameters))
        dataset.write_spectra(whitened.spectra)
        dataset.write_parameters(parameters)
        every_run = [run for found in runs.by_channel.values() for run in found]
        dataset.write_record(batch, runs.grid, every_run, rejected, [*runs.notes, *whitened.notes])


def whiten_channels(runs: Runs, parameters: Parameters, progress: Progress) -> Whitened:
    """Whiten every channel that can be; the runs of the others are rejected with the reason."""
    result = Whitened()
    for channel in progress(list(runs.by_channel), "whitening"):
        found = runs.by_channel[channel]
        try:
            spectrum = estimate_spectrum(found, runs.grid.sample_rate, parameters)
        except UnusableChannel as error:
            result.rejected.extend(runs.grid.finding(run, Reason.NO_SPECTRUM, str(error)) for run in found)
            continue
        result.spectra[channel] = spectrum
        if spectrum.seconds < WANTED_SECONDS:
            detail = f"estimated from {spectrum.seconds:.4g} s, {WANTED_SECONDS:g} s or more are better"
            start, stop = runs.grid.gps(found[0].start), runs.grid.gps(found[-1].stop)
            result.notes.append(Finding(channel, start, stop, Reason.SHORT_SPECTRUM, detail))
        _whiten_runs(found, spectrum, runs.grid, parameters, result)
    return result


def _whiten_runs(runs: Sequence[Run], spectrum: Spectrum, grid: Grid, parameters: Parameters, result: Whitened) -> None:
    taps = design_filter(spectrum, grid.sample_rate, parameters)
    least = round(parameters.window * grid.sample_rate) + len(taps) - 1
    for run in runs:
        if len(run.h) < least:
            detail = f"{len(run.h) * grid.dt:.4g} s, a window and the filter take {least * grid.dt:.4g} s"
            result.rejected.append(grid.finding(run, Reason.SHORT_RUN, detail))
            continue
        white = whiten(run, taps)
        result.runs.setdefault(run.channel, []).append(white)
        for edge in (run.cut(run.start, white.start), run.cut(white.stop, run.stop)):
            result.rejected.append(grid.finding(edge, Reason.FILTER_EDGE))


def _spectrograms(
    layout: Layout, runs: Mapping[str, Sequence[Run]], transform: QTransform, progress: Progress
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the first sample of each window and its spectrograms, shape [C, F, T]."""
    groups = [layout.starts[at : at + _WINDOWS_AT_A_TIME] for at in range(0, len(layout.starts), _WINDOWS_AT_A_TIME)]
    for starts in progress(groups, "transforming"):
        strain = [[_samples(runs[name], start, transform.samples) for name in layout.channels] for start in starts]
        yield from zip(starts, transform(np.array(strain)), strict=True)


def _samples(runs: Sequence[Run], start: int, length: int) -> NDArray[np.float64]:
    run = next(run for run in runs if run.start <= start and start + length <= run.stop)
    return run.cut(start, start + length).h


def _silent(layout: Layout, start: int, grid: Grid, length: int) -> list[Finding]:
    span = grid.gps(start), grid.gps(start + length)
    return [Finding(channel, *span, Reason.SILENT) for channel in layout.channels]


def _outside(layout: Layout, runs: Mapping[str, Sequence[Run]], grid: Grid, length: int) -> list[Finding]:
    """Say why each whitened sample that is in no window is in none."""
    found = []
    windows = merge(layout.starts, length)
    for channel, its_runs in runs.items():
        spans = [(run.start, run.stop) for run in its_runs]
        if channel in layout.left_out:
            others = ", ".join(layout.channels)
            found += _findings(spans, channel, grid, Reason.NO_COMMON_WINDOW, f"with {others}: channel left out")
            continue
        found += _findings(subtract(spans, layout.common), channel, grid, Reason.NOT_COMMON)
        rest = subtract(intersect(spans, layout.common), windows)
        found += _findings(rest, channel, grid, Reason.REST, "shorter than a window")
    return found


def _findings(spans: Sequence[Span], channel: str, grid: Grid, reason: Reason, detail: str = "") -> list[Finding]:
    return [Finding(channel, grid.gps(start), grid.gps(stop), reason, detail) for start, stop in spans]


def _why_no_window(runs: Runs, rejected: Sequence[Finding], parameters: Parameters) -> str:
    reasons = "; ".join(f"{one.count} x {one.reason} ({one.example})" for one in tally(rejected)[:3])
    every_run = [run for found in runs.by_channel.values() for run in found]
    if not every_run:
        return f"no strain that can be used: {reasons}"
    longest = max(every_run, key=lambda run: len(run.h))
    return (
        f"no window could be made: the longest of {len(every_run)} runs without a gap is "
        f"{len(longest.h) * runs.grid.dt:.4g} s ({longest.channel}), {parameters.shortest_run:g} s are needed; "
        f"{reasons}"
    )
