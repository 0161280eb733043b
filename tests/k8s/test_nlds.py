"""The gateway for NLDS' client, on Kubernetes and with Compose."""

import os
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from glitchflow_api.settings import GatewaySettings
from tests.support.manifest_rules import RULES, Rule
from tests.support.manifests import K8S, ROOT, Manifests, Object, render, why_not_rendered

needs_kubectl = pytest.mark.skipif(bool(why_not_rendered()), reason=why_not_rendered() or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The `local` overlay with the component, as a site adds it."""
    folder = tmp_path_factory.mktemp("site").resolve()
    parts = {
        "resources": [os.path.relpath(K8S / "overlays/local", folder)],
        "components": [os.path.relpath(K8S / "components/nlds", folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    return Manifests(render(folder))


def settings_of(site: Manifests, container: Object) -> GatewaySettings:
    (config,) = (each for each in site.of("ConfigMap") if each["metadata"]["name"].startswith("gateway-settings"))
    values: dict[str, Any] = {each["name"]: each["value"] for each in container["env"]}
    return GatewaySettings.model_validate({**config["data"], **values})


@needs_kubectl
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_object_keeps_the_rule(site: Manifests, rule: Rule) -> None:
    assert not list(rule(site))


@needs_kubectl
def test_its_objects_are_valid(site: Manifests) -> None:
    for thing in site.objects:
        if thing["metadata"]["name"].startswith(("nlds", "shared")):
            kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


@needs_kubectl
def test_one_gateway_serves_nlds_and_it_alone_gets_its_routes(site: Manifests) -> None:
    stateful = site.one("StatefulSet", "nlds")
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    settings = settings_of(site, container)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {*settings.nlds_roots, str(settings.NLDS_STATE)} <= mounts
    assert stateful["spec"]["replicas"] == 1
    (ordinary,) = site.one("Deployment", "gflapi-deploy")["spec"]["template"]["spec"]["containers"]
    assert "NLDS_API" not in str(ordinary)
    (path,) = site.one("Ingress", "nlds")["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["backend"]["service"]["name"]) == ("/api/1.0.0", "nlds")


def test_composes_gateway_sees_the_folder_at_the_users_path() -> None:
    gateway = yaml.safe_load((ROOT / "docker-compose.nlds.yml").read_text())["services"]["gflapi"]
    values = gateway["environment"] | {"AUTH": "keys", "NLDS_ROOTS": "/srv/shared"}
    settings = GatewaySettings.model_validate(values)
    assert gateway["environment"]["NLDS_ROOTS"] == f"${{NLDS_ROOTS:-{settings.NLDS_ROOTS}}}"
    at = "${NLDS_SHARED:-/srv/shared}"
    assert gateway["volumes"] == [f"{at}:{at}", f"nlds:{settings.NLDS_STATE}"]
    made = f"install -d -o 10001 -g 10001 {settings.NLDS_STATE}\n"
    assert made in (ROOT / "glitchflow_api" / "Dockerfile").read_text()
