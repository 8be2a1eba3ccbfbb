"""Policies about executors: they run hostile code, so they have nothing that others have, and reach nobody else."""

from collections.abc import Iterator
from typing import Final

from tests.support.manifests.cluster import Cluster, Object, selects
from tests.support.manifests.graph import port_of
from tests.support.manifests.network import NAMES, Peer, policies_for, reaches
from tests.support.manifests.policy import Finding, everywhere

_SECRETS: Final = {("epistream-tls", "ca.crt"), ("epistream-executor-token", "token")}
"""What an executor may be given: how it knows the service, and who it is."""


@everywhere
def executors_run_alone(cluster: Cluster) -> Iterator[Finding]:
    """A service account and users of their own, never without a sandbox, and no volume that others have."""
    for pod in cluster.executor_pods():
        others = [each for each in cluster.pods() if each.owner is not pod.owner]
        account = pod.spec.get("serviceAccountName")
        if any(each.spec.get("serviceAccountName") == account for each in others):
            yield pod.owner, f"expected a service account of its own, {account} is others' too"
        if pod.spec.get("hostUsers") is not False:
            yield pod.owner, "expected hostUsers: false"
        if any("--no-sandbox" in container.get("args", []) for container in pod.containers):
            yield pod.owner, "expected a sandbox"
        for volume in pod.volumes.values():
            if not set(volume) & {"secret", "emptyDir"}:
                yield pod.owner, f"volume {volume['name']}: expected secrets and empty folders only"


@everywhere
def executors_are_of_the_service(cluster: Cluster) -> Iterator[Finding]:
    """One image for both: an upgrade that was done by half leaves an executor of before."""
    images = {each.get("image") for pod in cluster.service_pods() for each in pod.containers}
    for pod in cluster.executor_pods():
        for container in pod.containers:
            if container.get("image") not in images:
                yield (
                    pod.owner,
                    f"{container['name']}: expected the image of the service, found {container.get('image')}",
                )


@everywhere
def executors_are_given_little(cluster: Cluster) -> Iterator[Finding]:
    """The service's CA and a token. The token is known to the executor and to no program: those see no volume."""
    for pod in cluster.executor_pods():
        for volume in pod.volumes.values():
            secret = volume.get("secret", {"items": [], "secretName": ""})
            keys = [item["key"] for item in secret.get("items", [{"key": "*"}])]
            name = secret.get("secretName", "")
            for key in keys:
                if (name, key) not in _SECRETS:
                    yield pod.owner, f"volume {volume['name']}: expected nothing of {name}, found {key}"


@everywhere
def executors_reach_the_service_alone(cluster: Cluster) -> Iterator[Finding]:
    """The network lets them to the service's gRPC and to names, nowhere else, and nobody to them."""
    for pod in cluster.executor_pods():
        here = Peer.of(pod)
        for service in cluster.service_pods():
            if not reaches(cluster, here, Peer.of(service), port_of(service, "grpc") or 0):
                yield pod.owner, "the network policies do not let it reach the service"
        if not policies_for(cluster, "Egress", here) or not policies_for(cluster, "Ingress", here):
            yield pod.owner, "expected network policies for what it sends and for what it is sent"
        for item in policies_for(cluster, "Egress", here):
            for rule in item["spec"].get("egress", []):
                for peer in rule.get("to") or [{}]:
                    if not (_is_grpc(cluster, peer, rule) or _is_names(peer, rule)):
                        yield item, f"it lets an executor out to {peer} at {rule.get('ports', 'every port')}"
        for item in policies_for(cluster, "Ingress", here):
            if item["spec"].get("ingress"):
                yield item, "it lets somebody reach an executor"


def _is_grpc(cluster: Cluster, peer: Object, rule: Object) -> bool:
    """Whether a peer is the service's pods and no other of ours, and the rule opens nothing but their port of gRPC."""
    pods = [pod for pod in cluster.pods() if set(peer) == {"podSelector"} and selects(peer["podSelector"], pod.labels)]
    return pods == cluster.service_pods() and all(
        _opened(rule) <= {("TCP", "grpc", None), ("TCP", port_of(pod, "grpc"), None)} for pod in pods
    )


def _is_names(peer: Object, rule: Object) -> bool:
    """Whether a peer is what knows names, and the rule opens nothing but the port for that."""
    namespace, labels = (peer.get(by, {}).get("matchLabels") for by in ("namespaceSelector", "podSelector"))
    return (
        namespace == {"kubernetes.io/metadata.name": NAMES.namespace}
        and labels == NAMES.labels
        and _opened(rule) <= {("UDP", 53, None), ("TCP", 53, None)}
    )


def _opened(rule: Object) -> set[tuple[str, int | str | None, int | None]]:
    """Protocol, port and last port of each range that a rule opens; one without a port opens all."""
    entries = rule.get("ports") or [{}]
    return {(entry.get("protocol", "TCP"), entry.get("port"), entry.get("endPort")) for entry in entries}
