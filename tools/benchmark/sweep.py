"""The sweep: every server and mode at every segment size and number of connections."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from tools.benchmark.load import Mode, Order, run_load
from tools.benchmark.servers import Cell, Server, clean, measure, offers_ndjson

#: Upper limits of one measurement, in case a disk is very fast.
_MAX_SEGMENTS = 50_000
_MAX_BYTES = 2_000_000_000
_BYTES_PER_SAMPLE = 23.4
#: Before the first measurement: opens the connections between the services and warms the code.
_WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """Sizes in samples, numbers of connections, seconds per measurement and per floor, rounds of the comparison."""

    samples: Sequence[int]
    connections: Sequence[int]
    seconds: float
    floor_seconds: float
    rounds: int


def sweep(plan: Plan, servers: Sequence[Server]) -> Iterator[Cell]:
    """Measure cell by cell, with a progress bar.

    Raises:
        ServerFailed, GeneratorFailed, ProcessLookupError, OSError: the sweep cannot continue.

    """
    routes: list[tuple[Server, Mode]] = []
    for server in servers:
        routes += [(server, "single"), (server, "NDJSON")] if offers_ndjson(server) else [(server, "single")]
    for server, mode in routes:
        run_load(_order(server, mode, min(plan.samples), max(plan.connections), min(_WARM_UP_SECONDS, plan.seconds)))
        clean(server)
    total = len(plan.samples) * len(plan.connections) * len(routes)
    with tqdm(total=total, unit="cell", leave=False, disable=None) as progress:
        for samples in plan.samples:
            for connections in plan.connections:
                for server, mode in routes:
                    progress.set_description(f"{samples} samples, {connections} connections, {server.name} {mode}")
                    yield measure(server, _order(server, mode, samples, connections, plan.seconds))
                    clean(server)
                    progress.update()


def _order(server: Server, mode: Mode, samples: int, connections: int, seconds: float) -> Order:
    segments = min(_MAX_SEGMENTS, int(_MAX_BYTES / (_BYTES_PER_SAMPLE * samples)) + 1)
    return Order(server.url + server.push, mode, samples, connections, seconds, segments)
