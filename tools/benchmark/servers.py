"""The servers that segments are pushed to: a service of the trio, or another server with the gateway's routes."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.error import HTTPError, URLError

from scripts.trio import Trio
from tools.benchmark.load import Load, Mode, Order, run_load
from tools.benchmark.processes import Usage, usage

#: The trio's processes, by their names in the tables.
SERVICES = GATEWAY, LOGIC, BUFFER = "gateway", "dslogic", "buffer"
_PROCESSES = {GATEWAY: "glitchflow_api", LOGIC: "dslogic", BUFFER: "databuffer"}
_NDJSON = "application/x-ndjson"
_TIMEOUT = 60.0


class ServerFailed(Exception):
    """A server failed during the benchmark; the message names the server and the request."""


@dataclass(frozen=True)
class Server:
    """A server, and the processes whose use of CPU time and memory is measured.

    Attributes:
        name: in the tables.
        url: the server's address.
        push: the route that takes segments.
        clean: the route that archives them.
        pids: the root of each process tree to measure, by its name in the tables; empty if it runs elsewhere.

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
        server: the name of the server.
        mode: one segment per request, or NDJSON.
        samples: strain samples per segment.
        connections: requests in flight.
        load: the result of the generator.
        cpu: CPU seconds used, by process.

    """

    server: str
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
        """Return CPU seconds per 1000 segments (milliseconds per segment), by process and for the generator."""
        seconds = {**self.cpu, "generator": self.load.cpu_seconds}
        return {name: 1000 * taken / max(1, self.load.created) for name, taken in seconds.items()}


def servers_of(trio: Trio) -> list[Server]:
    """Return the trio's servers: the gateway, with the services behind it, and the buffer alone."""
    urls = {service.name: service.url for service in trio.services}
    pids = {name: trio.processes[service].pid for name, service in _PROCESSES.items()}
    return [
        Server(GATEWAY, urls[_PROCESSES[GATEWAY]], "/streamdata", "/cleanbuf", pids),
        Server(BUFFER, urls[_PROCESSES[BUFFER]], "/sendF", "/cleanall", {BUFFER: pids[BUFFER]}),
    ]


def other_server(name: str, url: str, pid: int | None) -> Server:
    """Return another server that has the gateway's routes."""
    return Server(name, url.rstrip("/"), "/streamdata", "/cleanbuf", {} if pid is None else {name: pid})


def offers_ndjson(server: Server) -> bool:
    """Return whether a server takes many segments in one request.

    Raises:
        ServerFailed: the server does not answer.

    """
    request = urllib.request.Request(server.url + server.push, method="OPTIONS")  # noqa: S310 (http, see __main__.py)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 (the same)
            return answer.status == HTTPStatus.NO_CONTENT and _NDJSON in answer.headers.get("Accept-Post", "")
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError) as error:
        raise ServerFailed(f"{server.name} does not answer at {server.url}: {error}") from error


def clean(server: Server) -> None:
    """Archive the batch, so that the next measurement begins with an empty one.

    Raises:
        ServerFailed: the server did not archive it.

    """
    request = urllib.request.Request(  # noqa: S310 (http, see __main__.py)
        server.url + server.clean, b'{"msg":"benchmark"}', {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()  # noqa: S310 (the same)
    except (URLError, OSError) as error:
        raise ServerFailed(f"{server.name} could not be cleaned by POST {server.clean}: {error}") from error


def usages(server: Server) -> dict[str, Usage]:
    """Measure the processes of a server."""
    return {name: usage(pid) for name, pid in server.pids.items()}


def measure(server: Server, order: Order) -> Cell:
    """Push to a server and measure the cost.

    Raises:
        GeneratorFailed: no segment could be pushed.
        ProcessLookupError: a process to measure has ended.

    """
    before = usages(server)
    load = run_load(order)
    after = usages(server)
    cpu = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in before}
    return Cell(server.name, order.mode, order.samples, order.connections, load, cpu)
