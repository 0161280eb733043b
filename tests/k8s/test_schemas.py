"""Every object is valid for Kubernetes, to the last field; components render wherever a site adds them."""

import json
import os
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from tests.support.manifest_rules import quantity, requested, values_are_as_stored
from tests.support.manifests import K8S, RENDERED, Manifests, called, manifests, render, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

COMPONENTS = [f"components/{name}" for name in ("quota", "gwosc", "nlds", "nearline", "tape-folder", "tape-endpoint")]
#: The oldest supported release, and the newest one whose schemas are installed.
VERSIONS = ("1.33", kubernetes_validate.latest_version())


@pytest.fixture
def site(tmp_path: Path) -> Manifests:
    """The `cluster` overlay as a site would extend it: with its own name, and every component."""
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "ligo",
                "resources": [os.path.relpath(K8S / "overlays/cluster", tmp_path.resolve())],
                "components": [
                    os.path.relpath(K8S / folder, tmp_path.resolve())
                    for folder in ("pipeline", "monitoring", *COMPONENTS)
                ],
                "images": [{"name": "glitchflow/databuffer", "newName": "registry.example/gf/databuffer"}],
            }
        )
    )
    return Manifests(render(tmp_path))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_every_overlay_is_valid(version: str) -> None:
    # The overlays share most objects, and validation is slow.
    different = {json.dumps(thing, sort_keys=True): thing for folder in RENDERED for thing in manifests(folder).objects}
    for thing in different.values():
        kubernetes_validate.validate(thing, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"cluster_ip": "None"}}
    with pytest.raises(kubernetes_validate.ValidationError, match="cluster_ip"):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


def test_a_site_may_move_everything_into_its_own_namespace(site: Manifests) -> None:
    for thing in site.objects:
        kubernetes_validate.validate(thing, VERSIONS[-1], strict=True)
        place = thing["metadata"]["name" if thing["kind"] == "Namespace" else "namespace"]
        assert place == "ligo", called(thing)
    images = {container["image"] for work in site.workloads() for container in work.containers}
    assert "registry.example/gf/databuffer:0.1.0" in images
    assert not any(image.startswith("glitchflow/databuffer") for image in images)


def test_applying_a_site_with_every_component_again_sends_no_patch(site: Manifests) -> None:
    assert not list(values_are_as_stored(site))


def test_the_quota_is_large_enough_for_everything_scaled_out(site: Manifests) -> None:
    (quota,) = site.of("ResourceQuota")
    pods = {called(work.owner): 1 for work in site.workloads()}
    for scaler in site.of("HorizontalPodAutoscaler"):
        # One more during an update.
        pods[f"Deployment/{scaler['spec']['scaleTargetRef']['name']}"] = scaler["spec"]["maxReplicas"] + 1
    for limit in ("requests", "limits"):
        for kind in ("cpu", "memory"):
            needed = requested(site, kind, pods, limit)
            assert needed <= quantity(quota["spec"]["hard"][f"{limit}.{kind}"]), f"{limit}.{kind}"
    assert sum(pods.values()) < int(quota["spec"]["hard"]["pods"])
    claims = site.of("PersistentVolumeClaim")
    assert len(claims) <= int(quota["spec"]["hard"]["persistentvolumeclaims"])
    asked = sum(quantity(claim["spec"]["resources"]["requests"]["storage"]) for claim in claims)
    assert asked <= quantity(quota["spec"]["hard"]["requests.storage"])


def test_the_cluster_overlay_lets_preprocessing_run_on_any_node() -> None:
    found = manifests("overlays/cluster")
    assert found.one("PersistentVolumeClaim", "gwdata")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "affinity" not in found.one("CronJob", "preproc")["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_the_listener_preprocesses_as_a_job_by_hand_does() -> None:
    found = manifests("overlays/dev")
    by_hand = found.one("CronJob", "preproc")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    listener = found.one("Deployment", "listener")["spec"]["template"]["spec"]
    for part in ("affinity", "securityContext"):
        assert by_hand[part] == listener[part], part
    (one,), (other,) = by_hand["containers"], listener["containers"]
    for part in ("image", "securityContext"):
        assert one[part] == other[part], part
    assert one["resources"]["limits"] == other["resources"]["limits"]
    assert "gwdata" not in str(listener["volumes"])


def test_a_batch_is_archived_only_after_its_dataset_is_there() -> None:
    pod = manifests("overlays/dev").one("CronJob", "pipeline")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["train"]
    (clean,) = pod["containers"]
    assert clean["command"][:6] == ["gwclient", "clean", "--batch-file", "/tmp/batch", "--after", "spectrograms"]  # noqa: S108 (the container's)


def test_the_local_overlay_needs_no_storage_class_and_no_metrics() -> None:
    found = manifests("overlays/local")
    assert not any("storageClassName" in claim["spec"] for claim in found.of("PersistentVolumeClaim"))
    assert not found.of("HorizontalPodAutoscaler")


@pytest.mark.parametrize("folder", ["overlays/local", "overlays/cluster", "overlays/dev"])
def test_the_names_of_the_original_system_are_kept(folder: str) -> None:
    found = manifests(folder)
    assert {"databuff", "dslogic", "gflapi"} <= found.names("Service")
    assert {"dslog-deploy", "gflapi-deploy"} <= found.names("Deployment")
    assert found.one("Service", "databuff")["spec"]["clusterIP"] == "None"
    assert found.names("Namespace") == {"glitchflow"}
    files = {"databuffer/state.yaml", "databuffer/adml.yaml", "databuffer/gwdataln.yaml", "dslogic/depl.yaml"}
    files |= {"glitchflow_api/deplapi.yaml", "preproc/job.yaml", "gwclient/pod.yaml"}
    assert all((K8S / "base" / name).is_file() for name in files)
