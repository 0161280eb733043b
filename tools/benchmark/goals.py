"""The goals, and whether the measurements reach them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.benchmark.levels import Level
from tools.benchmark.processes import Usage
from tools.benchmark.servers import BUFFER, GATEWAY, LOGIC, Cell
from tools.benchmark.yardstick import CONNECTIONS, Comparison, Pair

#: Product / yardstick, by the number of samples in a segment.
_CPU = {300: 1.8, 4096: 1.4, 16384: 1.25}
_RATE, _P99 = 0.75, 1.5
#: The size at which single services and NDJSON are compared with their goals.
_SAMPLES = 4096
_CPU_OF_A_SERVICE = 1.8
_NDJSON = 1.3
_RESIDENT_MB = {GATEWAY: 110, LOGIC: 110, BUFFER: 200}
_STORED = 100_000
_FLAT = 1.25
_STATS_MS = 5.0
_START_SECONDS = 3.0


@dataclass(frozen=True)
class Goal:
    """One goal: the target, the measured value (None if it was not measured), and whether it is reached."""

    wanted: str
    measured: str | None = None
    reached: bool = False

    def line(self) -> str:
        """Return the goal as a line of a list."""
        if self.measured is None:
            return f"- not measured: {self.wanted}"
        return f"- **{'reached' if self.reached else 'NOT REACHED'}**: {self.wanted}; measured {self.measured}"


def load_goals(cells: Sequence[Cell], usages: Mapping[str, Usage], comparison: Comparison) -> list[Goal]:
    """Compare a sweep and the comparison with the yardstick with the goals; an empty comparison was not made."""
    goals = [goal for samples in _CPU for goal in _goals_of_a_size(samples, comparison.get(samples))]
    goals.append(_ndjson_goal(cells, comparison.get(_SAMPLES)))
    return [*goals, *_memory_goals({name: used.peak for name, used in usages.items()})]


def _goals_of_a_size(samples: int, pair: Pair | None) -> Iterator[Goal]:
    texts = [
        f"CPU per segment over all services at most {_CPU[samples]} x",
        f"segments/s at least {_RATE} x",
        f"p99 at most {_P99} x",
    ]
    texts += [f"CPU per segment of every service at most {_CPU_OF_A_SERVICE} x"] if samples == _SAMPLES else []
    goals = [f"{samples} samples: {text} the yardstick's" for text in texts]
    if pair is None:
        yield from map(Goal, goals)
        return
    product, yardstick = pair.product, pair.yardstick
    if bad := product.bad + yardstick.bad:
        yield from (Goal(goal, f"nothing valid: {bad} segments were not stored") for goal in goals)
        return
    yield _at_most(goals[0], _CPU[samples], product.cpu, yardstick.cpu, "ms")
    yield Goal(
        goals[1],
        f"{product.per_s / yardstick.per_s:.2f} x ({product.per_s:,.0f} against {yardstick.per_s:,.0f})",
        product.per_s >= _RATE * yardstick.per_s,
    )
    yield _at_most(goals[2], _P99, product.p99_ms, yardstick.p99_ms, "ms")
    if samples == _SAMPLES:
        ratios = {service: getattr(product, service) / getattr(yardstick, service) for service in _RESIDENT_MB}
        measured = ", ".join(f"{service} {ratio:.2f} x" for service, ratio in ratios.items())
        yield Goal(goals[3], measured, max(ratios.values()) <= _CPU_OF_A_SERVICE)


def _ndjson_goal(cells: Sequence[Cell], pair: Pair | None) -> Goal:
    text = (
        f"{_SAMPLES} samples, NDJSON, {CONNECTIONS} connections: CPU per segment over all services at most {_NDJSON} x "
        "the yardstick buffer's alone, one segment a request"
    )
    wanted = (GATEWAY, "NDJSON", _SAMPLES, CONNECTIONS)
    found = [cell for cell in cells if (cell.server, cell.mode, cell.samples, cell.connections) == wanted]
    if not found or pair is None:
        return Goal(text)
    [cell] = found
    if cell.load.refused:
        return Goal(text, f"nothing valid: {cell.load.refused} segments were not stored")
    taken = cell.cpu_per_thousand()
    return _at_most(text, _NDJSON, sum(taken[service] for service in _RESIDENT_MB), pair.yardstick.buffer, "ms")


def _at_most(text: str, limit: float, value: float, reference: float, unit: str) -> Goal:
    measured = f"{value / reference:.2f} x ({value:.2f} against {reference:.2f} {unit})"
    return Goal(text, measured, value <= limit * reference)


def level_goals(levels: Sequence[Level]) -> list[Goal]:
    """Compare the full-store measurements with the goals, if enough segments were stored."""
    first, last = levels[0], levels[-1]
    cost_first, cost = (level.cell.cpu_per_thousand()[BUFFER] for level in (first, last))
    goals = [
        Goal(
            f"/stats under {_STATS_MS:.0f} ms (p99, at the gateway)",
            f"{1000 * last.stats_p99:.1f} ms (p50 {1000 * last.stats_p50:.1f} ms)",
            1000 * last.stats_p99 < _STATS_MS,
        ),
        _at_most(
            f"CPU per segment of the buffer at most {_FLAT} x that with {first.stored} stored",
            _FLAT,
            cost,
            cost_first,
            "ms",
        ),
        Goal(
            f"start-up after a clean stop under {_START_SECONDS:.0f} s",
            f"{last.start_seconds:.2f} s",
            last.start_seconds < _START_SECONDS,
        ),
    ]
    peaks = {name: max(level.resident[name] for level in levels) for name in last.resident}
    enough = last.stored >= _STORED
    return [
        *(
            Goal(f"with {_STORED:,} segments stored, {goal.wanted}", goal.measured if enough else None, goal.reached)
            for goal in goals
        ),
        *_memory_goals(peaks),
    ]


def _memory_goals(sizes: Mapping[str, int]) -> list[Goal]:
    return [
        Goal(
            f"resident memory of {service} under load, over all its processes, at most {limit} MB",
            f"{sizes[service] / 1e6:.0f} MB" if service in sizes else None,
            service in sizes and sizes[service] <= limit * 1e6,
        )
        for service, limit in _RESIDENT_MB.items()
    ]
