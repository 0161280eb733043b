"""The tables, the same on the terminal and in the report: Markdown whose columns stand under each other."""

from collections.abc import Sequence

from tools.benchmark.servers import BUFFER, GATEWAY, LOGIC, Cell
from tools.benchmark.processes import Usage
from tools.benchmark.levels import Level
from tools.benchmark.sweep import Block

_FIRST_WIDTH = 12
_MEGABYTE = 1e6
_TIERS = (GATEWAY, LOGIC, BUFFER)


class Table:
    """A table with a head; the first column is text, the others are numbers."""

    def __init__(self, *head: str) -> None:
        self._widths = [_FIRST_WIDTH, *(max(6, len(name)) for name in head[1:])]
        self._head = head

    def head(self) -> list[str]:
        """Give the lines above the rows."""
        rules = ["-" * self._widths[0], *("-" * (width - 1) + ":" for width in self._widths[1:])]
        return [self.row(*self._head), self.row(*rules)]

    def row(self, *cells: str) -> str:
        """Give one line."""
        first, *rest = zip(cells, self._widths, strict=True)
        padded = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
        return f"| {' | '.join(padded)} |"


class LoadTable(Table):
    """The measurements of one size: a line for each door, mode and number of connections.

    Args:
        others: names of other servers whose processes are metered.

    """

    def __init__(self, others: Sequence[str] = ()) -> None:
        self._metered = [*_TIERS, *others, "generator"]
        super().__init__(
            *("door", "mode", "connections", "requests/s", "segments/s", "MB/s", "x floor", "p50 ms", "p99 ms"),
            *(f"CPU {name}" for name in self._metered),
        )

    def lines(self, block: Block) -> list[str]:
        """Give the lines of a block."""
        return [self._line(cell, block.floor) for cell in block.cells]

    def _line(self, cell: Cell, floor: float) -> str:
        load, cpu = cell.load, cell.cpu_per_thousand()
        ratio = f"{cell.rate / floor:.2f}"
        return self.row(
            *(cell.door, cell.mode, str(cell.connections)),
            *(_count(load.requests / load.seconds), _count(cell.rate)),
            *(f"{cell.rate * load.segment_bytes / _MEGABYTE:.1f}", f"{ratio} INVALID" if load.refused else ratio),
            *(_milliseconds(load.p50), _milliseconds(load.p99)),
            *(f"{cpu[name]:.2f}" if name in cpu else "-" for name in self._metered),
        )


class LevelTable(Table):
    """What it is like with more and more segments stored."""

    def __init__(self) -> None:
        super().__init__(
            *("stored", "segments/s", "floor", "x floor", "p50 ms", "p99 ms"),
            *(f"CPU {name}" for name in _TIERS),
            *("/stats p50 ms", "/stats p99 ms", "start s"),
            *(f"MB {name}" for name in _TIERS),
        )

    def line(self, level: Level) -> str:
        """Give the line of a level."""
        cell, cpu = level.cell, level.cell.cpu_per_thousand()
        ratio = f"{cell.rate / level.floor:.2f}"
        return self.row(
            *(f"{level.stored:,}", _count(cell.rate), _count(level.floor)),
            f"{ratio} INVALID" if cell.load.refused else ratio,
            *(_milliseconds(cell.load.p50), _milliseconds(cell.load.p99)),
            *(f"{cpu[name]:.2f}" for name in _TIERS),
            *(_milliseconds(level.stats_p50), _milliseconds(level.stats_p99), f"{level.start_seconds:.2f}"),
            *(f"{level.resident[name] / _MEGABYTE:.0f}" for name in _TIERS),
        )


def memory_lines(usages: dict[str, Usage]) -> list[str]:
    """Give the table of what each service has in memory."""
    table = Table("service", "MB at the end", "MB at most")
    rows = [
        table.row(name, *(f"{size / _MEGABYTE:.0f}" for size in (used.resident, used.peak)))
        for name, used in usages.items()
    ]
    return [*table.head(), *rows]


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
