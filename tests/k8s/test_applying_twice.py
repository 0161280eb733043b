"""The step "applying twice changes nothing" of the cluster test: which differences count as a change.

The objects have the form in which `kubectl get --output=json` prints them. A small `kubectl` on the PATH holds them.
"""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.cluster_test.errors import StepFailed
from tools.cluster_test.kubectl import Kubectl
from tools.cluster_test.objects import changes
from tools.cluster_test.steps import Trial, applying_twice_changes_nothing

Object = dict[str, Any]

#: Answers `get` with the objects, `apply` as the API server would, and `diff`.
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
case " $* " in
*" get "*) cat objects.json ;;
*" apply "*) cp applied.json objects.json; echo "deployment.apps/gflapi-deploy configured" ;;
*" diff "*) cat difference; test ! -s difference ;;
esac
"""


def written(kind: str, name: str, *, generation: int | None = None, **content: Any) -> Object:
    """Return an object as the API server has it."""
    manager = {"manager": "kubectl-client-side-apply", "operation": "Update", "time": "2026-11-29T06:00:00Z"}
    last = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"kind": kind, **content})}
    metadata: Object = {
        "annotations": last,
        "creationTimestamp": "2026-11-29T06:00:00Z",
        "labels": {"app.kubernetes.io/part-of": "glitchflow"},
        "managedFields": [{**manager, "fieldsType": "FieldsV1", "fieldsV1": {}}],
        "name": name,
        "namespace": "glitchflow-test-1",
        "resourceVersion": "1041",
        "uid": f"6f1c-{name}",
    }
    if generation:
        metadata["generation"] = generation
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


def objects() -> list[Object]:
    spec = {"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}, "type": "RollingUpdate"}}
    return [
        written("Namespace", "glitchflow-test-1", spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"}),
        written("ConfigMap", "dslogic-settings-5gk2t8c6mh", data={"MAX_SIZE": "2MB"}),
        written("Service", "gflapi", spec={"clusterIP": "10.96.7.1"}, status={"loadBalancer": {}}),
        written("Deployment", "gflapi-deploy", generation=1, spec=spec, status={"observedGeneration": 1}),
    ]


def at(found: list[Object], kind: str) -> Object:
    (thing,) = (one for one in found if one["kind"] == kind)
    thing["metadata"]["resourceVersion"] = "2077"
    return thing


def spec_changes(found: list[Object]) -> None:
    at(found, "Deployment")["spec"]["replicas"] = 3
    at(found, "Deployment")["metadata"]["generation"] = 2


def only_the_generation_changes(found: list[Object]) -> None:
    at(found, "Deployment")["metadata"]["generation"] = 2


def settings_change(found: list[Object]) -> None:
    at(found, "ConfigMap")["data"]["MAX_SIZE"] = "3MB"


def a_label_changes(found: list[Object]) -> None:
    at(found, "Service")["metadata"]["labels"]["team"] = "daq"


def a_port_changes(found: list[Object]) -> None:
    at(found, "Service")["spec"]["ports"] = [{"port": 8001}]


def an_object_is_written_without_content(found: list[Object]) -> None:
    at(found, "ConfigMap")


def an_object_is_replaced(found: list[Object]) -> None:
    at(found, "ConfigMap")["metadata"]["uid"] = "another"


def an_object_is_removed(found: list[Object]) -> None:
    del found[1]


def an_object_is_created(found: list[Object]) -> None:
    found.append(written("ConfigMap", "dslogic-settings-92hd5bt7k4", data={"MAX_SIZE": "3MB"}))


def nothing_changes(found: list[Object]) -> None:
    """Leave the objects as they are."""


def a_status_changes(found: list[Object]) -> None:
    at(found, "Deployment")["status"]["readyReplicas"] = 2
    at(found, "Deployment")["metadata"]["managedFields"].append({"manager": "kube-controller-manager"})


CHANGES = [
    (spec_changes, "Deployment/gflapi-deploy: generation 1 -> 2"),
    (only_the_generation_changes, "Deployment/gflapi-deploy: generation 1 -> 2"),
    (settings_change, "ConfigMap/dslogic-settings-5gk2t8c6mh: data changed"),
    (a_label_changes, "Service/gflapi: metadata changed"),
    (a_port_changes, "Service/gflapi: spec changed"),
    (an_object_is_written_without_content, "ConfigMap/dslogic-settings-5gk2t8c6mh: resourceVersion 1041 -> 2077"),
    (an_object_is_replaced, "ConfigMap/dslogic-settings-5gk2t8c6mh: uid 6f1c-dslogic-settings-5gk2t8c6mh -> another"),
    (an_object_is_removed, "ConfigMap/dslogic-settings-5gk2t8c6mh was removed"),
    (an_object_is_created, "ConfigMap/dslogic-settings-92hd5bt7k4 was created"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_every_change_of_an_object_is_named(change: Callable[[list[Object]], None], words: str) -> None:
    later = copy.deepcopy(objects())
    change(later)
    assert changes(objects(), later) == [words]


@pytest.mark.parametrize("other", [nothing_changes, a_status_changes])
def test_a_new_status_does_not_count_as_a_change(other: Callable[[list[Object]], None]) -> None:
    later = copy.deepcopy(objects())
    other(later)
    assert changes(objects(), later) == []


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "objects.json").write_text(json.dumps({"kind": "List", "items": objects()}))
    (tmp_path / "applied.json").write_text(json.dumps({"kind": "List", "items": objects()}))
    (tmp_path / "difference").touch()
    kubectl = Kubectl("context", "glitchflow-test-1")
    return Trial(kubectl, kubectl, tmp_path, "image")


def test_the_step_passes_if_no_object_changed_although_kubectl_says_configured(trial: Trial) -> None:
    assert applying_twice_changes_nothing(trial) == "4 objects as before, no difference"


def test_the_step_fails_on_a_real_change(trial: Trial) -> None:
    later = objects()
    settings_change(later)
    (trial.folder / "applied.json").write_text(json.dumps({"kind": "List", "items": later}))
    with pytest.raises(StepFailed, match="data changed"):
        applying_twice_changes_nothing(trial)


def test_the_step_fails_if_kubectl_diff_finds_a_difference(trial: Trial) -> None:
    (trial.folder / "difference").write_text("-  replicas: 2\n+  replicas: 3\n")
    with pytest.raises(StepFailed, match="replicas: 3"):
        applying_twice_changes_nothing(trial)
