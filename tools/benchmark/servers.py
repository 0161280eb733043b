"""The doors that segments are pushed through: a tier of the trio, or another server with the gateway's routes."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.error import HTTPError, URLError

from tools.benchmark.load import Load, Mode, Order, run_load
from tools.benchmark.processes import Usage, usage
from scripts.trio import Trio

#: The trio's processes as the tables call them.
GATEWAY, LOGIC, BUFFER = "gateway", "dslogic", "buffer"
_PROCESSES = {GATEWAY: "glitchflow_api", LOGIC: "dslogic", BUFFER: "databuffer"}
_NDJSON = "application/x-ndjson"
_TIMEOUT = 60.0


class ServerFailed(Exception):
    """A server did not do what a benchmark needs of it; the message says which and what."""


@dataclass(frozen=True)
class Server:
    """Where segments are pushed, and what is metered meanwhile.

    Attributes:
        name: what the tables call it.
        url: the server's address.
        push: the route that takes segments.
        clean: the route that archives them.
        pids: the process to meter, with all below it, by its name in the tables; empty where it runs elsewhere.

    """

    name: str
    url: str
    push: str
    clean: str
    pids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        door: the name of the door.
        mode: a segment a request, or NDJSON.
        samples: strain samples per segment.
        connections: requests under way at once.
        load: what the generator saw.
        cpu: CPU seconds meanwhile, by process.

    """

    door: str
    mode: Mode
    samples: int
    connections: int
    load: Load
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Segments acknowledged per second."""
        return self.load.rate

    def cpu_per_thousand(self) -> dict[str, float]:
        """CPU seconds per 1000 segments, by process; the generator's among them."""
        seconds = {**self.cpu, "generator": self.load.cpu_seconds}
        return {name: 1000 * taken / max(1, self.load.created) for name, taken in seconds.items()}


def servers_of(trio: Trio) -> list[Server]:
    """Give the trio's doors: the gateway, with all tiers behind it, and the buffer alone."""
    urls = {service.name: service.url for service in trio.services}
    pids = {name: trio.processes[service].pid for name, service in _PROCESSES.items()}
    return [
        Server(GATEWAY, urls[_PROCESSES[GATEWAY]], "/streamdata", "/cleanbuf", pids),
        Server(BUFFER, urls[_PROCESSES[BUFFER]], "/sendF", "/cleanall", {BUFFER: pids[BUFFER]}),
    ]


def other_server(name: str, url: str, pid: int | None) -> Server:
    """Give the door of another server that has the gateway's routes."""
    return Server(name, url.rstrip("/"), "/streamdata", "/cleanbuf", {} if pid is None else {name: pid})


def offers_ndjson(door: Server) -> bool:
    """Ask a door whether it takes many segments in one request.

    Raises:
        ServerFailed: nobody answers there.

    """
    request = urllib.request.Request(door.url + door.push, method="OPTIONS")  # noqa: S310 (http, see bench.py)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 (the same)
            return answer.status == HTTPStatus.NO_CONTENT and _NDJSON in answer.headers.get("Accept-Post", "")
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError) as error:
        raise ServerFailed(f"{door.name} does not answer at {door.url}: {error}") from error


def clean(door: Server) -> None:
    """Archive what was pushed, so that the next measurement begins with an empty batch.

    Raises:
        ServerFailed: the server did not.

    """
    request = urllib.request.Request(  # noqa: S310 (http, see bench.py)
        door.url + door.clean, b'{"msg":"benchmark"}', {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()  # noqa: S310 (the same)
    except (URLError, OSError) as error:
        raise ServerFailed(f"{door.name} could not be cleaned by POST {door.clean}: {error}") from error


def meter(door: Server) -> dict[str, Usage]:
    """Measure the processes behind a door."""
    return {name: usage(pid) for name, pid in door.pids.items()}


def measure(door: Server, order: Order) -> Cell:
    """Push through a door and see what it costs.

    Raises:
        GeneratorFailed: nothing could be pushed.
        ProcessLookupError: a process to meter is gone.

    """
    before = meter(door)
    load = run_load(order)
    after = meter(door)
    cpu = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in before}
    return Cell(door.name, order.mode, order.samples, order.connections, load, cpu)
