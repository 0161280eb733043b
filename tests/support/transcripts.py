"""Transcripts in the documents: `$ COMMAND`, then its output.

Where an output differs from run to run, or is cut short, a transcript has `…`; a line that is only `…` stands for any
number of lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A command of a transcript, and the output that is shown below it."""

    command: str
    shown: str


def steps(document: str) -> Iterator[Step]:
    """Yield each command in the `console` blocks of a document, with lines that end in a backslash joined."""
    for block in re.findall(r"^```console\n(.*?)^```", document, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = re.sub(r"\\\n\s*", "", part).partition("\n")
            yield Step(command, shown)


def pattern(shown: str) -> str:
    """Return the regular expression of the outputs that a transcript describes."""
    lines = [r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown.splitlines()]
    return "".join(lines)
