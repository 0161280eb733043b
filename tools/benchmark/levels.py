"""The cost of a segment, of a query and of a start as the number of stored segments grows."""

import http.client
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tqdm import tqdm

from scripts.trio import Trio
from tools.benchmark.load import Order, percentile, run_load
from tools.benchmark.servers import BUFFER, Cell, Server, ServerFailed, clean, measure, servers_of, usages

#: The smallest segments of the sweep: their number matters here, not their size.
SAMPLES = 300
CONNECTIONS = 16
#: Requests of /stats per level.
QUERIES = 300
_LEVELS = (10, 1_000, 10_000, 100_000)
_FILL_CONNECTIONS = 64
_FILL_STEP = 2_000
_START_SECONDS = 300.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Filling:
    """The segments stored at the last level, and those pushed to measure each level, which stay."""

    most: int
    measured: int


@dataclass(frozen=True)
class Level:
    """The measurements with a number of segments stored.

    Attributes:
        stored: segments in the batch before the measurement.
        cell: pushing through the gateway.
        stats_p50, stats_p99: seconds of a GET /stats at the gateway, one at a time.
        start_seconds: seconds from the start of the buffer, after a clean stop, until it is ready.
        resident: bytes in memory, by process, before that stop.

    """

    stored: int
    cell: Cell
    stats_p50: float
    stats_p99: float
    start_seconds: float
    resident: dict[str, int]


def levels_up_to(most: int) -> list[int]:
    """Return the numbers of stored segments to measure at; `most` is the last."""
    return [*(level for level in _LEVELS if level < most), most]


def measure_levels(filling: Filling, trio: Trio) -> Iterator[Level]:
    """Fill the batch up to each level and measure there.

    Raises:
        ServerFailed, GeneratorFailed, OSError: the measurements cannot continue.

    """
    gateway, buffer = servers_of(trio)
    run_load(_order(gateway, CONNECTIONS, filling.measured))
    clean(gateway)
    stored = 0
    for level in levels_up_to(filling.most):
        _fill(buffer, level - stored)
        stored = max(stored, level)
        gateway, buffer = servers_of(trio)  # the buffer is a new process after each level
        cell = measure(gateway, _order(gateway, CONNECTIONS, filling.measured))
        latencies = _latencies(gateway.url, "/stats")
        resident = {name: used.resident for name, used in usages(gateway).items()}
        start_seconds = _restart_buffer(trio, buffer.url)
        yield Level(
            stored,
            cell,
            percentile(latencies, 0.5),
            percentile(latencies, 0.99),
            start_seconds,
            resident,
        )
        stored += cell.load.created


def _order(server: Server, connections: int, segments: int) -> Order:
    return Order(server.url + server.push, "single", SAMPLES, connections, _START_SECONDS, segments)


def _fill(buffer: Server, segments: int) -> None:
    with tqdm(total=max(0, segments), unit="segment", desc="filling", leave=False, disable=None) as progress:
        for filled in range(0, segments, _FILL_STEP):
            step = min(_FILL_STEP, segments - filled)
            load = run_load(_order(buffer, _FILL_CONNECTIONS, step))
            if load.created != step:
                raise ServerFailed(f"the {BUFFER} stored {load.created} of {step} segments: {load.complaint}")
            progress.update(step)


def _latencies(url: str, path: str) -> list[float]:
    """Repeat a GET over one connection and return the latencies in seconds, ascending."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_START_SECONDS)
    latencies = []
    for _ in range(QUERIES):
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
