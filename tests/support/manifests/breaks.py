"""For each policy at least one change, to manifests that are sound, that it has to catch."""

import copy
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.manifests.cluster import K8S, Object, objects_of, rendered
from tests.support.manifests.edits import Edit, add, all_of, drop, put, remove, say

LOCAL_OVERLAY: Final = K8S / "overlays/local"
PRODUCTION_OVERLAY: Final = K8S / "overlays/production"
EXECUTOR_OVERLAY: Final = K8S / "examples/executor"
OWN_CLUSTER: Final = K8S / "examples/own-cluster"
OWN_KAFKA: Final = K8S / "examples/own-kafka"
REDRIVE: Final = K8S / "examples/redrive"
TRACING_OVERLAY: Final = K8S / "examples/tracing"
SNAPSHOT: Final = K8S / "examples/volumesnapshot"
KAFKA: Final = K8S / "examples/kafka"
POD = "/spec/template/spec"
CONTAINER = f"{POD}/containers/0"
JOB = "/spec/jobTemplate/spec/template/spec"
SET, CRON, SCALER = "StatefulSet epistream", "CronJob epistream-backup", "ScaledObject epistream"
MENDING = "CronJob epistream-maintenance"
DENY, CLIENTS, KAFKA_WAY = "NetworkPolicy default-deny", "NetworkPolicy allow-clients", "NetworkPolicy allow-kafka"
DNS_WAY = "NetworkPolicy allow-dns"
HPA: Object = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "epistream", "namespace": "epistream"},
    "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "epistream"}, "minReplicas": 1, "maxReplicas": 5},
}

EXECUTOR, EXECUTOR_WAY = "Deployment epistream-executor", "NetworkPolicy allow-executor"
COLLECTOR_WAY = "NetworkPolicy allow-collector"
REDRIVER = "KafkaUser epistream-redrive"

BARE: Final[Object] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "bare", "namespace": "epistream", "labels": {"app.kubernetes.io/name": "epistream"}},
    "spec": {
        "hostNetwork": True,
        "containers": [{"name": "a", "image": "epistream:1", "securityContext": {"privileged": True}}],
    },
}
"""A pod that nothing makes, with the labels of the service's."""


def _made_by(kind: str, group: str) -> Object:
    """What makes pods such as `BARE`."""
    spec = {"replicas": 1, "template": {"metadata": BARE["metadata"], "spec": BARE["spec"]}}
    return {"apiVersion": group, "kind": kind, "metadata": BARE["metadata"], "spec": spec}


EVERYBODY: Final[list[Object]] = [
    {"namespaceSelector": {}, "podSelector": {}},
    {"namespaceSelector": {"matchLabels": {}}},
    {"podSelector": {}},
    {"namespaceSelector": None, "podSelector": {}},
    {"namespaceSelector": {}, "podSelector": None},
    {"podSelector": {"matchLabels": None, "matchExpressions": None}},
    {"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}},
    {"podSelector": {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "Exists"}]}},
    *(
        {"namespaceSelector": {"matchExpressions": [expression]}}
        for expression in (
            {"key": "team", "operator": "NotIn", "values": ["a", "b"]},
            {"key": "team", "operator": "DoesNotExist"},
            {"key": "kubernetes.io/metadata.name", "operator": "Exists"},
        )
    ),
    {"ipBlock": {"cidr": "0.0.0.0/0"}},
    {"ipBlock": {"cidr": "128.0.0.0/1"}},
    {"ipBlock": {"cidr": "2000::/3"}},
    {"ipBlock": {"cidr": "2000::/8"}},
    {"ipBlock": {"cidr": "2a00::/12"}},
    {"ipBlock": {"cidr": "f000::/4"}},
    {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}},
    {
        "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]},
        "podSelector": {"matchLabels": {"app": "a"}},
    },
]
"""Peers of a network policy that name nobody who may come in."""


@cache
def sound(folder: Path) -> list[Object]:
    """The objects of an overlay as they are; not to be changed."""
    return objects_of(rendered(folder))


def _within(*folders: Path, edit: Edit) -> Edit:
    """A change to the objects of another overlay, or of one and of what is applied beside it."""

    def change(objects: list[Object]) -> None:
        objects[:] = [copy.deepcopy(item) for folder in folders for item in sound(folder)]
        edit(objects)

    return change


