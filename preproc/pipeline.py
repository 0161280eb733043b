"""Make a dataset from a directory of segments: read, sort, whiten, place windows, transform, write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gwclient.amounts import count_text
from gwfiles.hdf5 import created
from gwwire.gps import gps_text, utc_of_gps
from preproc.batch import read_batch
from preproc.dataset import DatasetWriter
from preproc.errors import NoWindow, UnusableChannel
from preproc.executors import Executor, here
from preproc.findings import Finding, Reason, summarise_findings, tally
from preproc.job import WINDOWS_IN_BLOCK, Job, job_key
from preproc.parameters import Parameters
from preproc.progress import Progress
from preproc.publish import published
from preproc.runs import Grid, Run, Runs, StrainReader, find_runs, most_sampled_rate
from preproc.spectrograms import Place, Transformation, grouped, place_window, tasks
from preproc.split import Part, block_count, describe_miss, split_windows, wanted_parts
from preproc.whiten import (
    WANTED_SECONDS,
    Spectrum,
    design_filter,
    estimate_spectrum,
    filter_reach,
    periodogram_starts,
)
from preproc.windows import Layout, Span, cover, intersect, lay_windows, subtract

_PURPOSES = {Part.TRAIN: "training", Part.VALIDATION: "validation", Part.TEST: "testing"}


@dataclass(frozen=True)
class Conditioned:
    """The runs of each channel that can be whitened, their filters, and what is rejected."""

    spectra: dict[str, Spectrum] = field(default_factory=dict)
    taps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    rejected: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Plan:
    """The windows to compute, and the strain that they are computed from."""

    grid: Grid
    layout: Layout
    places: list[Place]
    reader: StrainReader
    transformation: Transformation

    @property
    def blocks(self) -> list[Sequence[Place]]:
        """The windows in the blocks that a `Job` stores."""
        return [self.places[at : at + WINDOWS_IN_BLOCK] for at in range(0, len(self.places), WINDOWS_IN_BLOCK)]


def preprocess(  # noqa: PLR0913, PLR0917 (input, output, and four ways to observe the work)
    data: Path,
    output: Path,
    parameters: Parameters,
    progress: Progress,
    executor: Executor = here,
    before_publishing: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = lambda _: None,
) -> None:
    """Make the dataset `output` of the segments in the directory `data`.

    Results of an earlier run that was interrupted are used again. If `before_publishing` raises, which is
    called when everything is computed, the dataset is not published. `notify` is called with a summary of what is left
    out as soon as the batch is read.

    Raises UnusableBatch if there is no usable segment, NoWindow if there is no window, BadParameter if the parameters
    do not fit the data, WorkersFailed if the executor failed, OutputFailed if the dataset cannot be written.
    """
    batch = read_batch(data, progress)
    segments, other_rate = most_sampled_rate(parameters.selection.pieces(batch.pieces))
    runs = parameters.selection.runs(find_runs(segments, batch.load))
    rate = runs.grid.sample_rate
    unused = [*batch.rejected, *other_rate, *runs.rejected]
    if lines := summarise_findings("left out of the dataset", [*unused, *_unusable(runs, parameters)]):
        notify("\n".join(lines))
    parameters.check_rate(rate)
    length, stride = round(parameters.window * rate), round(parameters.stride * rate)
    reader = StrainReader(runs.pieces, batch.load)
    conditioned = condition(runs, reader, parameters, progress)
    layout = lay_windows(conditioned.runs, length, stride)
    rejected = [*unused, *conditioned.rejected]
    if not layout.starts:
        raise NoWindow(_why_no_window(runs, rejected, parameters))
    rejected += _outside(layout, conditioned.runs, runs.grid, length)
    taps = np.array([conditioned.taps[name] for name in layout.channels])
    transformation = Transformation(parameters, length, rate, taps)
    places = [place_window(at, layout.channels, conditioned.runs, transformation) for at in layout.starts]
    plan = Plan(runs.grid, layout, places, reader, transformation)
    job = Job(output.parent, job_key(batch.digest, parameters))
    job.begin()
    _transform(plan, job, executor, progress)
    with published(output) as partial, created(partial) as (file, check):
        dataset = DatasetWriter(file)
        dataset.write_axes(layout.channels, transformation.padded)
        for number, block in enumerate(progress(plan.blocks, "writing")):
            rejected += _append(plan, dataset, block, job.load(number))
            check()
        if not dataset.starts:
            raise NoWindow(_why_no_window(runs, rejected, parameters))
        notes = [*batch.notes, *runs.notes, *conditioned.notes, *_without_padding(plan)]
        split = split_windows(dataset.starts, parameters)
        notes += _missed_split(split, dataset.starts, parameters)
        dataset.write_parameters(parameters, job.key, split)
        dataset.write_spectra(conditioned.spectra, runs.grid)
        dataset.write_record(batch, runs, rejected, notes)
        before_publishing()
    job.forget()


def condition(runs: Runs, reader: StrainReader, parameters: Parameters, progress: Progress) -> Conditioned:
    """Design the filter of each channel that can be whitened; the runs of the others are rejected."""
    result = Conditioned()
    for channel in progress(list(runs.by_channel), "whitening"):
        found = runs.by_channel[channel]
        try:
            spectrum = estimate_spectrum(found, reader, runs.grid.sample_rate, parameters)
        except UnusableChannel as error:
            result.rejected.extend(_no_spectrum(found, runs.grid, error))
            continue
        result.spectra[channel] = spectrum
        result.notes.extend(_about_spectrum(spectrum, channel, runs.grid))
        result.taps[channel] = design_filter(spectrum, runs.grid.sample_rate, parameters)
        _take_off_edges(found, runs.grid, parameters, result)
    return result


def _no_spectrum(runs: Sequence[Run], grid: Grid, error: UnusableChannel) -> list[Finding]:
    return [grid.finding(run, Reason.NO_SPECTRUM, str(error)) for run in runs]


def _about_spectrum(spectrum: Spectrum, channel: str, grid: Grid) -> Iterator[Finding]:
    if spectrum.seconds < WANTED_SECONDS:
        detail = f"estimated from {spectrum.seconds:.4g} s; at least {WANTED_SECONDS:g} s are recommended"
        yield from _findings(spectrum.spans, channel, grid, Reason.SHORT_SPECTRUM, detail)
    yield from _findings(spectrum.loud, channel, grid, Reason.LOUD, "much louder than the rest")


def _take_off_edges(runs: Sequence[Run], grid: Grid, parameters: Parameters, result: Conditioned) -> None:
    reach = filter_reach(grid.sample_rate, parameters)
    long, short = _by_length(runs, grid, parameters)
    result.rejected.extend(short)
    for run in long:
        white = Run(run.channel, run.start + reach, run.stop - reach)
        result.runs.setdefault(run.channel, []).append(white)
        for edge in (Run(run.channel, run.start, white.start), Run(run.channel, white.stop, run.stop)):
            result.rejected.append(grid.finding(edge, Reason.FILTER_EDGE))


def _by_length(runs: Sequence[Run], grid: Grid, parameters: Parameters) -> tuple[list[Run], list[Finding]]:
    """Return the runs of a channel that are long enough for a window, and a finding for each of the others."""
    least = _least_samples(grid, parameters)
    long = [run for run in runs if run.samples >= least]
    reason = Reason.SHORT_RUN if long else Reason.NO_LONG_RUN
    needs = f"a window and the filter need {least * grid.dt:.4g} s"
    return long, [
        grid.finding(run, reason, f"{run.samples * grid.dt:.4g} s; {needs}") for run in runs if run.samples < least
    ]


def _least_samples(grid: Grid, parameters: Parameters) -> int:
    """Return the length of the shortest run with a window, in samples."""
    rate = grid.sample_rate
    return max(1, round(parameters.window * rate) + 2 * filter_reach(rate, parameters))


def _transform(plan: Plan, job: Job, executor: Executor, progress: Progress) -> None:
    blocks = [(number, block) for number, block in enumerate(plan.blocks) if not job.has(number)]
    channels, transformation = plan.layout.channels, plan.transformation
    work = (task for _, block in blocks for task in tasks(block, channels, plan.reader, transformation))
    counts = [(number, len(list(grouped(block)))) for number, block in blocks]
    steps = [(number, at == count - 1) for number, count in counts for at in range(count)]
    parts: list[NDArray[np.float32]] = []
    with closing(executor(transformation, work)) as results:
        for number, last in progress(steps, "transforming"):
            parts.append(next(results))
            if last:
                job.save(number, np.concatenate(parts))
                parts.clear()


def _append(plan: Plan, dataset: DatasetWriter, places: Sequence[Place], energy: NDArray[np.float32]) -> list[Finding]:
    good = [bool(np.isfinite(one).all()) for one in energy]
    pairs = list(zip(places, good, strict=True))
    dataset.append([plan.grid.gps(place.start) for place, fine in pairs if fine], energy[good])
    silent = [(place.start, place.start + plan.transformation.padded.samples) for place, fine in pairs if not fine]
    return _in_all_channels(plan, silent, Reason.SILENT)


def _without_padding(plan: Plan) -> list[Finding]:
    spans = cover([place.start for place in plan.places if not place.padded], plan.transformation.padded.samples)
    detail = "the run is too short: tiles at one end of the window include strain of the other end"
    return _in_all_channels(plan, spans, Reason.NO_PADDING, detail)


def _in_all_channels(plan: Plan, spans: Sequence[Span], reason: Reason, detail: str = "") -> list[Finding]:
    return [found for channel in plan.layout.channels for found in _findings(spans, channel, plan.grid, reason, detail)]


def _missed_split(split: Sequence[Part], starts: Sequence[float], parameters: Parameters) -> list[Finding]:
    miss = describe_miss(split, parameters)
    if not miss:
        return []
    blocks = block_count(starts, parameters)
    parts = set(split) - {Part.GUARD}
    if len(parts) == 1 < len(wanted_parts(parameters)):
        short = f"{starts[-1] + parameters.window - starts[0]:.4g} s are" if blocks == 1 else f"{blocks} blocks are"
        purpose = _PURPOSES[parts.pop()]
        miss = f"all {len(split)} windows are for {purpose}: {short} too short for a split in blocks of"
        detail = f"{miss} {parameters.split_block:g} s"
    else:
        detail = f"{miss}; number of blocks of {parameters.split_block:g} s: {blocks}"
    return [Finding("", starts[0], starts[-1] + parameters.window, Reason.SPLIT, detail)]


def _unusable(runs: Runs, parameters: Parameters) -> list[Finding]:
    """Return findings about each channel whose times tell that it will have no window, unless none has one."""
    grid = runs.grid
    long: dict[str, list[Run]] = {}
    found: list[Finding] = []
    for channel, its_runs in runs.by_channel.items():
        try:
            periodogram_starts(its_runs, grid.sample_rate, parameters)
        except UnusableChannel as error:
            found += _no_spectrum(its_runs, grid, error)
            continue
        long[channel], short = _by_length(its_runs, grid, parameters)
        found += [] if long[channel] else short
    length = _least_samples(grid, parameters)
    layout = lay_windows({name: its_runs for name, its_runs in long.items() if its_runs}, length, length)
    found += [one for name in layout.left_out for one in _no_common_window(name, layout, long, grid)]
    return found if layout.starts else []


def _no_common_window(channel: str, layout: Layout, runs: Mapping[str, Sequence[Run]], grid: Grid) -> Iterator[Finding]:
    others = [run for name in layout.channels for run in runs[name]]
    names = ", ".join(layout.channels)
    detail = f"its data are in {_span_text(runs[channel], grid)}, those of {names} in {_span_text(others, grid)}"
    yield from (grid.finding(run, Reason.NO_COMMON_WINDOW, detail) for run in runs[channel])


def _span_text(runs: Sequence[Run], grid: Grid) -> str:
    start, stop = grid.gps(min(run.start for run in runs)), grid.gps(max(run.stop for run in runs))
    return f"GPS {gps_text(start)} to {gps_text(stop)} ({utc_of_gps(start):%Y-%m-%d})"


def _outside(layout: Layout, runs: Mapping[str, Sequence[Run]], grid: Grid, length: int) -> list[Finding]:
    found: list[Finding] = []
    windows = cover(layout.starts, length)
    for channel, its_runs in runs.items():
        spans = [(run.start, run.stop) for run in its_runs]
        if channel in layout.left_out:
            found += _no_common_window(channel, layout, runs, grid)
            continue
        found += _findings(subtract(spans, layout.common), channel, grid, Reason.NOT_COMMON)
        rest = subtract(intersect(spans, layout.common), windows)
        found += _findings(rest, channel, grid, Reason.REST, "shorter than a window")
    return found


def _findings(spans: Sequence[Span], channel: str, grid: Grid, reason: Reason, detail: str = "") -> list[Finding]:
    return [Finding(channel, grid.gps(start), grid.gps(stop), reason, detail) for start, stop in spans]


def _why_no_window(runs: Runs, rejected: Sequence[Finding], parameters: Parameters) -> str:
    reasons = "; ".join(f"{one.count} x {one.reason} ({one.example})" for one in tally(rejected)[:3])
    if not runs.all:
        return f"there is no usable strain{parameters.selection.span()}: {reasons or 'this time contains no sample'}"
    shortest = parameters.window + parameters.fduration
    longest = max(runs.all, key=lambda run: run.samples)
    seconds = longest.samples * runs.grid.dt
    if seconds >= shortest:  # it is another reason
        return f"no window could be made: {reasons}"
    digits = next(number for number in range(4, 18) if f"{seconds:.{number}g}" != f"{shortest:.{number}g}")
    miss = f"is {seconds:.{digits}g} s ({longest.channel}), {shortest:.{digits}g} s are needed"
    return f"no window could be made: the longest of {count_text(len(runs.all), 'run')} without a gap {miss}; {reasons}"
