"""k8s/monitoring: the targets of Prometheus exist, the alerts fire when they should, and each has a runbook."""

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from scripts.trio import Trio
from tests.support.manifests import K8S, ROOT, Manifests, manifests, render, why_not_rendered
from tests.support.scrape import scrape
from tests.support.segments import JSON, segment_body

FOLDER = K8S / "monitoring"
GROUPS = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULE_TESTS = [ROOT / "tests" / "k8s" / name for name in ("rules.test.yaml", "slow_rules.test.yaml")]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
needs_kubectl = pytest.mark.skipif(bool(why_not_rendered()), reason=why_not_rendered() or "")


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, input=given)  # noqa: S607 (whatever promtool there is)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def expressions() -> Iterator[str]:
    """Return every expression that Prometheus evaluates."""
    yield from (rule["expr"] for rule in RULES)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query")


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Trio:
    tier = tmp_path_factory.mktemp("tier")
    trio = start_shared_trio({"MAX_SIZE": "100"}, each={"databuffer": {"TIERS": f"copy=file://{tier}"}})
    for number in range(5):
        httpx2.post(f"{trio.url}/streamdata", content=segment_body(number), headers=JSON).raise_for_status()
    claim = {"worker": "w", "kind": "file"}  # there are metrics of steps once one is declared
    httpx2.post(f"{trio.url}/steps/copy/claim", json=claim).raise_for_status()
    return trio


@pytest.fixture(scope="module")
def seen(trio: Trio) -> set[str]:
    """Return the names of the metrics of the real services."""
    found = scrape(*(service.url for service in trio.services))
    # A counter with labels has no sample before it counted; its name is exposed nevertheless.
    counters = {f"{family.name}_total" for family in found.families if family.type == "counter"}
    return {sample.name for sample in found.samples} | counters


def test_the_real_services_export_the_metrics_of_rules_and_dashboard(seen: set[str]) -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    asked = {
        name for each in expressions() for name in re.findall(r"\b(?:glitchflow[_:][a-z0-9_:]+|process_\w+)", each)
    }
    assert len(asked) > 20
    assert asked - seen - recorded == set()


def test_every_metric_is_in_the_operators_table_and_no_other(seen: set[str]) -> None:
    own = {re.sub(r"_(bucket|sum|count)$", "", name) for name in seen if name.startswith("glitchflow_")}
    table = "\n".join(line for line in OPERATIONS.splitlines() if line.startswith("| `glitchflow_"))
    assert set(re.findall(r"`(glitchflow_\w+)`", table.replace("|", "\n"))) == own


@needs_promtool
def test_the_metrics_are_named_as_prometheus_wants_them(trio: Trio) -> None:
    for service in trio.services:
        own = "".join(
            f"{line}\n"
            for line in httpx2.get(f"{service.url}/metrics").text.splitlines()
            if "glitchflow_" in line  # Python's own metrics do not have our names
        )
        assert promtool("check", "metrics", given=own).strip() == ""


@needs_promtool
def test_the_rules_are_sound_and_call_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", FOLDER / "rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", *RULE_TESTS)


def test_every_alert_is_tried() -> None:
    tried = [test for file in RULE_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    calling = {
        each["alertname"] for test in tried for each in test.get("alert_rule_test", []) if each.get("exp_alerts")
    }
    assert calling == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_severity_and_a_runbook(alert: str) -> None:
    annotations = ALERTS[alert]["annotations"]
    assert ALERTS[alert]["labels"]["severity"] in {"warning", "critical"}
    assert annotations["summary"]
    assert annotations["description"].endswith(".")
    page, _, anchor = annotations["runbook"].partition("#")
    assert page == "docs/operations.md"
    sections = re.split(r"^### ", OPERATIONS, flags=re.MULTILINE)[1:]
    (section,) = (each for each in sections if each.splitlines()[0].lower().replace(" ", "-") == anchor)
    assert f"`{alert}`" in section


def test_every_section_belongs_to_an_alert() -> None:
    assert OPERATIONS.count("\n### ") == len({rule["annotations"]["runbook"] for rule in ALERTS.values()})


def test_the_operators_rules_are_the_same() -> None:
    wrapped = yaml.safe_load((FOLDER / "operator" / "rules.yaml").read_text())
    assert wrapped["kind"] == "PrometheusRule"
    assert wrapped["spec"]["groups"] == GROUPS


def test_panels_of_the_dashboard_do_not_overlap_and_have_titles() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        assert panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) > 15


@needs_promtool
def test_prometheus_takes_both_scrape_configurations(tmp_path: Path) -> None:
    promtool("check", "config", "--syntax-only", FOLDER / "compose" / "prometheus.yml")
    # Debian's Prometheus is built without the discovery of Kubernetes' pods.
    config = yaml.safe_load((FOLDER / "scrape.yaml").read_text())
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["glitchflow"]}}]
        job["static_configs"] = [{"targets": ["pod"]}]
    (tmp_path / "scrape.yml").write_text(yaml.safe_dump(config))
    promtool("check", "config", "--syntax-only", tmp_path / "scrape.yml")


