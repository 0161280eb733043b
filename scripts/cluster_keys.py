"""Create the keys and secrets that the Kubernetes manifests need, and print them as Secrets.

    python -m scripts.cluster_keys FOLDER | kubectl apply -f -

FOLDER, which must not exist, gets `keys.json` (the key file: hashes only), a file with each key, and a file with the
secret of each connection between services. Standard output gets the Secrets of the namespace `glitchflow`, or of the
one that is named after FOLDER. Exit status: 0 done, 2 refused.
"""

import base64
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from glitchflow_api.key_file import change_keys, make_key
from gwwire.public import Scope

KEYS_FILE = "keys.json"
#: The holders of the keys, each with the least scopes it needs.
HOLDERS = {
    "operator": [Scope.ADMIN],
    "pipeline": [Scope.READ, Scope.TRAIN, Scope.CLEAN],
    "listener": [Scope.READ, Scope.WORK],
    "gwclient": [Scope.READ, Scope.STREAM],
}


#: The services with a secret, which is shared only with the one above.
HOPS = ("logic", "buffer")


def make_keys(folder: Path) -> None:
    """Create a key file, a key `HOLDER.key` for each holder, and a secret for each connection between services."""
    for hop in HOPS:
        path = folder / f"{hop}.secret"
        path.touch(mode=0o600)
        path.write_text(f"{secrets.token_hex(32)}\n")
    for holder, scopes in HOLDERS.items():
        key, record = make_key(holder, scopes)
        change_keys(folder / KEYS_FILE, lambda keys, record=record: keys.update({record.id: record}))  # type: ignore[misc]  # the default binds this turn's record
        path = folder / f"{holder}.key"
        path.touch(mode=0o600)
        path.write_text(f"{key}\n")


def secret_contents(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the content of each Secret that the manifests name."""
    return {
        **{f"{hop}-secret": {"secret": (folder / f"{hop}.secret").read_bytes()} for hop in HOPS},
        "gateway-keys": {KEYS_FILE: (folder / KEYS_FILE).read_bytes()},
        **{f"{holder}-key": {"key": (folder / f"{holder}.key").read_bytes()} for holder in ("gwclient", "listener")},
        "glitchflow-holder": {
            "user": b"pipeline",
            "token": secrets.token_urlsafe(16).encode(),
            "key": (folder / "pipeline.key").read_bytes(),
        },
    }


def as_secret(name: str, namespace: str, content: dict[str, bytes]) -> dict[str, Any]:
    """Return the Kubernetes object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "glitchflow"}},
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def main() -> int:
    """Create keys and Secrets, or refuse if the folder exists."""
    match sys.argv[1:]:
        case [folder] | [folder, _] if folder not in {"-h", "--help"}:
            namespace = sys.argv[2] if len(sys.argv) > 2 else "glitchflow"  # noqa: PLR2004 (the program, FOLDER, and it)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    try:
        Path(folder).mkdir(mode=0o700)
    except OSError as error:
        sys.stderr.write(f"cluster_keys: {folder}: {error.strerror}; keys are made once\n")
        return 2
    make_keys(Path(folder))
    items = [as_secret(name, namespace, content) for name, content in secret_contents(Path(folder)).items()]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    sys.stderr.write(f"{folder}: {', '.join(f'{holder}.key' for holder in HOLDERS)}; keep them safe\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
