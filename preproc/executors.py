"""Executors of tasks: in this process, in processes of this machine, or on the workers of a Dask cluster.

Only a few tasks are submitted at a time, so that memory use does not depend on their number.
"""

import asyncio
import importlib
import multiprocessing
import operator
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for_futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
#: An interruption is noticed after so many seconds.
_LOOK_SECONDS = 0.1

#: The function that a process of the pool calls.
_work: Work


def here(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
    """Compute in this process."""
    yield from map(work, tasks)


def in_processes(jobs: int) -> Executor:
    """Compute in `jobs` processes of this machine."""

    def run(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
        with _interrupts_noted() as raise_interrupt:
            pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (work,))

            def result(future: Future[Spectrograms]) -> Spectrograms:
                while not wait_for_futures([future], _LOOK_SECONDS).done:
                    raise_interrupt()
                raise_interrupt()
                return future.result()

            try:
                yield from _in_order(lambda task: pool.submit(_compute, task), tasks, _AHEAD * jobs, result)
            except BrokenProcessPool as error:
                reason = "a process that computes spectrograms was killed; perhaps memory ran out"
                raise WorkersFailed(reason) from error
            finally:
                pool.shutdown(cancel_futures=True)

    return run


@contextmanager
def _interrupts_noted() -> Iterator[Callable[[], None]]:
    """Note SIGINT and SIGTERM in the block; the function that it gets raises KeyboardInterrupt if one was noted.

    Raised in the middle of a future's method, it would leave the future locked, and the pool could never end.
    """
    noted: list[int] = []

    def raise_noted() -> None:
        if noted:
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    handlers = {number: signal.signal(number, lambda which, _: noted.append(which)) for number in numbers}
    try:
        yield raise_noted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def on_dask(address: str) -> Executor:
    """Compute on the workers of the Dask cluster whose scheduler listens at `address`, like `tcp://host:8786`."""

    def run(work: Work, tasks: Iterable[Task]) -> Generator[Spectrograms]:
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise ExtraMissing("--scheduler needs the extra dask: pip install 'glitchflow-datastore[dask]'") from error
        try:
            asyncio.run(_reach(distributed, address))
        except Exception as error:  # another service's bytes are read as lengths, for which memory is too small
            raise WorkersFailed(f"no Dask scheduler answers at {address}") from error
        try:
            with distributed.Client(address, timeout=_SCHEDULER_SECONDS, set_as_default=False) as client:
                submit, threads = _shared(client, address, work)
                yield from _in_order(submit, tasks, _AHEAD * threads)
        except (OSError, distributed.KilledWorker, distributed.CancelledError) as error:
            raise WorkersFailed(f"the Dask cluster at {address} failed: {' '.join(str(error).split())}") from error

    return run


async def _reach(distributed: Any, address: str) -> None:
    """Connect to a scheduler once; a client that cannot does not end without a traceback."""
    arguments = distributed.Security().get_connection_args("client")
    async with asyncio.timeout(_SCHEDULER_SECONDS):
        connection = await distributed.comm.connect(address, timeout=_SCHEDULER_SECONDS, **arguments)
    await connection.close()


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


def _in_order(
    submit: Submit,
    tasks: Iterable[Task],
    ahead: int,
    result: Callable[[Any], Spectrograms] = lambda each: each.result(),
) -> Generator[Spectrograms]:
    pending: deque[Any] = deque()
    try:
        for task in tasks:
            pending.append(submit(task))
            if len(pending) >= ahead:
                yield result(pending.popleft())
        while pending:
            yield result(pending.popleft())
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
