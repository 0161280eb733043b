"""The progress of recalls that a command waits for."""

import click

from gwclient.errors import OnTape
from gwwire.names import printable


class RecallProgress:
    """Prints how far a recall is, or why it waits, whenever that has changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, error: OnTape) -> None:
        """Print the state of a recall unless it was printed last."""
        if error.state != self._last:
            self._last = error.state
            click.echo(f"waiting: {printable(error.state)}", err=True)
