"""Fixtures of the tests of whole processes."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

MakeSmall = Callable[..., None]


@pytest.fixture
def make_small() -> Iterator[MakeSmall]:
    """Return a function that mounts a file system of 4 MiB on a folder; skip the test if that is not allowed."""
    with ExitStack() as stack:

        def mount(folder: Path, options: str = "size=4m") -> None:
            folder.mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]  # only root may
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except FileNotFoundError:
                pytest.skip("there is no mount command here")
            if done.returncode:
                pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)

        yield mount
