"""Standard output and standard error, which may be full, or closed by their reader."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from gwclient.errors import FolderError, OutputError, is_disk_full


@contextmanager
def checked_output() -> Iterator[None]:
    """Write the output when the block ends; raise OutputError if that fails, then or before.

    The message is empty if the reader has closed the output, as `head` does. Another error of the system is raised as
    FolderError if it names a file whose disk is not full. A character that the output's encoding lacks is escaped.
    """
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)
    if sys.stdout is None:
        raise OutputError("the output cannot be written: standard output is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            kind = OutputError if is_disk_full(error) else FolderError
            raise kind(f"{error.filename}: {error.strerror}") from error
        _discard()
        if isinstance(error, BrokenPipeError):
            raise OutputError("") from error
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error


def print_error(line: str) -> None:
    """Print a line on standard error, unless that cannot be written."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        _discard()


def _discard() -> None:
    """Drop unwritten output; Python would try to write it at exit, and fail with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError), Path(os.devnull).open("wb") as devnull:
                os.dup2(devnull.fileno(), stream.fileno())
                stream.flush()
