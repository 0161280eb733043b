"""The rules hold for every object of every overlay, and each rule reports an object that breaks it."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.support import manifest_rules as rules
from tests.support.manifest_rules import RULES, Rule
from tests.support.manifests import RENDERED, Manifests, Object, applied, manifests, render, why_not_rendered
from tools.cluster_test.overlay import write_overlay

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)


@pytest.mark.parametrize("folder", RENDERED)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_object_keeps_the_rule(rule: Rule, folder: str) -> None:
    assert not list(rule(applied(folder)))


def put(thing: object, path: str, value: object) -> None:
    """Set the value at a dotted path; `~` removes it."""
    *way, last = path.split(".")
    for step in way:
        thing = thing[int(step) if isinstance(thing, list) else step]  # type: ignore[index]  # a path through JSON
    if value == "~":
        del thing[last]  # type: ignore[attr-defined]
    else:
        thing[int(last) if isinstance(thing, list) else last] = value  # type: ignore[index]


POD = "spec.template.spec."
SOLE = POD + "containers.0."
CRON = "spec.jobTemplate.spec."
INIT = CRON + "template.spec.initContainers."
PREPROC = CRON + "template.spec.containers.0."
KEY_OF = ".valueFrom.secretKeyRef."
FIRST = SOLE + "startupProbe."
ALIVE = SOLE + "livenessProbe."
CLAIM = POD + "volumes.0.persistentVolumeClaim.claimName"
ROUTE = "spec.rules.0.http.paths.0."
#: A rule, an object, the path and value of the change, and the words of the finding.
BROKEN: Iterable[tuple[Rule, str, str, object, str]] = [
    (rules.pods_are_restricted, "Deployment/gflapi-deploy", POD + "securityContext.runAsNonRoot", False, "NonRoot"),
    (rules.pods_are_restricted, "StatefulSet/databuffer", POD + "securityContext.seccompProfile", "~", "seccomp"),
    (rules.pods_are_restricted, "Deployment/dslog-deploy", POD + "hostNetwork", True, "hostNetwork"),
    (rules.pods_are_restricted, "StatefulSet/databuffer", POD + "volumes.0", {"name": "d", "hostPath": {}}, "forbids"),
    (rules.containers_are_confined, "CronJob/pipeline", INIT + "0.securityContext", {}, "context"),
    (rules.containers_are_confined, "Deployment/gflapi-deploy", SOLE + "volumeMounts", [], "/tmp"),  # noqa: S108
    (rules.temporary_folders_are_bounded, "Deployment/gflapi-deploy", POD + "volumes.1.emptyDir", {}, "sizeLimit"),
    (rules.nobody_gets_a_token, "ServiceAccount/preproc", "automountServiceAccountToken", True, "tokens"),
    (rules.nobody_gets_a_token, "Deployment/dslog-deploy", POD + "serviceAccountName", "default", "no ServiceAccount"),
    (rules.resources_are_stated, "StatefulSet/databuffer", SOLE + "resources.limits.memory", "~", "memory"),
    (rules.resources_are_stated, "StatefulSet/databuffer", SOLE + "resources.requests.cpu", "3", "more than"),
    (rules.values_are_as_stored, "StatefulSet/databuffer", SOLE + "resources.limits.cpu", "2000m", "canonical"),
    (rules.values_are_as_stored, "StatefulSet/databuffer", SOLE + "resources.limits.cpu", 2, "canonical"),
    (rules.values_are_as_stored, "Deployment/dslog-deploy", POD + "volumes.0.emptyDir.sizeLimit", "0.5Gi", "can"),
    (rules.values_are_as_stored, "PersistentVolumeClaim/gwdata", "spec.resources.requests.storage", "1024Mi", ""),
    (rules.values_are_as_stored, "Deployment/gflapi-deploy", "spec.strategy.type", "~", "no type"),
    (rules.values_are_as_stored, "StatefulSet/databuffer", "spec.updateStrategy", {}, "no type"),
    (rules.values_are_as_stored, "Deployment/gflapi-deploy", SOLE + "env", [], "drops"),
    (rules.values_are_as_stored, "CronJob/pipeline", "spec.timeZone", None, "timeZone is empty"),
    (rules.images_are_pinned, "StatefulSet/databuffer", SOLE + "image", "glitchflow/databuffer", "is not one"),
    (rules.images_are_pinned, "StatefulSet/databuffer", SOLE + "image", "glitchflow/databuffer:latest", "latest"),
    (rules.probes_differ_in_meaning, "Deployment/gflapi-deploy", ALIVE + "httpGet.path", "/readyz", "more"),
    (rules.probes_differ_in_meaning, "Deployment/gflapi-deploy", SOLE + "startupProbe", "~", "startup"),
    (rules.probes_differ_in_meaning, "Deployment/dslog-deploy", FIRST + "initialDelaySeconds", "~", "warning"),
    (rules.probes_differ_in_meaning, "StatefulSet/databuffer", SOLE + "readinessProbe.httpGet.port", "htpp", "htpp"),
    (rules.each_end_is_graceful, "Deployment/gflapi-deploy", SOLE + "lifecycle", "~", "leaves before"),
    (rules.each_end_is_graceful, "StatefulSet/databuffer", POD + "terminationGracePeriodSeconds", 10, "to end"),
    (rules.one_writer_writes, "StatefulSet/databuffer", "spec.replicas", 2, "StatefulSet of one"),
    (rules.one_writer_writes, "CronJob/preproc", PREPROC + "volumeMounts.0.readOnly", "~", "gwdata"),
    (rules.volumes_can_be_shared, "PersistentVolumeClaim/databuff-adm", "spec.accessModes", ["ReadWriteMany"], "adm"),
    (rules.volumes_can_be_shared, "CronJob/preproc", CRON + "template.spec.affinity", "~", "gwdata is on"),
    (rules.volumes_can_be_shared, "Deployment/listener", POD + "affinity.podAffinity", "~", "dataset is on"),
    (rules.drains_pass, "PodDisruptionBudget/databuffer", "spec.maxUnavailable", 0, "not exactly one"),
    (rules.stateless_tiers_scale_and_spread, "Deployment/gflapi-deploy", "spec.replicas", "~", "nobody"),
    (rules.stateless_tiers_scale_and_spread, "Deployment/dslog-deploy", POD + "topologySpreadConstraints", [], "nodes"),
    (rules.jobs_take_turns, "CronJob/pipeline", "spec.concurrencyPolicy", "Allow", "two may run"),
    (rules.jobs_take_turns, "CronJob/pipeline", CRON + "podFailurePolicy", "~", "drained"),
    (rules.objects_are_labelled, "Service/databuff", "metadata.labels", {}, "no label"),
    (rules.names_do_not_clash, "Service/databuff", "metadata.name", "dslogic", "two"),
    (rules.names_do_not_clash, "Service/databuff", "metadata.namespace", "default", "default"),
    (rules.selectors_select, "Service/gflapi", "spec.selector", {"app.kubernetes.io/name": "gateway"}, "selects []"),
    (rules.ports_match, "Service/dslogic", "spec.ports.0.port", 5001, "5001"),
    (rules.ports_match, "StatefulSet/databuffer", SOLE + "ports.0.containerPort", 8081, "8080"),
    (rules.entries_lead_to_services, "StatefulSet/databuffer", "spec.serviceName", "databuffer", "no Service"),
    (rules.entries_lead_to_services, "Ingress/gflapi", ROUTE + "backend.service.name", "dslogic", "leads to"),
    (rules.references_resolve, "StatefulSet/databuffer", CLAIM, "gw", "'gw'"),
    (rules.secrets_are_made, "CronJob/pipeline", INIT + "0.env.0" + KEY_OF + "key", "name", "name"),
    (rules.settings_are_known, "ConfigMap/dslogic-settings", "data.MAXSIZE", "50MB", "MAXSIZE"),
    (rules.settings_are_known, "ConfigMap/dslogic-settings", "data.MAX_SIZE", "fifty", "would not start"),
    (rules.config_maps_change_their_names, "ConfigMap/gateway-settings", "metadata.name", "gateway", "no hash"),
    (rules.addresses_lead_somewhere, "ConfigMap/gateway-settings", "data.DS_BURL", "http://databuff:8080", "DS_BURL"),
    (rules.folders_are_mounted, "ConfigMap/databuffer-settings", "data.ADMROOT", "/adm", "/adm"),
    (rules.secrets_are_made, "Deployment/gflapi-deploy", POD + "volumes.0.secret.secretName", "keys", "nobody makes"),
    (rules.secrets_are_made, "StatefulSet/databuffer", SOLE + "envFrom.0", {"secretRef": {"name": "s3"}}, "Secret s3"),
    (rules.keys_are_required, "ConfigMap/gateway-settings", "data.AUTH", "off", "AUTH is off"),
    (rules.keys_are_required, "ConfigMap/gateway-settings", "data.KEYS_FILE", "/tmp/keys.json", "no Secret"),  # noqa: S108
    (rules.keys_are_required, "Deployment/gflapi-deploy", POD + "volumes.0.secret.defaultMode", 420, "by others"),
    (rules.keys_are_required, "ConfigMap/pipeline-settings", "data.GLITCHFLOW_KEY_FILE", "~", "clean: no Secret"),
    (rules.keys_are_required, "CronJob/pipeline", INIT + "0.volumeMounts.1.readOnly", "~", "can be written"),
    (rules.tiers_require_secrets, "ConfigMap/databuffer-settings", "data.CALLER_SECRET_FILE", "~", "is not the"),
    (rules.tiers_require_secrets, "ConfigMap/dslogic-settings", "data.BUFFER_SECRET_FILE", "/run/x/secret", "is not"),
    (rules.tiers_require_secrets, "Deployment/gflapi-deploy", POD + "volumes.2.secret.defaultMode", 420, "by others"),
    (rules.namespace_enforces, "Namespace/glitchflow", "metadata.labels", {}, "enforce"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "where", "path", "value", "words"),
    BROKEN,
    ids=[f"{rule.__name__}-{path.rpartition('.')[2]}-{value}" for rule, _, path, value, _ in BROKEN],
)
def test_each_rule_finds_an_object_that_breaks_it(rule: Rule, where: str, path: str, value: object, words: str) -> None:
    found = Manifests(copy.deepcopy(manifests("overlays/dev").objects))
    kind, name = where.split("/")
    thing: Object = next(one for one in found.of(kind) if one["metadata"]["name"].startswith(name))
    put(thing, path, value)
    complaints = list(rule(found))
    assert any(words in complaint for complaint in complaints), complaints


def test_no_rule_goes_untried() -> None:
    tried: set[Callable[..., object]] = {rule for rule, *_ in BROKEN}
    assert tried == set(RULES)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        *[("2000m", "2"), ("0.5", "500m"), ("1000", "1k"), ("1024Mi", "1Gi"), ("0.5Gi", "512Mi"), ("0m", "0")],
        *[(text, text) for text in ("100m", "2", "1500m", "384Mi", "200Gi", "1500Mi", "1024", "0")],
    ],
)
def test_a_quantity_is_compared_in_the_form_that_the_server_stores(text: str, stored: str) -> None:
    assert rules.canonical(text) == stored


def small(folder: str) -> Manifests:
    """Return the content of one node as docs/deployment.md describes: an overlay, a preprocessing Job, the client."""
    return Manifests(copy.deepcopy([*manifests(folder).objects, *manifests("base/gwclient").objects]))


@pytest.mark.parametrize("folder", ["overlays/local", "overlays/dev"])
def test_a_node_of_two_cpus_runs_the_overlay_with_a_job_and_a_client(folder: str) -> None:
    assert not list(rules.a_small_node_is_large_enough(small(folder)))


def test_a_node_of_two_cpus_runs_the_test_of_the_cluster_with_the_overlays_own_requests(tmp_path: Path) -> None:
    write_overlay(tmp_path, "test-1", "glitchflow", "0.1.0")
    found = Manifests(render(tmp_path))
    assert not list(rules.a_small_node_is_large_enough(found))
    for work in found.workloads():
        if work.owner["kind"] in {"Deployment", "StatefulSet"}:
            own = manifests("overlays/dev").one(work.owner["kind"], work.owner["metadata"]["name"])
            assert [one["resources"] for one in work.containers] == [
                one["resources"] for one in own["spec"]["template"]["spec"]["containers"]
            ]


@pytest.mark.parametrize(
    ("where", "path", "value"),
    [
        ("CronJob/preproc", PREPROC + "resources.requests.cpu", "1"),
        ("CronJob/preproc", PREPROC + "resources.requests.memory", "2Gi"),
        ("CronJob/pipeline", INIT + "0.resources.requests.cpu", "1"),
        ("Deployment/listener", "spec.replicas", 5),
        ("Deployment/dslog-deploy", SOLE + "resources.requests.cpu", "300m"),
        ("Deployment/gflapi-deploy", "spec.replicas", 10),
    ],
)
def test_requests_that_a_small_node_cannot_grant_are_noticed(where: str, path: str, value: object) -> None:
    found = small("overlays/dev")
    kind, name = where.split("/")
    put(found.one(kind, name), path, value)
    assert any("all pods request" in complaint for complaint in rules.a_small_node_is_large_enough(found))
