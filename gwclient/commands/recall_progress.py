"""The progress of recalls that a command waits for."""

import sys

from tqdm import tqdm

from gwclient.errors import OnTape
from gwwire.names import printable


class RecallProgress:
    """Prints how far recalls are, or why they wait, beside a bar of progress: each state once."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def show(self, error: OnTape) -> None:
        """Print the state of a recall unless it was printed before."""
        if error.state not in self._printed:
            self._printed.add(error.state)
            tqdm.write(f"waiting: {printable(error.state)}", file=sys.stderr)
