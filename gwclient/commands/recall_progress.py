"""The progress of recalls that a command waits for."""

import sys

from tqdm import tqdm

from gwwire.names import printable


class RecallProgress:
    """Prints how far recalls are, or why they wait, beside a bar of progress: each state once."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def show(self, state: str) -> None:
        """Print the state of a recall in words unless it was printed before."""
        if state not in self._printed:
            self._printed.add(state)
            tqdm.write(f"waiting: {printable(state)}", file=sys.stderr)
