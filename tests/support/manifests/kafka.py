"""Policies about Kafka: topics as the service makes them, rights for its work and no more, one address everywhere."""

import re
from collections.abc import Iterator
from typing import Final

from epistream.services.kafka.redrive import GROUP
from epistream.services.kafka.topics import settings as topic_settings
from epistream.services.settings import Settings
from epistream.wire.topics import SUBMISSIONS, TOLD, dead_letter_topic
from tests.support.manifests.cluster import Cluster, Object, Pod, namespace_of
from tests.support.manifests.network import Peer, open_ports, reaches
from tests.support.manifests.policy import Finding, always, everywhere

REDRIVE_USER: Final = "epistream-redrive"
_LETTERS: Final = tuple(map(dead_letter_topic, SUBMISSIONS))
_SERVING: Final = {
    *(("topic", name, "Read") for name in SUBMISSIONS),
    *(("topic", name, "Write") for name in (*_LETTERS, *TOLD)),
    ("group", str(Settings.model_fields["kafka_group"].default), "Read"),
}
_REDRIVING: Final = {
    *(("topic", name, "Read") for name in _LETTERS),
    *(("topic", name, "Write") for name in SUBMISSIONS),
    *(("group", name, "Read") for name in (GROUP, f"{GROUP}-unknown_namespace")),
}
TOPICS: Final = (*SUBMISSIONS, *_LETTERS, *TOLD)
_COPIES_MIN: Final = 3
_RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Kubernetes' Pod Security Standard `restricted` asks of a container. Strimzi by itself says none of it."""
_CONTAINERS: Final = {
    "kafka": ("kafkaContainer", "initContainer"),
    "entityOperator": ("topicOperatorContainer", "userOperatorContainer"),
}
"""What Strimzi makes of a Kafka, by the part of it whose template is theirs."""
_BOOTSTRAP: Final = re.compile(r"([\w-]+)-kafka-bootstrap\.([\w-]+)\.svc:(\d+)")


@everywhere
def topics_are_those_the_service_makes(cluster: Cluster) -> Iterator[Finding]:
    """Each, with exactly the settings that `ensure_topics` gives it at three copies."""
    topics = {item["metadata"]["name"]: item for item in cluster.of("KafkaTopic")}
    if topics and topics.keys() != set(TOPICS):
        yield None, f"expected the topics {sorted(TOPICS)}; differs: {sorted(topics.keys() ^ set(TOPICS))}"
    for name, item in topics.items():
        spec = item["spec"]
        if spec["replicas"] < _COPIES_MIN:
            yield item, f"expected {_COPIES_MIN} copies or more, found {spec['replicas']}"
        if spec["config"] != topic_settings(name, spec["replicas"]):
            yield item, f"expected the settings {topic_settings(name, spec['replicas'])}, found {spec['config']}"


@everywhere
def user_may_do_its_work_and_no_more(cluster: Cluster) -> Iterator[Finding]:
    """The service reads submissions and writes what came of them, a redrive the other way; none makes or deletes."""
    possible = {("topic", name, operation) for name in TOPICS for operation in ("Read", "Write")}
    for item in cluster.of("KafkaUser"):
        needed = _REDRIVING if item["metadata"]["name"] == REDRIVE_USER else _SERVING
        acls = item["spec"]["authorization"]["acls"]
        for kind, name, operation in sorted(_SERVING | _REDRIVING | possible):
            allowed = any(_allows(acl, kind, name, operation) for acl in acls)
            if allowed != ((kind, name, operation) in needed):
                yield item, f"it has {'no ' if allowed else ''}need of {operation} on the {kind} {name}"
        if excess := {what for acl in acls for what in acl["operations"]} - {"Read", "Write"}:
            yield item, f"it has no need of {', '.join(sorted(excess))}"


def _allows(acl: Object, kind: str, name: str, operation: str) -> bool:
    resource = acl["resource"]
    prefix = resource.get("patternType") == "prefix"
    said = resource.get("name", "")
    named = name.startswith(said) if prefix else said in (name, "*")
    return resource["type"] == kind and named and bool({operation, "All"} & set(acl["operations"]))


