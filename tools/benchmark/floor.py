"""The floor: segments per second that the disk stores without a server."""

import itertools
import os
import tempfile
import threading
import time
from pathlib import Path

#: Writes in flight.
WRITERS = 16


def measure_floor(home: Path, bodies: list[bytes], seconds: float) -> float:
    """Write each body to a temporary name, fsync it and rename it, by `WRITERS` threads; return segments per second.

    The files stay: after a removal ext4 creates files more slowly for minutes.

    Raises:
        OSError: a write failed.

    """
    folder = Path(tempfile.mkdtemp(prefix="floor-", dir=home))
    written = [0] * WRITERS
    failures: list[OSError] = []
    began = time.perf_counter()

    def write(thread: int) -> None:
        try:
            for number, body in enumerate(itertools.cycle(bodies)):
                if time.perf_counter() - began > seconds:
                    break
                _write_durably(folder, f"{thread}-{number}.json", body)
                written[thread] += 1
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(WRITERS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took = time.perf_counter() - began
    if failures:
        raise failures[0]
    return sum(written) / took


def _write_durably(folder: Path, name: str, body: bytes) -> None:
    temporary = folder / f".{name}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(folder / name)
