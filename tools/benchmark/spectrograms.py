"""`python -m tools.benchmark.spectrograms`: the Q-transform, in windows a second and core, next to gwpy's.

Both transform the same windows in the same run, one after the other and again, so that the machine's mood is the same
for both. What counts is CPU time: user and system time of the process, over all its threads.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from preproc.executors import in_processes
from preproc.parameters import Parameters
from preproc.spectrograms import WINDOWS_AT_A_TIME, Task, Transformation
from tools.benchmark.goals import Goal
from tools.benchmark.machine import describe_machine
from tools.benchmark.report import Circumstances, write_section

_REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_RATES = (4096.0, 16384.0)
_PARAMETERS = Parameters()
_WANTED = 10.0
_AGREEMENT = 0.999
_GWPY_WINDOWS = 4
_TAPS_SECONDS = 2

Strain = NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """What was measured at one sample rate.

    Attributes:
        rate: in Hz.
        ours: windows a CPU second, whitening and transform.
        gwpy: windows a CPU second, gwpy's transform alone.
        parallel: windows a second, in as many processes as there are cores.
        agreement: the lowest correlation of a window with gwpy's.
        peaks: of how many windows the loudest pixel is the same as gwpy's.
        windows: how many were compared.

    """

    rate: float
    ours: float
    gwpy: float
    parallel: float
    agreement: float
    peaks: int
    windows: int


def measure(rate: float, rounds: int) -> Speed:
    """Measure at one sample rate."""
    samples = round(_PARAMETERS.window * rate)
    # A delta: whitening costs what it costs, and what comes out is what goes in, so that gwpy sees the same.
    taps = np.zeros((1, round(_TAPS_SECONDS * rate) + 1))
    taps[0, taps.shape[1] // 2] = 1.0
    work = Transformation(_PARAMETERS, samples, rate, taps)
    task = next(_tasks(work, 1))
    white = task.strain[:, 0, work.reach : work.reach + work.padded.span]
    ours, theirs = work(task)[:_GWPY_WINDOWS, 0], [_gwpy(one, work, rate) for one in white[:_GWPY_WINDOWS]]
    speeds: dict[str, list[float]] = {"ours": [], "gwpy": []}
    for _ in tqdm(range(rounds), desc=f"{rate:g} Hz", leave=False, disable=None):
        speeds["ours"].append(WINDOWS_AT_A_TIME / _cpu_seconds(lambda: work(task)))
        speeds["gwpy"].append(1 / _cpu_seconds(lambda: _gwpy(white[0], work, rate)))
    return Speed(
        rate,
        statistics.median(speeds["ours"]),
        statistics.median(speeds["gwpy"]),
        _parallel(work, rounds),
        min(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one, other in zip(ours, theirs, strict=True)),
        sum(int(np.argmax(one) == np.argmax(other)) for one, other in zip(ours, theirs, strict=True)),
        _GWPY_WINDOWS,
    )


def _tasks(work: Transformation, count: int) -> Iterator[Task]:
    """Give noise with a burst in each window, loud enough to be its loudest pixel."""
    random = np.random.default_rng(1)
    rate = work.padded.samples / _PARAMETERS.window
    length = work.padded.span + 2 * work.reach
    times = np.arange(length) / rate
    for _ in range(count):
        strain = random.normal(size=(WINDOWS_AT_A_TIME, 1, length))
        for window in strain[:, 0]:
            since, frequency = times - times[-1] / 2 - random.uniform(-2, 2), random.uniform(30, 300)
            envelope = np.exp(-((2 * np.pi * frequency * since / _PARAMETERS.q) ** 2))
            np.add(window, 8 * envelope * np.sin(2 * np.pi * frequency * since), out=window)
        yield Task(strain, np.full((WINDOWS_AT_A_TIME, 1), work.padded.padding), padded=True)


def _gwpy(strain: Strain, work: Transformation, rate: float) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what gwpy imports warns about what it imports
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds to import)

        start = work.padded.padding / rate
        plane = TimeSeries(strain, sample_rate=rate).q_transform(
            qrange=(_PARAMETERS.q, _PARAMETERS.q),
            frange=(_PARAMETERS.fmin, _PARAMETERS.fmax),
            outseg=(start, start + _PARAMETERS.window),
            mismatch=_PARAMETERS.mismatch,
            whiten=False,
            logf=True,
            fres=_PARAMETERS.rows,
            tres=_PARAMETERS.window / _PARAMETERS.columns,
        )
    return np.asarray(plane.value, dtype=np.float32).T[:, : _PARAMETERS.columns]


def _cpu_seconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def _parallel(work: Transformation, rounds: int) -> float:
    """Give the windows a second that all cores do together, the start of their processes not counted."""
    jobs = len(os.sched_getaffinity(0))
    count = 2 * jobs * (rounds + 2)
    results = in_processes(jobs)(work, list(_tasks(work, jobs)) * (count // jobs))
    for _ in range(2 * jobs):
        next(results)
    before = time.monotonic()
    done = sum(len(one) for one in results)
    return done / (time.monotonic() - before)


def goals_of(speeds: list[Speed]) -> list[Goal]:
    """Judge the speeds: at 4096 Hz."""
    first = speeds[0]
    return [
        Goal(
            f"at least {_WANTED:g} windows of {_PARAMETERS.window:g} s a second and core, whitened and transformed, "
            f"at {first.rate:g} Hz",
            f"{first.ours:.0f} ({first.ours / first.gwpy:.1f} x gwpy)",
            first.ours >= _WANTED,
        ),
        Goal(
            f"a correlation of {_AGREEMENT} with gwpy's, and the same loudest pixel",
            f"{min(one.agreement for one in speeds):.5f} at least, the same pixel in "
            f"{sum(one.peaks for one in speeds)} of {sum(one.windows for one in speeds)} windows",
            all(one.agreement >= _AGREEMENT and one.peaks == one.windows for one in speeds),
        ),
    ]


def section(speeds: list[Speed], circumstances: Circumstances) -> list[str]:
    """Tell the speeds."""
    shape = f"{_PARAMETERS.rows} x {_PARAMETERS.columns}"
    text = (
        f"Windows of {_PARAMETERS.window:g} s onto {shape} pixels, {_PARAMETERS.fmin:g} to {_PARAMETERS.fmax:g} Hz, "
        f"Q = {_PARAMETERS.q:g}. Ours whitens first; gwpy is given whitened strain. A core is a second of CPU time; "
        "medians of what is measured in turns."
    )
    cores = len(os.sched_getaffinity(0))
    head = ["sample rate", "windows/s/core", "gwpy windows/s/core", "x gwpy", f"windows/s, {cores} processes"]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {one.rate:g} Hz | {one.ours:.1f} | {one.gwpy:.1f} | {one.ours / one.gwpy:.1f} | {one.parallel:.1f} |"
        for one in speeds
    ]
    goals = [goal.line() for goal in goals_of(speeds)]
    return [*circumstances.lines(), "", "Goals:", "", *goals, "", text, "", *lines]


def main(arguments: list[str]) -> int:
    """Measure and report; 1 where a goal is not reached."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.spectrograms", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each is measured (default: 10)")
    parser.add_argument("--report", type=Path, default=_REPORT, help="default: docs/benchmarks.md")
    options = parser.parse_args(arguments)
    circumstances = Circumstances(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "python -m tools.benchmark.spectrograms",
        describe_machine(Path.cwd()),
        ", ".join(f"{name} {version(name)}" for name in ("glitchflow-datastore", "numpy", "scipy", "gwpy")),
    )
    speeds = [measure(rate, options.rounds) for rate in _RATES]
    lines = section(speeds, circumstances)
    tqdm.write("\n".join(lines))
    write_section(options.report, "preproc", lines)
    return 0 if all(goal.reached for goal in goals_of(speeds)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
