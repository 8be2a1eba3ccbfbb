"""Policies about references: whatever names, selects or mounts something finds it, and a port leads where it says."""

import re
from collections.abc import Iterator
from typing import Any, Final

from tests.support.manifests.cluster import Cluster, Object, Pod, claims_made_by, leads_to, namespace_of, selects
from tests.support.manifests.policy import Finding, everywhere
from tests.support.manifests.secrets import COPIED_OF_A_KAFKA_USER, KAFKA_USER, OF_A_KAFKA_USER, SECRETS

_METRICS: Final = "/metrics"
"""Where they are, as `epistream up` says it."""


@everywhere
def selectors_find_pods(cluster: Cluster) -> Iterator[Finding]:
    """Services, budgets, network policies, spread constraints and workloads select pods that there are."""
    pods = cluster.pods()
    for item in cluster.objects:
        for selector in _pod_selectors(item):
            if not any(pod.namespace == namespace_of(item) and selects(selector, pod.labels) for pod in pods):
                yield item, f"selects no pod: {selector}"
    for pod in pods:
        for constraint in pod.spec.get("topologySpreadConstraints", []):
            if not selects(constraint.get("labelSelector"), pod.labels):
                yield pod.owner, f"its spread constraint selects other pods: {constraint.get('labelSelector')}"


def _pod_selectors(item: Object) -> list[Object | None]:
    spec = item.get("spec", {})
    match item["kind"]:
        case "Service":
            return [{"matchLabels": spec["selector"]}] if spec.get("selector") else []
        case "PodDisruptionBudget" | "StatefulSet" | "Deployment":
            return [spec.get("selector")]
        case "NetworkPolicy":
            rules = [*spec.get("ingress", []), *spec.get("egress", [])]
            peers = [peer for rule in rules for peer in (*rule.get("from", []), *rule.get("to", []))]
            # A peer in another namespace is not ours to find.
            inside = [p["podSelector"] for p in peers if "podSelector" in p and "namespaceSelector" not in p]
            return [spec.get("podSelector", {}), *inside]
        case _:
            return []


@everywhere
def ports_lead_somewhere(cluster: Cluster) -> Iterator[Finding]:
    """Ports of Services and of network policies are ports of the pods behind."""
    for item in cluster.of("Service", "NetworkPolicy"):
        here = [pod for pod in cluster.pods() if pod.namespace == namespace_of(item)]
        if item["kind"] == "Service":
            chosen = [pod for pod in here if leads_to(item, pod.labels)]
            ports = item["spec"].get("ports", []) if item["spec"].get("selector") else []
            wanted = [(chosen, port.get("targetPort", port["port"])) for port in ports]
        else:
            wanted = list(_policy_ports(item, here))
        for pods, port in wanted:
            if not pods or not all(port_of(pod, port) for pod in pods):
                yield item, f"no container has the port {port}"


def _policy_ports(item: Object, pods: list[Pod]) -> Iterator[tuple[list[Pod], int | str]]:
    """The ports that a network policy names, with the pods of ours that should have them."""
    spec = item["spec"]
    for rule in spec.get("ingress", []):
        for port in rule.get("ports", []):
            if "port" in port:
                yield [pod for pod in pods if selects(spec.get("podSelector", {}), pod.labels)], port["port"]
    for rule in spec.get("egress", []):
        for peer in rule.get("to", []):
            if "podSelector" in peer and "namespaceSelector" not in peer:
                for port in rule.get("ports", []):
                    if "port" in port:
                        yield [pod for pod in pods if selects(peer["podSelector"], pod.labels)], port["port"]


def port_of(pod: Pod, port: int | str) -> int | None:
    """The number of a container's port, given its number or name."""
    for container in pod.containers:
        for declared in container.get("ports", []):
            if port in (declared["containerPort"], declared.get("name")):
                return int(declared["containerPort"])
    return None


@everywhere
def monitors_find_a_port(cluster: Cluster) -> Iterator[Finding]:
    """Each endpoint of a ServiceMonitor is a port of exactly one Service that it selects: a pod is not read twice."""
    for item, endpoint, services in _monitored(cluster):
        if len(services) != 1:
            yield item, f"port {endpoint['port']}: expected one Service that has it, found {len(services)}"


