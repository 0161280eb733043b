"""What a segment, a question and a start cost while more and more segments are stored."""

import http.client
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from tools.benchmark.bodies import segment_bodies
from tools.benchmark.servers import BUFFER, Cell, Server, ServerFailed, clean, servers_of, measure, meter
from tools.benchmark.floor import measure_floor
from tools.benchmark.load import Order, percentile, run_load
from scripts.trio import Trio

#: The smallest segments of the sweep: it is their number that is looked into.
SAMPLES = 300
CONNECTIONS = 16
#: How often /stats is asked.
QUESTIONS = 300
_LEVELS = (10, 1_000, 10_000, 100_000)
_FILL_CONNECTIONS = 64
_FILL_STEP = 2_000
_START_SECONDS = 300.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Filling:
    """What is measured: up to how many stored, with how many segments a level (they stay), seconds for a floor."""

    most: int
    measured: int
    floor_seconds: float


@dataclass(frozen=True)
class Level:
    """What it is like with so many segments stored.

    Attributes:
        stored: segments in the batch before the measurement.
        floor: segments per second with no server, measured right before.
        cell: pushing through the gateway.
        stats_p50, stats_p99: seconds a GET /stats takes at the gateway, one at a time.
        start_seconds: from starting the buffer, after a clean stop, until it is ready.
        resident: bytes in memory, by process, before that stop.

    """

    stored: int
    floor: float
    cell: Cell
    stats_p50: float
    stats_p99: float
    start_seconds: float
    resident: dict[str, int]


def levels_up_to(most: int) -> list[int]:
    """Give the numbers of stored segments to look at; `most` is the last."""
    return [*(level for level in _LEVELS if level < most), most]


def measure_levels(filling: Filling, trio: Trio, home: Path) -> Iterator[Level]:
    """Fill the batch up to each level, and measure there.

    Raises:
        ServerFailed, GeneratorFailed, OSError: it cannot go on.

    """
    gateway, buffer = servers_of(trio)
    run_load(_order(gateway, CONNECTIONS, filling.measured))
    clean(gateway)
    bodies = segment_bodies(SAMPLES)
    stored = 0
    for level in levels_up_to(filling.most):
        _fill(buffer, level - stored)
        stored = max(stored, level)
        floor = measure_floor(home, bodies, filling.floor_seconds)
        gateway, buffer = servers_of(trio)  # the buffer is another process after each level
        cell = measure(gateway, _order(gateway, CONNECTIONS, filling.measured))
        latencies = _ask(gateway.url, "/stats")
        resident = {name: used.resident for name, used in meter(gateway).items()}
        start_seconds = _restart_buffer(trio, buffer.url)
        yield Level(
            stored,
            floor,
            cell,
            percentile(latencies, 0.5),
            percentile(latencies, 0.99),
            start_seconds,
            resident,
        )
        stored += cell.load.created


def _order(door: Server, connections: int, segments: int) -> Order:
    return Order(door.url + door.push, "single", SAMPLES, connections, _START_SECONDS, segments)


def _fill(buffer: Server, segments: int) -> None:
    with tqdm(total=max(0, segments), unit="segment", desc="filling", leave=False, disable=None) as progress:
        for filled in range(0, segments, _FILL_STEP):
            step = min(_FILL_STEP, segments - filled)
            load = run_load(_order(buffer, _FILL_CONNECTIONS, step))
            if load.created != step:
                raise ServerFailed(f"the {BUFFER} took {load.created} of {step} segments: {load.complaint}")
            progress.update(step)


def _ask(url: str, path: str) -> list[float]:
    """Ask the same again and again over one connection; give the latencies in s, ascending."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_START_SECONDS)
    latencies = []
    for _ in range(QUESTIONS):
        asked = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        latencies.append(time.perf_counter() - asked)
        if answer.status != http.HTTPStatus.OK:
            raise ServerFailed(f"GET {path} answered {answer.status}")
    connection.close()
    return sorted(latencies)


def _restart_buffer(trio: Trio, url: str) -> float:
    process = trio.processes["databuffer"]
    process.send_signal(signal.SIGTERM)
    if process.wait(_START_SECONDS):
        raise ServerFailed(f"the {BUFFER} ended with status {process.returncode}")
    began = time.perf_counter()
    trio.launch("databuffer")
    while not _is_ready(url):
        trio.check()
        if time.perf_counter() - began > _START_SECONDS:
            raise ServerFailed(f"the {BUFFER} was not ready after {_START_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - began


def _is_ready(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_START_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
