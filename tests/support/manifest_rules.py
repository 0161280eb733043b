"""Rules for the objects of an overlay: each yields a sentence for each object that breaks it."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from databuffer.settings import BufferSettings
from dslogic.settings import LogicSettings
from glitchflow_api.settings import GatewaySettings
from gwservice import asgi
from gwservice.settings import ServiceSettings
from gwwire.public import AuthMode
from tests.support.manifests import ROOT, Manifests, Object, Workload, called

Rule = Callable[[Manifests], Iterator[str]]

UID = 10001
#: Secrets that the manifests name but do not contain: `python -m scripts.cluster_keys` creates them.
SECRETS = {
    "glitchflow-holder": {"user", "token", "key"},
    "gateway-keys": {"keys.json"},
    "gwclient-key": {"key"},
    "listener-key": {"key"},
    "logic-secret": {"secret"},
    "buffer-secret": {"secret"},
}
#: Those that the documentation creates by `kubectl create secret`.
SECRETS_BY_HAND = {
    "tier-keys": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"},
    "tape-token": {"token"},
}
SETTINGS: dict[str, type[ServiceSettings]] = {
    "databuffer": BufferSettings,
    "dslogic": LogicSettings,
    "glitchflow-api": GatewaySettings,
}
#: Environment variables of containers that are not services; each is in the source of its package.
CLIENT_SETTINGS = {
    "gwclient": {"SRV", "GWID", "DTCID", "INF", "SUP", "GLITCHFLOW_KEY_FILE"},
    "preproc": {"DATART", "SRV", "GLITCHFLOW_KEY_FILE"},
}
#: A service listens within this time after its start, even on a busy machine.
_LISTENS_SECONDS = 5
_GUNICORN = ROOT / "dslogic" / "gunicorn.conf.py"
_BINARY = {unit: Fraction(1024**power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)}
_DECIMAL = {unit: Fraction(1000) ** power for power, unit in enumerate(("m", "", "k", "M", "G", "T", "P"), -1)}
_UNITS = {**_BINARY, **_DECIMAL}
#: The CPUs and bytes that Kubernetes' own pods leave of a node with 2 CPUs and 4 GiB.
SMALL_NODE = {"cpu": 0.9, "memory": 3 * 2**30}


def gunicorn_settings() -> dict[str, Any]:
    """Return dslogic's settings of gunicorn."""
    told: dict[str, Any] = {}
    exec(compile(_GUNICORN.read_text(), _GUNICORN.name, "exec"), told)  # noqa: S102 (as gunicorn itself reads it)
    return told


def _quantity(text: str) -> tuple[Fraction, str]:
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]  # a bad one fails
    return Fraction(number) * _UNITS[unit], unit


def quantity(text: str) -> float:
    """Return the value of a Kubernetes quantity."""
    return float(_quantity(text)[0])


def canonical(text: str) -> str:
    """Return a quantity in the form that the API server stores: the largest unit with a whole number."""
    value, unit = _quantity(text)
    units = _BINARY | {"": Fraction(1)} if unit in _BINARY else _DECIMAL
    largest = max((one for one in units if value % units[one] == 0), key=lambda one: units[one])
    return f"{value / units[largest]}{largest if value else ''}"


def requested(found: Manifests, kind: str, pods: Mapping[str, int], stated: str = "requests") -> float:
    """Return what all pods request of a resource, or their limits; a workload has one pod unless `pods` says otherwise.

    Initial containers run before the others: a pod needs the largest of them, or the sum of the others.
    """
    total = 0.0
    for work in found.workloads():
        needs = [sum(quantity(one["resources"][stated][kind]) for one in work.spec["containers"])]
        needs += [quantity(one["resources"][stated][kind]) for one in work.spec.get("initContainers", [])]
        total += max(needs) * pods.get(called(work.owner), 1)
    return total


def every_container(found: Manifests) -> Iterator[tuple[Workload, Object, str]]:
    """Yield each container with its workload and its name for messages."""
    for work in found.workloads():
        for container in work.containers:
            yield work, container, f"{called(work.owner)}, container {container['name']}"


