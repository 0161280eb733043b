"""The manifests as a cluster receives them: rendered by kubectl's own kustomize, and indexed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"

#: The overlays that a site applies, and the optional additions.
OVERLAYS = ("overlays/local", "overlays/cluster", "overlays/dev")
#: An overlay that shows how a site adds components.
EXAMPLE = "overlays/nearline"
RENDERED = (*OVERLAYS, EXAMPLE, "base/gwclient", "maintenance")

#: Components and `labels` need kustomize 5, which kubectl has had since 1.27 (Debian 12's is older).
_OLDEST_KUSTOMIZE = 5

Object = dict[str, Any]


@cache
def why_not_rendered() -> str | None:
    """Return why the manifests cannot be rendered here, or None if they can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed, so no manifest can be rendered"
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)  # noqa: S607 (whatever kubectl there is)
    version = json.loads(told.stdout or "{}").get("kustomizeVersion", "none")
    found = re.match(r"v(\d+)", version)
    if found is None or int(found[1]) < _OLDEST_KUSTOMIZE:
        return f"kubectl's kustomize is {version}, and version {_OLDEST_KUSTOMIZE} is needed to render the manifests"
    return None


def render(folder: Path) -> list[Object]:
    """Return the objects that `kubectl apply -k` would send.

    Raises:
        subprocess.CalledProcessError: kustomize refuses; its output has the reason.

    """
    told = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)  # noqa: S607 (see above)
    if told.returncode:
        raise AssertionError(f"{folder} does not render: {told.stderr}")
    return [document for document in yaml.safe_load_all(told.stdout) if document]


@dataclass(frozen=True)
class Workload:
    """An object that runs pods, and its pod template."""

    owner: Object
    template: Object

    @property
    def spec(self) -> Object:
        """The pod's specification."""
        spec: Object = self.template["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels."""
        labels: dict[str, str] = self.template["metadata"].get("labels", {})
        return labels

    @property
    def containers(self) -> list[Object]:
        """All containers, the initial ones first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def serves(self) -> bool:
        """Return whether it stays running and answers requests."""
        return any(container.get("ports") for container in self.spec["containers"])


def called(thing: Object) -> str:
    """Return the name of an object for messages."""
    return f"{thing['kind']}/{thing['metadata']['name']}"


@dataclass(frozen=True)
class Manifests:
    """The objects of one overlay."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of these kinds."""
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        """Return the names of the objects of a kind."""
        return {thing["metadata"]["name"] for thing in self.of(kind)}

    def one(self, kind: str, name: str) -> Object:
        """Return an object, which must exist."""
        return next(thing for thing in self.of(kind) if thing["metadata"]["name"] == name)

    def workloads(self) -> Iterator[Workload]:
        """Return all objects that run pods."""
        for thing in self.objects:
            match thing["kind"]:
                case "Pod":
                    yield Workload(thing, thing)
                case "Deployment" | "StatefulSet" | "Job":
                    yield Workload(thing, thing["spec"]["template"])
                case "CronJob":
                    yield Workload(thing, thing["spec"]["jobTemplate"]["spec"]["template"])


@cache
def manifests(folder: str) -> Manifests:
    """Render a folder of k8s/, once; the result must not be changed."""
    return Manifests(render(K8S / folder))


def applied(folder: str) -> Manifests:
    """Return the objects in the cluster after a folder was applied: an overlay, or an addition to one."""
    own = manifests(folder)
    return own if folder in (*OVERLAYS, EXAMPLE) else Manifests(manifests(OVERLAYS[0]).objects + own.objects)
