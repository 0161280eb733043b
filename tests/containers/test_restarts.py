"""Restarts of containers while a client pushes: no acknowledged segment is lost, and none is stored twice."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.stack import Stack
from tests.support.containers import Container, docker, inspect, wait_for
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)

CHANNEL = "H1:SIM-STRAIN"
SECONDS = 64
SEGMENTS_A_SECOND = 16
TOTAL = SECONDS * SEGMENTS_A_SECOND

_starts = (1_300_000_000 + 1000 * number for number in itertools.count())


def kill(container: Container) -> None:
    docker("kill", container.name)
    docker("start", container.name)


def restart(container: Container) -> None:
    docker("restart", "--time", "20", container.name)


def kill_from_inside(container: Container) -> None:
    """Kill the service's process from inside, so that the restart policy restarts it."""
    before = inspect(container.name)["RestartCount"]
    # Detached: the program is killed with the container, before or after its own end.
    docker("exec", "--detach", container.name, "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    wait_for(lambda: inspect(container.name)["RestartCount"] > before, "the restart policy")


def stored_starts(url: str, t0: int) -> Iterator[float]:
    """Return the t0 of every stored segment of a push, page by page; other tests store other channels."""
    span = f"channel={CHANNEL}&start={t0}&stop={t0 + SECONDS}"
    page: dict[str, Any] = {"after": 0, "more": True}
    while page["more"]:
        page = Connection(url).get(f"/segments?{span}&after={page['after']}&limit=1000")
        yield from (segment["t0"] for segment in page["segments"])


@pytest.mark.parametrize("disturb", [kill, restart, kill_from_inside])
@pytest.mark.parametrize("service", ["databuff", "dslogic", "gflapi"])
def test_a_push_outlives_a_container(
    stack: Stack, client: Container, service: str, disturb: Callable[[Container], None]
) -> None:
    stack.wait_until_healthy()
    t0 = next(_starts)
    connection = Connection(stack.url)
    before = connection.get("/stats")["n_itm"]
    push = client.start(
        *("gwclient", "simulate", "--detectors", "H1", "--rate", "1024", "--seconds", str(SECONDS), "--t0", str(t0)),
        *("--segment-seconds", str(1 / SEGMENTS_A_SECOND), "--concurrency", "4", "--tries", "20", "--json"),
    )
    wait_for(lambda: connection.get("/stats")["n_itm"] > before, "the first segment")
    assert push.poll() is None
    disturb(Container(stack.container(service)))
    seen, said = push.communicate(timeout=120)
    assert push.returncode == 0, (seen[-2000:], said[-2000:])
    assert json.loads(seen)["acknowledged"] == TOTAL

    wanted = [t0 + number / SEGMENTS_A_SECOND for number in range(TOTAL)]
    assert sorted(stored_starts(stack.url, t0)) == wanted


def test_after_all_that_every_byte_is_where_it_belongs(stack: Stack) -> None:
    assert Connection(stack.url).post("/cleanbuf", b'{"msg": "after the storm"}')[0] == 200
    docker("stop", "--time", "20", stack.container("databuff"))
    volumes = ("--volumes-from", stack.container("databuff"))
    image = inspect(stack.container("databuff"))["Config"]["Image"]
    looked = docker("run", "--rm", *volumes, image, "python", "-m", "databuffer", "fsck")
    assert looked.strip() == "everything agrees"
    docker("start", stack.container("databuff"))
    stack.wait_until_healthy()
