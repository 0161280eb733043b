"""The services as docker-compose.yml runs them: confined, connected only to neighbours, with safe volumes."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from scripts.engine import ROOT, version
from scripts.stack import Stack
from tests.support.containers import Container, docker, inspect
from tests.support.segments import segment_body
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)

SERVICES = ["databuff", "dslogic", "gflapi", "client"]

LOOK_AROUND = """
import json, pathlib, sys
told = dict(line.split(":", 1) for line in pathlib.Path("/proc/1/status").read_text().splitlines())
def writable(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
        pathlib.Path(folder, "probe").unlink()
    except OSError as error:
        return error.strerror
    return "yes"
json.dump({"status": {key: told[key].split() for key in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs")},
           "writable": {folder: writable(folder) for folder in sys.argv[1:]}}, sys.stdout)
"""

KNOCK = """
import json, socket, sys
def connection_outcomes(host):
    try:
        socket.create_connection((host, int(sys.argv[1])), 3).close()
    except OSError as error:
        return False
    return True
json.dump([connection_outcomes(host) for host in sys.argv[2:]], sys.stdout)
"""


def container_of(stack: Stack, service: str) -> Container:
    return Container(f"{stack.project}-client" if service == "client" else stack.container(service))


def addresses(container: Container) -> list[str]:
    return [network["IPAddress"] for network in inspect(container.name)["NetworkSettings"]["Networks"].values()]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_without_rights_on_a_root_it_cannot_write(stack: Stack, client: Container, service: str) -> None:
    assert client
    seen = container_of(stack, service).python(LOOK_AROUND, "/", "/application", "/opt/venv", "/tmp")  # noqa: S108 (its own)
    # The init process that Compose adds to the client has the same user.
    assert set(seen["status"]["Uid"]) == set(seen["status"]["Gid"]) == {"10001"}
    assert set(seen["status"]["CapEff"] + seen["status"]["CapBnd"]) == {"0" * 16}
    assert seen["status"]["NoNewPrivs"] == ["1"]
    read_only = "Read-only file system"
    expected = {"/": read_only, "/application": read_only, "/opt/venv": read_only, "/tmp": "yes"}  # noqa: S108 (its own)
    assert seen["writable"] == expected


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_limits_and_comes_back(stack: Stack, client: Container, service: str) -> None:
    assert client
    limits = inspect(container_of(stack, service).name)["HostConfig"]
    assert limits["Memory"] > 0
    assert limits["PidsLimit"] > 0
    assert limits["Privileged"] is False
    if service != "client":
        assert limits["NanoCpus"] > 0
        assert limits["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_the_gateway_is_in_reach_from_outside(stack: Stack) -> None:
    published = {
        service: [binding for bindings in ports.values() for binding in bindings or ()]
        for service in ("databuff", "dslogic", "gflapi")
        if (ports := inspect(stack.container(service))["NetworkSettings"]["Ports"]) is not None
    }
    assert {service: len(bindings) for service, bindings in published.items()} == {
        "databuff": 0,
        "dslogic": 0,
        "gflapi": 1,
    }
    assert published["gflapi"][0]["HostIp"] == "127.0.0.1"


def test_each_tier_reaches_the_next_one_only(stack: Stack, client: Container) -> None:
    gateway, logic, buffer = (container_of(stack, service) for service in ("gflapi", "dslogic", "databuff"))
    assert client.python(KNOCK, "8000", "gflapi") == [True]
    assert gateway.python(KNOCK, "5000", "dslogic") == [True]
    assert logic.python(KNOCK, "8080", "databuff") == [True]
    assert not any(client.python(KNOCK, "5000", "dslogic", *addresses(logic)))
    assert not any(client.python(KNOCK, "8080", "databuff", *addresses(buffer)))
    assert not any(gateway.python(KNOCK, "8080", "databuff", *addresses(buffer)))


def test_the_services_start_in_the_order_of_their_health(first_up: tuple[Stack, list[str]]) -> None:
    stack, beginnings = first_up
    stack.wait_until_healthy()
    assert stack.health() == {"databuff": "healthy", "dslogic": "healthy", "gflapi": "healthy"}
    assert beginnings == sorted(beginnings)


def test_the_compose_file_names_this_version() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"IMAGE_TAG:-([^}]+)}", text)) == {version()}


def order(project: str, port: str, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": project, "PORT_API": port}
    return subprocess.run(
        [sys.executable, "-m", "scripts.stack", *words],
        check=False,
        cwd=ROOT,
        env=environment,
        input=answer,
        capture_output=True,
        text=True,
    )


def test_down_keeps_the_data_and_clean_volumes_asks(images: dict[str, str]) -> None:
    assert images
    project = f"glitchflow-test-{os.getpid()}-orders"
    try:
        up = order(project, "0", "up")
        assert up.returncode == 0, up.stderr
        url = up.stdout.split("ready at ")[1].split(",")[0]
        connection = Connection(url)
        assert connection.post("/streamdata", segment_body(1))[1]["resp"] == "CREATED"
        stored: Any = connection.get("/dumpbuf")
        assert order(project, "0", "down").returncode == 0
        assert docker("ps", "--all", "--quiet", "--filter", f"name={project}") == ""
        up = order(project, "0", "up")
        url = up.stdout.split("ready at ")[1].split(",")[0]
        assert Connection(url).get("/dumpbuf") == stored
        order(project, "0", "down")
        refused = order(project, "0", "clean-volumes", answer="no\n")
        assert (refused.returncode, refused.stderr) == (1, "clean-volumes: nothing was deleted\n")
        assert f"{project}_data" in docker("volume", "ls", "--quiet")
    finally:
        cleaned = order(project, "0", "clean-volumes", answer="yes\n")
    assert cleaned.returncode == 0, cleaned.stderr
    assert project not in docker("volume", "ls", "--quiet")