def _monitored(cluster: Cluster) -> Iterator[tuple[Object, Object, list[Object]]]:
    """Each endpoint of each ServiceMonitor, with the Services that it means."""
    for item in cluster.of("ServiceMonitor"):
        places = item["spec"].get("namespaceSelector", {})
        named = places.get("matchNames") or [namespace_of(item)]
        chosen = [
            service
            for service in cluster.of("Service")
            if (places.get("any") or namespace_of(service) in named)
            and selects(item["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        for endpoint in item["spec"]["endpoints"]:
            having = [s for s in chosen if endpoint["port"] in {p.get("name") for p in s["spec"].get("ports", [])}]
            yield item, endpoint, having


@everywhere
def monitors_read_what_is_asked_for(cluster: Cluster) -> Iterator[Finding]:
    """What an endpoint reads has the job that alerts ask for, is the metrics, and of a name in the certificate."""
    rules = [r for item in cluster.of("PrometheusRule") for group in item["spec"]["groups"] for r in group["rules"]]
    asked = {job for rule in rules for job in re.findall(r'\bjob="([^"]*)"', rule["expr"])}
    for item, endpoint, services in _monitored(cluster):
        for service in services:
            label = service["metadata"].get("labels", {}).get(item["spec"].get("jobLabel"))
            job = label or service["metadata"]["name"]
            if asked and job not in asked:
                yield item, f"jobLabel: its series have the job {job}, and the rules ask for {', '.join(sorted(asked))}"
        if (path := endpoint.get("path", _METRICS)) != _METRICS:
            yield item, f"path: expected {_METRICS}, found {path}"
        name = endpoint.get("tlsConfig", {}).get("serverName")
        if endpoint.get("scheme") == "https" and _service_at(cluster, name or "") is None:
            yield item, f"serverName: expected the name of a Service, which the certificate has; found {name}"


@everywhere
def scalers_find_their_target(cluster: Cluster) -> Iterator[Finding]:
    """A ScaledObject scales something that there is, with credentials that there are."""
    for item in cluster.of("ScaledObject"):
        target = item["spec"]["scaleTargetRef"]
        if cluster.named(target.get("kind", "Deployment"), target["name"], namespace_of(item)) is None:
            yield item, f"there is no {target.get('kind')} {target['name']}"
        for trigger in item["spec"]["triggers"]:
            name = trigger.get("authenticationRef", {}).get("name")
            if name and cluster.named("TriggerAuthentication", name, namespace_of(item)) is None:
                yield item, f"there is no TriggerAuthentication {name}"


@everywhere
def named_objects_exist(cluster: Cluster) -> Iterator[Finding]:
    """Service accounts, priority classes, governing services."""
    for pod in cluster.pods():
        for kind, name in (
            ("ServiceAccount", pod.spec.get("serviceAccountName")),
            ("PriorityClass", pod.spec.get("priorityClassName")),
            ("Service", pod.owner["spec"].get("serviceName")),
        ):
            if name and cluster.named(kind, name, pod.namespace) is None:
                yield pod.owner, f"there is no {kind} {name}"


@everywhere
def volumes_have_sources(cluster: Cluster) -> Iterator[Finding]:
    """What is mounted is a volume of the pod, and that is made of something that there is."""
    for pod in cluster.pods():
        claims = set(claims_made_by(pod.owner))
        for container in pod.containers:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in claims | pod.volumes.keys():
                    yield pod.owner, f"{container['name']} mounts {mount['name']}, which is no volume"
        for volume in pod.volumes.values():
            for kind, name in (
                ("ConfigMap", volume.get("configMap", {}).get("name")),
                ("PersistentVolumeClaim", volume.get("persistentVolumeClaim", {}).get("claimName")),
            ):
                made = kind == "PersistentVolumeClaim" and name in cluster.store_claims()
                if name and not made and cluster.named(kind, name, pod.namespace) is None:
                    yield pod.owner, f"volume {volume['name']}: there is no {kind} {name}"


@everywhere
def secrets_are_known(cluster: Cluster) -> Iterator[Finding]:
    """Each Secret, and each key, is one that an operator is told to make, or that Strimzi makes for a KafkaUser."""
    users = {user["metadata"]["name"]: OF_A_KAFKA_USER for user in cluster.of("KafkaUser")}
    if not cluster.of("KafkaUser", "KafkaTopic") and _shows_a_certificate(cluster):
        users[KAFKA_USER] = COPIED_OF_A_KAFKA_USER
    known = SECRETS | users
    for item, name, key in referenced_secrets(cluster):
        if key not in known.get(name, frozenset()):
            yield item, f"nobody makes the key {key} of a Secret {name}"


def _shows_a_certificate(cluster: Cluster) -> bool:
    """Whether the settings have the service show Kafka the certificate of its KafkaUser."""
    return any(
        str(value).startswith("/etc/epistream/kafka-user/") for _, said in cluster.settings() for value in said.values()
    )


def referenced_secrets(cluster: Cluster) -> Iterator[tuple[Object, str, str]]:
    """Who wants which key of which Secret."""
    for pod in cluster.pods():
        for volume in pod.volumes.values():
            secret = volume.get("secret", {})
            name = secret.get("secretName", "")
            for entry in secret.get("items", []):
                yield pod.owner, name, entry["key"]
            if "secret" in volume and not secret.get("items"):
                for key in sorted(SECRETS.get(name, {"every key"})):
                    yield pod.owner, name, key
    for item in cluster.of("TriggerAuthentication"):
        for entry in item["spec"].get("secretTargetRef", []):
            yield item, entry["name"], entry["key"]
    for item in cluster.of("ServiceMonitor"):
        for endpoint in item["spec"]["endpoints"]:
            tls = endpoint.get("tlsConfig", {})
            for entry in (
                endpoint.get("authorization", {}).get("credentials"),
                tls.get("ca", {}).get("secret"),
                tls.get("cert", {}).get("secret"),
                tls.get("keySecret"),
            ):
                if entry:
                    yield item, entry["name"], entry["key"]


@everywhere
def files_of_the_settings_are_mounted(cluster: Cluster) -> Iterator[Finding]:
    """Each path in the settings, and each path in a backup's environment, is in a volume that has it."""
    for pod in cluster.service_pods():
        for item, settings in cluster.settings():
            for name, value in settings.items():
                if name.endswith("_file") and not _has_file(pod, value):
                    yield item, f"{name}: nothing mounted in {pod.owner['metadata']['name']} has {value}"
        for container in pod.spec["containers"]:
            for argument in container.get("args", []):
                flag, _, value = argument.partition("=")
                if flag == "--config" and not _has_file(pod, value):
                    yield pod.owner, f"{argument}: nothing that is mounted has it"
    for pod in cluster.pods():
        for container in pod.containers:
            for entry in container.get("env", []):
                if entry["name"].endswith("_FILE") and not _has_file(pod, entry.get("value", "")):
                    yield pod.owner, f"{entry['name']}: nothing that is mounted has {entry.get('value')}"


def _has_file(pod: Pod, path: str) -> bool:
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            folder = f"{mount['mountPath']}/"
            if path.startswith(folder):
                secret = pod.volumes.get(mount["name"], {}).get("secret")
                if secret is None:  # what a claim or a ConfigMap holds is not said in the volume
                    return True
                items = {entry["path"] for entry in secret.get("items", [])}
                return path.removeprefix(folder) in (items or SECRETS.get(secret.get("secretName", ""), frozenset()))
    return False


@everywhere
def addresses_lead_to_a_service(cluster: Cluster) -> Iterator[Finding]:
    """An address within the cluster is a Service of ours and a port of it."""
    for item, address in _addresses(cluster):
        host, _, port = address.rpartition(":")
        service = _service_at(cluster, host)
        if service is None or int(port) not in {p["port"] for p in service["spec"].get("ports", [])}:
            yield item, f"no Service has the address {address}"


def _service_at(cluster: Cluster, host: str) -> Object | None:
    """The Service that is called so within the cluster."""
    found = re.fullmatch(r"([\w-]+)\.([\w-]+)\.svc", host)
    return cluster.named("Service", found[1], found[2]) if found else None


def _addresses(cluster: Cluster) -> Iterator[tuple[Object, str]]:
    for pod in cluster.pods():
        for container in pod.containers:
            for argument in container.get("args", []):
                flag, _, value = argument.partition("=")
                if flag == "--address":
                    yield pod.owner, value


@everywhere
def settings_are_mounted(cluster: Cluster) -> Iterator[Finding]:
    """There is one file of settings, the service is given it, and it serves the ports that the pod declares."""
    found: list[tuple[Object, dict[str, Any]]] = list(cluster.settings())
    if len(found) != 1:
        yield None, f"expected one ConfigMap with settings.toml, found {len(found)}"
    for pod in cluster.service_pods():
        if not any(a.startswith("--config=") for c in pod.spec["containers"] for a in c.get("args", [])):
            yield pod.owner, "expected --config=FILE"
        for item, _ in found:
            if not any(_gives(pod, container, item) for container in pod.containers):
                yield pod.owner, f"expected the folder of --config to be the whole of {item['metadata']['name']}"
        for item, settings in found:
            for name, setting in (("grpc", "address"), ("health", "health_address"), ("metrics", "metrics_address")):
                host, _, port = settings.get(setting, "").rpartition(":")
                if host != "0.0.0.0" or port != str(port_of(pod, name)):  # noqa: S104 - the pod's own addresses
                    yield item, f"{setting}: expected 0.0.0.0:{port_of(pod, name)}, the port {name} of the pod"


def _gives(pod: Pod, container: Object, config_map: Object) -> bool:
    """Whether the file of a container's --config is the one in a ConfigMap: mounted whole, under its own names."""
    files = [argument.partition("=")[2] for argument in container.get("args", []) if argument.startswith("--config=")]
    mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
    for file in files:
        mount = mounts.get(file.rpartition("/")[0], {"name": ""})
        source = pod.volumes.get(mount["name"], {}).get("configMap", {})
        whole = "items" not in source and not {"subPath", "subPathExpr"} & set(mount)
        if whole and file not in mounts and source.get("name") == config_map["metadata"]["name"]:
            return True
    return False
