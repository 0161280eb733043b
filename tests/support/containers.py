"""The container engine as the tests use it: commands that fail with an error, and facts about containers."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

#: Options for services without Compose: as strict as in docker-compose.yml.
CONFINED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true")


def docker(*arguments: str, data: bytes = b"", expect: int = 0, seconds: float = 120) -> str:
    """Run a docker command; return its standard output."""
    done = subprocess.run(
        ["docker", *arguments],  # noqa: S607 (the engine that the tests are run against)
        check=False,
        input=data,
        capture_output=True,
        timeout=seconds,
    )
    assert done.returncode == expect, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode()


def inspect(thing: str) -> Any:
    """Return the engine's description of a container or an image."""
    return json.loads(docker("inspect", thing))[0]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


class Container:
    """A running container.

    Args:
        name: its name or id.

    """

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, data: bytes = b"", expect: int = 0) -> str:
        """Run a command in it; return the command's standard output."""
        return docker("exec", "--interactive", self.name, *command, data=data, expect=expect)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in it without waiting."""
        return subprocess.Popen(
            ["docker", "exec", self.name, *command],  # noqa: S607 (see above)
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, program: str, *arguments: str) -> Any:
        """Run a Python program in it that prints one JSON document; return that."""
        return json.loads(self.run("python", "-c", program, *arguments))

    def state(self) -> Mapping[str, Any]:
        state: Mapping[str, Any] = inspect(self.name)["State"]
        return state

    def healthcheck(self, address: str, route: str) -> bool:
        """Run the image's own health check."""
        check = ("python", "-IS", "/application/healthcheck.py", address, route)
        done = subprocess.run(["docker", "exec", self.name, *check], check=False, capture_output=True)  # noqa: S607 (see above)
        return done.returncode == 0