# ---- permissions of pods


def pods_are_restricted(found: Manifests) -> Iterator[str]:
    """Every pod fits PodSecurity `restricted`, as the images' user."""
    for work in found.workloads():
        pod = work.spec.get("securityContext", {})
        wanted = {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID}
        for key, value in wanted.items():
            if pod.get(key) != value:
                yield f"{called(work.owner)}: {key} is {pod.get(key)}, not {value}"
        if pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{called(work.owner)}: the seccomp profile is not RuntimeDefault"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if work.spec.get(key):
                yield f"{called(work.owner)}: {key}"
        for volume in work.spec.get("volumes", []):
            if not volume.keys() <= {"name", "persistentVolumeClaim", "emptyDir", "configMap", "secret", "projected"}:
                yield f"{called(work.owner)}: volume {volume['name']} is of a kind that `restricted` forbids"


def containers_are_confined(found: Manifests) -> Iterator[str]:
    """No container can gain privileges, or write to its own file system except /tmp."""
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for _, container, name in every_container(found):
        if container.get("securityContext") != wanted:
            yield f"{name}: the security context is {container.get('securityContext')}"
        if "/tmp" not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}:  # noqa: S108 (the container's)
            yield f"{name}: nothing is mounted at /tmp"


def temporary_folders_are_bounded(found: Manifests) -> Iterator[str]:
    """Every emptyDir has a size limit."""
    for work in found.workloads():
        for volume in work.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{called(work.owner)}: emptyDir {volume['name']} has no sizeLimit"


def nobody_gets_a_token(found: Manifests) -> Iterator[str]:
    """Every pod has its own account, and neither mounts a token."""
    for work in found.workloads():
        account = work.spec.get("serviceAccountName")
        if account not in found.names("ServiceAccount"):
            yield f"{called(work.owner)}: there is no ServiceAccount {account}"
        if work.spec.get("automountServiceAccountToken") is not False:
            yield f"{called(work.owner)}: a token is mounted"
    for account in found.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{called(account)}: tokens are mounted"


def resources_are_stated(found: Manifests) -> Iterator[str]:
    """Every container has requests and limits, and no request is above its limit."""
    for _, container, name in every_container(found):
        stated = container.get("resources", {})
        for kind in ("cpu", "memory", "ephemeral-storage"):
            least, most = (stated.get(key, {}).get(kind) for key in ("requests", "limits"))
            if least is None or most is None:
                yield f"{name}: {kind} has no request or no limit"
            elif quantity(least) > quantity(most):
                yield f"{name}: {kind} requested {least} is more than its limit {most}"


def values_are_as_stored(found: Manifests) -> Iterator[str]:
    """Every value is as the API server stores it; otherwise each `kubectl apply` sends a patch."""
    for thing in found.objects:
        for path, value in _values(thing):
            if value is None or (value in ([], {}) and not path.endswith(_EMPTY_IS_KEPT)):
                yield f"{called(thing)}: {path} is empty, and the server drops it"
            if re.search(r"\.(requests|limits|hard)\.|\.sizeLimit$", path) and canonical(str(value)) != value:
                yield f"{called(thing)}: {path} is {value!r}, and not in canonical form"
    for thing in found.of("Deployment", "StatefulSet"):
        if "type" not in thing["spec"].get("strategy", thing["spec"].get("updateStrategy", {})):
            yield f"{called(thing)}: its updates have no type, and the server adds one"


#: Here an empty object has a meaning: all pods, a folder without settings.
_EMPTY_IS_KEPT = ("podSelector", "namespaceSelector", "emptyDir")


def _values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything within a JSON value, with its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield f"{path}.{key}", one
        yield from _values(one, f"{path}.{key}")


