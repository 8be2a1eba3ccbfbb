"""Makes the Kafka topics of `epistream.wire.topics`, each with its settings spelled out."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final

from epistream.clients.kafka_client import translated
from epistream.wire.errors import InvalidInput
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.topics import (
    ALARMS,
    CHANGES,
    DEAD_LETTER_BYTES_MAX,
    EXPERT,
    OUTCOMES,
    RECORD_BYTES_MAX,
    SUBMISSIONS,
    SYNTHETIC,
    TOLD,
    UPDATES,
    dead_letter_topic,
)

_DAY_MS: Final = 24 * 60 * 60 * 1000
_FOR_EVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1"}
_SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    EXPERT: _FOR_EVER,
    SYNTHETIC: _FOR_EVER,
    # A consumer that is away for less than these sees each submission, and each deletion.
    UPDATES: {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(7 * _DAY_MS),
        "delete.retention.ms": str(30 * _DAY_MS),
    },
    CHANGES: {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)},
    OUTCOMES: {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
    ALARMS: {"cleanup.policy": "compact"},
}
_DEAD_LETTERS: Final = {
    "cleanup.policy": "delete",
    "retention.ms": str(30 * _DAY_MS),
    "max.message.bytes": str(DEAD_LETTER_BYTES_MAX),
}

_OF_THE_CLUSTER: Final = -1
"""So Kafka's protocol says that a topic is to have `default.replication.factor` copies; since Kafka 2.4."""


def ensure_topics(
    bootstrap: str,
    *,
    replication_factor: int | None = None,
    partitions: int = 1,
    submission_topics: Iterable[str] = SUBMISSIONS,
    timeout_seconds: float = 30.0,
    security: KafkaSecurity = PLAINTEXT,
) -> tuple[str, ...]:
    """Creates the topics that are missing and waits until all can be used. Safe to repeat.

    A topic that exists is left as it is. A new one of dead letters has as many partitions as its source.

    Args:
        bootstrap: `host:port` of a broker, or several with commas between.
        replication_factor: copies of each partition. With 3 or more, a write needs two of them. None leaves both to the
            cluster: its `default.replication.factor` and `min.insync.replicas`.
        partitions: of each new topic. For ever: see `epistream.wire.topics`.
        submission_topics: what the service takes knowledge from; each gets a topic for its dead letters.
        timeout_seconds: for each answer of the broker.
        security: what the brokers ask for.

    Returns:
        The names of the topics that were created.

    Raises:
        Unavailable: no broker answers.
        Denied: the broker does not let us in; or a topic is missing, or not shown to us, and we may not make it.
        InvalidInput: the broker refuses, such as for more copies than there are brokers.
    """
    sources = tuple(submission_topics)
    with _admin(bootstrap, timeout_seconds, security) as admin:
        existing = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
        wanted = dict.fromkeys((*sources, *TOLD), partitions)
        wanted |= {dead_letter_topic(name): existing.get(name, partitions) for name in sources}
        missing = {
            name: {
                "num_partitions": count,
                "replication_factor": _OF_THE_CLUSTER if replication_factor is None else replication_factor,
                "configs": settings(name, replication_factor),
            }
            for name, count in wanted.items()
            if name not in existing
        }
        if missing:
            _create(admin, missing, bootstrap)
        admin.wait_for_topics(list(wanted), timeout_ms=timeout_seconds * 1000)
    return tuple(missing)


def settings(topic: str, replication_factor: int | None = None) -> dict[str, str]:
    """The settings that a topic is created with, for so many copies, or for as many as the cluster makes by itself."""
    copies = {} if replication_factor is None else {"min.insync.replicas": "2" if replication_factor > 2 else "1"}
    own = _SETTINGS.get(topic, _DEAD_LETTERS if ".dlq" in topic else _FOR_EVER)
    return {
        "compression.type": "producer",
        "max.message.bytes": str(RECORD_BYTES_MAX),
        # A producer's wrong clock is no reason to refuse its knowledge: times never decide the order.
        "message.timestamp.after.max.ms": str(2**63 - 1),
        "unclean.leader.election.enable": "false",
        **copies,
        **own,
    }


def broker_addresses(
    bootstrap: str, *, timeout_seconds: float = 30.0, security: KafkaSecurity = PLAINTEXT
) -> list[str]:
    """The addresses that the brokers of a Kafka tell their clients, asked for over the network.

    Raises:
        Unavailable: no broker answers.
    """
    with _admin(bootstrap, timeout_seconds, security) as admin:
        return [f"{broker['host']}:{broker['port']}" for broker in admin.describe_cluster()["brokers"]]


def _create(admin: Any, topics: Mapping[str, Mapping[str, Any]], bootstrap: str) -> None:
    from kafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

    answer = admin.create_topics(topics, raise_errors=False)
    for topic in answer["topics"]:
        error = for_code(topic["error_code"])
        if error is TopicAuthorizationFailedError:
            raise translated(error(topic["name"]), bootstrap, "looking for the topic, and making it")
        # Another process that creates them at the same moment is welcome.
        if topic["error_code"] and error is not TopicAlreadyExistsError:
            raise InvalidInput(f"Kafka refuses the topic {topic['name']}: {topic['error_message'] or error.__name__}")


@contextmanager
def _admin(bootstrap: str, timeout_seconds: float, security: KafkaSecurity) -> Iterator[Any]:
    """A client to administer Kafka with, whose errors come out as ours."""
    from epistream.clients.kafka_network import opened
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    client = opened(
        KafkaAdminClient,
        bootstrap,
        security,
        client_id="epistream-admin",
        bootstrap_timeout_ms=int(timeout_seconds * 1000),
        request_timeout_ms=int(timeout_seconds * 1000),
    )
    with closing(client):
        try:
            yield client
        except KafkaError as error:
            raise translated(error, bootstrap, "administering topics") from error
