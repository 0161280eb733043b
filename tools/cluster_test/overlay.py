"""The overlay under test: `local` in another namespace, with the given images and a small batch."""

import json
import os
from pathlib import Path
from typing import Any

from scripts.cluster_keys import HOPS, KEYS_FILE, make_keys
from scripts.engine import IMAGES

_K8S = Path(__file__).parents[2] / "k8s"
#: A batch is complete with some 45 segments of a second at 2048 Hz.
MAX_SIZE = "2MB"
#: Secrets keep the names that the manifests refer to.
_NAMED = {"options": {"disableNameSuffixHash": True}}


def kustomization(folder: Path, namespace: str, prefix: str, tag: str) -> dict[str, Any]:
    """Return the kustomization to write into `folder`; kustomize accepts relative paths only.

    Args:
        folder: where it will be written.
        namespace: instead of `glitchflow`.
        prefix: registry and path of the images, without the last `/`.
        tag: of the images.

    """
    here = folder.resolve()

    def leading_to(part: str) -> str:
        return os.path.relpath(_K8S / part, here)

    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [leading_to("overlays/local"), leading_to("base/gwclient")],
        "components": [leading_to("pipeline")],
        # A node with 2 CPUs has no memory for more.
        "replicas": [{"name": "listener", "count": 1}],
        "images": [{"name": f"glitchflow/{name}", "newName": f"{prefix}/{name}", "newTag": tag} for name in IMAGES],
        "configMapGenerator": [
            {"name": "dslogic-settings", "behavior": "merge", "literals": [f"MAX_SIZE={MAX_SIZE}"]},
        ],
        "secretGenerator": [
            # Not a secret: it exists as long as the namespace.
            {
                "name": "glitchflow-holder",
                "literals": ["user=pipeline", "token=of-this-test"],
                "files": ["key=pipeline.key"],
                **_NAMED,
            },
            {"name": "gateway-keys", "files": [KEYS_FILE], **_NAMED},
            *(
                {"name": f"{holder}-key", "files": [f"key={holder}.key"], **_NAMED}
                for holder in ("gwclient", "listener")
            ),
            *({"name": f"{hop}-secret", "files": [f"secret={hop}.secret"], **_NAMED} for hop in HOPS),
        ],
        "patches": [
            # The test starts the pipeline itself.
            {
                "target": {"kind": "CronJob", "name": "pipeline"},
                "patch": json.dumps([{"op": "add", "path": "/spec/suspend", "value": True}]),
            },
        ],
    }


def write_overlay(folder: Path, namespace: str, prefix: str, tag: str) -> None:
    """Write the kustomization, as JSON, which is also YAML, and the keys into `folder`."""
    make_keys(folder)
    content = kustomization(folder, namespace, prefix, tag)
    (folder / "kustomization.yaml").write_text(json.dumps(content, indent=2))
