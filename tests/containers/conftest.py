"""Images are built, services run as a separate Compose project with a client; all but the images are removed again."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from scripts.engine import IMAGES, EngineMissing, ImageNames, engine
from scripts.stack import Stack
from scripts.trio import free_ports
from tests.support.containers import Container, docker, inspect
from tools.images import build_all

SERVICES = ("databuff", "dslogic", "gflapi")


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Build the images; return the full name of each."""
    try:
        engine()
    except EngineMissing as missing:
        pytest.skip(f"the containers are NOT tested: {missing}")
    build_all(IMAGES, os.environ)
    names = ImageNames.from_environment(os.environ)
    return {image: names.of(image) for image in IMAGES}


@pytest.fixture(scope="session")
def first_up(images: dict[str, str]) -> Iterator[tuple[Stack, list[str]]]:
    """Start the services as `make up` does, on a free port; a batch can be frozen from 1 MB on.

    Returns them with the time at which each service started, the lowest first, before any test restarted one.
    """
    assert images
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PORT_API", str(free_ports().api))
        environment.setenv("MAX_SIZE", "1MB")
        stack = Stack(f"glitchflow-test-{os.getpid()}")
        try:
            stack.up()
            yield stack, [inspect(stack.container(service))["State"]["StartedAt"] for service in SERVICES]
        finally:
            stack.down(volumes=True)


@pytest.fixture(scope="session")
def stack(first_up: tuple[Stack, list[str]]) -> Stack:
    return first_up[0]


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[Container]:
    """The container of a client, in which commands are run."""
    name = f"{stack.project}-client"
    subprocess.run(
        [*stack.compose, "run", "--detach", "--no-deps", "--name", name, "client", "sleep", "infinity"], check=True
    )
    yield Container(name)
    docker("rm", "--force", name)
