"""`make images`: build the images of the services, of the client and of preprocessing.

IMAGE_PREFIX (glitchflow) and IMAGE_TAG (the version) name them; BASE (python:3.13-slim) is the base image. Builds use
the index and proxies of pip on this machine, as far as a build can reach them. Use BUILD_NETWORK=host if the
engine's own network cannot reach the index.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from scripts.engine import IMAGES, ROOT, EngineMissing, ImageNames, engine, exists

_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "default-timeout")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class BuildFailed(Exception):
    """An image could not be built; the message names it."""


def pip_arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings as build arguments, without those that name files of this machine."""
    settings = _configured() | {
        name: environment[variable] for name in _PIP_SETTINGS if (variable := _variable(name)) in environment
    }
    reachable = {name: " ".join(word for word in value.split() if _reachable(word)) for name, value in settings.items()}
    return {_variable(name): value for name, value in reachable.items() if value}


def _variable(setting: str) -> str:
    return f"PIP_{setting.upper().replace('-', '_')}"


def _reachable(word: str) -> bool:
    return not word.startswith(("file:", "/", "."))


def _configured() -> dict[str, str]:
    """Return pip's configuration; empty if pip is not installed."""
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        return {}
    printed = subprocess.run([pip, "config", "list"], check=False, capture_output=True, text=True).stdout
    lines = re.findall(r"^(?:global|install)\.([a-z-]+)='(.*)'$", printed, re.MULTILINE)
    return {name: value.replace(r"\n", " ") for name, value in lines if name in _PIP_SETTINGS}


def build_arguments(environment: Mapping[str, str], names: ImageNames) -> dict[str, str]:
    """Return the build arguments of every Dockerfile."""
    labels = {"VERSION": names.tag, "REVISION": _revision(), "SOURCE": _source()}
    base = {"BASE": environment["BASE"]} if environment.get("BASE") else {}
    proxies = {name: environment[name] for name in _PROXIES if environment.get(name)}
    return {name: value for name, value in {**labels, **base, **proxies, **pip_arguments(environment)}.items() if value}


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    return subprocess.run([git, *arguments], cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()


def _revision() -> str:
    revision = _git("rev-parse", "HEAD")
    return f"{revision}-dirty" if revision and _git("status", "--porcelain") else revision


def _source() -> str:
    """Return the https address of the project's origin without credentials, or an empty string."""
    return (
        re.sub(r"//[^/@]*@", "//", origin)
        if (origin := _git("remote", "get-url", "origin")).startswith("https:")
        else ""
    )


def build(docker: str, image: str, names: ImageNames, environment: Mapping[str, str]) -> None:
    """Build one image; the engine writes to this process's output.

    Raises:
        BuildFailed: the build failed.

    """
    arguments = build_arguments(environment, names)
    done = subprocess.run(
        [
            *(docker, "build", "--file", f"{image}/Dockerfile", "--tag", names.of(image)),
            *("--network", environment.get("BUILD_NETWORK") or "default"),
            # Names only: the values may hold credentials, and the environment is not shown in process lists.
            *(word for name in arguments for word in ("--build-arg", name)),
            ".",
        ],
        cwd=ROOT,
        check=False,
        env={**environment, **arguments},
    )
    if done.returncode:
        raise BuildFailed(f"{names.of(image)} could not be built")


def size(docker: str, image: str) -> int:
    """Return the bytes of an image, including its base."""
    command = [docker, "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def build_all(images: Sequence[str], environment: Mapping[str, str]) -> None:
    """Build these images and print their sizes.

    Raises:
        BuildFailed: a build failed.
        EngineMissing: there is no engine.

    """
    docker, names = engine(), ImageNames.from_environment(environment)
    base = environment.get("BASE") or "python:3.13-slim"
    summary = []
    for number, image in enumerate(images, 1):
        print(f"==> {number}/{len(images)} {names.of(image)}", flush=True)
        began = time.monotonic()
        build(docker, image, names, environment)
        over = size(docker, names.of(image)) - size(docker, base) if exists(docker, base) else 0
        summary.append(f"{names.of(image):40} {over / 1e6:6.1f} MB over {base}, {time.monotonic() - began:.0f} s")
    print("\n".join(summary), flush=True)


def main() -> int:
    """Build the images named on the command line, or all of them."""
    chosen = sys.argv[1:] or IMAGES
    if unknown := [image for image in chosen if image not in IMAGES]:
        print(f"images: {unknown[0]} is unknown; there are {', '.join(IMAGES)}", file=sys.stderr)
        return 2
    try:
        build_all(chosen, os.environ)
    except (BuildFailed, EngineMissing) as failed:
        print(f"images: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
