"""The steps of the test: each changes the cluster or checks it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tools.cluster_test.contract import check_contract
from tools.cluster_test.errors import StepFailed
from tools.cluster_test.gateway import Gateway
from tools.cluster_test.objects import changes
from tools.cluster_test.pusher import Ledger, Pusher

#: The first version in which preStop's `sleep` and pod failure policies are stable.
_OLDEST = (1, 33)
#: The time limit of a push or a Job; the images may still have to be pulled.
_LONG = 900.0
CLIENT = "gwclient"
BUFFER = "databuffer"


class Workload(NamedTuple):
    """A workload of the trio, by its resource and the name of its pods."""

    resource: str
    name: str


GATEWAY = Workload("deployment/gflapi-deploy", "glitchflow-api")
LOGIC = Workload("deployment/dslog-deploy", "dslogic")
WRITER = Workload("statefulset/databuffer", BUFFER)
WORKLOADS = (GATEWAY, LOGIC, WRITER)

#: Prints whether an address can be reached: `open`, `blocked` or `unknown name`; runs with the images' Python.
_PROBE = """
import socket, sys
try:
    socket.getaddrinfo(sys.argv[1], None)
except OSError:
    sys.exit("unknown name")
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
except OSError:
    sys.exit("blocked")
sys.exit("open")
"""


@dataclass
class Trial:
    """The state of a test.

    Attributes:
        kubectl: for the namespace under test.
        outside: for another namespace, with a client outside.
        folder: with the overlay.
        image: the client's, for the pod outside.

    """

    kubectl: Any
    outside: Any
    folder: Path
    image: str
    ledger: Ledger = field(default_factory=Ledger)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """Yield the gateway, through a port-forward to one of its pods, when the trio is ready."""
        with self.kubectl.port_forward("service/gflapi", 8000) as url:
            gateway = Gateway(url, (self.folder / "operator.key").read_text().strip())
            gateway.wait_ready()
            yield gateway

    def in_client(self, command: Any) -> Any:
        """Run a command in the client's pod."""
        return self.kubectl.execute(CLIENT, command, seconds=_LONG)

    def wait_trio(self) -> None:
        """Wait until all services run as described."""
        for workload in WORKLOADS:
            self.kubectl.wait_rollout(workload.resource)


Step = Callable[[Trial], str]


# ---- installation


def the_version_is_supported(trial: Trial) -> str:
    """Check the version of the cluster."""
    server_version = trial.kubectl.read("version")["serverVersion"]
    version = (int(server_version["major"]), int("".join(filter(str.isdigit, server_version["minor"]))))
    if version < _OLDEST:
        raise StepFailed(f"{server_version['gitVersion']} is older than {'.'.join(map(str, _OLDEST))}")
    return str(server_version["gitVersion"])


def it_comes_up(trial: Trial) -> str:
    """Apply the overlay to an empty namespace and wait."""
    done = trial.kubectl.try_run("apply", f"--kustomize={trial.folder}")
    _must_be_clean(done)
    trial.wait_trio()
    trial.kubectl.run("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=300s", seconds=330)
    with trial.gateway() as gateway:
        return f"{len(done.stdout.splitlines())} objects; the gateway counts {gateway.get('/stats')['n_itm']} segments"


def a_dry_run_on_the_server_is_clean(trial: Trial) -> str:
    """Validate the overlay on the server without applying it."""
    done = trial.kubectl.try_run("apply", "--dry-run=server", f"--kustomize={trial.folder}")
    _must_be_clean(done)
    return f"{len(done.stdout.splitlines())} objects, no warning"


def applying_twice_changes_nothing(trial: Trial) -> str:
    """Apply the overlay again, and compare the objects before and after."""
    overlay = f"--kustomize={trial.folder}"
    before = trial.kubectl.read("get", overlay)["items"]
    trial.kubectl.run("apply", overlay)
    after = trial.kubectl.read("get", overlay)["items"]
    if changed := changes(before, after):
        raise StepFailed("; ".join(changed))
    difference = trial.kubectl.try_run("diff", overlay)
    if difference.returncode:
        raise StepFailed(f"kubectl diff: {(difference.stdout or difference.stderr)[:300]}")
    return f"{len(after)} objects as before, no difference"


def _must_be_clean(done: Any) -> None:
    said = done.stderr.strip()
    if done.returncode or "Warning" in said:
        raise StepFailed(f"kubectl apply: status {done.returncode}: {said or done.stdout.strip()}")


# ---- function


def the_contract_holds(trial: Trial) -> str:
    """Call every route of the gateway once."""
    with trial.gateway() as gateway:
        return check_contract(gateway)


