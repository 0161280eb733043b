"""Each image by itself: its content, and its behaviour under a container engine without Compose or Kubernetes."""

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from databuffer.settings import BufferSettings
from dslogic.settings import LogicSettings
from glitchflow_api.settings import GatewaySettings
from gwservice.settings import ServiceSettings
from scripts.engine import IMAGES, version
from tests.support.containers import CONFINED, Container, docker, inspect, wait_for
from tools.images import size

pytestmark = pytest.mark.timeout(900)

#: Upper limit of the size in MB, in addition to the base image.
LIMITS = {"databuffer": 170, "dslogic": 60, "glitchflow_api": 110, "gwclient": 380, "preproc": 290}

SERVICES: dict[str, tuple[type[ServiceSettings], str]] = {
    "databuffer": (BufferSettings, ":8080"),
    "dslogic": (LogicSettings, ":5000"),
    "glitchflow_api": (GatewaySettings, ":8000"),
}

#: The address of the next service by default: the service name of Kubernetes and Compose.
ADDRESSES = {"DB_BURL": "http://databuff:8080", "DS_BURL": "http://dslogic:5000"}

#: The packages in an image besides its own and gwwire.
NEIGHBOURS: dict[str, set[str]] = {
    "databuffer": {"gwfiles", "gwservice"},
    "dslogic": {"gwservice"},
    "glitchflow_api": {"gwservice"},
    "gwclient": {"gwfiles", "gwservice"},
    "preproc": {"gwclient", "gwfiles", "gwservice"},
}

LOOK_AROUND = """
import importlib.util, json, pathlib, sys
UNCHECKED_HASH = 1  # PEP 552
sources = [path for root in ("/opt/venv", "/application") for path in pathlib.Path(root).rglob("*.py")]
compiled = [pathlib.Path(importlib.util.cache_from_source(path)) for path in sources]
stale = [str(path) for path in compiled if not path.exists() or path.read_bytes()[4] != UNCHECKED_HASH]
packages = [path.name for path in pathlib.Path("/opt/venv/lib").glob("python*/site-packages/*")]
own = [path.name for path in pathlib.Path("/application").iterdir() if path.is_dir()]
json.dump({"sources": len(sources), "stale": stale, "packages": packages, "own": own}, sys.stdout)
"""


Start = Callable[..., Container]


def environment_of(image: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in inspect(image)["Config"]["Env"])


@pytest.fixture
def start(images: dict[str, str]) -> Iterator[Start]:
    """Start a container of an image with the strictest options; it is removed when the test ends."""
    started: list[str] = []

    def run(image: str, *command: str) -> Container:
        name = f"glitchflow-test-{os.getpid()}-{uuid4().hex[:8]}"
        started.append(name)
        docker("run", "--detach", "--name", name, *CONFINED, "--health-interval=1s", images[image], *command)
        return Container(name)

    yield run
    for name in started:
        docker("rm", "--force", "--volumes", name)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_small(images: dict[str, str], image: str) -> None:
    base = os.environ.get("BASE") or "python:3.13-slim"
    over = (size("docker", images[image]) - size("docker", base)) / 1e6
    assert 10 < over < LIMITS[image]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_labels_and_a_user(images: dict[str, str], image: str) -> None:
    config = inspect(images[image])["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == os.environ.get("IMAGE_TAG", version())
    assert labels["licenses"] == "Apache-2.0"
    assert labels.keys() >= {"title", "description", "revision", "source"}
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/application"
    assert ("Healthcheck" in config) == (image in SERVICES)


@pytest.mark.parametrize("image", SERVICES)
def test_the_settings_in_an_image_are_its_services_own_with_their_defaults(images: dict[str, str], image: str) -> None:
    kind, _ = SERVICES[image]
    told = {name: value for name, value in environment_of(images[image]).items() if name in kind.model_fields}
    settings = kind.model_validate(told)
    for name, value in told.items():
        if name in ADDRESSES:
            assert value == ADDRESSES[name]
        else:
            assert getattr(settings, name) == kind.model_fields[name].get_default()
    others = {name for other, _ in SERVICES.values() if other is not kind for name in other.model_fields}
    assert not (environment_of(images[image]).keys() - told.keys()) & others


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_its_own_package_compiled_and_no_build_tools(images: dict[str, str], image: str) -> None:
    found = Container(docker("run", "--detach", *CONFINED, images[image], "sleep", "60").strip())
    try:
        seen = found.python(LOOK_AROUND)
    finally:
        docker("rm", "--force", "--volumes", found.name)
    assert seen["sources"] > 100
    assert seen["stale"] == []
    assert not {"pip", "setuptools", "wheel"} & set(seen["packages"])
    assert set(seen["own"]) & {*IMAGES, "gwfiles", "gwservice", "gwwire"} == {image, "gwwire", *NEIGHBOURS[image]}


_TRACING = "prometheus_client, opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("databuffer", _TRACING),
        ("dslogic", _TRACING),
        ("glitchflow_api", _TRACING),
        ("glitchflow_api", "glitchflow_api.main, glitchflow_api.tokens, cryptography.hazmat.primitives.asymmetric.rsa"),
        ("gwclient", "gwclient.cli, gwpy.timeseries, gwosc.datasets, gwosc.locate"),
        ("preproc", "preproc.cli, preproc.plots, scipy.signal, h5py, matplotlib.pyplot"),
    ],
)
def test_the_trimmed_packages_still_work(images: dict[str, str], image: str, modules: str) -> None:
    docker("run", "--rm", *CONFINED, images[image], "python", "-W", "error::ImportWarning", "-c", f"import {modules}")


def test_keys_are_made_and_revoked_in_the_gateways_image_too(images: dict[str, str]) -> None:
    keys = "python -m glitchflow_api keys --file /tmp/keys.json"
    program = f"{keys} create alice --scopes read && {keys} revoke alice && {keys} list"
    told = docker("run", "--rm", *CONFINED, images["glitchflow_api"], "sh", "-c", program).splitlines()
    assert told[0].startswith("gf_")
    assert "revoked" in told[-1]


@pytest.mark.parametrize("image", SERVICES)
def test_a_service_by_itself_gets_healthy_on_a_read_only_root_and_ends_with_0(start: Start, image: str) -> None:
    service, address = start(image), SERVICES[image][1]
    wait_for(lambda: service.healthcheck(address, "/healthz"), f"{image} to be alive")
    wait_for(lambda: service.state()["Health"]["Status"] == "healthy", "the engine to see it")
    assert not service.healthcheck(":1", "/healthz")
    assert not service.healthcheck(address, "/no-such-route")
    docker("stop", "--time", "15", service.name)
    assert service.state()["ExitCode"] == 0


def test_the_gateway_runs_under_fastapis_own_command(start: Start) -> None:
    gateway = start("glitchflow_api", "fastapi", "run", "glitchflow_api/main.py", "--port", "8000")
    wait_for(lambda: gateway.healthcheck(":8000", "/healthz"), "the gateway to be alive")


@pytest.mark.parametrize("image", IMAGES)
def test_process_1_always_ends_on_sigterm(start: Start, image: str) -> None:
    idle = start(image, "python", "-c", "import time; print('up', flush=True); time.sleep(600)")
    wait_for(lambda: "up" in docker("logs", idle.name), "the program to run")
    docker("stop", "--time", "30", idle.name)
    assert idle.state()["ExitCode"] == 143
