"""The tables, the same on the terminal and in the report: Markdown with aligned columns."""

from collections.abc import Iterator, Mapping, Sequence

from tools.benchmark.levels import Level
from tools.benchmark.processes import Usage
from tools.benchmark.servers import SERVICES, Cell
from tools.benchmark.yardstick import Comparison, Side

_FIRST_WIDTH = 12
_MEGABYTE = 1e6


class Table:
    """A table with a head; the first column is text, the others are numbers."""

    def __init__(self, *head: str) -> None:
        self._widths = [_FIRST_WIDTH, *(max(6, len(name)) for name in head[1:])]
        self._head = head

    def head(self) -> list[str]:
        """Return the lines above the rows."""
        rules = ["-" * self._widths[0], *("-" * (width - 1) + ":" for width in self._widths[1:])]
        return [self.row(*self._head), self.row(*rules)]

    def row(self, *cells: str) -> str:
        """Return one line."""
        first, *rest = zip(cells, self._widths, strict=True)
        padded = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
        return f"| {' | '.join(padded)} |"


class LoadTable(Table):
    """The measurements of one size: a line for each server, mode and number of connections.

    Args:
        others: names of other servers whose processes are measured.

    """

    def __init__(self, others: Sequence[str] = ()) -> None:
        self._metered = [*SERVICES, *others, "generator"]
        super().__init__(
            *("server", "mode", "connections", "requests/s", "segments/s", "MB/s", "p50 ms", "p99 ms"),
            *(f"CPU {name}" for name in self._metered),
        )

    def line(self, cell: Cell) -> str:
        """Return the line of a measurement."""
        load, cpu = cell.load, cell.cpu_per_thousand()
        return self.row(
            *(cell.server, cell.mode, str(cell.connections)),
            *(_count(load.requests / load.seconds), _rate(cell)),
            *(f"{cell.rate * load.segment_bytes / _MEGABYTE:.1f}", _milliseconds(load.p50), _milliseconds(load.p99)),
            *(f"{cpu[name]:.2f}" if name in cpu else "-" for name in self._metered),
        )


class LevelTable(Table):
    """The measurements with more and more segments stored."""

    def __init__(self) -> None:
        super().__init__(
            *("stored", "segments/s", "p50 ms", "p99 ms"),
            *(f"CPU {name}" for name in SERVICES),
            *("/stats p50 ms", "/stats p99 ms", "start s"),
            *(f"MB {name}" for name in SERVICES),
        )

    def line(self, level: Level) -> str:
        """Return the line of a level."""
        cell, cpu = level.cell, level.cell.cpu_per_thousand()
        return self.row(
            *(f"{level.stored:,}", _rate(cell), _milliseconds(cell.load.p50), _milliseconds(cell.load.p99)),
            *(f"{cpu[name]:.2f}" for name in SERVICES),
            *(_milliseconds(level.stats_p50), _milliseconds(level.stats_p99), f"{level.start_seconds:.2f}"),
            *(f"{level.resident[name] / _MEGABYTE:.0f}" for name in SERVICES),
        )


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the table of product and yardstick, with their ratios."""
    table = Table("side", "samples", "segments/s", "p99 ms", *(f"CPU {name}" for name in SERVICES), "CPU all")

    def rows() -> Iterator[str]:
        for samples, pair in comparison.items():
            product, yardstick = _numbers(pair.product), _numbers(pair.yardstick)
            ratios = [one / other for one, other in zip(product, yardstick, strict=True)]
            for name, side, values in (("product", pair.product, product), ("yardstick", pair.yardstick, yardstick)):
                rate, p99, *cpu = values
                invalid = " INVALID" if side.bad else ""
                yield table.row(
                    *(name, str(samples), f"{_count(rate)}{invalid}", f"{p99:.0f}", *(f"{one:.2f}" for one in cpu))
                )
            yield table.row("ratio", str(samples), *(f"{ratio:.2f}" for ratio in ratios))

    return [*table.head(), *rows()]


def _numbers(side: Side) -> list[float]:
    return [side.per_s, side.p99_ms, side.gateway, side.dslogic, side.buffer, side.cpu]


def memory_lines(usages: Mapping[str, Usage]) -> list[str]:
    """Return the table of the memory of each service."""
    table = Table("service", "MB at the end", "MB at most")
    rows = [
        table.row(name, *(f"{size / _MEGABYTE:.0f}" for size in (used.resident, used.peak)))
        for name, used in usages.items()
    ]
    return [*table.head(), *rows]


def _rate(cell: Cell) -> str:
    return f"{_count(cell.rate)}{' INVALID' if cell.load.refused else ''}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
