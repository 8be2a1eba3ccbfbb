"""Policies about executors: they run hostile code, so they have nothing that others have, and reach nobody else."""

from collections.abc import Iterator
from typing import Final

from tests.support.manifests.cluster import Cluster
from tests.support.manifests.graph import port_of
from tests.support.manifests.network import Peer, reaches
from tests.support.manifests.policy import Finding, everywhere

_SECRETS: Final = {("epistream-tls", "ca.crt"), ("epistream-executor-token", "token")}
"""What an executor may be given: how it knows the service, and who it is."""
_ELSEWHERE: Final = (Peer(address="203.0.113.7"), Peer(address="169.254.169.254"), Peer("kube-system"))
"""A host of the internet, where clouds tell their machines who they are, and another namespace."""


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
def executors_are_given_little(cluster: Cluster) -> Iterator[Finding]:
    """The service's CA and a token. The token is known to the executor and to no program: those see no volume."""
    for pod in cluster.executor_pods():
        for volume in pod.volumes.values():
            secret = volume.get("secret", {"items": [], "secretName": ""})
            keys = [item["key"] for item in secret.get("items", [{"key": "*"}])]
            for key in keys:
                if (secret["secretName"], key) not in _SECRETS:
                    yield pod.owner, f"volume {volume['name']}: expected nothing of {secret['secretName']}, found {key}"


@everywhere
def executors_reach_the_service_alone(cluster: Cluster) -> Iterator[Finding]:
    """The network lets them to the service and to names, nowhere else, and nobody to them."""
    for pod in cluster.executor_pods():
        here = Peer.of(pod)
        for service in cluster.service_pods():
            if not reaches(cluster, here, Peer.of(service), port_of(service, "grpc") or 0):
                yield pod.owner, "the network policies do not let it reach the service"
            if reaches(cluster, Peer.of(service), here, 443):
                yield pod.owner, "the network policies let the service reach it"
        for there in (*_ELSEWHERE, *(Peer.of(each) for each in cluster.backup_pods())):
            if reaches(cluster, here, there, 443) or reaches(cluster, here, there, 80):
                yield pod.owner, f"the network policies let it reach {there.address or there.namespace}"