JOBS = {"databuffer", "dslogic", "glitchflow-api"}


def test_the_jobs_are_called_alike_wherever_they_are_scraped() -> None:
    for name in ("scrape.yaml", "compose/prometheus.yml"):
        jobs = {job["job_name"] for job in yaml.safe_load((FOLDER / name).read_text())["scrape_configs"]}
        assert jobs == JOBS
    assert f'job=~"{"|".join(sorted(JOBS))}"' in ALERTS["GlitchflowServiceDown"]["expr"]


@needs_kubectl
def test_the_scraped_pods_and_ports_exist_on_kubernetes() -> None:
    found = manifests("overlays/local")
    pods = {
        (work.labels["app.kubernetes.io/name"], port["name"])
        for work in found.workloads()
        for container in work.containers
        for port in container.get("ports", [])
    }
    for job in yaml.safe_load((FOLDER / "scrape.yaml").read_text())["scrape_configs"]:
        keep = next(each for each in job["relabel_configs"] if each.get("action") == "keep")
        name, port = keep["regex"].split(";")
        assert (job["job_name"], port) in pods
        assert name == job["job_name"]
    services = {
        thing["metadata"]["labels"]["app.kubernetes.io/name"]: {port["name"] for port in thing["spec"]["ports"]}
        for thing in found.of("Service")
    }
    monitors = list(yaml.safe_load_all((FOLDER / "operator" / "monitors.yaml").read_text()))
    assert {monitor["metadata"]["name"] for monitor in monitors} == JOBS
    for monitor in monitors:
        name = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        assert name == monitor["metadata"]["name"]
        assert monitor["spec"]["endpoints"][0]["port"] in services[name]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The overlay `cluster` with all monitoring components."""
    folder = tmp_path_factory.mktemp("site").resolve()
    kustomization: dict[str, Any] = {
        "resources": [os.path.relpath(K8S / "overlays/cluster", folder)],
        "components": [os.path.relpath(FOLDER / each, folder) for each in (".", "operator")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return Manifests(render(folder))


@needs_kubectl
def test_only_prometheus_is_let_in_besides_and_only_to_the_lower_tiers(site: Manifests) -> None:
    base = {policy["metadata"]["name"]: policy for policy in manifests("overlays/cluster").of("NetworkPolicy")}
    added = {policy["metadata"]["name"]: policy["spec"] for policy in site.of("NetworkPolicy")}
    for name, policy in base.items():
        assert added.pop(name) == policy["spec"]
    prometheus = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
    }
    let_in = {
        policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: policy["ingress"] for policy in added.values()
    }
    assert let_in == {
        name: [{"from": [prometheus], "ports": [{"protocol": "TCP", "port": port}]}]
        for name, port in (("dslogic", 5000), ("databuffer", 8080))
    }
    assert all(policy["policyTypes"] == ["Ingress"] for policy in added.values())


@needs_kubectl
def test_the_dashboard_reaches_grafana_whole(site: Manifests) -> None:
    (config,) = (one for one in site.of("ConfigMap") if one["metadata"]["name"].startswith("glitchflow-dashboard-"))
    assert json.loads(config["data"]["dashboard.json"]) == DASHBOARD
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {thing["metadata"]["namespace"] for thing in site.of("ServiceMonitor", "PrometheusRule")} == {"glitchflow"}


def test_the_profile_of_compose_scrapes_its_services_and_shows_the_dashboard() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert {name for name, service in services.items() if service.get("profiles") == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    config = yaml.safe_load((FOLDER / "compose" / "prometheus.yml").read_text())
    networks = set(services["prometheus"]["networks"])
    for job in config["scrape_configs"]:
        (target,) = job["static_configs"][0]["targets"]
        name, _, port = target.partition(":")
        assert networks & set(services[name]["networks"]), name
        assert f":{port}" in json.dumps(services[name]["healthcheck"])
    mounts = copy.copy(services["prometheus"]["volumes"]) + services["grafana"]["volumes"]
    for source, target, *_ in (mount.split(":") for mount in mounts):
        assert not source.startswith("./") or (ROOT / source).is_file(), source
        assert target.startswith("/")
    inside = {mount.split(":")[1] for mount in mounts}
    assert set(config["rule_files"]) <= inside
    provided = yaml.safe_load((FOLDER / "compose" / "dashboards.yaml").read_text())["providers"][0]["options"]["path"]
    assert f"{provided}/dashboard.json" in inside
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in inside
    source = yaml.safe_load((FOLDER / "compose" / "datasource.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    for name in ("prometheus", "grafana"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
