"""Who reaches whom: what Kubernetes makes of network policies, and the policies about them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from tests.support.manifests.cluster import Cluster, Object, Pod, namespace_of, selects
from tests.support.manifests.graph import port_of
from tests.support.manifests.policy import Finding, always, everywhere

_PREFIX_MIN: Final = {4: 8, 6: 16}
"""The shortest prefix that is somebody's own, such as 10.0.0.0/8, by the version of IP."""
_CIDR: Final = re.compile(r"[0-9a-fA-F.:]+/[0-9]+")
"""With the length of a prefix: Python takes masks, too, and Kubernetes does not."""
_UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")
"""What is nobody's outside: of these any prefix may be one's own."""
_STRANGER: Final = {"kubernetes.io/metadata.name": "a-stranger"}
"""The labels of a namespace that nobody has labelled for anything: its name is one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An end of a connection: a pod, of ours or not, or an address outside of the cluster."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str = ""

    @classmethod
    def of(cls, pod: Pod) -> "Peer":
        """One of our pods."""
        return cls(pod.namespace, pod.labels)


def reaches(cluster: Cluster, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let out where it begins and in where it ends."""
    return _lets(cluster, "Egress", source, target, port, protocol) and _lets(
        cluster, "Ingress", target, source, port, protocol
    )


def _lets(cluster: Cluster, way: str, here: Peer, there: Peer, port: int, protocol: str) -> bool:
    """Whether the policies for the pod `here` let the connection pass; no policy for it lets everything pass."""
    binding = policies_for(cluster, way, here)
    rules = [rule for item in binding for rule in item["spec"].get(way.lower(), [])]
    served = here if way == "Ingress" else there
    return not binding or any(
        _port_fits(cluster, rule, served, port, protocol) and _peer_fits(cluster, rule, here, there) for rule in rules
    )


def policies_for(cluster: Cluster, way: str, here: Peer) -> list[Object]:
    """The network policies that say what a pod of ours may send (`Egress`) or be sent (`Ingress`)."""
    return [
        item
        for item in cluster.of("NetworkPolicy")
        if namespace_of(item) == here.namespace
        and way in _ways(item["spec"])
        and selects(item["spec"].get("podSelector", {}), here.labels)
    ]


def _ways(spec: Object) -> list[str]:
    """Which ways a policy is about. One that does not say is about what comes in, and what goes out if it has rules."""
    ways: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return ways


def _port_fits(cluster: Cluster, rule: Object, served: Peer, port: int, protocol: str) -> bool:
    if not rule.get("ports"):
        return True
    pods = [pod for pod in cluster.pods() if Peer.of(pod) == served]
    return any(
        entry.get("protocol", "TCP") == protocol
        and (entry.get("port", port) == port or any(port_of(pod, entry["port"]) == port for pod in pods))
        for entry in rule["ports"]
    )


def _peer_fits(cluster: Cluster, rule: Object, here: Peer, there: Peer) -> bool:
    peers = [*rule.get("from", []), *rule.get("to", [])]
    return not peers or any(_is(cluster, peer, here, there) for peer in peers)


def _is(cluster: Cluster, peer: Object, here: Peer, there: Peer) -> bool:
    if "ipBlock" in peer:
        block = _network(peer["ipBlock"]["cidr"])
        return block is not None and bool(there.address) and ip_address(there.address) in block
    if there.address:
        return False
    labels = {"kubernetes.io/metadata.name": there.namespace, **there.namespace_labels}
    for item in cluster.of("Namespace"):
        if item["metadata"]["name"] == there.namespace:
            labels |= item["metadata"].get("labels", {})
    in_namespace = (
        selects(peer["namespaceSelector"], labels) if "namespaceSelector" in peer else there.namespace == here.namespace
    )
    return in_namespace and selects(peer.get("podSelector", {}), there.labels)


@everywhere
def network_is_closed_but_for_what_is_named(cluster: Cluster) -> Iterator[Finding]:
    """Nothing in or out by default; no rule without ports; nobody unnamed but at the health port; nowhere for all."""
    for namespace in {pod.namespace for pod in cluster.pods()}:
        if not any(_denies_all(item) for item in cluster.of("NetworkPolicy") if namespace_of(item) == namespace):
            yield None, f"expected a NetworkPolicy that denies everything in {namespace or 'the default namespace'}"
    for item in cluster.of("NetworkPolicy"):
        for rule in item["spec"].get("ingress", []):
            if not _names_ports(rule):
                yield item, "expected the ports that are open, each by itself"
            if not rule.get("from") and [port.get("port") for port in rule.get("ports", [])] != ["health"]:
                yield item, "expected who may come in"
        for rule in item["spec"].get("egress", []):
            if not _names_ports(rule) or not rule.get("to"):
                yield item, "expected where to, and to which ports, each by itself"
        for way, ends in (("ingress", "from"), ("egress", "to")):
            for peer in (peer for rule in item["spec"].get(way, []) for peer in rule.get(ends, [])):
                if _is_everybody(peer, way):
                    yield item, f"expected fewer than everybody, found {peer}"


