"""What is done to the cluster, and what must come of it, one step after the other."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tools.cluster_test.contract import check_contract
from tools.cluster_test.errors import KubectlFailed, StepFailed
from tools.cluster_test.gateway import Gateway
from tools.cluster_test.pushing import Ledger, Pusher

#: preStop's `sleep`, and pod failure policies, are there and settled from here on.
_OLDEST = (1, 33)
#: Of a push, or of a Job, in the worst case: the images may still have to be pulled.
_LONG = 900.0
CLIENT = "gwclient"
BUFFER = "databuffer"


class Tier(NamedTuple):
    """A part of the trio."""

    workload: str
    name: str


GATEWAY = Tier("deployment/gflapi-deploy", "glitchflow-api")
LOGIC = Tier("deployment/dslog-deploy", "dslogic")
WRITER = Tier("statefulset/databuffer", BUFFER)
TIERS = (GATEWAY, LOGIC, WRITER)

#: Says whether an address can be reached: `open`, `blocked` or `unknown name`; runs with the images' Python.
_KNOCK = """
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
    """A test under way.

    Attributes:
        kubectl: for the namespace under test.
        outside: for another one, where a stranger lives.
        folder: the overlay.
        image: of the client, for the stranger.

    """

    kubectl: Any
    outside: Any
    folder: Path
    image: str
    ledger: Ledger = field(default_factory=Ledger)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """Give the gateway, through a port-forward to one of its pods, when the whole trio is ready."""
        with self.kubectl.port_forward("service/gflapi", 8000) as url:
            gateway = Gateway(url, (self.folder / "operator.key").read_text().strip())
            gateway.wait_ready()
            yield gateway

    def in_client(self, command: Any) -> Any:
        """Run a command in the client's pod."""
        return self.kubectl.execute(CLIENT, command, seconds=_LONG)

    def wait_trio(self) -> None:
        """Wait until all tiers run as described."""
        for tier in TIERS:
            self.kubectl.wait_rollout(tier.workload)


Step = Callable[[Trial], str]


# ---- bringing it there


def the_version_is_supported(trial: Trial) -> str:
    """Ask how old the cluster is."""
    told = trial.kubectl.read("version")["serverVersion"]
    version = (int(told["major"]), int("".join(filter(str.isdigit, told["minor"]))))
    if version < _OLDEST:
        raise StepFailed(f"{told['gitVersion']} is older than {'.'.join(map(str, _OLDEST))}")
    return str(told["gitVersion"])


def it_comes_up(trial: Trial) -> str:
    """Apply the overlay to an empty namespace, and wait."""
    done = trial.kubectl.try_run("apply", f"--kustomize={trial.folder}")
    _must_be_clean(done)
    trial.wait_trio()
    trial.kubectl.run("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=300s", seconds=330)
    with trial.gateway() as gateway:
        return f"{len(done.stdout.splitlines())} objects; the gateway counts {gateway.get('/stats')['n_itm']} segments"


def a_dry_run_on_the_server_is_clean(trial: Trial) -> str:
    """Let the server check everything, and do nothing."""
    done = trial.kubectl.try_run("apply", "--dry-run=server", f"--kustomize={trial.folder}")
    _must_be_clean(done)
    return f"{len(done.stdout.splitlines())} objects, no warning"


def applying_twice_changes_nothing(trial: Trial) -> str:
    """Apply the same again."""
    lines = trial.kubectl.run("apply", f"--kustomize={trial.folder}").splitlines()
    changed = [line for line in lines if not line.endswith(" unchanged")]
    if changed:
        raise StepFailed(f"changed: {'; '.join(changed)}")
    difference = trial.kubectl.try_run("diff", f"--kustomize={trial.folder}")
    if difference.returncode:
        raise StepFailed(f"kubectl diff: {(difference.stdout or difference.stderr)[:300]}")
    return f"{len(lines)} objects unchanged, no difference"


def _must_be_clean(done: Any) -> None:
    said = done.stderr.strip()
    if done.returncode or "Warning" in said:
        raise StepFailed(f"kubectl apply: status {done.returncode}: {said or done.stdout.strip()}")


# ---- what it is for


def the_contract_holds(trial: Trial) -> str:
    """Ask the gateway everything once."""
    with trial.gateway() as gateway:
        return check_contract(gateway)


def a_batch_is_pushed_frozen_processed_and_archived(trial: Trial) -> str:
    """The whole story by hand, with a Job of preproc."""
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
    """Push as much as MAX_SIZE wants for a batch, and some more."""
    for _ in range(3):
        trial.ledger.push(trial.in_client)


def _start_job(trial: Trial, mould: str, name: str) -> None:
    trial.kubectl.run("create", "job", name, f"--from=cronjob/{mould}")


def _wait_job(trial: Trial, name: str) -> None:
    """Wait until a Job is done; where it fails, tell its last words."""
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


# ---- who may talk to whom


def only_the_gateway_is_open(trial: Trial) -> str:
    """Knock at every door, from every room and from outside."""
    trial.outside.run("apply", "--filename=-", given=json.dumps(_stranger(trial)))
    trial.outside.run("wait", "--for=condition=Ready", "pod/stranger", "--timeout=300s", seconds=330)
    space = trial.kubectl.namespace
    doors = {"gflapi": 8000, "dslogic": 5000, "databuff": 8080}
    rooms = {
        "outside": (trial.outside, "stranger", {"gflapi"}),
        "client": (trial.kubectl, CLIENT, {"gflapi"}),
        "gateway": (trial.kubectl, _a_pod(trial, GATEWAY), {"gflapi", "dslogic"}),
        "dslogic": (trial.kubectl, _a_pod(trial, LOGIC), {"databuff"}),
    }
    wrong = []
    for room, (kubectl, pod, may) in rooms.items():
        for door, port in doors.items():
            if room == "gateway" and door == "gflapi":
                continue  # its own pod may answer it
            knock = ["python", "-c", _KNOCK, f"{door}.{space}.svc", str(port)]
            lines = kubectl.execute(pod, knock, seconds=60).stderr.splitlines()
            found = next((line for line in lines if line in {"open", "blocked", "unknown name"}), "no answer")
            if found != ("open" if door in may else "blocked"):
                wrong.append(f"{room} -> {door}: {found}")
    if wrong:
        raise StepFailed(f"{'; '.join(wrong)} (does the cluster's network enforce NetworkPolicy?)")
    return "world -> gateway -> dslogic -> databuffer open, every other way blocked"


