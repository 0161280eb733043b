"""Commands of the client that a document shows, typed in this process, which saves the time to start it."""

import os
import shlex

import pytest

from gwclient.cli import main


def type_client(command: str, output: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Type a command; return its exit code, and what it printed."""
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(os.path.expandvars(command))[1:])
    return int(stop.value.code or 0), output.readouterr().out