@everywhere
def scaler_watches_what_is_read(cluster: Cluster) -> Iterator[Finding]:
    """The same Kafka, group and topics as the service, and a partition that is stopped does not count."""
    for item in cluster.of("ScaledObject"):
        for _, settings in cluster.settings():
            triggers = [t["metadata"] for t in item["spec"]["triggers"] if t["type"] == "kafka"]
            wrong = {t["bootstrapServers"] for t in triggers} - {settings.get("kafka")}
            if wrong:
                yield item, f"bootstrapServers: expected {settings.get('kafka')}, found {', '.join(sorted(wrong))}"
            group = settings.get("kafka_group", Settings.model_fields["kafka_group"].default)
            if {t["consumerGroup"] for t in triggers} != {group}:
                yield item, f"consumerGroup: expected {group}"
            topics = tuple(settings.get("kafka_topics", SUBMISSIONS))
            if sorted(t["topic"] for t in triggers) != sorted(topics):
                yield item, f"topic: expected one trigger for each of {', '.join(topics)}"
            start = settings.get("kafka_start", Settings.model_fields["kafka_start"].default)
            for trigger in triggers:
                if trigger.get("excludePersistentLag") != "true" or trigger.get("offsetResetPolicy") != start:
                    yield item, f"{trigger['topic']}: expected excludePersistentLag and offsetResetPolicy {start}"


@everywhere
def kafka_is_where_the_settings_say(cluster: Cluster) -> Iterator[Finding]:
    """The network lets who asks it reach it; Strimzi's objects belong to the cluster that the address names."""
    for item, settings in cluster.settings():
        found = _BOOTSTRAP.fullmatch(settings.get("kafka", ""))
        ports = {int(broker.rpartition(":")[2]) for broker in settings.get("kafka", "").split(",") if broker}
        if found:
            broker = Peer(found[2], {"strimzi.io/cluster": found[1], "strimzi.io/kind": "Kafka"})
            for pod in _asking(cluster):
                if not reaches(cluster, Peer.of(pod), broker, int(found[3])):
                    yield pod.owner, f"the network policies do not let it reach {settings['kafka']}"
        elif ports - set(open_ports(cluster)):
            yield item, f"kafka: no network policy opens the ports {sorted(ports)}"
        for topic in cluster.of("KafkaTopic", "KafkaUser"):
            if not found or topic["metadata"].get("labels", {}).get("strimzi.io/cluster") != found[1]:
                yield topic, f"strimzi.io/cluster: expected the one that serves {settings.get('kafka')}"


def _asking(cluster: Cluster) -> list[Pod]:
    """The service's pods, and those that are a KafkaUser."""
    users = {user["metadata"]["name"] for user in cluster.of("KafkaUser")}
    return [
        pod
        for pod in cluster.pods()
        if pod in cluster.service_pods()
        or any(volume.get("secret", {}).get("secretName") in users for volume in pod.volumes.values())
    ]


@always
def pods_of_a_kafka_are_let_in(cluster: Cluster) -> Iterator[Finding]:
    """Where their namespace enforces `restricted`, the templates ask for no more; a pool's takes the Kafka's place."""
    levels = {
        item["metadata"]["name"]: item["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
        for item in cluster.of("Namespace")
    }
    for item, name, template in _templates(cluster):
        said = template.get("securityContext", {})
        if levels.get(namespace_of(item)) == "restricted" and not _RESTRICTED.items() <= said.items():
            yield item, f"{name}: expected {_RESTRICTED} of a namespace that enforces restricted, found {said}"


def _templates(cluster: Cluster) -> Iterator[tuple[Object, str, Object]]:
    """Each container of Strimzi's, by its name in a template, and what stands there about it."""
    for item in cluster.of("Kafka"):
        for part, names in _CONTAINERS.items():
            template = item["spec"].get(part, {}).get("template", {})
            yield from ((item, name, template.get(name, {})) for name in names)
    for item in cluster.of("KafkaNodePool"):
        template = item["spec"].get("template", {})
        yield from ((item, name, template[name]) for name in _CONTAINERS["kafka"] if name in template)
