"""A buffer that is killed at any call of a move loses nothing, and the next one finishes it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

#: With fewer calls, something is not counted any more.
EXPECTED = {"copy-and-drop": 30, "files": 25, "scrub": 15, "restore": 12, "evict": 5, "recall": 15}


pytestmark = pytest.mark.timeout(300)  # of 90 kills and starts, on a machine with other work to do


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a folder in memory, if there is one: thousands of syncs are made."""
    memory = Path("/dev/shm")  # noqa: S108 (below it, a folder with a random name is made)
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def test_a_kill_at_any_call_loses_no_replica_and_the_next_buffer_finishes(home: Path) -> None:
    command = [sys.executable, "-m", "tests.support.mover_kills", str(home)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == EXPECTED.keys()
    assert all(found[name] >= calls for name, calls in EXPECTED.items()), found
