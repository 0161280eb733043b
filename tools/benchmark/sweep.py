"""The sweep: every door and mode at every size and number of connections, with the floor measured in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tools.benchmark.bare import measure_bare
from tools.benchmark.bodies import segment_bodies
from tools.benchmark.servers import Cell, Server, clean, measure, offers_ndjson
from tools.benchmark.floor import measure_floor
from tools.benchmark.load import Mode, Order, run_load

#: A measurement ends after so many segments or bytes, should a disk be so fast.
_MOST_SEGMENTS = 50_000
_MOST_BYTES = 2_000_000_000
_BYTES_PER_SAMPLE = 23.4
#: Before the first measurement: connections between the tiers are open, and code is warm.
_WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What is measured: sizes in samples, numbers of connections, seconds for each measurement and for a floor."""

    samples: Sequence[int]
    connections: Sequence[int]
    seconds: float
    floor_seconds: float


@dataclass(frozen=True)
class Block:
    """The measurements of one size and one number of connections, between two floors in segments per second.

    `bare` is the bare work of that size, in segments per second; measured once, before its first block.
    """

    samples: int
    connections: int
    floor_before: float
    floor_after: float
    bare: float
    cells: list[Cell]

    @property
    def floor(self) -> float:
        """What the measurements are compared with: the mean of the two."""
        return (self.floor_before + self.floor_after) / 2


def routes_of(doors: Sequence[Server]) -> list[tuple[Server, Mode]]:
    """Give each door with each mode that it takes."""
    return [(door, mode) for door in doors for mode in _modes(door)]


def _modes(door: Server) -> list[Mode]:
    return ["single", "NDJSON"] if offers_ndjson(door) else ["single"]


def sweep(plan: Plan, doors: Sequence[Server], home: Path) -> Iterator[Block]:
    """Measure block by block, with a progress bar.

    Raises:
        ServerFailed, GeneratorFailed, ProcessLookupError, OSError: it cannot go on.

    """
    routes = routes_of(doors)
    for door, mode in routes:
        run_load(_order(door, mode, min(plan.samples), max(plan.connections), min(_WARM_UP_SECONDS, plan.seconds)))
        clean(door)
    total = len(plan.samples) * len(plan.connections) * len(routes)
    with tqdm(total=total, unit="cell", leave=False, disable=None) as progress:
        for samples in plan.samples:
            bodies = segment_bodies(samples)
            bare = measure_bare(home, samples, plan.floor_seconds)
            floor = measure_floor(home, bodies, plan.floor_seconds)
            for connections in plan.connections:
                before, cells = floor, []
                for door, mode in routes:
                    progress.set_description(f"{samples} samples, {connections} connections, {door.name} {mode}")
                    cells.append(measure(door, _order(door, mode, samples, connections, plan.seconds)))
                    clean(door)
                    progress.update()
                floor = measure_floor(home, bodies, plan.floor_seconds)
                yield Block(samples, connections, before, floor, bare, cells)


def _order(door: Server, mode: Mode, samples: int, connections: int, seconds: float) -> Order:
    segments = min(_MOST_SEGMENTS, int(_MOST_BYTES / (_BYTES_PER_SAMPLE * samples)) + 1)
    return Order(door.url + door.push, mode, samples, connections, seconds, segments)