def _a_pod(trial: Trial, tier: Tier) -> str:
    return str(_staying(trial, tier)[0]["metadata"]["name"])


def _stranger(trial: Trial) -> dict[str, Any]:
    """A pod of somebody else's, in a namespace without policies."""
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": trial.outside.namespace},
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
                    "name": "stranger",
                    "image": trial.image,
                    "command": ["sleep", "infinity"],
                    "securityContext": confined,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                }
            ],
        },
    }


# ---- what clusters do to pods, while a client pushes


def _while_pushing(trial: Trial, disturb: Callable[[], None]) -> str:
    """Do something to the system while a client pushes; afterwards look for every segment it got acknowledged."""
    since = len(trial.ledger.times)
    with Pusher(trial.ledger, trial.in_client):
        disturb()
        trial.wait_trio()
    with trial.gateway() as gateway:
        return trial.ledger.check(gateway.segments(), since)


def restarted(trial: Trial, tier: Tier) -> str:
    """Restart a tier as an update would."""

    def restart() -> None:
        trial.kubectl.run("rollout", "restart", tier.workload)
        trial.kubectl.wait_rollout(tier.workload)

    return _while_pushing(trial, restart)


def evicted(trial: Trial, tier: Tier) -> str:
    """Evict a tier's pods one after the other, as a drain does: by the Eviction API, which heeds the budgets."""

    def evict() -> None:
        for pod in _staying(trial, tier):
            _evict(trial, pod["metadata"]["name"])
            _wait_gone(trial, tier, pod["metadata"]["uid"])
            trial.kubectl.wait_rollout(tier.workload)

    return _while_pushing(trial, evict)


def _staying(trial: Trial, tier: Tier) -> list[dict[str, Any]]:
    """Give a tier's pods without those that are on their way out."""
    return [pod for pod in trial.kubectl.pods(tier.name) if "deletionTimestamp" not in pod["metadata"]]


def _evict(trial: Trial, pod: str, seconds: float = 180.0) -> None:
    space = trial.kubectl.namespace
    order = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": space}}
    route = f"/api/v1/namespaces/{space}/pods/{pod}/eviction"
    end = time.monotonic() + seconds
    while True:
        done = trial.kubectl.try_run("create", f"--raw={route}", "--filename=-", given=json.dumps(order))
        if done.returncode == 0:
            return
        # A budget that has nothing left says so, and a drain asks again.
        if "disruption budget" not in done.stderr or time.monotonic() > end:
            raise KubectlFailed(f"evicting {pod}: {done.stderr.strip()}")
        time.sleep(2)


def _wait_gone(trial: Trial, tier: Tier, uid: str, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while any(pod["metadata"]["uid"] == uid for pod in trial.kubectl.pods(tier.name)):
        if time.monotonic() > end:
            raise StepFailed(f"a pod of {tier.name} did not go within {seconds:.0f} s")
        time.sleep(1)


def the_writer_is_lost(trial: Trial) -> str:
    """Take the buffer's pod away without asking it, as the control plane does with those of a node declared lost."""

    def lose() -> None:
        (pod,) = _staying(trial, WRITER)
        trial.kubectl.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
        _wait_gone(trial, WRITER, pod["metadata"]["uid"])

    return _while_pushing(trial, lose)


def scaled(trial: Trial, tier: Tier) -> str:
    """Scale a tier from what it is to 1, to 5, to 1 and back to 2."""

    def scale() -> None:
        for replicas in (1, 5, 1, 2):
            trial.kubectl.run("scale", tier.workload, f"--replicas={replicas}")
            trial.kubectl.wait_rollout(tier.workload)
            _wait_for_count(trial, tier, replicas)

    return _while_pushing(trial, scale)


def _wait_for_count(trial: Trial, tier: Tier, replicas: int, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while len(trial.kubectl.pods(tier.name)) != replicas:
        if time.monotonic() > end:
            raise StepFailed(f"{tier.name} has not {replicas} pods after {seconds:.0f} s")
        time.sleep(1)


def the_writer_is_deleted_and_applied_again(trial: Trial) -> str:
    """Delete the StatefulSet, apply the overlay again; every byte must still be there."""
    with trial.gateway() as gateway:
        segments, counts = gateway.segments(), gateway.get("/stats")
    trial.kubectl.run("delete", WRITER.workload, "--cascade=foreground", "--timeout=180s", seconds=200)
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


#: Without these, the others say nothing.
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
    **{f"rolling restart of {tier.name}": partial(restarted, tier=tier) for tier in TIERS},
    **{f"eviction of {tier.name}": partial(evicted, tier=tier) for tier in TIERS},
    "loss of the writer's pod": the_writer_is_lost,
    **{f"{tier.name} scaled 1, 5, 1": partial(scaled, tier=tier) for tier in (GATEWAY, LOGIC)},
    "StatefulSet deleted and applied again": the_writer_is_deleted_and_applied_again,
}
