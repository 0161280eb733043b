"""The container engine of this machine, and the names of the project's images."""

import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The folders with a Dockerfile; their names are the images'.
IMAGES = ("databuffer", "dslogic", "glitchflow_api", "gwclient", "preproc")


class EngineMissing(Exception):
    """There is no usable container engine; the message has the reason."""


@dataclass(frozen=True)
class ImageNames:
    """The names of the images: `PREFIX/IMAGE:TAG`."""

    prefix: str
    tag: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ImageNames":
        """Read IMAGE_PREFIX and IMAGE_TAG."""
        return cls(environment.get("IMAGE_PREFIX") or "glitchflow", environment.get("IMAGE_TAG") or version())

    def of(self, image: str) -> str:
        """Return the full name of an image."""
        return f"{self.prefix}/{image}:{self.tag}"


def version() -> str:
    """Return the project's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def engine() -> str:
    """Return the program that talks to the container engine.

    Raises:
        EngineMissing: docker is not installed, or its engine does not answer.

    """
    docker = shutil.which("docker")
    if docker is None:
        raise EngineMissing("docker is not installed on this machine")
    asked = subprocess.run([docker, "info"], check=False, capture_output=True, text=True)
    if asked.returncode:
        raise EngineMissing(f"the container engine does not answer: {asked.stderr.strip().splitlines()[-1]}")
    return docker


def exists(docker: str, image: str) -> bool:
    """Return whether the engine has an image of that name."""
    return not subprocess.run([docker, "image", "inspect", image], check=False, capture_output=True).returncode
