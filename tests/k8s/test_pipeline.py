"""The commands of the pipeline and of its listener as their pods run them, against a real trio."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.cluster_keys import KEYS_FILE, make_keys
from scripts.trio import Trio, free_ports
from tests.support.forked import Forked, ForkedTrio, run_forked
from tests.support.manifests import manifests, why_not_rendered
from tools.cluster_test.contract import check_contract
from tools.cluster_test.gateway import Gateway
from tools.cluster_test.overlay import MAX_SIZE
from tools.cluster_test.pusher import ROUND, push_command

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

SECRET = {"user": "pipeline", "token": "of-this-test"}


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    home = tmp_path_factory.mktemp("trio")
    make_keys(home)
    settings = {"MAX_SIZE": MAX_SIZE, "AUTH": "keys", "KEYS_FILE": str(home / KEYS_FILE)}
    with (home / "log").open("wb") as log, ForkedTrio(home, free_ports(), settings, output=log) as running:
        yield running


def containers() -> list[dict[str, Any]]:
    pod = manifests("overlays/dev").one("CronJob", "pipeline")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def listener() -> dict[str, Any]:
    (container,) = manifests("overlays/dev").one("Deployment", "listener")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def run(container: dict[str, Any], trio: Trio, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a container's command to its end."""
    with started(container, trio, *more) as process:
        out, errors = process.communicate(timeout=280)
    return subprocess.CompletedProcess(process.args, process.wait(), out, errors)


def module(program: str, arguments: Sequence[str]) -> list[str]:
    """Return the module that a command runs, with its arguments; the command `gwclient` runs the module of its name."""
    if program != "python":
        return [program, *arguments]
    assert arguments[0] == "-m"
    return list(arguments[1:])


@contextmanager
def started(container: dict[str, Any], trio: Trio, *more: str) -> Iterator[Forked]:
    """Start a container's command as its pod would, with its volumes under the trio's home; it ends with the block."""
    given = {"JOB_NAME": "pipeline-1"}
    for variable in container["env"]:
        if "secretKeyRef" in variable.get("valueFrom", {}):
            given[variable["name"]] = SECRET[variable["valueFrom"]["secretKeyRef"]["key"]]
    told = [re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], word) for word in container["command"]]
    program, *arguments = [re.sub("^/(dataset|tmp)(?=/|$)", rf"{trio.home}/\1", word) for word in told]
    environment = {**os.environ, **given, **config(container, trio), "MPLCONFIGDIR": str(trio.home)}
    with Forked([*module(program, arguments), *more], environment) as process:
        try:
            yield process
        finally:
            process.kill()  # a failed test would wait for it without end


def config(container: dict[str, Any], trio: Trio) -> dict[str, str]:
    """Return the address of the gateway and the key from the container's ConfigMap and Secret."""
    (told,) = (one["data"] for one in manifests("overlays/dev").of("ConfigMap") if "GLITCHFLOW_KEY_FILE" in one["data"])
    assert told.keys() == {"SRV", "GLITCHFLOW_KEY_FILE"}
    holder = "listener" if container["name"] == "listener" else "pipeline"
    return {"SRV": trio.url, "GLITCHFLOW_KEY_FILE": str(trio.home / f"{holder}.key")}


def batch_file(trio: Trio) -> Path:
    """Return the file that passes the batch between the steps of a pod, on the volume mounted at /tmp."""
    for container in containers():
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 (the container's)
    path = trio.home / "tmp" / "batch"
    path.parent.mkdir(exist_ok=True)
    return path


def operator(trio: Trio) -> Gateway:
    return Gateway(trio.url, (trio.home / "operator.key").read_text().strip())


def push(trio: Trio) -> int:
    """Push what `make test-cluster` pushes before its Jobs run; return the number of segments."""
    check_contract(operator(trio))
    rounds = (push_command(1_400_000_000 + number * ROUND) for number in range(3))
    for program, *arguments in rounds:
        whose = ("--srv", trio.url, "--key-file", str(trio.home / "gwclient.key"))
        run_forked([*module(program, arguments), *whose], os.environ).check_returncode()
    return 1 + 3 * ROUND


def test_a_batch_goes_through_and_a_pod_that_begins_again_finds_its_work_done(trio: Trio) -> None:
    train, clean = containers()
    handed_on = batch_file(trio)
    pushed = push(trio)
    for _ in range(2):  # the first pod was lost
        done = run(train, trio)
        assert done.returncode == 0, done.stderr
    with started(clean, trio) as cleaning:
        made = run(listener(), trio, "--once")
        assert made.returncode == 0, made.stderr
        assert cleaning.wait(timeout=280) == 0
    assert (trio.home / "dataset" / handed_on.read_text().strip() / "dataset.h5").is_file()
    gateway = operator(trio)
    assert gateway.get("/desc") == {"resp": "OPERATIONAL"}
    archived, opened = gateway.get("/batches")["batches"]
    assert (archived["state"], archived["holder"], archived["n_itm"]) == ("ARCHIVED", "pipeline", pushed)
    assert (opened["state"], opened["n_itm"]) == ("OPEN", 0)
    assert handed_on.read_text().strip() == archived["id"]


def test_a_batch_that_came_into_hand_since_is_not_archived(trio: Trio) -> None:
    *_, clean = containers()
    handed_on = batch_file(trio)
    handed_on.unlink(missing_ok=True)
    assert run(clean, trio).returncode == 2  # a step without a batch archives nothing
    gateway = operator(trio)
    for cleaned in (True, False):
        gateway.post("/streamdata", {"h": [1.0, 2.0], "t": [0.0, 1.0]})
        if cleaned:
            handed_on.write_text(f"{gateway.get('/batches')['batches'][-1]['id']}\n")
            gateway.post("/cleanbuf", {"msg": "by another"})
    refused = run(clean, trio)
    assert (refused.returncode, f"not '{handed_on.read_text().strip()}'" in refused.stderr) == (1, True), refused.stderr
    assert gateway.get("/stats")["n_itm"] == 1
    gateway.post("/cleanbuf", {"msg": "the test is done"})


def test_another_users_batch_is_waited_for_and_not_changed(trio: Trio) -> None:
    train, *_ = containers()
    gateway = operator(trio)
    gateway.post("/streamdata", {"h": [1.234567890123456e-21] * 100_000, "t": [0.0, 2**-14]})
    assert gateway.post("/train", {"user": "alice", "token": "hers"})["resp"] == "FROZEN"
    waited = run(train, trio, "--deadline", "1", "--poll", "0.5")
    assert waited.returncode == 6, waited.stderr  # another user holds the batch
    assert gateway.get("/batches")["batches"][-1]["holder"] == "alice"
    gateway.post("/cleanbuf", {"msg": "alice is done"})