def a_batch_is_pushed_frozen_processed_and_archived(trial: Trial) -> str:
    """Push, freeze, preprocess in a Job, and archive."""
    _push_a_batch(trial)
    with trial.gateway() as gateway:
        frozen = gateway.post("/train", {"user": "test", "token": "t"})
        if frozen["resp"] != "FROZEN" or frozen["n_f"] < len(trial.ledger.times):
            raise StepFailed(f"/train: {frozen}")
        refused = gateway.post("/streamdata", {"h": [0.0, 1e-22], "t": [1.0, 0.5]})
        if refused["resp"] != "FROZEN":
            raise StepFailed(f"a frozen batch took a segment: {refused}")
        _start_job(trial, "preproc", "preproc-by-hand")
        _wait_job(trial, "preproc-by-hand")
        cleaned = gateway.post("/cleanbuf", {"msg": "test of the cluster"})
        if cleaned["resp"] != "CLEANED" or gateway.get("/stats")["n_itm"]:
            raise StepFailed(f"/cleanbuf: {cleaned}")
        kept = trial.ledger.check(gateway.segments())
    return f"{frozen['n_f']} segments frozen, a dataset made, archived; {kept}"


def the_pipeline_takes_a_batch_through(trial: Trial) -> str:
    """Push while the pipeline's Job waits; it freezes, processes and archives by itself."""
    with trial.gateway() as gateway:
        before = _archived(gateway)
        _start_job(trial, "pipeline", "pipeline-once")
        _push_a_batch(trial)
        _wait_job(trial, "pipeline-once")
        if _archived(gateway) != before + 1 or gateway.get("/desc") != {"resp": "OPERATIONAL"}:
            raise StepFailed(f"{_archived(gateway) - before} batches were archived, state {gateway.get('/desc')}")
        return trial.ledger.check(gateway.segments())


def _archived(gateway: Gateway) -> int:
    return sum(batch["state"] == "ARCHIVED" for batch in gateway.get("/batches")["batches"])


def _push_a_batch(trial: Trial) -> None:
    """Push more than MAX_SIZE, so that a batch is complete."""
    for _ in range(3):
        trial.ledger.push(trial.in_client)


def _start_job(trial: Trial, template: str, name: str) -> None:
    trial.kubectl.run("create", "job", name, f"--from=cronjob/{template}")


def _wait_job(trial: Trial, name: str) -> None:
    """Wait until a Job is complete; raise StepFailed with the end of its log if it fails."""
    end = time.monotonic() + _LONG
    while time.monotonic() < end:
        done = {
            condition["type"]
            for condition in trial.kubectl.read("get", "job", name).get("status", {}).get("conditions", [])
            if condition["status"] == "True"
        }
        if "Complete" in done:
            return
        if "Failed" in done:
            break
        time.sleep(2)
    log = trial.kubectl.try_run("logs", f"job/{name}", "--all-containers", "--tail=5").stdout
    raise StepFailed(f"Job {name} did not succeed: {log}")


# ---- network policies


def only_the_gateway_is_open(trial: Trial) -> str:
    """Connect to every service from every pod and from outside."""
    trial.outside.run("apply", "--filename=-", given=json.dumps(_outside_pod(trial)))
    trial.outside.run("wait", "--for=condition=Ready", "pod/outside", "--timeout=300s", seconds=330)
    space = trial.kubectl.namespace
    services = {"gflapi": 8000, "dslogic": 5000, "databuff": 8080}
    sources = {
        "outside": (trial.outside, "outside", {"gflapi"}),
        "client": (trial.kubectl, CLIENT, {"gflapi"}),
        "gateway": (trial.kubectl, _a_pod(trial, GATEWAY), {"gflapi", "dslogic"}),
        "dslogic": (trial.kubectl, _a_pod(trial, LOGIC), {"databuff"}),
    }
    wrong = []
    for source, (kubectl, pod, allowed) in sources.items():
        for service, port in services.items():
            if source == "gateway" and service == "gflapi":
                continue  # the same pod may answer
            probe = ["python", "-c", _PROBE, f"{service}.{space}.svc", str(port)]
            lines = kubectl.execute(pod, probe, seconds=60).stderr.splitlines()
            found = next((line for line in lines if line in {"open", "blocked", "unknown name"}), "no answer")
            if found != ("open" if service in allowed else "blocked"):
                wrong.append(f"{source} -> {service}: {found}")
    if wrong:
        raise StepFailed(f"{'; '.join(wrong)} (does the cluster's network enforce NetworkPolicy?)")
    return "outside -> gateway -> dslogic -> databuffer open, every other connection blocked"


def _a_pod(trial: Trial, workload: Workload) -> str:
    return str(_running(trial, workload)[0]["metadata"]["name"])


def _outside_pod(trial: Trial) -> dict[str, Any]:
    """Return a pod in a namespace without policies."""
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "outside", "namespace": trial.outside.namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "outside",
                    "image": trial.image,
                    "command": ["sleep", "infinity"],
                    "securityContext": confined,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                }
            ],
        },
    }


# ---- disturbances, while a client pushes


