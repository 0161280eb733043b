import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from preproc import executors
from preproc.errors import ExtraMissing, WorkersFailed
from preproc.executors import here, in_processes, on_dask
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from preproc.spectrograms import Task, Transformation
from scripts.trio import draw_ports
from tests.preproc.batches import cut, noise, write_batch

PARAMETERS = Parameters(window=2, stride=2, fmax=80, rows=16, columns=32, fduration=1, psd_fftlength=2)


@pytest.fixture
def transformation() -> Transformation:
    return Transformation(PARAMETERS, 512, 256.0, np.random.default_rng(1).normal(size=(2, 257)))


def some_tasks(transformation: Transformation, count: int) -> Iterator[Task]:
    random = np.random.default_rng(2)
    for _ in range(count):
        shape = (3, 2, transformation.padded.span + 256)
        yield Task(random.normal(size=shape), random.integers(0, 256, shape[:2]), padded=True)


def test_processes_give_the_same_in_the_same_order_as_one_does(transformation: Transformation) -> None:
    alone = list(here(transformation, some_tasks(transformation, 9)))
    together = list(in_processes(2)(transformation, some_tasks(transformation, 9)))
    assert [one.tobytes() for one in alone] == [one.tobytes() for one in together]


def test_only_few_tasks_are_read_ahead(transformation: Transformation) -> None:
    taken = 0

    def counted() -> Iterator[Task]:
        nonlocal taken
        for task in some_tasks(transformation, 50):
            taken += 1
            yield task

    results = in_processes(1)(transformation, counted())
    next(iter(results))
    assert taken <= 2
    results.close()
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_reported(transformation: Transformation) -> None:
    results = in_processes(1)(transformation, some_tasks(transformation, 50))
    next(iter(results))
    (child,) = multiprocessing.active_children()
    os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(WorkersFailed, match="a process that computes spectrograms was killed"):
        list(results)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with one worker, each a process of its own."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    shared = [f"--scheduler-file={file}", "--host=127.0.0.1", "--no-dashboard"]
    commands = [
        ["distributed.cli.dask_scheduler", *shared, "--port=0"],
        ["distributed.cli.dask_worker", *shared, "--nthreads=2", f"--local-directory={folder}"],
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", *command], stdout=log, stderr=log, cwd=Path(__file__).parents[2]
                )
            )
            stack.callback(process.terminate)
        while not (file.exists() and file.stat().st_size):  # it is there before it is written
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"]


def test_a_dask_cluster_gives_the_identical_dataset(tmp_path: Path, scheduler: str) -> None:
    segments = [*cut(noise(40, rate=256.0), "H1:A", rate=256.0), *cut(noise(40, 2, 256.0), "L1:A", rate=256.0)]
    batch = write_batch(tmp_path / "batch", segments)
    for name, executor in (("here", here), ("there", on_dask(scheduler))):
        preprocess(batch, tmp_path / name / "dataset.h5", PARAMETERS, silent, executor)
    one, other = ((tmp_path / name / "dataset.h5").read_bytes() for name in ("here", "there"))
    assert one == other


def test_windows_as_they_really_are_come_out_of_a_dask_cluster_bit_for_bit(scheduler: str) -> None:
    transformation = Transformation(Parameters(), 24576, 4096.0, np.random.default_rng(1).normal(size=(1, 8193)))
    strain = np.random.default_rng(2).normal(size=(8, 1, transformation.padded.span + 8192))
    task = Task(strain, np.full((8, 1), 4128), padded=True)
    (one,), (other,) = list(here(transformation, [task])), list(on_dask(scheduler)(transformation, [task]))
    assert one.tobytes() == other.tobytes()


def test_a_scheduler_that_nobody_is_at_is_reported(
    transformation: Transformation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr(executors, "_SCHEDULER_SECONDS", 0.2)
    [port] = draw_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    with pytest.raises(WorkersFailed, match=f"no Dask scheduler answers at {address}"):
        list(on_dask(address)(transformation, some_tasks(transformation, 1)))


def test_another_service_is_not_taken_for_a_scheduler(transformation: Transformation) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")

    def answer(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(WorkersFailed, match=f"no Dask scheduler answers at {address}"):
            list(on_dask(address)(transformation, some_tasks(transformation, 1)))


def test_without_dask_it_says_what_to_install(transformation: Transformation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExtraMissing, match=r"--scheduler needs the extra dask: pip install"):
        list(on_dask("tcp://127.0.0.1:1")(transformation, []))
