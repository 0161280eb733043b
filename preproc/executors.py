"""Where tasks are computed: here, in processes of this machine, or by the workers of a Dask cluster.

Only a few tasks are submitted at a time, so that memory use does not depend on their number.
"""

import importlib
import multiprocessing
import operator
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preproc.errors import ExtraMissing, WorkersFailed
from preproc.job import versions
from preproc.spectrograms import Task

Spectrograms = NDArray[np.float32]
Work = Callable[[Task], Spectrograms]
#: Computes tasks, and yields the results in their order; ending the iteration early cancels the submitted tasks.
Executor = Callable[[Work, Iterable[Task]], Generator[Spectrograms]]
#: Submits a task, and returns a future: of `concurrent.futures` or of Dask, which have no type in common.
Submit = Callable[[Task], Any]
#: Tasks submitted for each worker: the current one and the next one.
_AHEAD = 2
_SCHEDULER_SECONDS = 20

#: The function that a process of the pool calls.
_work: Work


def here(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
    """Compute in this process."""
    yield from map(work, tasks)


def in_processes(jobs: int) -> Executor:
    """Compute in `jobs` processes of this machine."""

    def run(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (work,))
        try:
            yield from _in_order(lambda task: pool.submit(_compute, task), tasks, _AHEAD * jobs)
        except BrokenProcessPool as error:
            raise WorkersFailed("a process that computes spectrograms was killed; perhaps memory ran out") from error
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def on_dask(address: str) -> Executor:
    """Compute on the workers of the Dask cluster whose scheduler listens at `address`, like `tcp://host:8786`."""

    def run(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise ExtraMissing("--scheduler needs the extra dask: pip install 'glitchflow-datastore[dask]'") from error
        try:
            with distributed.Client(address, timeout=_SCHEDULER_SECONDS, set_as_default=False) as client:
                submit, threads = _shared(client, address, work)
                yield from _in_order(submit, tasks, _AHEAD * threads)
        except (OSError, distributed.KilledWorker, distributed.CancelledError) as error:
            raise WorkersFailed(f"the Dask cluster at {address} failed: {' '.join(str(error).split())}") from error

    return run


def _shared(client: Any, address: str, work: Work) -> tuple[Submit, int]:
    try:
        client.wait_for_workers(1, timeout=_SCHEDULER_SECONDS)
    except TimeoutError as error:
        raise WorkersFailed(f"the Dask cluster at {address} has no workers") from error
    ours = _versions()
    for worker, found in client.run(_versions).items():
        if found != ours:
            raise WorkersFailed(f"the Dask worker {worker} has {found}, this machine {ours}: the results would differ")
    shared = client.scatter(work, broadcast=True, hash=False)
    threads = sum(client.nthreads().values())
    return lambda task: client.submit(operator.call, shared, task, pure=False), threads


def _in_order(submit: Submit, tasks: Iterable[Task], ahead: int) -> Generator[Spectrograms]:
    pending: deque[Any] = deque()
    try:
        for task in tasks:
            pending.append(submit(task))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for one in pending:
            one.cancel()


def _begin(work: Work) -> None:
    global _work  # noqa: PLW0603 (state of a pool's process between tasks)
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os._exit(1)


def _compute(task: Task) -> Spectrograms:
    return _work(task)


def _versions() -> dict[str, str]:
    return {name: versions()[name] for name in ("glitchflow_datastore", "numpy", "scipy")}
