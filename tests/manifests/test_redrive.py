"""k8s/README.md on dead letters in Kafka: its commands as the job has them, on a Kafka that allows its user no more."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from epistream.services.kafka import clients
from epistream.services.kafka.redrive import GROUP
from epistream.wire.topics import SUBMISSIONS, dead_letter_topic
from tests.support.cli import epistream_process
from tests.support.manifests.cluster import K8S, Cluster, Object, objects_of, rendered
from tests.support.manifests.kubectl import Kubectl
from tests.support.secure_kafka import Acl, SecureKafka, a_secure_kafka
from tests.support.waits import wait_until

COMMANDS: Final = [
    Kubectl.of(line).run_in_the_pod
    for line in re.findall(r"^kubectl .* job/epistream-redrive -- .*$", (K8S / "README.md").read_text(), re.MULTILINE)
]
REASONS: Final = ["UNKNOWN_NAMESPACE", "MALFORMED"]
KAFKA: Final = "$KAFKA-kafka-bootstrap.$KAFKA_NAMESPACE.svc:9093"


def acls_of(user: Object) -> list[Acl]:
    """What Strimzi allows a KafkaUser."""
    return [
        Acl(
            user["metadata"]["name"],
            acl["resource"]["type"],
            acl["resource"]["name"] + ("*" if acl["resource"]["patternType"] == "prefix" else ""),
            operation.upper(),
        )
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    ]


def keeps_positions(secure: SecureKafka) -> bool:
    """Whether the groups can keep theirs: Kafka makes the topic for that when one is asked for first."""
    from kafka.errors import RetriableError

    with clients.admin(secure.kafka.bootstrap, "test") as admin:
        try:
            for group in (GROUP, f"{GROUP}-unknown_namespace"):
                admin.list_group_offsets(group)
        except RetriableError:
            return False
    return True


@pytest.mark.slow
def test_the_job_counts_and_sends_back_with_the_rights_that_its_user_has(tmp_path: Path) -> None:
    cluster = Cluster(objects_of(rendered(K8S / "examples/redrive")))
    (user,), (pod,) = cluster.of("KafkaUser"), cluster.pods()
    with a_secure_kafka(tmp_path) as secure:
        owner = secure.owner(user["metadata"]["name"])
        secure.allow(*acls_of(user))
        files = {"ca.crt": owner.ca_file, "user.crt": owner.cert_file, "user.key": owner.key_file}
        said = {each["name"]: each["value"] for each in pod.containers[0]["env"]}
        environment = {name: str(files.get(Path(value).name, value)) for name, value in said.items()}
        for topic in SUBMISSIONS:
            for reason in map(str.encode, REASONS):
                headers = [("epistream-dlq-original-topic", topic.encode()), ("epistream-dlq-reason", reason)]
                secure.kafka.produce(dead_letter_topic(topic), [reason], key=b"key", headers=headers)
        wait_until(lambda: keeps_positions(secure), "Kafka to keep positions of groups")
        told = []
        for _, *arguments in COMMANDS:
            done = epistream_process(*(word.replace(KAFKA, secure.certificates) for word in arguments), **environment)
            assert done.code == 0, f"{shlex.join(arguments)}: {done.err}"
            told.append([line.split(": ") for line in done.out.splitlines()])
        sent_back = [[record.value for record in secure.kafka.read(topic)] for topic in SUBMISSIONS]
    topics = list(map(dead_letter_topic, SUBMISSIONS))
    counted, sent = told
    letters = [[f"{topic}/0 at offset {n}", why] for topic in topics for n, why in enumerate(REASONS)]
    would = "2 would be redriven (1 MALFORMED, 1 UNKNOWN_NAMESPACE), 0 left"
    assert sorted(counted) == sorted([*letters, *([topic, would] for topic in topics)])
    assert sent == [[topic, "1 redriven, 1 left"] for topic in topics]
    assert sent_back == [[b"UNKNOWN_NAMESPACE"]] * 3
