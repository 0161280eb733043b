"""What holds for every object of every overlay; and each rule, shown an object that breaks it, says so."""

import copy
from collections.abc import Callable, Iterable

import pytest

from tests.support import manifest_rules as rules
from tests.support.manifest_rules import RULES, Rule
from tests.support.manifests import RENDERED, Manifests, Object, applied, manifests, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)


@pytest.mark.parametrize("folder", RENDERED)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_object_keeps_the_rule(rule: Rule, folder: str) -> None:
    assert not list(rule(applied(folder)))


def put(thing: object, path: str, value: object) -> None:
    """Set what a dotted path leads to; `~` takes it away."""
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
ALIVE = SOLE + "livenessProbe."
CLAIM = POD + "volumes.0.persistentVolumeClaim.claimName"
ROUTE = "spec.rules.0.http.paths.0."
#: A rule, an object, where it is changed and to what, and what the rule then says.
BROKEN: Iterable[tuple[Rule, str, str, object, str]] = [
    (rules.pods_are_restricted, "Deployment/gflapi-deploy", POD + "securityContext.runAsNonRoot", False, "NonRoot"),
    (rules.pods_are_restricted, "StatefulSet/databuffer", POD + "securityContext.seccompProfile", "~", "seccomp"),
    (rules.pods_are_restricted, "Deployment/dslog-deploy", POD + "hostNetwork", True, "hostNetwork"),
    (rules.pods_are_restricted, "StatefulSet/databuffer", POD + "volumes.0", {"name": "d", "hostPath": {}}, "forbids"),
    (rules.containers_are_confined, "CronJob/pipeline", INIT + "1.securityContext", {}, "context"),
    (rules.containers_are_confined, "Deployment/gflapi-deploy", SOLE + "volumeMounts", [], "/tmp"),  # noqa: S108
    (rules.temporary_folders_are_bounded, "Deployment/gflapi-deploy", POD + "volumes.1.emptyDir", {}, "sizeLimit"),
    (rules.nobody_gets_a_token, "ServiceAccount/preproc", "automountServiceAccountToken", True, "tokens"),
    (rules.nobody_gets_a_token, "Deployment/dslog-deploy", POD + "serviceAccountName", "default", "no ServiceAccount"),
    (rules.resources_are_stated, "StatefulSet/databuffer", SOLE + "resources.limits.memory", "~", "memory"),
    (rules.resources_are_stated, "StatefulSet/databuffer", SOLE + "resources.limits.cpu", "2000m", "canonical"),
    (rules.resources_are_stated, "StatefulSet/databuffer", SOLE + "resources.requests.cpu", "3", "more than"),
    (rules.images_are_pinned, "StatefulSet/databuffer", SOLE + "image", "glitchflow/databuffer", "is not one"),
    (rules.images_are_pinned, "StatefulSet/databuffer", SOLE + "image", "glitchflow/databuffer:latest", "latest"),
    (rules.probes_differ_in_meaning, "Deployment/gflapi-deploy", ALIVE + "httpGet.path", "/readyz", "more"),
    (rules.probes_differ_in_meaning, "Deployment/gflapi-deploy", SOLE + "startupProbe", "~", "startup"),
    (rules.probes_differ_in_meaning, "StatefulSet/databuffer", SOLE + "readinessProbe.httpGet.port", "htpp", "htpp"),
    (rules.each_end_is_graceful, "Deployment/gflapi-deploy", SOLE + "lifecycle", "~", "leaves before"),
    (rules.each_end_is_graceful, "StatefulSet/databuffer", POD + "terminationGracePeriodSeconds", 10, "to end"),
    (rules.one_writer_writes, "StatefulSet/databuffer", "spec.replicas", 2, "StatefulSet of one"),
    (rules.one_writer_writes, "CronJob/preproc", PREPROC + "volumeMounts.0.readOnly", "~", "gwdata"),
    (rules.volumes_can_be_shared, "PersistentVolumeClaim/databuff-adm", "spec.accessModes", ["ReadWriteMany"], "adm"),
    (rules.volumes_can_be_shared, "CronJob/pipeline", CRON + "template.spec.affinity", "~", "elsewhere"),
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
    (rules.doors_lead_to_services, "StatefulSet/databuffer", "spec.serviceName", "databuffer", "no Service"),
    (rules.doors_lead_to_services, "Ingress/gflapi", ROUTE + "backend.service.name", "dslogic", "leads to"),
    (rules.references_resolve, "StatefulSet/databuffer", CLAIM, "gw", "'gw'"),
    (rules.secrets_are_made, "CronJob/pipeline", INIT + "0.env.0" + KEY_OF + "key", "name", "name"),
    (rules.settings_are_known, "ConfigMap/dslogic-settings", "data.MAXSIZE", "50MB", "MAXSIZE"),
    (rules.settings_are_known, "ConfigMap/dslogic-settings", "data.MAX_SIZE", "fifty", "would not start"),
    (rules.config_maps_change_their_names, "ConfigMap/gateway-settings", "metadata.name", "gateway", "no hash"),
    (rules.addresses_lead_somewhere, "ConfigMap/gateway-settings", "data.DS_BURL", "http://databuff:8080", "DS_BURL"),
    (rules.folders_are_mounted, "ConfigMap/databuffer-settings", "data.ADMROOT", "/adm", "/adm"),
    (rules.secrets_are_made, "Deployment/gflapi-deploy", POD + "volumes.0.secret.secretName", "keys", "nobody makes"),
    (rules.doors_are_locked, "ConfigMap/gateway-settings", "data.AUTH", "off", "AUTH is off"),
    (rules.doors_are_locked, "ConfigMap/gateway-settings", "data.KEYS_FILE", "/tmp/keys.json", "no Secret"),  # noqa: S108
    (rules.doors_are_locked, "Deployment/gflapi-deploy", POD + "volumes.0.secret.defaultMode", 420, "by others"),
    (rules.doors_are_locked, "ConfigMap/pipeline-settings", "data.GLITCHFLOW_KEY_FILE", "~", "clean: no Secret"),
    (rules.doors_are_locked, "CronJob/pipeline", INIT + "0.volumeMounts.1.readOnly", "~", "can be written"),
    (rules.hops_are_closed, "ConfigMap/databuffer-settings", "data.CALLER_SECRET_FILE", "~", "is not the"),
    (rules.hops_are_closed, "ConfigMap/dslogic-settings", "data.BUFFER_SECRET_FILE", "/run/secrets/x/secret", "is not"),
    (rules.hops_are_closed, "Deployment/gflapi-deploy", POD + "volumes.2.secret.defaultMode", 420, "by others"),
    (rules.namespace_enforces, "Namespace/glitchflow", "metadata.labels", {}, "enforce"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "where", "path", "value", "words"),
    BROKEN,
    ids=[f"{rule.__name__}-{path.rpartition('.')[2]}-{value}" for rule, _, path, value, _ in BROKEN],
)
def test_each_rule_notices_what_it_is_for(rule: Rule, where: str, path: str, value: object, words: str) -> None:
    found = Manifests(copy.deepcopy(manifests("overlays/dev").objects))
    kind, name = where.split("/")
    thing: Object = next(one for one in found.of(kind) if one["metadata"]["name"].startswith(name))
    put(thing, path, value)
    complaints = list(rule(found))
    assert any(words in complaint for complaint in complaints), complaints


def test_no_rule_goes_untried() -> None:
    tried: set[Callable[..., object]] = {rule for rule, *_ in BROKEN}
    assert tried == set(RULES)
