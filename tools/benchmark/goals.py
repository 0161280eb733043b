"""The goals, and whether the numbers reach them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.benchmark.servers import BUFFER, GATEWAY, Cell
from tools.benchmark.load import Mode
from tools.benchmark.processes import Usage
from tools.benchmark.levels import Level
from tools.benchmark.sweep import Block

#: Where the goals of the sweep are judged.
_SAMPLES, _CONNECTIONS = 4096, 16
_RATIOS: list[tuple[str, Mode, float]] = [(BUFFER, "single", 0.5), (GATEWAY, "single", 0.3), (GATEWAY, "NDJSON", 0.7)]
_P99_SECONDS = 0.150
_RESIDENT_BYTES = 250e6
_MANY = 100_000
_FLAT = 1.25
_STATS_SECONDS = 0.005
_START_SECONDS = 3.0


@dataclass(frozen=True)
class Goal:
    """One goal: what is wanted, what was measured (None: it was not), and whether that is enough."""

    wanted: str
    measured: str | None
    reached: bool

    def line(self) -> str:
        """Give the goal as a line of a list."""
        if self.measured is None:
            return f"- not measured: {self.wanted}"
        return f"- **{'reached' if self.reached else 'NOT REACHED'}**: {self.wanted}; measured {self.measured}"


def load_goals(blocks: Sequence[Block], usages: dict[str, Usage]) -> list[Goal]:
    """Judge a sweep."""
    goals = [_ratio_goal(blocks, door, mode, wanted) for door, mode, wanted in _RATIOS]
    goals.append(_latency_goal(blocks))
    return [*goals, *_memory_goal({name: used.peak for name, used in usages.items()})]


def level_goals(levels: Sequence[Level]) -> list[Goal]:
    """Judge a filling; only one that went all the way."""
    first, last = levels[0], levels[-1]
    enough = last.stored >= _MANY
    cost, cost_first = (level.cell.cpu_per_thousand()[BUFFER] for level in (last, first))
    goals = [
        (
            f"cost per segment flat: the buffer's CPU at most {_FLAT} x that with {first.stored} stored",
            f"{cost / cost_first:.2f} x ({cost:.3f} against {cost_first:.3f} s per 1000 segments)",
            cost <= _FLAT * cost_first,
        ),
        (
            f"/stats under {1000 * _STATS_SECONDS:.0f} ms (p99, at the gateway)",
            f"{1000 * last.stats_p99:.1f} ms (p50 {1000 * last.stats_p50:.1f} ms)",
            last.stats_p99 < _STATS_SECONDS,
        ),
        (
            f"start-up after a clean stop under {_START_SECONDS:.0f} s",
            f"{last.start_seconds:.2f} s",
            last.start_seconds < _START_SECONDS,
        ),
    ]
    largest = {name: max(level.resident[name] for level in levels) for name in last.resident}
    return [
        *(
            Goal(f"with {_MANY:,} segments stored, {wanted}", measured if enough else None, reached)
            for wanted, measured, reached in goals
        ),
        *_memory_goal(largest),
    ]


def _ratio_goal(blocks: Sequence[Block], door: str, mode: Mode, wanted: float) -> Goal:
    text = f"{door}, {mode}, at least {wanted} x floor"
    found = _find(blocks, door, mode)
    if found is None:
        return Goal(text, None, reached=False)
    block, cell = found
    if cell.load.refused:
        return Goal(text, _invalid(cell), reached=False)
    ratio, bare = cell.rate / block.floor, block.bare / block.floor
    told = f"{ratio:.2f} x ({cell.rate:,.0f} of {block.floor:,.0f} segments/s; the bare work: {bare:.2f} x)"
    return Goal(text, told, ratio >= wanted)


def _latency_goal(blocks: Sequence[Block]) -> Goal:
    text = f"p99 at the {GATEWAY}, single, under {1000 * _P99_SECONDS:.0f} ms"
    found = _find(blocks, GATEWAY, "single")
    if found is None:
        return Goal(text, None, reached=False)
    _, cell = found
    if cell.load.refused:
        return Goal(text, _invalid(cell), reached=False)
    return Goal(text, f"{1000 * cell.load.p99:.0f} ms", cell.load.p99 < _P99_SECONDS)


def _invalid(cell: Cell) -> str:
    return f"nothing valid: {cell.load.refused} segments were refused"


def _memory_goal(sizes: dict[str, int]) -> list[Goal]:
    if not sizes:
        return []
    told = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    wanted = f"resident memory of each service under {_RESIDENT_BYTES / 1e6:.0f} MB throughout"
    return [Goal(wanted, told, max(sizes.values()) < _RESIDENT_BYTES)]


def _find(blocks: Sequence[Block], door: str, mode: Mode) -> tuple[Block, Cell] | None:
    for block in blocks:
        if (block.samples, block.connections) == (_SAMPLES, _CONNECTIONS):
            for cell in block.cells:
                if (cell.door, cell.mode) == (door, mode):
                    return block, cell
    return None
