"""The table of a test, printed and written into docs/cluster-test.md between its markers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MARKED = re.compile(r"<!-- cluster -->\n.*?<!-- end -->", re.DOTALL)


class Result(StrEnum):
    """The result of a step."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Row:
    """A step with its result, the observation, and its duration."""

    step: str
    result: Result
    seen: str
    seconds: float


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of an aligned Markdown table."""
    cells = [["step", "result", "s", "what was seen"]]
    # A line break or a bar would end the cell.
    cells += [
        [row.step, row.result, f"{row.seconds:.0f}", " ".join(row.seen.split()).replace("|", "\\|")] for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def section(circumstances: Sequence[str], rows: Sequence[Row]) -> str:
    """Return the text between the markers: circumstances, summary, and table."""
    passed = sum(row.result is Result.PASSED for row in rows)
    lines = [*(f"- {one}" for one in circumstances), f"- {passed} of {len(rows)} steps passed", "", *table(rows)]
    return "\n".join(["<!-- cluster -->", *lines, "<!-- end -->"])


def write_section(document: Path, text: str) -> None:
    """Replace the text between the markers of a document.

    Raises:
        ValueError: it has no markers.

    """
    before = document.read_text()
    after, found = _MARKED.subn(lambda _: text, before)
    if found != 1:
        message = f"{document} has {found} places for the table, not one"
        raise ValueError(message)
    document.write_text(after)
