"""The Q-transform in windows per second and core, compared with gwpy's.

Both transform the same windows in turns, so that other load on the machine affects both. The measure is CPU time: user
and system time of the process, over all its threads.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from preproc.executors import in_processes
from preproc.parameters import Parameters
from preproc.spectrograms import WINDOWS_AT_A_TIME, Task, Transformation
from tools.benchmark.goals import Goal
from tools.benchmark.report import Circumstances

_RATES = (4096.0, 16384.0)
_PARAMETERS = Parameters()
_ROUNDS = 10
_WANTED = 10.0
_AGREEMENT = 0.999
_GWPY_WINDOWS = 4
_TAPS_SECONDS = 2

Strain = NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """The measurements at one sample rate.

    Attributes:
        rate: in Hz.
        ours: windows per CPU second, whitening and transform.
        gwpy: windows per CPU second, gwpy's transform alone.
        parallel: windows per second, in one process per core.
        agreement: the lowest correlation of a window with gwpy's.
        peaks: number of windows with the same loudest pixel as gwpy's.
        windows: number of windows compared.

    """

    rate: float
    ours: float
    gwpy: float
    parallel: float
    agreement: float
    peaks: int
    windows: int


def measure_all() -> list[Speed]:
    """Measure at every sample rate."""
    return [_measure(rate, _ROUNDS) for rate in _RATES]


def _measure(rate: float, rounds: int) -> Speed:
    samples = round(_PARAMETERS.window * rate)
    # A delta: whitening has its usual cost but changes nothing, so that gwpy gets the same input.
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
    """Return noise with a burst in each window that is its loudest pixel."""
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
        warnings.simplefilter("ignore")  # gwpy's imports emit warnings
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
    """Return the windows per second of all cores together, without the start of their processes."""
    jobs = len(os.sched_getaffinity(0))
    count = 2 * jobs * (rounds + 2)
    results = in_processes(jobs)(work, list(_tasks(work, jobs)) * (count // jobs))
    for _ in range(2 * jobs):
        next(results)
    before = time.monotonic()
    done = sum(len(one) for one in results)
    return done / (time.monotonic() - before)


def goals_of(speeds: list[Speed]) -> list[Goal]:
    """Compare the speeds at 4096 Hz with the goals."""
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
    """Return the section on spectrograms."""
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
