"""The keys and Secrets for a cluster, and for docker-compose."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from glitchflow_api.key_file import ApiKeys, parse_keys
from glitchflow_api.settings import GatewaySettings
from gwwire.public import AuthMode, Scope
from tests.support.manifest_rules import CLIENT_SETTINGS, SECRETS
from tests.support.manifests import ROOT

pytestmark = pytest.mark.anyio
WANTED = {
    "operator": set(Scope),
    "pipeline": {Scope.READ, Scope.TRAIN, Scope.CLEAN},
    "listener": {Scope.READ, Scope.WORK},
    "gwclient": {Scope.READ, Scope.STREAM},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cluster_keys", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("cluster") / "keys"
    done = run(str(folder))
    assert done.returncode == 0, done.stderr
    assert not re.search(r"gf_[0-9a-f]{12}", done.stderr)
    return folder, json.loads(done.stdout)["items"]


async def test_each_holder_gets_a_key_that_allows_what_it_needs_and_no_more(
    made: tuple[Path, list[dict[str, object]]],
) -> None:
    folder, _ = made
    known = ApiKeys(folder / "keys.json")
    for holder, scopes in WANTED.items():
        caller = await known.identify((folder / f"{holder}.key").read_text().strip())
        assert caller.name == holder
        assert caller.scopes == scopes
    assert len(parse_keys((folder / "keys.json").read_bytes())) == len(WANTED)
    assert {path.stat().st_mode & 0o077 for path in [folder, *folder.iterdir()]} == {0}


def test_the_secrets_are_those_that_the_manifests_name(made: tuple[Path, list[dict[str, object]]]) -> None:
    folder, items = made
    contents: dict[str, dict[str, bytes]] = {}
    for item in items:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
        meta, data = item["metadata"], item["data"]
        assert isinstance(meta, dict)
        assert isinstance(data, dict)
        assert meta["namespace"] == "glitchflow"
        contents[meta["name"]] = {key: base64.b64decode(value) for key, value in data.items()}
    assert {name: set(content) for name, content in contents.items()} == SECRETS
    assert contents["gateway-keys"]["keys.json"] == (folder / "keys.json").read_bytes()
    for holder in ("gwclient", "listener"):
        assert contents[f"{holder}-key"]["key"] == (folder / f"{holder}.key").read_bytes()
    assert contents["glitchflow-holder"]["key"] == (folder / "pipeline.key").read_bytes()
    assert contents["glitchflow-holder"]["user"] == b"pipeline"
    assert len(contents["glitchflow-holder"]["token"]) > 16


def test_keys_are_made_once_and_never_over_others(made: tuple[Path, list[dict[str, object]]]) -> None:
    folder, _ = made
    before = (folder / "keys.json").read_bytes()
    again = run(str(folder))
    assert (again.returncode, again.stdout) == (2, "")
    assert (folder / "keys.json").read_bytes() == before
    assert run().returncode == run("--help").returncode == 2


def test_with_the_second_compose_file_the_gateway_asks_for_a_key_and_the_clients_have_one() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.keys.yml").read_text())["services"]
    first = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    settings = GatewaySettings.model_validate(services["gflapi"]["environment"])
    assert settings.AUTH is AuthMode.KEYS
    assert "AUTH" not in first["gflapi"].get("environment", {})
    assert services.keys() <= first.keys()
    for name, service in services.items():
        (mount,) = service["volumes"]
        assert mount.endswith(f":{settings.KEYS_FILE.parent}:ro")
        if name != "gflapi":
            assert service["environment"].keys() <= CLIENT_SETTINGS["gwclient"]
            assert Path(service["environment"]["GLITCHFLOW_KEY_FILE"]).parent == settings.KEYS_FILE.parent
