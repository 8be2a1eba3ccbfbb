"""The topics are made once, with the settings that the design asks for."""

import uuid
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from epistream.services.kafka.topics import broker_addresses, ensure_topics, settings
from epistream.wire.errors import InvalidInput, Unavailable
from epistream.wire.topics import EXPERT, SYNTHETIC, TOLD, UPDATES, dead_letter_topic
from tests.support.kafka import Kafka


def test_ensuring_topics_twice_creates_them_once(kafka: Kafka) -> None:
    ensure_topics(kafka.bootstrap)
    assert ensure_topics(kafka.bootstrap) == ()
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        there = set(admin.list_topics())
    sources = (EXPERT, SYNTHETIC, UPDATES)
    assert there >= {*sources, *TOLD, *map(dead_letter_topic, sources)}


def test_a_new_topic_has_its_settings_and_partitions(kafka: Kafka) -> None:
    source = f"readings-{uuid.uuid4().hex[:8]}.v1"
    created = ensure_topics(kafka.bootstrap, submission_topics=[source], partitions=3)
    assert set(created) >= {source, dead_letter_topic(source)}
    for topic, bytes_max in ((source, "2097152"), (dead_letter_topic(source), "2162688")):
        assert _partitions(kafka, topic) == 3
        configs = _configs(kafka, topic)
        assert configs["max.message.bytes"] == bytes_max
        assert settings(topic).items() <= configs.items()


def test_a_new_topic_has_as_many_copies_as_the_cluster_makes_by_itself(kafka: Kafka) -> None:
    source = f"copies-{uuid.uuid4().hex[:8]}"
    ensure_topics(kafka.bootstrap, submission_topics=[source])
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        node = str(admin.describe_cluster()["brokers"][0]["broker_id"])
        answer: Any = admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, node)], config_filter="all")
        [topic] = admin.describe_topics([source])
    of_cluster = {name: config["value"] for name, config in answer["broker"][node].items()}
    assert len(topic["partitions"][0]["replica_nodes"]) == int(of_cluster["default.replication.factor"])
    assert _configs(kafka, source)["min.insync.replicas"] == of_cluster["min.insync.replicas"]
    assert {"min.insync.replicas": "2"}.items() <= settings(source, 3).items()


def test_new_topics_of_dead_letters_get_as_many_partitions_as_their_source_others_keep_theirs(kafka: Kafka) -> None:
    source = kafka.new_topic("grown", partitions=4)
    ensure_topics(kafka.bootstrap, submission_topics=[source])
    assert _partitions(kafka, dead_letter_topic(source)) == 4

    short = kafka.new_topic("short", partitions=2)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.create_topics({dead_letter_topic(short): {"num_partitions": 1, "replication_factor": 1}})
    ensure_topics(kafka.bootstrap, submission_topics=[short])
    assert _partitions(kafka, dead_letter_topic(short)) == 1


def test_knowledge_is_never_deleted_and_never_compacted() -> None:
    for topic in (EXPERT, SYNTHETIC):
        assert settings(topic)["cleanup.policy"] == "delete"
        assert settings(topic)["retention.ms"] == "-1"


def test_more_copies_than_brokers_are_refused_with_the_broker_s_words(kafka: Kafka) -> None:
    source = f"copies-{uuid.uuid4().hex[:8]}"
    copies = len(broker_addresses(kafka.bootstrap)) + 1
    with pytest.raises(InvalidInput, match=rf"refuses the topic {source}.*(?i:replica|broker)"):
        ensure_topics(kafka.bootstrap, submission_topics=[source], replication_factor=copies)


def test_without_a_broker_the_address_is_named() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1\b.*Is Kafka running"):
        ensure_topics("127.0.0.1:1", timeout_seconds=0.5)
    with pytest.raises(InvalidInput, match=r"host:port.*'nowhere'"):
        ensure_topics("nowhere")


def _partitions(kafka: Kafka, topic: str) -> int:
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        return len(admin.describe_topics([topic])[0]["partitions"])


def _configs(kafka: Kafka, topic: str) -> dict[str, str]:
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        answer: Any = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    return {name: config["value"] for name, config in answer["topic"][topic].items()}