def a_small_node_is_large_enough(found: Manifests) -> Iterator[str]:
    """Everything that runs at the same time fits on a node of 2 CPUs, also during an update of every Deployment."""
    pods = {
        called(thing): thing["spec"].get("replicas", 1) + thing["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        for thing in found.of("Deployment")
    }
    for kind, available in SMALL_NODE.items():
        if (sum_of := requested(found, kind, pods)) > available:
            yield f"all pods request {sum_of:g} {kind}, and there is {available:g}"


def images_are_pinned(found: Manifests) -> Iterator[str]:
    """Every image is the project's own, of the project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for _, container, name in every_container(found):
        if not re.fullmatch(
            rf"glitchflow/(databuffer|dslogic|glitchflow_api|gwclient|preproc):{re.escape(version)}", container["image"]
        ):
            yield f"{name}: image {container['image']} is not one of version {version}"
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"{name}: imagePullPolicy {container.get('imagePullPolicy')}"


# ---- life cycle


def probes_differ_in_meaning(found: Manifests) -> Iterator[str]:
    """A service has three probes; only readiness looks beyond the process, and liveness is the slowest to fail."""
    for work, container, name in every_container(found):
        if not work.serves:
            continue
        probes = {kind: container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")}
        asked = {kind: probe.get("httpGet", {}).get("path", "") for kind, probe in probes.items()}
        if asked["startup"] != "/healthz":
            yield f"{name}: the startup probe does not ask /healthz"
        if probes["startup"].get("initialDelaySeconds", 0) < _LISTENS_SECONDS:
            yield f"{name}: the startup probe asks before the process listens, and every start records a warning"
        if asked["readiness"] != "/readyz":
            yield f"{name}: the readiness probe does not ask /readyz"
        if "tcpSocket" not in probes["liveness"] and asked["liveness"] != "/healthz":
            yield f"{name}: the liveness probe asks for more than the process"
        if probes["liveness"].get("periodSeconds", 0) * probes["liveness"].get("failureThreshold", 0) < 60:
            yield f"{name}: it is killed within a minute"
        yield from _probe_targets(container, probes, name)


def _probe_targets(container: Object, probes: dict[str, Object], name: str) -> Iterator[str]:
    for kind, probe in probes.items():
        port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
        if port not in {one["name"] for one in container["ports"]}:
            yield f"{name}: the {kind} probe asks port {port}, which the container does not name"
        if probe.get("timeoutSeconds", 1) < 5:
            yield f"{name}: the {kind} probe waits less than 5 s; a loaded machine answers late"


def each_end_is_graceful(found: Manifests) -> Iterator[str]:
    """There is enough time for preStop and current requests; a pod with a replica hands over its traffic."""
    grace = {"dslogic": gunicorn_settings()["graceful_timeout"]}
    for work, container, name in every_container(found):
        if not work.serves:
            continue
        sleeps = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = sleeps + grace.get(container["name"], asgi._GRACE_SECONDS)  # noqa: SLF001 (the number itself is meant)
        if work.spec.get("terminationGracePeriodSeconds", 30) < needed + 10:
            yield f"{name}: it needs {needed} s to end, and 10 s to spare"
        if work.owner["kind"] == "Deployment" and not sleeps:
            yield f"{name}: it leaves before its peers know"


#: Claims that the buffer does not mount: datasets, and those of the gateway for NLDS.
_WRITTEN_BY_OTHERS = frozenset({"dataset", "nlds", "shared"})
#: Services of gateways.
_GATEWAYS = frozenset({"gflapi", "nlds"})


def one_writer_writes(found: Manifests) -> Iterator[str]:
    """The buffer is a StatefulSet of one, which nothing scales; no other pod can write to its volumes."""
    for work in found.workloads():
        own = work.labels.get("app.kubernetes.io/name") == "databuffer"
        # k8s/maintenance: an administrator's shell, used while the buffer is stopped.
        person = work.labels.get("app.kubernetes.io/name") == "maintenance"
        if own and (work.owner["kind"] != "StatefulSet" or work.owner["spec"].get("replicas") != 1):
            yield f"{called(work.owner)}: the buffer is no StatefulSet of one"
        if own and work.owner["spec"].get("podManagementPolicy") != "Parallel":
            yield f"{called(work.owner)}: an update that never gets ready could not be mended by another"
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in work.spec.get("volumes", [])
            if "persistentVolumeClaim" in volume
        }
        for container in work.containers:
            for mount in container.get("volumeMounts", []):
                is_its_own = claims.get(mount["name"]) in {None, *_WRITTEN_BY_OTHERS}
                if not (is_its_own or own or person or mount.get("readOnly")):
                    yield f"{called(work.owner)}: container {container['name']} may write to {claims[mount['name']]}"
    for scaler in found.of("HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["kind"] != "Deployment":
            yield f"{called(scaler)}: it scales a {scaler['spec']['scaleTargetRef']['kind']}"


def volumes_can_be_shared(found: Manifests) -> Iterator[str]:
    """Every pod with a ReadWriteOnce volume runs on the buffer's node; SQLite is not on NFS."""
    modes = {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in found.of("PersistentVolumeClaim")}
    for name in ("databuff-adm", "databuff-log"):
        if name in modes and modes[name] != ["ReadWriteOnce"]:
            yield f"PersistentVolumeClaim/{name}: {modes[name]}"
    for work in found.workloads():
        if work.owner["kind"] == "StatefulSet" or work.labels.get("app.kubernetes.io/name") == "maintenance":
            continue  # the buffer itself, or used while it is stopped
        together = work.spec.get("affinity", {}).get("podAffinity", {})
        near = any(
            term["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": "databuffer"}
            and term["topologyKey"] == "kubernetes.io/hostname"
            for term in together.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        )
        for volume in work.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and modes[claim] == ["ReadWriteOnce"] and not near:
                yield f"{called(work.owner)}: {claim} is on the buffer's node, and the pod may be elsewhere"


def drains_pass(found: Manifests) -> Iterator[str]:
    """Each workload that serves has one budget, which always lets a pod go; nothing blocks a drain."""
    for work in found.workloads():
        if not work.serves:
            continue
        budgets = [
            budget
            for budget in found.of("PodDisruptionBudget")
            if budget["spec"]["selector"]["matchLabels"].items() <= work.labels.items()
        ]
        if [budget["spec"].get("maxUnavailable") for budget in budgets] != [1]:
            yield f"{called(work.owner)}: not exactly one budget with maxUnavailable 1"


def stateless_tiers_scale_and_spread(found: Manifests) -> Iterator[str]:
    """A Deployment is scaled by an autoscaler or by `replicas`, not both; updates remove no pod first; pods spread."""
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in found.of("HorizontalPodAutoscaler")}
    for deployment in found.of("Deployment"):
        spec = deployment["spec"]
        if ("replicas" in spec) == (deployment["metadata"]["name"] in scaled):
            yield f"{called(deployment)}: scaled by both, or by nobody"
        if spec["strategy"]["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
            yield f"{called(deployment)}: an update takes pods away before others are ready"
        spread = spec["template"]["spec"].get("topologySpreadConstraints", [])
        if [one["topologyKey"] for one in spread] != ["kubernetes.io/hostname"]:
            yield f"{called(deployment)}: its pods do not spread over the nodes"
        elif any(one["labelSelector"]["matchLabels"] != spec["selector"]["matchLabels"] for one in spread):
            yield f"{called(deployment)}: it spreads over somebody else's pods"
    for scaler in found.of("HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] not in found.names("Deployment"):
            yield f"{called(scaler)}: it scales nothing"
        if not 2 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]:
            yield f"{called(scaler)}: from {scaler['spec']['minReplicas']} to {scaler['spec']['maxReplicas']}"


def jobs_take_turns(found: Manifests) -> Iterator[str]:
    """No two Jobs of a kind run at a time; a pod that is taken away is not a failure; finished Jobs are removed."""
    for job in found.of("CronJob"):
        spec = job["spec"]
        if spec.get("concurrencyPolicy") != "Forbid":
            yield f"{called(job)}: two may run at a time"
        inner = spec["jobTemplate"]["spec"]
        disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        if disrupted not in inner.get("podFailurePolicy", {}).get("rules", []):
            yield f"{called(job)}: a drained pod counts as failed"
        if inner["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{called(job)}: restartPolicy is not Never, which podFailurePolicy needs"
        if "ttlSecondsAfterFinished" not in inner:
            yield f"{called(job)}: finished Jobs stay forever"


# ---- relations between objects


def objects_are_labelled(found: Manifests) -> Iterator[str]:
    """Every object is part of glitchflow; objects of a service have its label, and its pods too."""
    shared = {"Namespace", "NetworkPolicy", "ConfigMap"}
    for thing in found.objects:
        wanted = {"app.kubernetes.io/part-of"}
        if thing["kind"] not in shared:
            wanted |= {"app.kubernetes.io/name", "app.kubernetes.io/component"}
        missing = wanted - thing["metadata"].get("labels", {}).keys()
        if missing:
            yield f"{called(thing)}: no label {', '.join(sorted(missing))}"
    for work in found.workloads():
        missing = {f"app.kubernetes.io/{part}" for part in ("name", "component", "part-of")} - work.labels.keys()
        if missing:
            yield f"{called(work.owner)}: its pods have no label {', '.join(sorted(missing))}"


def names_do_not_clash(found: Manifests) -> Iterator[str]:
    """Every object is in the one namespace, once."""
    seen = set()
    for thing in found.objects:
        if thing["kind"] != "Namespace" and thing["metadata"].get("namespace") != "glitchflow":
            yield f"{called(thing)}: it is in namespace {thing['metadata'].get('namespace')}"
        if called(thing) in seen:
            yield f"{called(thing)}: there are two"
        seen.add(called(thing))
        if thing["kind"] == "Secret":
            yield f"{called(thing)}: a secret does not belong in a repository"


def selectors_select(found: Manifests) -> Iterator[str]:
    """Selectors of controllers, services and budgets match the pods of exactly one workload."""
    pods = [(work.owner, work.labels) for work in found.workloads()]
    for thing in found.of("Deployment", "StatefulSet", "Service", "PodDisruptionBudget"):
        selector = thing["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        met = [owner for owner, labels in pods if wanted.items() <= labels.items()]
        if len(met) != 1:
            yield f"{called(thing)}: it selects {[called(owner) for owner in met]}"
        elif thing["kind"] in {"Deployment", "StatefulSet"} and met[0] is not thing:
            yield f"{called(thing)}: it selects the pods of {called(met[0])}"


def ports_match(found: Manifests) -> Iterator[str]:
    """Container and service use the port that the process listens on."""
    listens = {
        "databuffer": BufferSettings().SERVURL.port,
        "dslogic": int(gunicorn_settings()["bind"].rpartition(":")[2]),
        "glitchflow-api": GatewaySettings().LISTEN.port,
    }
    for work, container, name in every_container(found):
        if work.serves and [port["containerPort"] for port in container["ports"]] != [listens[container["name"]]]:
            yield f"{name}: its ports are {container['ports']}, it listens on {listens[container['name']]}"
    for service in found.of("Service"):
        (work,) = (one for one in found.workloads() if service["spec"]["selector"].items() <= one.labels.items())
        known = {port["name"]: port["containerPort"] for one in work.containers for port in one.get("ports", [])}
        for port in service["spec"]["ports"]:
            if known.get(port["targetPort"]) != port["port"]:
                yield f"{called(service)}: port {port['port']} leads to {port['targetPort']}"


def entries_lead_to_services(found: Manifests) -> Iterator[str]:
    """Each StatefulSet's service exists; an ingress leads to a gateway and to no other service."""
    for state in found.of("StatefulSet"):
        if state["spec"]["serviceName"] not in found.names("Service"):
            yield f"{called(state)}: there is no Service {state['spec']['serviceName']}"
    for ingress in found.of("Ingress"):
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        for backend in (path["backend"]["service"] for path in paths):
            ports = [
                port["name"]
                for service in found.of("Service")
                if service["metadata"]["name"] == backend["name"] in _GATEWAYS
                for port in service["spec"]["ports"]
            ]
            if backend["port"].get("name") not in ports:
                yield f"{called(ingress)}: it leads to {backend}"


def references_resolve(found: Manifests) -> Iterator[str]:
    """Every object that a pod names exists, and every object is used."""
    named: dict[str, set[str]] = {"ConfigMap": set(), "PersistentVolumeClaim": set()}
    for work, container, name in every_container(found):
        sources = container.get("envFrom", [])
        named["ConfigMap"].update(one["configMapRef"]["name"] for one in sources if "configMapRef" in one)
        volumes = {volume["name"]: volume for volume in work.spec.get("volumes", [])}
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        if not mounted <= volumes.keys():
            yield f"{name}: there is no volume {mounted - volumes.keys()}"
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                named["PersistentVolumeClaim"].add(volume["persistentVolumeClaim"]["claimName"])
    for kind, names in named.items():
        if names != found.names(kind):
            yield f"{kind}: named {sorted(names)}, made {sorted(found.names(kind))}"


def secrets_are_made(found: Manifests) -> Iterator[str]:
    """The documentation creates every Secret that a pod uses, as a variable or as a folder."""
    for work, container, name in every_container(found):
        told = [variable.get("valueFrom", {}).get("secretKeyRef") for variable in container.get("env", [])]
        named = [(secret["name"], {secret["key"]}) for secret in told if secret]
        folders = [volume["secret"] for volume in work.spec.get("volumes", []) if "secret" in volume]
        named += [(secret["secretName"], {item["key"] for item in secret.get("items", [])}) for secret in folders]
        named += [(one["secretRef"]["name"], set()) for one in container.get("envFrom", []) if "secretRef" in one]
        made = SECRETS | SECRETS_BY_HAND
        for secret, keys in named:
            if secret not in made or not keys <= made[secret]:
                yield f"{name}: nobody makes Secret {secret} with {sorted(keys)}"


# ---- settings


def _config(found: Manifests, container: Object) -> dict[str, str]:
    settings: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            settings |= found.one("ConfigMap", source["configMapRef"]["name"])["data"]
    return settings


def settings_are_known(found: Manifests) -> Iterator[str]:
    """Every key of a ConfigMap is a setting of its container, and the service starts with its value."""
    for _, container, name in every_container(found):
        given = _config(found, container)
        service = SETTINGS.get(container["name"])
        package = container["image"].partition(":")[0].rpartition("/")[2]
        known = service.model_fields.keys() if service else CLIENT_SETTINGS.get(package, set())
        if unknown := given.keys() - known:
            yield f"{name}: it does not know {', '.join(sorted(unknown))}"
        elif service:
            try:
                service.model_validate(given)
            except ValueError as error:
                yield f"{name}: it would not start: {error}"


def config_maps_change_their_names(found: Manifests) -> Iterator[str]:
    """The name of a ConfigMap contains a hash of its content, so that a change restarts the pods."""
    for config in found.of("ConfigMap"):
        if not re.search(r"-[a-z0-9]{10}$", config["metadata"]["name"]):
            yield f"{called(config)}: no hash"


def addresses_lead_somewhere(found: Manifests) -> Iterator[str]:
    """The addresses in the settings are Services of this overlay, with their ports."""
    wanted = {"DB_BURL": "databuff", "DS_BURL": "dslogic", "SRV": "gflapi"}
    for _, container, name in every_container(found):
        for key, value in _config(found, container).items():
            if key not in wanted:
                continue
            ports = [one["port"] for one in found.one("Service", wanted[key])["spec"]["ports"]]
            if value not in {f"http://{wanted[key]}:{port}" for port in ports}:
                yield f"{name}: {key} is {value}"


def folders_are_mounted(found: Manifests) -> Iterator[str]:
    """The buffer stores its files on volumes that outlive it; preproc reads the batch from the buffer's folder."""
    for _, container, name in every_container(found):
        if container["name"] == "databuffer":
            given = BufferSettings.model_validate(_config(found, container))
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            wanted = {str(given.DTVOLROOT): "data", str(given.ADMROOT): "adm", str(given.LOGROOT): "log"}
            if not wanted.items() <= mounts.items():
                yield f"{name}: it keeps things in {sorted(wanted)}, mounted are {sorted(mounts)}"
        elif "DATART" in (given_here := _config(found, container)):
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            if str(Path(given_here["DATART"]).parent) not in mounted:
                yield f"{name}: DATART {given_here['DATART']} is not on a mounted volume"


def keys_are_required(found: Manifests) -> Iterator[str]:
    """The gateway requires keys, and its clients have them; both come from Secrets that other users cannot read."""
    for work, container, name in every_container(found):
        given = _config(found, container)
        if container["name"] == "glitchflow-api":
            settings = GatewaySettings.model_validate(given)
            if settings.AUTH is AuthMode.OFF:
                yield f"{name}: AUTH is off"
            file = settings.KEYS_FILE
        elif "SRV" in given:
            file = Path(given.get("GLITCHFLOW_KEY_FILE", "/none"))
        else:
            continue
        yield from _secret_at(work, container, name, file)


#: The Secret that each service presents to the next, and the settings with its path.
_HOPS = {
    "logic-secret": {"glitchflow-api": "LOGIC_SECRET_FILE", "dslogic": "CALLER_SECRET_FILE"},
    "buffer-secret": {"dslogic": "BUFFER_SECRET_FILE", "databuffer": "CALLER_SECRET_FILE"},
}


def tiers_require_secrets(found: Manifests) -> Iterator[str]:
    """Each service answers only its caller: both mount the same Secret where their settings expect it."""
    for work, container, name in every_container(found):
        given = _config(found, container)
        volumes = {volume["name"]: volume.get("secret", {}) for volume in work.spec.get("volumes", [])}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container.get("volumeMounts", [])}
        for secret, ends in _HOPS.items():
            if setting := ends.get(container["name"]):
                file = Path(given.get(setting, "/none"))
                yield from _secret_at(work, container, name, file)
                if mounts.get(str(file.parent), {}).get("secretName") != secret:
                    yield f"{name}: {setting} is not the Secret {secret}"


def _secret_at(work: Workload, container: Object, name: str, file: Path) -> Iterator[str]:
    volumes = {volume["name"]: volume.get("secret") for volume in work.spec.get("volumes", [])}
    mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
    mount = mounts.get(str(file.parent), {})
    secret = volumes.get(mount.get("name"))
    if (
        not secret
        or file.name not in {item["path"] for item in secret.get("items", [])} | SECRETS[secret["secretName"]]
    ):
        yield f"{name}: no Secret is mounted at {file}"
    elif not mount.get("readOnly") or secret.get("defaultMode") != 0o440:
        yield f"{name}: {file} can be written, or read by others"


def namespace_enforces(found: Manifests) -> Iterator[str]:
    """The namespace refuses pods that are not `restricted`."""
    for space in found.of("Namespace"):
        for mode in ("enforce", "audit", "warn"):
            if space["metadata"]["labels"].get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                yield f"{called(space)}: {mode} is not restricted"


RULES: list[Rule] = [
    pods_are_restricted,
    containers_are_confined,
    temporary_folders_are_bounded,
    nobody_gets_a_token,
    resources_are_stated,
    values_are_as_stored,
    images_are_pinned,
    probes_differ_in_meaning,
    each_end_is_graceful,
    one_writer_writes,
    volumes_can_be_shared,
    drains_pass,
    stateless_tiers_scale_and_spread,
    jobs_take_turns,
    objects_are_labelled,
    names_do_not_clash,
    selectors_select,
    ports_match,
    entries_lead_to_services,
    references_resolve,
    secrets_are_made,
    settings_are_known,
    config_maps_change_their_names,
    addresses_lead_somewhere,
    folders_are_mounted,
    keys_are_required,
    tiers_require_secrets,
    namespace_enforces,
]
