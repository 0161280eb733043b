"""Allowed connections, evaluated from the policies as a cluster does."""

import copy
from collections.abc import Iterator

import pytest

from tests.support.manifests import EXAMPLE, OVERLAYS, Manifests, Object, manifests, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

DATA = {
    ("world", "glitchflow-api", 8000),
    ("glitchflow-api", "dslogic", 5000),
    ("dslogic", "databuffer", 8080),
    ("preproc", "glitchflow-api", 8000),
}
#: A pod of the same cluster that no policy selects, such as one of an ingress controller.
WORLD = "world"
#: The cluster's DNS and the node's cache of it; the only peers outside the namespace.
DNS = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    },
    {"ipBlock": {"cidr": "169.254.20.10/32"}},
]


def allows(rules: list[Object], peer: dict[str, str] | None, port: int, side: str) -> bool:
    """Return whether one of a policy's rules allows a TCP connection; a peer without labels is outside the cluster."""
    for rule in rules:
        ports = rule.get("ports")
        if ports and not any(one.get("protocol", "TCP") == "TCP" and one["port"] == port for one in ports):
            continue
        peers = rule.get(side)
        if not peers:
            return True
        if peer is not None and any(
            one.keys() == {"podSelector"} and one["podSelector"].get("matchLabels", {}).items() <= peer.items()
            for one in peers
        ):
            return True
    return False


def may(
    found: Manifests, labels: dict[str, str] | None, direction: str, peer: dict[str, str] | None, port: int
) -> bool:
    """Return whether the policies that select a pod allow it to connect, or to be connected to."""
    if labels is None:
        return True
    key, side = (direction.lower(), "from" if direction == "Ingress" else "to")
    policies = [
        policy["spec"]
        for policy in found.of("NetworkPolicy")
        if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
        and direction in policy["spec"]["policyTypes"]
    ]
    return not policies or any(allows(policy.get(key, []), peer, port, side) for policy in policies)


def edges(found: Manifests) -> Iterator[tuple[str, str, int]]:
    """Return every possible connection between the pods, to any port that one of them listens on."""
    pods: dict[str, dict[str, str] | None] = {
        work.labels["app.kubernetes.io/name"]: work.labels for work in found.workloads()
    }
    ports = {
        port["containerPort"] for work in found.workloads() for one in work.containers for port in one.get("ports", [])
    }
    pods[WORLD] = None
    for source, sender in pods.items():
        for target, receiver in pods.items():
            for port in ports | {53, 443}:
                leaves = may(found, sender, "Egress", receiver, port)
                if source != target and leaves and may(found, receiver, "Ingress", sender, port):
                    yield source, target, port


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_graph_is_exactly_the_way_of_the_data(folder: str) -> None:
    more = {(name, "glitchflow-api", 8000) for name in ("pipeline", "listener")} if folder == "overlays/dev" else set()
    assert set(edges(manifests(folder))) == DATA | more


def test_the_client_talks_to_the_gateway_alone() -> None:
    both = Manifests(manifests("overlays/local").objects + manifests("base/gwclient").objects)
    assert set(edges(both)) == DATA | {("gwclient", "glitchflow-api", 8000)}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_pod_may_reach_the_clusters_dns_and_nothing_else_outside(folder: str) -> None:
    policies = manifests(folder).of("NetworkPolicy")
    outside = [
        peer
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if peer.keys() != {"podSelector"}
    ]
    assert outside == DNS
    (dns,) = (policy["spec"] for policy in policies if policy["metadata"]["name"] == "dns")
    assert dns["podSelector"] == {}
    assert dns["egress"][0]["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


@pytest.mark.parametrize("lost", ["default-deny", "dslogic", "databuffer"])
def test_without_one_policy_the_graph_is_another(lost: str) -> None:
    found = Manifests(
        [
            thing
            for thing in copy.deepcopy(manifests("overlays/local").objects)
            if (thing["kind"], thing["metadata"]["name"]) != ("NetworkPolicy", lost)
        ]
    )
    assert set(edges(found)) != DATA


def test_with_an_object_store_the_buffer_may_reach_it_outside_the_cluster_and_nothing_else_changes() -> None:
    found = manifests(EXAMPLE)
    assert set(edges(found)) == DATA
    known = {policy["metadata"]["name"] for policy in manifests("overlays/local").of("NetworkPolicy")}
    added = [policy for policy in found.of("NetworkPolicy") if policy["metadata"]["name"] not in known]
    reached = {}
    for policy in added:
        ((peer,), (port,)) = (policy["spec"]["egress"][0][side] for side in ("to", "ports"))
        assert peer["ipBlock"]["cidr"] == "0.0.0.0/0"
        assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"]), "no pod, and no metadata service"
        reached[policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]] = port["port"]
    assert reached == {"databuffer": 443, "maintenance": 443}
