"""The bare work: what a segment costs with no server, no connection and no catalog; no server can be faster.

Beside the floor's write, sync and rename, each segment is validated and hashed by the buffer's own code. A process for
each core does nothing else, so that Python's lock does not hold one core back for the other.
"""

import itertools
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from databuffer.ingest.staging import Staged, stage
from scripts.benchmark.bodies import segment_bodies
from scripts.benchmark.floor import WRITERS


def measure_bare(home: Path, samples: int, seconds: float) -> float:
    """Validate, hash, write, sync and rename segments by `WRITERS` threads on every core; give segments per second.

    Raises:
        OSError: the disk refused.

    """
    folder = Path(tempfile.mkdtemp(prefix="bare-", dir=home))
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores) as pool:
        return sum(pool.starmap(_work, [(folder / str(core), samples, seconds) for core in range(cores)], chunksize=1))


def _work(folder: Path, samples: int, seconds: float) -> float:
    folder.mkdir()
    bodies = segment_bodies(samples)
    began = time.perf_counter()

    def write(thread: int) -> int:
        for number, body in enumerate(itertools.cycle(bodies)):
            if time.perf_counter() - began > seconds:
                return number
            _store(folder, f"{thread}-{number}.json", body)
        raise AssertionError("a cycle has no end")

    with ThreadPoolExecutor(WRITERS) as threads:
        written = sum(threads.map(write, range(WRITERS)))
    return written / (time.perf_counter() - began)


def _store(folder: Path, name: str, body: bytes) -> None:
    temporary = folder / f".{name}"
    (staged,) = stage([(body, temporary)])
    if not isinstance(staged, Staged):
        raise staged
    if isinstance(staged.place, Exception):
        raise OSError(str(staged.place))
    temporary.rename(folder / name)
