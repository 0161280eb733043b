"""Standard streams that a supervisor has closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import logging, os, sys
from gwservice.logs import configure_logging
configure_logging("service")
logging.warning("a line of the log")
print("a line of the output")
sys.exit(os.open(sys.argv[1], os.O_RDONLY))
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_closed_stream_neither_stops_a_service_nor_gives_its_descriptor_to_a_file(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    (tmp_path / "data").touch()
    shell = f'exec "$@" {" ".join(f"{number}>&-" for number in closed)}'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", sys.executable, "-c", _PROGRAM, str(tmp_path / "data")],
        capture_output=True, text=True, check=False, env={**os.environ, "LOG_FORMAT": "text"},
    )  # fmt: skip
    assert done.returncode > 2
    assert ("a line of the log" in done.stderr) == (2 not in closed)
    assert ("a line of the output" in done.stdout) == (1 not in closed)