BREAKS: Final[list[tuple[str, Edit]]] = [
    ("runs_as_nobody_in_particular", put(SET, f"{POD}/securityContext/runAsUser", 0)),
    ("runs_as_nobody_in_particular", put(CRON, f"{JOB}/containers/0/securityContext/runAsNonRoot", False)),
    ("runs_as_nobody_in_particular", put(SET, f"{POD}/initContainers", [{"name": "root", "image": "a:1"}])),
    ("runs_as_nobody_in_particular", drop(SET, f"{POD}/securityContext/fsGroup")),
    ("asks_the_kernel_for_little", put(SET, f"{CONTAINER}/securityContext/capabilities/add", ["NET_ADMIN"])),
    ("asks_the_kernel_for_little", drop(CRON, f"{JOB}/containers/0/securityContext/seccompProfile")),
    ("asks_the_kernel_for_little", put(SET, f"{CONTAINER}/securityContext/allowPrivilegeEscalation", True)),
    ("asks_the_kernel_for_little", put(SET, f"{CONTAINER}/securityContext/privileged", True)),
    ("leaves_on_what_confines_it", put(SET, f"{CONTAINER}/securityContext/procMount", "Unmasked")),
    *(
        ("leaves_on_what_confines_it", put(where, f"{security}/securityContext/{key}", value))
        for where, security in ((SET, POD), (SET, CONTAINER), (CRON, f"{JOB}/containers/0"))
        for key, value in (
            ("appArmorProfile", {"type": "Unconfined"}),
            ("seLinuxOptions", {"type": "spc_t"}),
            ("seLinuxOptions", {"type": "container_t", "user": "system_u"}),
            ("seLinuxOptions", {"role": "sysadm_r"}),
        )
    ),
    (
        "leaves_on_what_confines_it",
        put(
            SET,
            "/spec/template/metadata/annotations",
            {"container.apparmor.security.beta.kubernetes.io/epistream": "unconfined"},
        ),
    ),
    ("root_is_read_only", drop(SET, f"{CONTAINER}/securityContext/readOnlyRootFilesystem")),
    ("root_is_read_only", put(CRON, f"{JOB}/volumes", [])),
    ("shares_nothing_with_the_node", put(SET, f"{POD}/hostNetwork", True)),
    ("shares_nothing_with_the_node", put(SET, f"{CONTAINER}/ports/0/hostPort", 7443)),
    ("shares_nothing_with_the_node", put(SET, f"{POD}/volumes/-", {"name": "node", "hostPath": {"path": "/"}})),
    ("has_no_token_of_the_cluster", drop("ServiceAccount epistream", "/automountServiceAccountToken")),
    ("has_no_token_of_the_cluster", put(SET, f"{POD}/automountServiceAccountToken", True)),
    ("has_no_token_of_the_cluster", drop(CRON, f"{JOB}/serviceAccountName")),
    ("environment_is_ours", drop(SET, f"{POD}/enableServiceLinks")),
    ("variables_have_one_meaning", put(SET, f"{CONTAINER}/env/0/value", "0")),
    ("variables_have_one_meaning", put(CRON, f"{JOB}/containers/0/env/0/name", "EPISTREAM_TOKEN_FILE")),
    ("resources_are_said", put(SET, f"{CONTAINER}/resources/limits/memory", "8Gi")),
    ("resources_are_said", drop(CRON, f"{JOB}/containers/0/resources")),
    ("resources_are_said", put(SET, f"{CONTAINER}/resources/limits/memory", "4G")),
    ("resources_are_said", put(SET, f"{CONTAINER}/resources/limits/memory", 4294967295)),
    ("quantities_can_be_read", put(SET, f"{CONTAINER}/resources/limits/memory", "4GB")),
    ("quantities_can_be_read", put(CRON, f"{JOB}/volumes/0/emptyDir", {"sizeLimit": "64 Mi"})),
    ("quantities_can_be_read", put("PersistentVolumeClaim", "/spec/resources/requests/storage", "a lot")),
    *(
        ("quantities_can_be_read", put(SET, f"{CONTAINER}/resources/{what}/cpu", "-1"))
        for what in ("requests", "limits")
    ),
    *(
        ("quantities_can_be_read", add({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}))
        for kind, spec in (
            ("ResourceQuota", {"hard": {"limits.memory": "64GB"}}),
            ("PersistentVolume", {"capacity": {"storage": "100 Gi"}}),
            *(
                ("LimitRange", {"limits": [{"type": "Container", what: {"memory": "4GB"}}]})
                for what in ("max", "min", "default", "defaultRequest")
            ),
        )
    ),
    (
        "secrets_are_files",
        put(SET, f"{CONTAINER}/env", [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]),
    ),
    ("secrets_are_files", put(SET, f"{CONTAINER}/envFrom", [{"secretRef": {"name": "a"}}])),
    ("secrets_are_files", put(SET, f"{CONTAINER}/volumeMounts/0/subPath", "tls.key")),
    ("secrets_are_files", drop(SET, f"{POD}/volumes/0/secret/defaultMode")),
    ("secrets_are_files", drop(SET, f"{POD}/volumes/0/secret/items")),
    ("image_is_fixed", put(SET, f"{CONTAINER}/image", "epistream:latest")),
    ("image_is_fixed", put(CRON, f"{JOB}/containers/0/image", "registry.example.org:5000/epistream")),
    ("skipped_checks_have_a_reason", put(SET, "/metadata/annotations", {"checkov.io/skip1": "CKV_K8S_8"})),
    ("image_has_a_digest", put(SET, f"{CONTAINER}/image", "epistream:1.0")),
    ("image_has_a_digest", put(SET, f"{CONTAINER}/image", "epistream@sha256:abc")),
    ("has_a_place_in_the_queue", drop(SET, f"{POD}/priorityClassName")),
    ("has_a_place_in_the_queue", drop(SET, f"{POD}/topologySpreadConstraints/0")),
    ("one_instance_owns_the_store", put(SET, "/spec/replicas", 2)),
    ("one_instance_owns_the_store", drop(SET, "/spec/replicas")),
    ("one_instance_owns_the_store", put(SCALER, "/spec/maxReplicaCount", 3)),
    ("one_instance_owns_the_store", put(SCALER, "/spec/minReplicaCount", 0)),
    ("one_instance_owns_the_store", add(HPA)),
    ("one_instance_owns_the_store", put(SET, "/spec/ordinals", {"start": 1})),
    *(
        (policy, add(item))
        for item in (BARE, _made_by("ReplicaSet", "apps/v1"), _made_by("ReplicationController", "v1"))
        for policy in (
            "one_instance_owns_the_store",
            "shares_nothing_with_the_node",
            "asks_the_kernel_for_little",
            "image_has_a_digest",
        )
    ),
    ("one_instance_owns_the_store", put(CRON, f"{JOB}/containers/0/args/0", "up")),
    ("one_instance_owns_the_store", put(MENDING, f"{JOB}/containers/0/command", ["epistream", "up"])),
    ("one_instance_owns_the_store", put(MENDING, f"{JOB}/containers/0/command/1", "; epistream up")),
    *(
        ("one_instance_owns_the_store", put(MENDING, f"{JOB}/containers/0/command", ["sh", "-c", script]))
        for script in ("epistream up; sleep 1", "(epistream up)", "epistream 'up' --folder=/data&")
    ),
    ("one_instance_owns_the_store", drop(MENDING, f"{JOB}/containers/0/command")),
    ("one_instance_owns_the_store", drop(CRON, f"{JOB}/containers/0/args")),
    (
        "one_instance_owns_the_store",
        all_of(
            drop(MENDING, f"{JOB}/containers/0/command"),
            put(MENDING, f"{JOB}/containers/0/image", "registry.example.org:5000/epistream:2"),
            put(SET, f"{CONTAINER}/image", f"registry.example.org:5000/epistream@sha256:{'5' * 64}"),
        ),
    ),
    ("one_instance_owns_the_store", _within(EXECUTOR_OVERLAY, edit=drop(EXECUTOR, f"{CONTAINER}/args"))),
    (
        "one_instance_owns_the_store",
        put(MENDING, "/spec/jobTemplate/spec/template/metadata/labels", {"app.kubernetes.io/name": "epistream"}),
    ),
    *(
        ("settings_are_said_in_their_file", put(SET, f"{CONTAINER}/args/-", flag))
        for flag in (
            "--kafka-security=PLAINTEXT",
            "--folder=/elsewhere",
            "--instance-index=0",
            "--insecure",
            "--config=/etc/epistream/settings/settings.toml",
        )
    ),
    ("settings_are_said_in_their_file", put(SET, f"{CONTAINER}/args/1", "--config=/etc/epistream/access/access.toml")),
    ("settings_are_said_in_their_file", drop(SET, f"{CONTAINER}/args")),
    ("settings_are_said_in_their_file", put(SET, f"{CONTAINER}/command", ["epistream", "up", "--insecure"])),
    *(
        ("settings_are_said_in_their_file", put(SET, f"{CONTAINER}/env/-", {"name": name, "value": value}))
        for name, value in (
            ("EPISTREAM_INSECURE", "true"),
            ("EPISTREAM_FOLDER", "/elsewhere"),
            ("EPISTREAM_DRAIN_SECONDS", "600"),
            ("epistream_config", "/etc/own.toml"),
        )
    ),
    ("settings_are_said_in_their_file", put(SET, f"{CONTAINER}/envFrom", [{"configMapRef": {"name": "own"}}])),
    (
        "settings_are_said_in_their_file",
        put(SET, f"{CONTAINER}/envFrom", [{"prefix": "EPISTREAM_", "configMapRef": {"name": "own"}}]),
    ),
    ("one_instance_owns_the_store", _within(EXECUTOR_OVERLAY, edit=put(EXECUTOR, f"{CONTAINER}/args/0", "up"))),
    ("a_pod_knows_which_it_is", drop(SET, f"{CONTAINER}/env")),
    ("a_pod_knows_which_it_is", put(SET, f"{CONTAINER}/env/0", {"name": "EPISTREAM_INSTANCE_INDEX", "value": "0"})),
    (
        "a_pod_knows_which_it_is",
        put(SET, f"{CONTAINER}/env/0/valueFrom/fieldRef/fieldPath", "metadata.labels['app.kubernetes.io/name']"),
    ),
    ("store_outlives_the_workload", put(SET, "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted", "Delete")),
    ("store_outlives_the_workload", say('folder = "/data"', 'folder = "/tmp"')),
    ("store_can_be_mended", remove(MENDING)),
    ("store_can_be_mended", put(MENDING, "/spec/suspend", False)),
    ("store_can_be_mended", put(MENDING, f"{JOB}/volumes/1/persistentVolumeClaim/claimName", "data-epistream-1")),
    ("store_can_be_mended", put(MENDING, f"{JOB}/containers/0/volumeMounts/1/mountPath", "/store")),
    ("store_can_be_mended", put(MENDING, f"{JOB}/containers/0/image", f"epistream@sha256:{'5' * 64}")),
    ("store_can_be_mended", put(MENDING, f"{JOB}/securityContext/fsGroup", 20001)),
    ("store_can_be_mended", put(CRON, f"{JOB}/containers/0/volumeMounts/0/mountPath", "/elsewhere")),
    ("store_can_be_mended", put(CRON, f"{JOB}/volumes/0/persistentVolumeClaim/claimName", "data-epistream-0")),
    ("rolls_one_at_a_time", put(SET, "/spec/updateStrategy/type", "OnDelete")),
    ("rolls_one_at_a_time", drop(SET, "/spec/minReadySeconds")),
    ("rolls_one_at_a_time", put(SET, "/spec/podManagementPolicy", "OrderedReady")),
    ("is_asked_for_its_health", drop(SET, f"{CONTAINER}/readinessProbe")),
    ("is_asked_for_its_health", put(SET, f"{CONTAINER}/startupProbe/grpc/port", 7443)),
    ("is_asked_for_its_health", put(SET, f"{CONTAINER}/livenessProbe/grpc/service", "epistream.v1.IngestService")),
    ("is_asked_for_its_health", put(SET, f"{CONTAINER}/livenessProbe/failureThreshold", 1)),
    ("is_asked_for_its_health", say("health_address", "# health_address")),
    ("has_time_to_stop", put(SET, f"{POD}/terminationGracePeriodSeconds", 30)),
    ("has_time_to_stop", say("drain_seconds = 20", "drain_seconds = 45")),
    ("has_time_to_stop", drop(SET, f"{CONTAINER}/lifecycle")),
    ("gives_way_to_a_drain", remove("PodDisruptionBudget")),
    ("gives_way_to_a_drain", put("PodDisruptionBudget", "/spec/maxUnavailable", 0)),
    ("gives_way_to_a_drain", drop("PodDisruptionBudget", "/spec/unhealthyPodEvictionPolicy")),
    ("can_be_found_both_ways", remove("Service epistream-headless")),
    ("can_be_found_both_ways", drop("Service epistream-headless", "/spec/clusterIP")),
    ("can_be_found_both_ways", put("Service epistream", "/spec/type", "NodePort")),
    ("can_be_found_both_ways", put("Service epistream-headless", "/spec/ports/0/port", 443)),
    ("namespace_outlives_the_workload", add(sound(K8S / "namespace")[0])),
    ("namespace_outlives_the_workload", put("KafkaUser", "/metadata/namespace", "default")),
    ("namespace_outlives_the_workload", drop("Service epistream", "/metadata/namespace")),
    ("exposure_is_said", say("tls_key_file", "# tls_key_file")),
    ("exposure_is_said", say("access_file", "# access_file")),
    ("everything_is_encrypted_and_everybody_asked", say("tls_cert_file", "insecure = true\ntls_cert_file")),
    ("everything_is_encrypted_and_everybody_asked", say("access_file", "# access_file")),
    ("everything_is_encrypted_and_everybody_asked", say('"SSL"', '"PLAINTEXT"')),
    ("everything_is_encrypted_and_everybody_asked", say("kafka_ca_file", "# kafka_ca_file")),
    ("store_is_mounted_once", put(SET, "/spec/volumeClaimTemplates/0/spec/accessModes", ["ReadWriteMany"])),
    ("is_backed_up", remove("CronJob")),
    ("is_backed_up", put(CRON, "/spec/suspend", True)),
    ("is_backed_up", put(CRON, "/spec/schedule", "17 2 1 1 *")),
    ("is_backed_up", put(CRON, "/spec/schedule", "17 2 * * 0")),
    ("is_backed_up", put(CRON, "/spec/schedule", "17 2 */3 * *")),
    ("is_backed_up", put(CRON, "/spec/schedule", "@weekly")),
    ("is_backed_up", put(CRON, "/spec/concurrencyPolicy", "Allow")),
    ("is_backed_up", put(CRON, f"{JOB}/containers/0/args/2", "--output=/tmp/")),
    ("is_backed_up", drop(CRON, f"{JOB}/containers/0/args/3")),
    ("is_backed_up", drop(CRON, f"{JOB}/containers/0/env/1")),
    ("is_backed_up", say("max_connection_age_seconds = 1800", "max_connection_age_seconds = 14400")),
    ("is_watched", remove("ServiceMonitor")),
    ("is_watched", put("ServiceMonitor", "/spec/endpoints/0/scheme", "http")),
    ("is_watched", drop("ServiceMonitor", "/spec/endpoints/0/relabelings")),
    ("is_watched", put("ServiceMonitor", "/spec/endpoints/0/relabelings/0/sourceLabels/0", "__address__")),
    ("is_watched", remove("PrometheusRule")),
    ("is_watched", remove("ConfigMap epistream-dashboards")),
    ("is_watched", put("ConfigMap epistream-dashboards", "/metadata/labels/grafana_dashboard", "yes")),
    ("selectors_find_pods", put("Service epistream", "/spec/selector", {"app": "epistream"})),
    ("selectors_find_pods", put("PodDisruptionBudget", "/spec/selector/matchLabels", {"app": "epistream"})),
    ("selectors_find_pods", drop("PodDisruptionBudget", "/spec/selector")),
    ("selectors_find_pods", put(CLIENTS, "/spec/podSelector/matchLabels", {"app": "epistream"})),
    (
        "selectors_find_pods",
        put(
            "NetworkPolicy allow-backup-to-service", "/spec/ingress/0/from/0/podSelector/matchLabels", {"app": "backup"}
        ),
    ),
    (
        "selectors_find_pods",
        put(SET, f"{POD}/topologySpreadConstraints/0/labelSelector/matchLabels", {"app": "epistream"}),
    ),
    ("ports_lead_somewhere", put("Service epistream", "/spec/ports/0/targetPort", "http")),
    ("ports_lead_somewhere", put(CLIENTS, "/spec/ingress/0/ports/0/port", "grcp")),
    ("ports_lead_somewhere", put("NetworkPolicy allow-backup", "/spec/egress/0/ports/0/port", 8443)),
    ("monitors_find_a_port", put("ServiceMonitor", "/spec/endpoints/0/port", "http")),
    ("monitors_find_a_port", put("ServiceMonitor", "/spec/selector/matchLabels", {"app": "epistream"})),
    *(
        ("monitors_find_a_port", put("ServiceMonitor", "/spec/namespaceSelector", {"matchNames": names}))
        for names in (["monitoring"], ["default", "kafka"])
    ),
    ("monitors_read_what_is_asked_for", drop("ServiceMonitor", "/spec/jobLabel")),
    ("monitors_read_what_is_asked_for", put("ServiceMonitor", "/spec/jobLabel", "app.kubernetes.io/part")),
    ("monitors_read_what_is_asked_for", put("ServiceMonitor", "/spec/endpoints/0/path", "/")),
    ("monitors_read_what_is_asked_for", drop("ServiceMonitor", "/spec/endpoints/0/tlsConfig/serverName")),
    (
        "monitors_read_what_is_asked_for",
        put("ServiceMonitor", "/spec/endpoints/0/tlsConfig/serverName", "metrics.epistream.svc"),
    ),
    ("scalers_find_their_target", put(SCALER, "/spec/scaleTargetRef/name", "gateway")),
    ("scalers_find_their_target", remove("TriggerAuthentication")),
    ("named_objects_exist", remove("ServiceAccount")),
    ("named_objects_exist", remove("PriorityClass")),
    ("named_objects_exist", put(SET, "/spec/serviceName", "headless")),
    ("volumes_have_sources", put(CRON, f"{JOB}/containers/0/volumeMounts/0/name", "elsewhere")),
    ("volumes_have_sources", remove("PersistentVolumeClaim")),
    ("volumes_have_sources", put(SET, "/spec/volumeClaimTemplates/0/metadata/name", "store")),
    ("volumes_have_sources", remove("ConfigMap epistream-settings-*")),
    ("secrets_are_known", put(SET, f"{POD}/volumes/0/secret/secretName", "misspelt")),
    ("secrets_are_known", put("TriggerAuthentication", "/spec/secretTargetRef/0/key", "ca.pem")),
    ("secrets_are_known", put("ServiceMonitor", "/spec/endpoints/0/authorization/credentials/key", "t")),
    ("secrets_are_known", remove("KafkaUser")),
    (
        "secrets_are_known",
        _within(
            OWN_KAFKA,
            edit=all_of(
                put(SET, f"{POD}/volumes/0/secret/secretName", "epistream-kafka"),
                put(SET, f"{POD}/volumes/0/secret/items/0/key", "user.key"),
            ),
        ),
    ),
    (
        "secrets_are_known",
        all_of(
            remove("KafkaUser"),
            remove("KafkaTopic"),
            put(SET, f"{POD}/volumes/0/secret/items/-", {"key": "ca.crt", "path": "ca.crt"}),
        ),
    ),
    ("files_of_the_settings_are_mounted", say("/etc/epistream/tls/tls.key", "/etc/epistream/tls/key.pem")),
    ("files_of_the_settings_are_mounted", say("/etc/epistream/kafka-ca/", "/etc/kafka/")),
    ("files_of_the_settings_are_mounted", put(SET, f"{CONTAINER}/args/1", "--config=/etc/settings.toml")),
    ("files_of_the_settings_are_mounted", put(CRON, f"{JOB}/containers/0/env/1/value", "/etc/token")),
    ("addresses_lead_to_a_service", put(CRON, f"{JOB}/containers/0/args/1", "--address=epistream.epistream.svc:443")),
    ("addresses_lead_to_a_service", put(CRON, f"{JOB}/containers/0/args/1", "--address=service.epistream.svc:7443")),
    ("settings_are_mounted", remove("ConfigMap epistream-settings-*")),
    ("settings_are_mounted", drop(SET, f"{CONTAINER}/args/1")),
    ("settings_are_mounted", put(SET, f"{POD}/volumes/4/configMap/name", "own")),
    (
        "settings_are_mounted",
        put(SET, f"{POD}/volumes/4/configMap/items", [{"key": "own.toml", "path": "settings.toml"}]),
    ),
    (
        "settings_are_mounted",
        put(
            SET,
            f"{CONTAINER}/volumeMounts/-",
            {"name": "tmp", "mountPath": "/etc/epistream/settings/settings.toml", "subPath": "own.toml"},
        ),
    ),
    ("settings_are_mounted", say('metrics_address = "0.0.0.0:9464"', 'metrics_address = "127.0.0.1:9464"')),
    ("network_is_closed_but_for_what_is_named", remove(DENY)),
    ("network_is_closed_but_for_what_is_named", put(DENY, "/spec/policyTypes", ["Ingress"])),
    ("network_is_closed_but_for_what_is_named", put(DENY, "/spec/egress", [{}])),
    ("network_is_closed_but_for_what_is_named", drop(CLIENTS, "/spec/ingress/0/from")),
    ("network_is_closed_but_for_what_is_named", drop(CLIENTS, "/spec/ingress/0/ports")),
    ("network_is_closed_but_for_what_is_named", put(CLIENTS, "/spec/ingress/0/from/0/namespaceSelector", {})),
    ("network_is_closed_but_for_what_is_named", put(CLIENTS, "/spec/ingress/0/ports", [])),
    ("network_is_closed_but_for_what_is_named", put(CLIENTS, "/spec/ingress/0/ports/-", {"protocol": "TCP"})),
    (
        "network_is_closed_but_for_what_is_named",
        put(CLIENTS, "/spec/ingress/0/ports/0", {"port": 7443, "endPort": 9464}),
    ),
    ("network_is_closed_but_for_what_is_named", drop(KAFKA_WAY, "/spec/egress/0/ports/0/port")),
    ("network_is_closed_but_for_what_is_named", drop(KAFKA_WAY, "/spec/egress/0/to")),
    *(("network_is_closed_but_for_what_is_named", put(CLIENTS, "/spec/ingress/0/from/0", peer)) for peer in EVERYBODY),
    *(
        ("blocks_are_networks", put(CLIENTS, "/spec/ingress/0/from/0", {"ipBlock": block}))
        for block in (
            {"cidr": "10.1.2.3/24"},
            {"cidr": "10.1.2/24"},
            {"cidr": "10.1.2.0/255.255.255.0"},
            {"cidr": "fe80::%eth0/64"},
            {"cidr": "10.1.2.3"},
            {"cidr": "fd00::1/64"},
            {"cidr": "10.1.2.0/24", "except": ["10.1.2.3/28"]},
        )
    ),
    ("blocks_are_networks", put(KAFKA_WAY, "/spec/egress/0/to/0", {"ipBlock": {"cidr": "the brokers"}})),
    ("backups_reach_the_service", remove("NetworkPolicy allow-backup-to-service")),
    ("backups_reach_the_service", put("NetworkPolicy allow-backup", "/spec/policyTypes", ["Ingress"])),
    ("ways_that_are_needed_are_open", remove(CLIENTS)),
    ("ways_that_are_needed_are_open", remove("NetworkPolicy allow-metrics")),
    ("ways_that_are_needed_are_open", remove("NetworkPolicy allow-probes")),
    ("ways_that_are_needed_are_open", remove(DNS_WAY)),
    ("ways_that_are_needed_are_open", drop(DNS_WAY, "/spec/egress/0/ports/1")),
    ("ways_that_are_needed_are_open", put(CLIENTS, "/spec/ingress/0/ports/0/port", "metrics")),
    ("ways_that_are_needed_are_open", _within(LOCAL_OVERLAY, edit=remove(CLIENTS))),
    ("topics_are_those_the_service_makes", remove("KafkaTopic epistream.outcomes.v1")),
    (
        "topics_are_those_the_service_makes",
        put("KafkaTopic epistream.submissions.expert.v1", "/spec/config/cleanup.policy", "compact"),
    ),
    ("topics_are_those_the_service_makes", put("KafkaTopic", "/spec/replicas", 1)),
    (
        "topics_are_those_the_service_makes",
        all_of(put("KafkaTopic", "/spec/replicas", 1), put("KafkaTopic", "/spec/config/min.insync.replicas", "1")),
    ),
    ("user_may_do_its_work_and_no_more", drop("KafkaUser", "/spec/authorization/acls/8")),
    ("user_may_do_its_work_and_no_more", drop("KafkaUser", "/spec/authorization/acls/2")),
    ("user_may_do_its_work_and_no_more", put("KafkaUser", "/spec/authorization/acls/0/operations/-", "Write")),
    ("user_may_do_its_work_and_no_more", put("KafkaUser", "/spec/authorization/acls/4/operations/-", "Delete")),
    (
        "user_may_do_its_work_and_no_more",
        put("KafkaUser", "/spec/authorization/acls/0/resource/name", "epistream.submissions."),
    ),
    ("scaler_watches_what_is_read", put(SCALER, "/spec/triggers/1/metadata/bootstrapServers", "kafka:9092")),
    ("scaler_watches_what_is_read", put(SCALER, "/spec/triggers/0/metadata/consumerGroup", "other")),
    ("scaler_watches_what_is_read", drop(SCALER, "/spec/triggers/2")),
    ("scaler_watches_what_is_read", drop(SCALER, "/spec/triggers/0/metadata/excludePersistentLag")),
    ("kafka_is_where_the_settings_say", say(".kafka.svc:9093", ".kafka.svc:9092")),
    ("kafka_is_where_the_settings_say", say("kafka-kafka-bootstrap.kafka.svc", "broker.example.org")),
    ("kafka_is_where_the_settings_say", put("KafkaUser", "/metadata/labels/strimzi.io~1cluster", "other")),
    ("kafka_is_where_the_settings_say", _within(OWN_KAFKA, edit=put(KAFKA_WAY, "/spec/egress/0/ports/0/port", 9094))),
    *(
        (policy, _within(EXECUTOR_OVERLAY, edit=edit))
        for policy, edit in (
            (
                "asks_the_kernel_for_little",
                put(EXECUTOR, f"{CONTAINER}/securityContext/seccompProfile/type", "Unconfined"),
            ),
            ("asks_the_kernel_for_little", put(EXECUTOR, f"{CONTAINER}/securityContext/privileged", True)),
            ("has_no_token_of_the_cluster", drop("ServiceAccount epistream-executor", "/automountServiceAccountToken")),
            ("root_is_read_only", drop(EXECUTOR, f"{CONTAINER}/securityContext/readOnlyRootFilesystem")),
            ("executors_run_alone", put(EXECUTOR, f"{POD}/serviceAccountName", "epistream")),
            ("executors_run_alone", drop(EXECUTOR, f"{POD}/hostUsers")),
            (
                "executors_are_of_the_service",
                put(EXECUTOR, f"{CONTAINER}/image", f"registry.example.org/epistream@sha256:{'5' * 64}"),
            ),
            ("executors_run_alone", put(EXECUTOR, f"{CONTAINER}/args/-", "--no-sandbox")),
            (
                "executors_run_alone",
                put(
                    EXECUTOR,
                    f"{POD}/volumes/-",
                    {"name": "s", "persistentVolumeClaim": {"claimName": "data-epistream-0"}},
                ),
            ),
            ("executors_are_given_little", put(EXECUTOR, f"{POD}/volumes/0/secret/items/0/key", "tls.key")),
            ("executors_are_given_little", drop(EXECUTOR, f"{POD}/volumes/1/secret/items")),
            (
                "executors_are_given_little",
                put(EXECUTOR, f"{POD}/volumes/1/secret/secretName", "epistream-backup-token"),
            ),
            ("executors_reach_the_service_alone", remove("NetworkPolicy allow-executor-to-service")),
            ("executors_reach_the_service_alone", put(EXECUTOR_WAY, "/spec/policyTypes", ["Ingress"])),
            (
                "executors_reach_the_service_alone",
                all_of(
                    put(KAFKA_WAY, "/spec/egress/-", {"to": [{"podSelector": {}}], "ports": [{"port": 443}]}),
                    put(EXECUTOR_WAY, "/spec/policyTypes", ["Ingress", "Egress"]),
                    put(EXECUTOR_WAY, "/spec/ingress", [{}]),
                ),
            ),
            ("executors_reach_the_service_alone", put(EXECUTOR_WAY, "/spec/egress/0/ports/0/port", 9464)),
            (
                "executors_reach_the_service_alone",
                all_of(drop(EXECUTOR_WAY, "/spec/policyTypes"), put(EXECUTOR_WAY, "/spec/egress/0/ports/0/port", 22)),
            ),
            ("executors_reach_the_service_alone", put(EXECUTOR_WAY, "/spec/egress/0/ports/0/endPort", 9464)),
            ("executors_reach_the_service_alone", drop(EXECUTOR_WAY, "/spec/egress/0/ports")),
            ("executors_reach_the_service_alone", drop(EXECUTOR_WAY, "/spec/egress/0/to")),
            ("executors_reach_the_service_alone", put(DNS_WAY, "/spec/egress/0/ports/-", {"port": 443})),
            ("executors_reach_the_service_alone", drop(DNS_WAY, "/spec/egress/0/to/0/podSelector")),
        )
    ),
    *(
        (
            "executors_reach_the_service_alone",
            _within(
                EXECUTOR_OVERLAY, edit=put(EXECUTOR_WAY, "/spec/egress/-", {"to": [peer], "ports": [{"port": port}]})
            ),
        )
        for peer, port in (
            ({"ipBlock": {"cidr": "169.254.0.0/16"}}, 80),  # where clouds tell their machines who they are
            ({"ipBlock": {"cidr": "0.0.0.0/1"}}, 22),
            ({"ipBlock": {"cidr": "198.51.100.0/24"}}, 8080),
            ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}, 9093),
            ({"podSelector": {}}, 7443),
        )
    ),
    *(
        ("pods_of_a_kafka_are_let_in", _within(KAFKA, edit=edit))
        for edit in (
            drop("Kafka", "/spec/kafka/template"),
            drop("Kafka", "/spec/entityOperator/template/userOperatorContainer"),
            drop("Kafka", "/spec/entityOperator/template/topicOperatorContainer/securityContext/seccompProfile"),
            put("Kafka", "/spec/kafka/template/kafkaContainer/securityContext/runAsNonRoot", False),
            put("Kafka", "/spec/kafka/template/initContainer/securityContext/capabilities/drop", ["NET_RAW"]),
            put("KafkaNodePool", "/spec/template/kafkaContainer/securityContext/allowPrivilegeEscalation", False),
        )
    ),
    (
        "traces_reach_the_collector",
        say("drain_seconds", 'trace_endpoint = "http://jaeger.tracing.svc:4317"\ndrain_seconds'),
    ),
    ("traces_reach_the_collector", say("drain_seconds", 'trace_endpoint = "http://192.0.2.1:4317"\ndrain_seconds')),
    *(
        ("traces_reach_the_collector", _within(TRACING_OVERLAY, edit=edit))
        for edit in (
            remove("NetworkPolicy allow-collector"),
            put(COLLECTOR_WAY, "/spec/egress/0/ports/0/port", 4318),
            put(
                COLLECTOR_WAY,
                "/spec/egress/0/to/0",
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}},
                    "podSelector": {
                        "matchExpressions": [
                            {"key": "app", "operator": "In", "values": ["a"]},
                            {"key": "app", "operator": "DoesNotExist"},
                        ]
                    },
                },
            ),
            put(COLLECTOR_WAY, "/spec/podSelector/matchLabels", {"app.kubernetes.io/name": "epistream-backup"}),
            put(
                COLLECTOR_WAY,
                "/spec/egress/0/to/0/namespaceSelector/matchLabels",
                {"kubernetes.io/metadata.name": "monitoring"},
            ),
        )
    ),
    *(
        ("snapshots_are_of_the_store", _within(PRODUCTION_OVERLAY, SNAPSHOT, edit=edit))
        for edit in (
            put("VolumeSnapshot", "/spec/source/persistentVolumeClaimName", "data-0"),
            put("VolumeSnapshot", "/metadata/namespace", "default"),
            put(SET, "/spec/volumeClaimTemplates/0/metadata/name", "store"),
        )
    ),
    ("snapshots_are_told_apart", _within(SNAPSHOT, edit=put("VolumeSnapshot", "/metadata/name", "before-upgrade"))),
    *(
        (policy, _within(OWN_CLUSTER, REDRIVE, edit=edit))
        for policy, edit in (
            ("user_may_do_its_work_and_no_more", drop(REDRIVER, "/spec/authorization/acls/0")),
            ("user_may_do_its_work_and_no_more", put(REDRIVER, "/spec/authorization/acls/0/operations/-", "Write")),
            (
                "user_may_do_its_work_and_no_more",
                put(REDRIVER, "/spec/authorization/acls/6/resource/patternType", "literal"),
            ),
            (
                "user_may_do_its_work_and_no_more",
                put(REDRIVER, "/spec/authorization/acls/6/resource/name", "epistream"),
            ),
            ("kafka_is_where_the_settings_say", remove("NetworkPolicy allow-redrive")),
            (
                "kafka_is_where_the_settings_say",
                put("NetworkPolicy allow-redrive", "/spec/egress/0/ports/0/port", 9092),
            ),
            ("kafka_is_where_the_settings_say", put(REDRIVER, "/metadata/labels/strimzi.io~1cluster", "kafka")),
            ("secrets_are_known", remove(REDRIVER)),
        )
    ),
    ("connections_are_renewed", say("max_connection_age_seconds", "# max_connection_age_seconds")),
    ("connections_are_renewed", say("max_connection_age_seconds = 1800", "max_connection_age_seconds = 0")),
    ("image_is_your_own", lambda _objects: None),
    *(
        ("image_names_its_registry", _within(OWN_CLUSTER, edit=put(SET, f"{CONTAINER}/image", image)))
        for image in (f"epistream@sha256:{'5' * 64}", f"library/epistream@sha256:{'5' * 64}")
    ),
    ("alerts_lead_to_runbooks", lambda _objects: None),
]
"""The policy, and a change to the objects of production."""
