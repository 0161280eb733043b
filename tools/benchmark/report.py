"""docs/benchmarks.md: a frame, and a section for each kind of measurement, replaced when it is measured anew."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tools.benchmark.bodies import lines_per_request, mean_size, segment_bodies
from tools.benchmark.goals import level_goals, load_goals
from tools.benchmark.processes import Usage
from tools.benchmark.levels import CONNECTIONS, QUESTIONS, SAMPLES, Level
from tools.benchmark.sweep import Block
from tools.benchmark.tables import LevelTable, LoadTable, memory_lines

_FRAME = """\
# Benchmarks

Written by `make bench`, not by hand. Everything runs on one machine, and shares it: the services, the load generator
and whoever else is there. Absolute numbers therefore come and go with the machine; what is compared is the ratio to the
**floor**, measured before and after each group of measurements: the same bytes written to a temporary name, synced and
renamed by 16 threads, with no server at all. All floors are shown, so that the noise can be seen. The **bare work** is
the same with each segment validated and hashed besides, by the buffer's own code, with a process of 16 threads on every
core and still no server, connection or catalog: no server in front of that work can be faster.

The generator is a process of its own; its requests are made before the clock starts, and its connections are kept. A
latency is that of a whole request, from sending it to the end of its answer. CPU is user and system time of a service
and all its processes, in seconds per 1000 segments: 1.00 is one millisecond a segment. Memory is summed over the
processes of a service, so that pages they share count in each. MB are 10⁶ bytes. A measurement with a segment that was
not acknowledged is marked INVALID.
"""
_SECTIONS = {
    "load": "Under load",
    "stored": "With many segments stored",
    "client": "The client",
    "preproc": "Spectrograms",
}
_COMMANDS = {
    "load": "make bench",
    "stored": "make bench ARGS='--stored 100000'",
    "client": "make bench",
    "preproc": "make bench",
}


@dataclass(frozen=True)
class Circumstances:
    """When, where and how it was measured, each in one line."""

    date: str
    command: str
    machine: str
    versions: str

    def lines(self) -> list[str]:
        """Give the list for the report."""
        return [
            f"- {self.date}, `{self.command}`",
            f"- machine: {self.machine}",
            f"- versions: {self.versions}",
        ]


def load_section(
    blocks: Sequence[Block], usages: dict[str, Usage], others: Sequence[str], circumstances: Circumstances
) -> list[str]:
    """Tell a sweep."""
    lines = [*circumstances.lines(), "", "Goals, at 16 connections with 4096 samples:", ""]
    lines += [goal.line() for goal in load_goals(blocks, usages)]
    if not any(cell.mode == "NDJSON" for block in blocks for cell in block.cells):
        lines += ["", "NDJSON was not measured: no server offered it."]
    table = LoadTable(others)
    for samples, group in groupby(blocks, key=lambda block: block.samples):
        of_size = list(group)
        lines += ["", *_size_head(samples, of_size), "", *table.head()]
        lines += [line for block in of_size for line in table.lines(block)]
    if usages:
        lines += ["", "### Memory", "", *memory_lines(usages)]
    return lines


def _size_head(samples: int, blocks: Sequence[Block]) -> list[str]:
    bodies = segment_bodies(samples)
    floors = [blocks[0].floor_before, *(block.floor_after for block in blocks)]
    told = ", ".join(f"{floor:,.0f}" for floor in floors)
    between = ", ".join(str(block.connections) for block in blocks)
    text = (
        f"{mean_size(bodies) / 1000:.1f} kB a segment; {lines_per_request(bodies)} segments in an NDJSON request. "
        f"Floor before, between and after {between} connections: {told} segments/s. "
        f"Bare work: {blocks[0].bare:,.0f} segments/s."
    )
    return [f"### {samples} samples", "", text]


def stored_section(levels: Sequence[Level], circumstances: Circumstances) -> list[str]:
    """Tell a filling."""
    table = LevelTable()
    text = (
        f"At each level {levels[0].cell.load.requests} segments of {SAMPLES} samples go through the gateway, one a "
        f"request, over {CONNECTIONS} connections; then /stats is asked {QUESTIONS} times, one at a time; then the "
        "buffer is stopped and started, and the time until it is ready is taken. Floors are measured before each level."
    )
    return [
        *circumstances.lines(),
        "",
        "Goals:",
        "",
        *(goal.line() for goal in level_goals(levels)),
        "",
        text,
        "",
        *table.head(),
        *(table.line(level) for level in levels),
    ]


def write_section(path: Path, name: str, lines: Sequence[str]) -> None:
    """Put a section into the report, and leave the others as they are."""
    sections = _read_sections(path.read_text()) if path.exists() else {}
    sections[name] = "\n".join(lines)
    parts = [_FRAME]
    for each, title in _SECTIONS.items():
        content = sections.get(each, f"Not measured yet: `{_COMMANDS[each]}`.")
        parts.append(f"<!-- {each} -->\n## {title}\n\n{content}\n<!-- end -->\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts))


def _read_sections(text: str) -> dict[str, str]:
    found = re.findall(r"<!-- (\w+) -->\n## [^\n]*\n\n(.*?)\n<!-- end -->", text, re.DOTALL)
    return {name: content for name, content in found if not content.startswith("Not measured yet")}