def _names_ports(rule: Object) -> bool:
    """Whether a rule says each port that it opens: an entry without one opens all, one with a last port a range."""
    ports = rule.get("ports") or [{}]
    return all("port" in port and "endPort" not in port for port in ports)


def _is_everybody(peer: Object, way: str) -> bool:
    """Whether a peer names nobody: it takes any pod of a namespace that nobody labelled, or a prefix that is no one's.

    Pods are named by the value of a label. From elsewhere that is not enough to be let in: whoever makes pods says it.
    """
    if "ipBlock" in peer:
        block = _network(peer["ipBlock"]["cidr"])
        own = isinstance(block, IPv6Network) and block.subnet_of(_UNIQUE_LOCAL)
        return block is not None and not own and block.prefixlen < _PREFIX_MIN[block.version]
    stranger = selects(peer.get("namespaceSelector", {}), _STRANGER)
    if way == "ingress" and "namespaceSelector" in peer:
        return stranger
    return stranger and not _names_pods(peer.get("podSelector", {}))


def _names_pods(selector: Object) -> bool:
    """Whether a selector asks for a value: every pod has some labels, and any pod lacks some."""
    asked = [expression["operator"] for expression in selector.get("matchExpressions") or []]
    return bool(selector.get("matchLabels")) or "In" in asked


def _network(cidr: str) -> IPv4Network | IPv6Network | None:
    """What an ipBlock means; None where it is no network, which `blocks_are_networks` tells."""
    try:
        return ip_network(cidr) if _CIDR.fullmatch(cidr) else None
    except ValueError:
        return None


@always
def blocks_are_networks(cluster: Cluster) -> Iterator[Finding]:
    """Of addresses, with no bit set behind the prefix. The schemas take any text for one."""
    for item in cluster.of("NetworkPolicy"):
        for way, ends in (("ingress", "from"), ("egress", "to")):
            for n, rule in enumerate(item["spec"].get(way, [])):
                for m, peer in enumerate(rule.get(ends, [])):
                    block = peer.get("ipBlock", {})
                    for cidr in (*([block["cidr"]] if block else []), *block.get("except", [])):
                        if _network(cidr) is None:
                            place = f"spec.{way}.{n}.{ends}.{m}.ipBlock"
                            yield item, f"{place}: expected a network, such as 10.1.2.0/24; found {cidr!r}"


def _denies_all(item: Object) -> bool:
    spec = item["spec"]
    both = set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
    return spec.get("podSelector", {}) == {} and both and not spec.get("ingress") and not spec.get("egress")


def open_ports(cluster: Cluster) -> Iterator[int | str]:
    """The ports at which a policy lets pods out of the cluster."""
    for item in cluster.of("NetworkPolicy"):
        for rule in item["spec"].get("egress", []):
            if any("ipBlock" in peer for peer in rule.get("to", [])):
                yield from (port["port"] for port in rule.get("ports", []) if "port" in port)


@everywhere
def backups_reach_the_service(cluster: Cluster) -> Iterator[Finding]:
    """Both ends let the connection pass."""
    for pod in cluster.backup_pods():
        for service in cluster.service_pods():
            if not reaches(cluster, Peer.of(pod), Peer.of(service), port_of(service, "grpc") or 0):
                yield pod.owner, "the network policies do not let it reach the service"


_WAYS_IN: Final = {
    "clients of a labelled namespace": (Peer("apps", namespace_labels={"epistream-clients": "allowed"}), "grpc"),
    "Prometheus": (Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}), "metrics"),
    "a kubelet": (Peer(address="192.0.2.1"), "health"),
}
"""Who comes from where to which port, as k8s/README.md says it. A kubelet has its node's address: any."""
NAMES: Final = Peer("kube-system", {"k8s-app": "kube-dns"})
"""What knows names."""


@everywhere
def ways_that_are_needed_are_open(cluster: Cluster) -> Iterator[Finding]:
    """Clients, Prometheus and kubelets reach the service, and every pod reaches what knows names."""
    for service in cluster.service_pods():
        for who, (source, port) in _WAYS_IN.items():
            if not reaches(cluster, source, Peer.of(service), port_of(service, port) or 0):
                yield service.owner, f"the network policies do not let {who} reach the port {port}"
    for pod in cluster.pods():
        for protocol in ("UDP", "TCP"):
            if not reaches(cluster, Peer.of(pod), NAMES, 53, protocol):
                yield pod.owner, f"the network policies do not let it ask for names over {protocol}"
