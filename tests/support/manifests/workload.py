"""Policies about the service as a whole: one instance, its store, how it is asked, stopped, reached and secured."""

import re
from collections.abc import Iterator
from typing import Final

from epistream.services.settings import Settings, is_loopback
from tests.support.manifests.cluster import Cluster, Object, Pod, claims_made_by, leads_to, namespace_of, selects
from tests.support.manifests.policy import Finding, always, before_applying, everywhere, production

STOP_MARGIN_SECONDS: Final = 30
"""What closing the store may take, beyond the drain."""
READY: Final = "epistream.v1.KnowledgeService"
_DRAIN_SECONDS: Final = float(Settings.model_fields["drain_seconds"].default)
_INDEX_VARIABLE: Final = "EPISTREAM_INSTANCE_INDEX"
_ARGUMENTS: Final = ("up", "--config=/etc/epistream/settings/settings.toml")
"""What k8s/base starts the service with."""
_VARIABLES: Final = (_INDEX_VARIABLE, "EPISTREAM_TRACE_ENDPOINT")
"""The settings that k8s/base and the components give by the environment."""
_INSTEAD: Final = "say it in the overlay's settings.toml instead"
_STAYING: Final = ("StatefulSet", "Deployment", "DaemonSet", "ReplicaSet", "ReplicationController", "Pod")
"""What makes pods that do not end by themselves, or is one."""
_UP: Final = re.compile(r"(?<![\w./-])up(?![\w./-])")
"""The word within a command, also within one of a shell's: no part of a name or of a path."""
_INDEX: Final = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
_STABLE_INSTANCE: Final = {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"}
_NAMESPACE: Final = "epistream"
"""That of k8s/namespace."""


@everywhere
def one_instance_owns_the_store(cluster: Cluster) -> Iterator[Finding]:
    """Two pods have two stores, and answer differently."""
    for item in cluster.of("StatefulSet"):
        if item["spec"].get("replicas") != 1:
            yield item, f"expected replicas: 1, found {item['spec'].get('replicas')}"
        if item["spec"].get("ordinals", {}).get("start", 0) != 0:
            yield item, "expected no spec.ordinals: only the pod 0 starts, and epistream-0 has the store"
    executors = [pod.owner for pod in cluster.executor_pods()]
    serving = [item for item in cluster.of(*_STAYING) if item not in executors]
    if len(cluster.of("StatefulSet")) != 1 or len(serving) != 1:
        yield None, "expected one StatefulSet and nothing else that serves"
    for pod in cluster.pods():
        if pod.owner["kind"] != "StatefulSet":
            if any(_runs_up(cluster, container) for container in pod.containers):
                yield pod.owner, "it runs `up`: expected one StatefulSet and nothing else that serves"
            if any(_selected_alike(cluster, pod, service) for service in cluster.service_pods()):
                yield pod.owner, "a Service or a budget takes it for the service"
    for item in cluster.of("ScaledObject"):
        least, most = (item["spec"].get(name) for name in ("minReplicaCount", "maxReplicaCount"))
        if (least, most) != (1, 1) or "idleReplicaCount" in item["spec"]:
            yield item, f"expected minReplicaCount and maxReplicaCount of 1, found {least} and {most}"
    for item in cluster.of("HorizontalPodAutoscaler"):
        yield item, "expected nothing that scales a store"


def _runs_up(cluster: Cluster, container: Object) -> bool:
    """Whether a container is told to serve, or is of the service's image, which serves when it is told nothing."""
    words = [*container.get("command", []), *container.get("args", [])]
    serving = (each for pod in cluster.service_pods() for each in pod.containers if each.get("args", [])[:1] == ["up"])
    ours = {_image_of(each) for each in serving}
    return any(_UP.search(word) for word in words) or (not words and _image_of(container) in ours)


def _image_of(container: Object) -> str:
    """The name of its image, whose registry may have a port, without digest and tag."""
    return re.sub(r":[^/]*$", "", container.get("image", "").partition("@")[0])


@everywhere
def settings_are_said_in_their_file(cluster: Cluster) -> Iterator[Finding]:
    """A flag goes before the environment, and that before the file, which is what is looked at here."""
    for pod in cluster.service_pods():
        for container in pod.containers:
            where = container["name"]
            if "command" in container or container.get("args") != list(_ARGUMENTS):
                yield pod.owner, f"{where}: expected the args {' '.join(_ARGUMENTS)} and no command: {_INSTEAD}"
            if container.get("envFrom"):
                yield pod.owner, f"{where}: expected no envFrom, which may set EPISTREAM_*: {_INSTEAD}"
            for entry in container.get("env", []):
                # Settings are found in the environment whatever the case of their names.
                if entry["name"].upper().startswith("EPISTREAM_") and entry["name"] not in _VARIABLES:
                    yield pod.owner, f"{where}: expected no {entry['name']}: {_INSTEAD}"


@everywhere
def a_pod_knows_which_it_is(cluster: Cluster) -> Iterator[Finding]:
    """By the index that the StatefulSet gives it; any but the first refuses to start, whoever has scaled it."""
    for pod in cluster.service_pods():
        for container in pod.containers:
            said = [entry for entry in container.get("env", []) if entry["name"] == _INDEX_VARIABLE]
            if [entry.get("valueFrom") for entry in said] != [_INDEX]:
                yield pod.owner, f"expected {_INDEX_VARIABLE} from {_INDEX}, found {said}"


@everywhere
def store_outlives_the_workload(cluster: Cluster) -> Iterator[Finding]:
    """Volumes are kept, and the settings put the store on one."""
    for pod in cluster.service_pods():
        spec = pod.owner["spec"]
        if spec.get("persistentVolumeClaimRetentionPolicy") != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield pod.owner, "expected volume claims to be retained"
        claims = claims_made_by(pod.owner)
        durable = {m["mountPath"] for c in pod.containers for m in c.get("volumeMounts", []) if m["name"] in claims}
        for item, settings in cluster.settings():
            if settings.get("folder") not in durable:
                yield item, f"folder: expected a claimed volume there, found {settings.get('folder')!r}"


@everywhere
def store_can_be_mended(cluster: Cluster) -> Iterator[Finding]:
    """With the service stopped, a job can be made that has its store, image and user, and the backups beside."""
    stores = cluster.store_claims()
    keepers = [pod for pod in cluster.pods() if pod.claims.keys() & stores.keys()]
    if len(keepers) != 1:
        yield None, f"expected one CronJob to make jobs from that mount the store, found {len(keepers)}"
    for pod in keepers:
        if pod.owner["kind"] != "CronJob" or pod.owner["spec"].get("suspend") is not True:
            yield pod.owner, "it mounts the store: expected a CronJob that is suspended, since only people start it"
        if not {claim: stores[claim] for claim in pod.claims.keys() & stores.keys()}.items() <= pod.claims.items():
            yield pod.owner, f"expected the store where the service has it, {stores}; found {pod.claims}"
        for backup in cluster.backup_pods():
            if not backup.claims.items() <= pod.claims.items():
                yield pod.owner, f"expected the backups, {backup.claims}; found {pod.claims}"
        for service in cluster.service_pods():
            if [c.get("image") for c in pod.containers] != [c.get("image") for c in service.containers]:
                yield pod.owner, "expected the image of the service"
            if pod.spec.get("securityContext") != service.spec.get("securityContext"):
                yield pod.owner, "expected the user and groups of the service: what it writes is theirs"


def _selected_alike(cluster: Cluster, pod: Pod, service: Pod) -> bool:
    """Whether something that selects the service's pods selects this pod, too."""
    services = cluster.of("Service")
    selectors = [item["spec"].get("selector") for item in cluster.of("PodDisruptionBudget", "StatefulSet")]
    return any(leads_to(s, pod.labels) and leads_to(s, service.labels) for s in services) or any(
        selects(s, pod.labels) and selects(s, service.labels) for s in selectors
    )


@everywhere
def rolls_one_at_a_time(cluster: Cluster) -> Iterator[Finding]:
    """A new version replaces the pod, also one that never got ready, and counts once it has stayed ready."""
    for item in cluster.of("StatefulSet"):
        if item["spec"].get("updateStrategy", {}).get("type") != "RollingUpdate":
            yield item, "expected updateStrategy RollingUpdate"
        if item["spec"].get("podManagementPolicy") != "Parallel":
            yield item, "expected podManagementPolicy Parallel"
        if item["spec"].get("minReadySeconds", 0) < 1:
            yield item, "expected minReadySeconds"


@everywhere
def is_asked_for_its_health(cluster: Cluster) -> Iterator[Finding]:
    """By gRPC, on the port that the settings serve health on. Liveness asks for the process, never for a part of it."""
    ports = {int(s["health_address"].rpartition(":")[2]) for _, s in cluster.settings() if s.get("health_address")}
    for pod in cluster.service_pods():
        for container in pod.spec["containers"]:
            for kind, service in (("startupProbe", ""), ("readinessProbe", READY), ("livenessProbe", "")):
                probe = container.get(kind, {}).get("grpc")
                if probe is None or {probe["port"]} != ports or probe.get("service", "") != service:
                    yield pod.owner, f"{kind}: expected grpc for {service!r} on the health port {sorted(ports)}"
            if _patience(container.get("livenessProbe", {})) < 30:
                yield pod.owner, "livenessProbe: expected half a minute of patience at least"


def _patience(probe: Object) -> float:
    return float(probe.get("periodSeconds", 10)) * float(probe.get("failureThreshold", 3))


@everywhere
def has_time_to_stop(cluster: Cluster) -> Iterator[Finding]:
    """First the endpoints are taken out, then calls end, then the store closes; only then comes SIGKILL."""
    drain = max((float(s.get("drain_seconds", _DRAIN_SECONDS)) for _, s in cluster.settings()), default=_DRAIN_SECONDS)
    for pod in cluster.service_pods():
        sleeps = [c.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for c in pod.containers]
        if not all(sleeps):
            yield pod.owner, "expected a preStop sleep"
        needed = max(sleeps, default=0) + drain + STOP_MARGIN_SECONDS
        if pod.spec.get("terminationGracePeriodSeconds", 30) < needed:
            yield pod.owner, f"expected terminationGracePeriodSeconds of {needed:g} or more"


@everywhere
def gives_way_to_a_drain(cluster: Cluster) -> Iterator[Finding]:
    """A node can be emptied, also of a pod that is broken."""
    for pod in cluster.service_pods():
        budgets = [b for b in cluster.of("PodDisruptionBudget") if selects(b["spec"].get("selector"), pod.labels)]
        if len(budgets) != 1:
            yield pod.owner, f"expected one PodDisruptionBudget, found {len(budgets)}"
        for item in budgets:
            spec = item["spec"]
            if spec.get("maxUnavailable") != 1 or spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                yield item, "expected maxUnavailable: 1 and unhealthyPodEvictionPolicy: AlwaysAllow"


@everywhere
def can_be_found_both_ways(cluster: Cluster) -> Iterator[Finding]:
    """One address for who connects once, and the pods' own for who balances."""
    for pod in cluster.service_pods():
        services = [s for s in cluster.of("Service") if leads_to(s, pod.labels)]
        headless = [s for s in services if s["spec"].get("clusterIP") == "None"]
        if [s["metadata"]["name"] for s in headless] != [pod.owner["spec"].get("serviceName")]:
            yield pod.owner, "expected its serviceName to be the one headless Service"
        if not any(s["spec"].get("type") == "ClusterIP" for s in services):
            yield pod.owner, "expected a ClusterIP Service"
        for item in services:
            ports = item["spec"].get("ports", []) if item in headless else []
            if any(port["port"] != _container_port(pod, port.get("targetPort", port["port"])) for port in ports):
                yield item, "a headless Service has no port of its own: expected the pod's"


def _container_port(pod: Pod, port: int | str) -> int | None:
    for container in pod.containers:
        for declared in container.get("ports", []):
            if port in (declared["containerPort"], declared.get("name")):
                return int(declared["containerPort"])
    return None


@everywhere
def namespace_outlives_the_workload(cluster: Cluster) -> Iterator[Finding]:
    """Whoever deletes an overlay deletes what is in it: a Namespace, with every claim; and nothing is elsewhere."""
    for item in cluster.objects:
        if item["kind"] == "Namespace":
            yield item, "expected it in no overlay, as k8s/namespace: deleted with it, it takes the store along"
        elif item["kind"] != "PriorityClass" and namespace_of(item) != _NAMESPACE:
            yield item, f"expected the namespace {_NAMESPACE}, found {namespace_of(item)!r}"


@everywhere
def exposure_is_said(cluster: Cluster) -> Iterator[Finding]:
    """TLS and an access file, or `insecure = true` in so many words; the service refuses to start otherwise."""
    for item, settings in cluster.settings():
        exposed = not is_loopback(settings.get("address", "127.0.0.1:7443"))
        secured = {"tls_cert_file", "tls_key_file", "access_file"} <= settings.keys()
        if exposed and not secured and settings.get("insecure") is not True:
            yield item, "expected tls_cert_file, tls_key_file and access_file, or insecure = true"


@production
def everything_is_encrypted_and_everybody_asked(cluster: Cluster) -> Iterator[Finding]:
    """TLS, an access file, an audit file, and Kafka over TLS."""
    for item, settings in cluster.settings():
        if "insecure" in settings:
            yield item, "expected no word of insecure"
        for name in ("tls_cert_file", "tls_key_file", "access_file", "audit_file"):
            if name not in settings:
                yield item, f"expected {name}"
        if "kafka" in settings and settings.get("kafka_security") not in ("SSL", "SASL_SSL"):
            yield item, f"kafka_security: expected SSL or SASL_SSL, found {settings.get('kafka_security')!r}"
        if "kafka" in settings and "kafka_ca_file" not in settings:
            yield item, "expected kafka_ca_file"


@production
def store_is_mounted_once(cluster: Cluster) -> Iterator[Finding]:
    """Even two pods on one node cannot mount it both."""
    for item in cluster.of("StatefulSet"):
        for claim in item["spec"].get("volumeClaimTemplates", []):
            if claim.get("spec", {}).get("accessModes") != ["ReadWriteOncePod"]:
                yield item, f"claim {claim.get('metadata', {}).get('name')}: expected ReadWriteOncePod"


@everywhere
def snapshots_are_of_the_store(cluster: Cluster) -> Iterator[Finding]:
    """A snapshot names a claim that the service's StatefulSet makes, where it makes it."""
    for item in cluster.of("VolumeSnapshot"):
        claim = item["spec"]["source"]["persistentVolumeClaimName"]
        if claim not in cluster.store_claims():
            yield item, f"expected one of the claims {sorted(cluster.store_claims())}, found {claim}"
        if namespace_of(item) not in {pod.namespace for pod in cluster.service_pods()}:
            yield item, "expected it in the namespace of the service"


@always
def snapshots_are_told_apart(cluster: Cluster) -> Iterator[Finding]:
    """By the day in their names: of a name that is there already, none is made."""
    for item in cluster.of("VolumeSnapshot"):
        if not re.search(r"-20\d\d-\d\d-\d\d", item["metadata"]["name"]):
            yield item, "expected a name with the day on which it is made, such as epistream-2026-11-30-1200"


@production
def connections_are_renewed(cluster: Cluster) -> Iterator[Finding]:
    """A client looks up who there is when its connection ends, so connections have an end."""
    for item, settings in cluster.settings():
        if not settings.get("max_connection_age_seconds"):
            yield item, "expected max_connection_age_seconds"


@production
def is_backed_up(cluster: Cluster) -> Iterator[Finding]:
    """Each day, one at a time, into a volume, by TLS and with a token that are files; with time for what may be."""
    if not any(_runs_daily(pod.owner["spec"]) for pod in cluster.backup_pods()):
        yield None, "expected a CronJob that takes a backup on each day: none that is suspended, or waits for some day"
    for pod in cluster.backup_pods():
        if pod.owner["spec"].get("concurrencyPolicy") != "Forbid":
            yield pod.owner, "expected concurrencyPolicy: Forbid"
        for _, settings in cluster.settings():
            age = settings.get("max_connection_age_seconds", 0)
            if pod.owner["spec"]["jobTemplate"]["spec"].get("activeDeadlineSeconds", age) < age:
                yield pod.owner, f"expected activeDeadlineSeconds of {age} or more: so long a connection may live"
        claimed = {name for name, volume in pod.volumes.items() if "persistentVolumeClaim" in volume}
        for container in pod.spec["containers"]:
            arguments = container.get("args", [])
            places = [f"--output={m['mountPath']}/" for m in container.get("volumeMounts", []) if m["name"] in claimed]
            if not set(places) & set(arguments):
                yield pod.owner, "expected --output=FOLDER/ on a claimed volume"
            if not any(argument.startswith("--keep=") for argument in arguments):
                yield pod.owner, "expected --keep=N, or the volume fills up"
            names = {entry["name"] for entry in container.get("env", [])}
            if not {"EPISTREAM_TLS_CA_FILE", "EPISTREAM_TOKEN_FILE"} <= names:
                yield pod.owner, "expected EPISTREAM_TLS_CA_FILE and EPISTREAM_TOKEN_FILE"


def _runs_daily(cron: Object) -> bool:
    """Whether a CronJob runs on every day, whatever the day of the month, the month and the weekday."""
    schedule = cron.get("schedule", "")
    each_day = schedule in ("@hourly", "@daily", "@midnight") or schedule.split()[2:] == ["*"] * 3
    return each_day and not cron.get("suspend")


@production
def is_watched(cluster: Cluster) -> Iterator[Finding]:
    """Prometheus reads its metrics, by TLS and with a token, as those of a pod whatever its address, and has rules for
    them; Grafana finds the dashboards.
    """
    if not cluster.of("ServiceMonitor"):
        yield None, "expected a ServiceMonitor"
    for item in cluster.of("ServiceMonitor"):
        for endpoint in item["spec"]["endpoints"]:
            if endpoint.get("scheme") != "https" or "authorization" not in endpoint:
                yield item, "expected https and an authorization"
            if _STABLE_INSTANCE not in endpoint.get("relabelings", []):
                yield item, f"its series would end with each pod: expected {_STABLE_INSTANCE} among its relabelings"
    if not any("alert" in rule for item in cluster.of("PrometheusRule") for rule in _rules(item)):
        yield None, "expected a PrometheusRule with alerts"
    boards = [item for item in cluster.of("ConfigMap") if any(name.endswith(".json") for name in item.get("data", {}))]
    if not boards:
        yield None, "expected a ConfigMap with dashboards"
    for item in boards:
        if item["metadata"].get("labels", {}).get("grafana_dashboard") != "1":
            yield item, 'expected the label grafana_dashboard: "1", by which Grafana\'s sidecar finds it'


def _rules(item: Object) -> list[Object]:
    return [rule for group in item["spec"]["groups"] for rule in group["rules"]]


@before_applying
def alerts_lead_to_runbooks(cluster: Cluster) -> Iterator[Finding]:
    """Alertmanager passes an alert's runbook_url on as it is, so it has to be a whole address."""
    for item in cluster.of("PrometheusRule"):
        rules = [rule for rule in _rules(item) if "alert" in rule]
        links = [rule.get("annotations", {}).get("runbook_url", "") for rule in rules]
        leading = [re.fullmatch(r"https?://[^/]+/[^#]+#(\w+)", link) for link in links]
        if not all(to and to[1] == rule["alert"].lower() for to, rule in zip(leading, rules, strict=True)):
            yield (
                item,
                "runbook_url: say where your people read docs/runbooks.md, as examples/own-cluster/runbooks.yaml does",
            )