def _while_pushing(trial: Trial, disturb: Callable[[], None]) -> str:
    """Disturb the system while a client pushes; then check every acknowledged segment."""
    since = len(trial.ledger.times)
    with Pusher(trial.ledger, trial.in_client):
        disturb()
        trial.wait_trio()
    with trial.gateway() as gateway:
        return trial.ledger.check(gateway.segments(), since)


def restarted(trial: Trial, workload: Workload) -> str:
    """Restart a workload as an update does."""

    def restart() -> None:
        trial.kubectl.run("rollout", "restart", workload.resource)
        trial.kubectl.wait_rollout(workload.resource)

    return _while_pushing(trial, restart)


def evicted(trial: Trial, workload: Workload) -> str:
    """Evict a workload's pods one after the other by the Eviction API, as a drain does."""

    def evict() -> None:
        for pod in _running(trial, workload):
            trial.kubectl.evict(pod["metadata"]["name"])
            _wait_gone(trial, workload, pod["metadata"]["uid"])
            trial.kubectl.wait_rollout(workload.resource)

    return _while_pushing(trial, evict)


def _running(trial: Trial, workload: Workload) -> list[dict[str, Any]]:
    """Return a workload's pods without those that are terminating."""
    return [pod for pod in trial.kubectl.pods(workload.name) if "deletionTimestamp" not in pod["metadata"]]


def _wait_gone(trial: Trial, workload: Workload, uid: str, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while any(pod["metadata"]["uid"] == uid for pod in trial.kubectl.pods(workload.name)):
        if time.monotonic() > end:
            raise StepFailed(f"a pod of {workload.name} was not removed within {seconds:.0f} s")
        time.sleep(1)


def the_writer_is_lost(trial: Trial) -> str:
    """Delete the buffer's pod by force, as the control plane does for a node that is declared lost."""

    def lose() -> None:
        (pod,) = _running(trial, WRITER)
        trial.kubectl.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
        _wait_gone(trial, WRITER, pod["metadata"]["uid"])

    return _while_pushing(trial, lose)


def scaled(trial: Trial, workload: Workload) -> str:
    """Scale a workload from what it is to 1, to 5, to 1 and back to 2."""

    def scale() -> None:
        for replicas in (1, 5, 1, 2):
            trial.kubectl.run("scale", workload.resource, f"--replicas={replicas}")
            trial.kubectl.wait_rollout(workload.resource)
            _wait_for_count(trial, workload, replicas)

    return _while_pushing(trial, scale)


def _wait_for_count(trial: Trial, workload: Workload, replicas: int, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while len(trial.kubectl.pods(workload.name)) != replicas:
        if time.monotonic() > end:
            raise StepFailed(f"{workload.name} has not {replicas} pods after {seconds:.0f} s")
        time.sleep(1)


def the_writer_is_deleted_and_applied_again(trial: Trial) -> str:
    """Delete the StatefulSet and apply the overlay again; every segment must be unchanged."""
    with trial.gateway() as gateway:
        segments, counts = gateway.segments(), gateway.get("/stats")
    trial.kubectl.run("delete", WRITER.resource, "--cascade=foreground", "--timeout=180s", seconds=200)
    if trial.kubectl.pods(BUFFER):
        raise StepFailed("the buffer's pod outlived its StatefulSet")
    trial.kubectl.run("apply", f"--kustomize={trial.folder}")
    trial.wait_trio()
    with trial.gateway() as gateway:
        if gateway.segments() != segments or gateway.get("/stats") != counts:
            raise StepFailed(f"{len(segments)} segments before, {len(gateway.segments())} after, or not the same")
        if damaged := gateway.damaged(segments):
            raise StepFailed(f"{len(damaged)} segments are not what was stored: {damaged[:3]}")
    return f"{len(segments)} segments read back, each with its SHA-256"


#: The others are not run if one of these fails.
FIRST: dict[str, Step] = {
    "Kubernetes is new enough": the_version_is_supported,
    "the overlay comes up": it_comes_up,
}
STEPS: dict[str, Step] = {
    "a dry run on the server is clean": a_dry_run_on_the_server_is_clean,
    "applying twice changes nothing": applying_twice_changes_nothing,
    "the contract holds": the_contract_holds,
    "push, freeze, preproc, clean": a_batch_is_pushed_frozen_processed_and_archived,
    "the pipeline's Job": the_pipeline_takes_a_batch_through,
    "only the gateway is open": only_the_gateway_is_open,
    **{f"rolling restart of {workload.name}": partial(restarted, workload=workload) for workload in WORKLOADS},
    **{f"eviction of {workload.name}": partial(evicted, workload=workload) for workload in WORKLOADS},
    "loss of the writer's pod": the_writer_is_lost,
    **{f"{workload.name} scaled 1, 5, 1": partial(scaled, workload=workload) for workload in (GATEWAY, LOGIC)},
    "StatefulSet deleted and applied again": the_writer_is_deleted_and_applied_again,
}
