"""Policies about traces. Nothing waits for a collector, so one that cannot be reached is noticed by nobody."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from tests.support.manifests.cluster import Cluster, Pod
from tests.support.manifests.network import Peer, open_ports, reaches
from tests.support.manifests.policy import Finding, everywhere

_WITHIN: Final = re.compile(r"[\w-]+\.([\w-]+)\.svc(?:\.cluster\.local)?")
"""The host of a Service; the group is its namespace."""
_VARIABLE: Final = "EPISTREAM_TRACE_ENDPOINT"


@everywhere
def traces_reach_the_collector(cluster: Cluster) -> Iterator[Finding]:
    """Where spans are to be sent, the network lets the pod send them."""
    for pod in cluster.service_pods():
        for endpoint in _endpoints(cluster, pod):
            if not _lets_out(cluster, pod, endpoint):
                yield pod.owner, f"trace_endpoint: the network policies do not let the pod reach {endpoint}"


def _endpoints(cluster: Cluster, pod: Pod) -> list[str]:
    said = [settings.get("trace_endpoint") for _, settings in cluster.settings()]
    said += [entry.get("value") for c in pod.containers for entry in c.get("env", []) if entry["name"] == _VARIABLE]
    return [endpoint for endpoint in said if endpoint]


def _lets_out(cluster: Cluster, pod: Pod, endpoint: str) -> bool:
    """Whether some pods that a policy names, in the namespace of that Service, can be reached; or that port outside."""
    address = urlsplit(endpoint)
    within = _WITHIN.fullmatch(address.hostname or "")
    if within is None:
        return address.port in set(open_ports(cluster))
    collectors = [Peer(within[1], labels) for labels in _named_labels(cluster)]
    return any(reaches(cluster, Peer.of(pod), each, address.port or 0) for each in collectors)


def _named_labels(cluster: Cluster) -> Iterator[dict[str, str]]:
    """For each peer that something may be sent to, the labels that it asks of a pod."""
    for item in cluster.of("NetworkPolicy"):
        for rule in item["spec"].get("egress", []):
            for peer in rule.get("to", []):
                selector = peer.get("podSelector", {})
                asked = {
                    expression["key"]: next(iter(expression.get("values", [])), "")
                    for expression in selector.get("matchExpressions", [])
                    if expression["operator"] in ("In", "Exists")
                }
                yield asked | selector.get("matchLabels", {})
