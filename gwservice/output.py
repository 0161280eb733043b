"""Standard output of commands, which may be full, or closed by its reader."""

import os
import sys
from pathlib import Path


class OutputFailed(Exception):
    """Standard output cannot be written; the message says why."""


def write_output(text: str) -> None:
    """Write a text to standard output at once; raise OutputFailed if that is not possible."""
    if sys.stdout is None:
        raise OutputFailed("the output cannot be written: standard output is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        with Path(os.devnull).open("wb") as devnull:  # Python would try again at exit
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        raise OutputFailed(f"the output cannot be written: {error.strerror}") from error
