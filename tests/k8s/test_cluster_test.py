"""The parts of `make test-cluster` that need no cluster: refusing, rendering, accounting, reporting; and requests to a
gateway, against a real trio that is killed meanwhile. Only a cluster proves that a whole run works.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.engine import IMAGES
from scripts.trio import Trio, free_ports
from tests.support.forked import ForkedTrio
from tests.support.manifest_rules import SECRETS
from tests.support.manifests import ROOT, Manifests, called, manifests, render, why_not_rendered
from tools.cluster_test.__main__ import Plan, read_plan, run_all
from tools.cluster_test.contract import check_contract
from tools.cluster_test.errors import KubectlFailed, Refused, StepFailed
from tools.cluster_test.gateway import Gateway, Stored
from tools.cluster_test.kubectl import Kubectl
from tools.cluster_test.overlay import MAX_SIZE, write_overlay
from tools.cluster_test.pusher import CHANNEL, ROUND, Ledger, Pusher, push_command
from tools.cluster_test.report import Result, Row, section, table, write_section
from tools.cluster_test.steps import FIRST, STEPS, WORKLOADS, Trial

NO_CLUSTER = """
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
current-context: nowhere
"""

needs_kubectl = pytest.mark.skipif(bool(why_not_rendered()), reason=str(why_not_rendered()))


# ---- refusing


@pytest.mark.parametrize(
    ("environment", "current", "words"),
    [
        ({}, "kind-gf", "name the cluster"),
        ({"CLUSTER": ""}, "kind-gf", "name the cluster"),
        ({"CLUSTER": "kind-gf"}, "production", "not the current context, which is production"),
        ({"CLUSTER": "kind-gf"}, "", "not the current context, which is none"),
    ],
)
def test_a_context_that_was_not_named_is_refused(environment: dict[str, str], current: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read_plan(environment, current)


def test_the_named_context_is_taken_with_the_projects_version() -> None:
    assert read_plan({"CLUSTER": "kind-gf"}, "kind-gf") == Plan("kind-gf", "glitchflow", "0.1.0", keep=False)
    told = {"CLUSTER": "c", "IMAGE_PREFIX": "registry.example/gf/", "IMAGE_TAG": "pr7", "KEEP": "1"}
    assert read_plan(told, "c") == Plan("c", "registry.example/gf", "pr7", keep=True)


@needs_kubectl
@pytest.mark.parametrize(
    ("cluster", "status", "words"),
    [("", 2, "name the cluster"), ("production", 2, "not the current context"), ("nowhere", 1, "127.0.0.1:9")],
)
def test_the_command_ends_without_touching_anything(cluster: str, status: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(NO_CLUSTER)
    before = (ROOT / "docs" / "cluster-test.md").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "tools.cluster_test"],
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "config"), "CLUSTER": cluster},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("test-cluster: ")
    assert words in line
    assert (ROOT / "docs" / "cluster-test.md").read_text() == before


@needs_kubectl
def test_every_call_names_context_and_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(NO_CLUSTER)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    kubectl = Kubectl("nowhere", "ours")
    assert kubectl.command("get", "pods")[1:3] == ["--context=nowhere", "--namespace=ours"]
    with pytest.raises(KubectlFailed, match="does not exist"):
        Kubectl("elsewhere", "ours").run("get", "pods")
    with pytest.raises(KubectlFailed, match=r"127\.0\.0\.1:9"), kubectl.port_forward("service/gflapi", 8000):
        pass


# ---- rendering


@needs_kubectl
def test_the_overlay_is_the_local_one_with_client_and_pipeline_elsewhere(tmp_path: Path) -> None:
    write_overlay(tmp_path, "test-1", "registry.example/gf", "pr7")
    found = Manifests(render(tmp_path))
    wanted = {called(thing) for thing in manifests("overlays/local").objects + manifests("base/gwclient").objects}
    wanted |= {"ServiceAccount/pipeline", "CronJob/pipeline", "ServiceAccount/listener", "Deployment/listener"} | {
        f"Secret/{name}" for name in SECRETS
    }
    unhashed = {name for name in wanted if not name.startswith("ConfigMap/")} - {"Namespace/glitchflow"}
    assert {called(thing) for thing in found.objects} >= unhashed | {"Namespace/test-1"}
    assert not [called(thing) for thing in found.objects if thing["metadata"].get("namespace") == "glitchflow"]
    images = {container["image"] for work in found.workloads() for container in work.containers}
    assert images == {f"registry.example/gf/{name}:pr7" for name in IMAGES}
    (config,) = (one for one in found.of("ConfigMap") if one["metadata"]["name"].startswith("dslogic-settings"))
    assert config["data"]["MAX_SIZE"] == MAX_SIZE
    assert all(job["spec"]["suspend"] for job in found.of("CronJob"))


@needs_kubectl
def test_the_steps_use_objects_of_the_overlay() -> None:
    found = manifests("overlays/local")
    for workload in WORKLOADS:
        kind, name = workload.resource.split("/")
        (work,) = (one for one in found.workloads() if called(one.owner).lower() == f"{kind}/{name}")
        assert work.labels["app.kubernetes.io/name"] == workload.name


# ---- accounting


def stored(*times: float) -> list[Stored]:
    return [Stored(f"gwb{number}.json", "", CHANNEL, t0) for number, t0 in enumerate(times)]


def client_that(ends: int, out: str, told: str = "") -> Any:
    return lambda command: subprocess.CompletedProcess(command, ends, out, told)


def test_every_acknowledged_segment_is_looked_for() -> None:
    ledger = Ledger(times=[10, 11, 12])
    assert "3 segments" in ledger.check(stored(11, 10, 12, 99))
    assert "1 segments" in ledger.check(stored(12), since=2)
    with pytest.raises(StepFailed, match=r"1 acknowledged segments lost \[11\]"):
        ledger.check(stored(10, 12))
    with pytest.raises(StepFailed, match=r"1 stored twice \[12\]"):
        ledger.check(stored(10, 11, 12, 12))
    with pytest.raises(StepFailed, match="3 acknowledged"):
        ledger.check([replace(one, channel="L1:SIM-STRAIN") for one in stored(10, 11, 12)])


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (client_that(3, "", "x\ngwclient: no answer (after 60 tries)"), "status 3: gwclient: no answer"),
        (client_that(0, '{"acknowledged": 39}'), f"39 of {ROUND}"),
        (client_that(0, "not json"), "cannot be read"),
    ],
)
def test_an_error_that_the_clients_retries_do_not_absorb_fails_the_step(client: Any, words: str) -> None:
    ledger = Ledger()
    with pytest.raises(StepFailed, match=words), Pusher(ledger, client):
        pass
    assert ledger.times == []


def test_an_error_during_a_push_is_reported_before_the_clients_error() -> None:
    with pytest.raises(KubectlFailed, match="rollout"), Pusher(Ledger(), client_that(3, "")):
        raise KubectlFailed("the rollout hangs")


# ---- reporting


def test_the_table_is_aligned_and_keeps_to_its_lines() -> None:
    rows = [Row("short", Result.PASSED, "all", 1.4), Row("a longer step", Result.FAILED, "a | b\nc", 75.0)]
    lines = table(rows)
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4
    assert "a \\| b c" in lines[3]
    assert lines[2].split("|")[3].strip() == "1"


def test_the_section_takes_its_place_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "cluster-test.md"
    document.write_text("# Title\n\n<!-- cluster -->\nold\n<!-- end -->\n\nafter\n")
    write_section(document, section(["2026, somewhere"], [Row("a", Result.PASSED, "b", 1)]))
    told = document.read_text()
    assert told.startswith("# Title\n\n<!-- cluster -->\n- 2026, somewhere\n- 1 of 1 steps passed\n")
    assert told.endswith("<!-- end -->\n\nafter\n")
    assert "old" not in told


def test_a_document_without_a_place_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "other.md"
    document.write_text("# Title\n")
    with pytest.raises(ValueError, match="0 places"):
        write_section(document, "text")
    assert document.read_text() == "# Title\n"


def test_the_projects_document_has_a_place_and_names_every_step() -> None:
    text = (ROOT / "docs" / "cluster-test.md").read_text()
    assert text.count("<!-- cluster -->") == text.count("<!-- end -->") == 1
    for name in (*FIRST, *STEPS):
        assert f"| {name} " in text, name


def test_without_the_trio_no_other_step_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(NO_CLUSTER)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    nowhere = Kubectl("nowhere", "ours")
    rows = run_all(Trial(nowhere, nowhere, tmp_path, "image"))
    assert [row.result for row in rows] == [Result.FAILED] * len(FIRST) + [Result.NOT_RUN] * len(STEPS)


# ---- requests to a real gateway


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    home = tmp_path_factory.mktemp("trio")
    with (home / "log").open("wb") as log, ForkedTrio(home, free_ports(), output=log) as running:
        yield running


def local_client(url: str) -> Any:
    program = Path(sys.executable).with_name("gwclient")

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SRV": url}
        return subprocess.run(
            [program, *command[1:]], env=environment, capture_output=True, text=True, check=False, timeout=280
        )

    return run


def test_the_contract_of_a_real_gateway_holds(trio: Trio) -> None:
    gateway = Gateway(trio.url)
    gateway.wait_ready()
    assert check_contract(gateway) == "13 answers as they should be"
    with pytest.raises(StepFailed, match="/metrics-nobody-has"):
        gateway.get("/metrics-nobody-has")


def test_a_client_pushes_through_the_loss_of_the_writer(trio: Trio) -> None:
    gateway, ledger = Gateway(trio.url), Ledger()
    with Pusher(ledger, local_client(trio.url)):
        trio.processes["databuffer"].send_signal(signal.SIGKILL)
        trio.processes["databuffer"].wait()
        trio.launch("databuffer")
        trio.wait_until_ready()
    found = gateway.segments()
    assert ledger.check(found) == f"{len(ledger.times)} segments acknowledged while it happened, each stored once"
    assert len(ledger.times) >= 2 * ROUND
    assert gateway.damaged(found) == []
    assert gateway.damaged([replace(found[0], sha256="0" * 64)]) == [found[0].name]


def test_a_gateway_that_is_not_there_fails_the_step() -> None:
    with pytest.raises(StepFailed, match="no answer"):
        Gateway("http://127.0.0.1:9").get("/stats")


def test_the_push_is_one_that_waits_for_minutes() -> None:
    command = push_command(1_400_000_000)
    assert command[:2] == ["gwclient", "simulate"]
    assert command[command.index("--tries") + 1] == "60"
