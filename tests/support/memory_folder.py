"""Temporary folders in memory: syncs are half of the time of the tests on a disk, and no test needs a real one."""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 (each test makes folders of its own in it)
#: Bytes that have to be free: a whole run needs less than a third of them.
_ENOUGH = 4_000_000_000


def use_memory() -> None:
    """Make temporary folders of this process and its children in memory if there is enough and TMPDIR is not set."""
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None  # what was found before
