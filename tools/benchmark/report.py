"""docs/benchmarks.md: a frame, and a section for each kind of measurement, replaced when it is measured again."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tools.benchmark.bodies import lines_per_request, mean_size, segment_bodies
from tools.benchmark.goals import level_goals, load_goals
from tools.benchmark.levels import CONNECTIONS, QUERIES, SAMPLES, Level
from tools.benchmark.processes import Usage
from tools.benchmark.servers import Cell
from tools.benchmark.tables import LevelTable, LoadTable, comparison_lines, memory_lines
from tools.benchmark.yardstick import Comparison

_FRAME = """\
# Benchmarks

After reading this page you know what a segment costs in each service, and how to measure your own
machine: `make bench` writes this page. Services and load generator share one machine, so absolute
numbers depend on it. The goals are therefore ratios to the **yardstick**, measured in turns with
the product: three throw-away programs that do only the essential work of a service, without
authentication, limits, recovery or idempotency. The **floor** is the number of segments that the
disk alone stores: the same bytes written to a temporary name, synced and renamed by 16 threads,
without a server. It is measured after the sweep. Nothing is deleted before the last measurement.

The generator is a separate process; its requests are made before the clock starts, and its
connections are kept. A latency is that of a whole request, from sending it to the end of its
answer. CPU is user and system time of a service over all its processes, in milliseconds per
segment. Memory is summed over the processes of a service, so that shared pages count once for each.
MB are 10⁶ bytes. A measurement with a segment that was not acknowledged is marked INVALID.
"""
_SECTIONS = {
    "load": ("Under load", "make bench"),
    "stored": ("With many segments stored", "make bench ARGS='--stored 100000'"),
    "records": ("Records, steps and the change feed", "make bench"),
    "tiers": ("Tiers", "python -m tools.benchmark.tiers"),
    "client": ("The client", "make bench"),
    "preproc": ("Spectrograms", "make bench"),
    #: Written by hand, because it cannot be measured again.
    "rebuild": ("Before and after the rebuild of the data path", ""),
}


@dataclass(frozen=True)
class Circumstances:
    """Date, command, machine and versions of a measurement, each in one line."""

    date: str
    command: str
    machine: str
    versions: str

    def lines(self) -> list[str]:
        """Return the list for the report."""
        return [f"- {self.date}, `{self.command}`", f"- machine: {self.machine}", f"- versions: {self.versions}"]


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        cells: the measurements, size by size.
        usages: CPU time and memory of the services at the end, by name.
        floors: segments per second of the disk alone, by segment size.
        comparison: with the yardstick; empty if it was not made.
        skipped: the reason for that, or empty.

    """

    cells: Sequence[Cell]
    usages: Mapping[str, Usage]
    floors: Mapping[int, float]
    comparison: Comparison
    skipped: str = ""


def load_section(sweep: Sweep, others: Sequence[str], circumstances: Circumstances) -> list[str]:
    """Return the section on a sweep."""
    lines = [*circumstances.lines(), "", "Goals:", ""]
    lines += [goal.line() for goal in load_goals(sweep.cells, sweep.usages, sweep.comparison)]
    lines += ["", "### Product and yardstick", ""]
    lines += [f"Not compared: {sweep.skipped}."] if sweep.skipped else comparison_lines(sweep.comparison)
    table = LoadTable(others)
    for samples, cells in groupby(sweep.cells, key=lambda cell: cell.samples):
        bodies = segment_bodies(samples)
        text = (
            f"{mean_size(bodies) / 1000:.1f} kB a segment; {lines_per_request(bodies)} segments in an NDJSON request. "
            f"Floor: {sweep.floors[samples]:,.0f} segments/s."
        )
        lines += ["", f"### {samples} samples", "", text, "", *table.head(), *map(table.line, cells)]
    if sweep.usages:
        lines += ["", "### Memory", "", *memory_lines(sweep.usages)]
    return lines


def stored_section(levels: Sequence[Level], circumstances: Circumstances) -> list[str]:
    """Return the section on many stored segments."""
    table = LevelTable()
    text = (
        f"At each level {levels[0].cell.load.requests} segments of {SAMPLES} samples go through the gateway, one a "
        f"request, over {CONNECTIONS} connections; then /stats is read {QUERIES} times, one at a time; then the buffer "
        "is stopped and started, and the time until it is ready is taken."
    )
    goals = [goal.line() for goal in level_goals(levels)]
    return [*circumstances.lines(), "", "Goals:", "", *goals, "", text, "", *table.head(), *map(table.line, levels)]


def write_section(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replace a section of the report, and keep the others as they are."""
    sections = _read_sections(path.read_text()) if path.exists() else {}
    sections[name] = "\n".join(map(_wrapped, lines))
    parts = [_FRAME]
    for each, (title, command) in _SECTIONS.items():
        if each not in sections and not command:
            continue
        content = sections.get(each, f"Not measured yet: `{command}`.")
        parts.append(f"<!-- {each} -->\n## {title}\n\n{content}\n<!-- end -->\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts))


def _wrapped(line: str) -> str:
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _read_sections(text: str) -> dict[str, str]:
    found = re.findall(r"<!-- (\w+) -->\n## [^\n]*\n\n(.*?)\n<!-- end -->", text, re.DOTALL)
    return {name: content for name, content in found if not content.startswith("Not measured yet")}
