"""Batches in over a real Kafka as producers in Java compress them: the broker itself does it here."""

from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from epistream.indexer import deadletters
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.model import Position
from epistream.indexer.store import read_only
from epistream.services.kafka import clients
from epistream.services.kafka.batches import DECOMPRESSED_BYTES_MAX
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.topics import dead_letter_topic
from tests.support.intake import assert_each_once, facts, make_namespace, send, taking
from tests.support.kafka import Kafka
from tests.support.waits import wait_until


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_is_compressed_is_taken_in(compression: str, kafka: Kafka, tmp_path: Path) -> None:
    namespace, topic = make_namespace(tmp_path), kafka.new_topic(compression_type=compression)
    send(kafka, topic, facts(namespace, range(200)))
    with taking(tmp_path, kafka.bootstrap, topic) as process:
        process.await_read(topic, 200)
        assert process.intake.stopped() == {}
    assert_each_once(tmp_path, namespace, range(200))


def test_the_log_says_what_can_be_read(kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), taking(tmp_path, kafka.bootstrap, kafka.new_topic()):
        pass
    assert f"(compressions: gzip, snappy, lz4, zstd; checksums: {clients.checksums()})" in caplog.text


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_would_fill_the_memory_becomes_a_dead_letter_and_the_next_is_taken_in(
    compression: str, kafka: Kafka, tmp_path: Path
) -> None:
    namespace = make_namespace(tmp_path)
    topic = kafka.new_topic(max_message_bytes=str(DECOMPRESSED_BYTES_MAX))
    send(kafka, topic, facts(namespace, [0]))
    bomb(kafka, topic, compression, bytes(DECOMPRESSED_BYTES_MAX + 1))
    send(kafka, topic, facts(namespace, [1]))
    with taking(tmp_path, kafka.bootstrap, topic) as process:
        process.await_read(topic, 3)
        assert process.intake.stopped() == {}
        [letter] = letters_in(tmp_path)
    assert letter.record.value is None
    assert letter.record.position == Position(topic, 0, 1)
    assert "the batch of the records 1 to 1 has" in letter.receipt.violations[0].description
    assert_each_once(tmp_path, namespace, range(2))


def test_a_dead_letter_without_key_and_value_is_told_and_so_is_what_comes_after_it(
    kafka: Kafka, tmp_path: Path
) -> None:
    namespace = make_namespace(tmp_path)
    topic = kafka.new_topic(max_message_bytes=str(DECOMPRESSED_BYTES_MAX))
    ensure_topics(kafka.bootstrap, submission_topics=[topic])
    bomb(kafka, topic, "zstd", bytes(DECOMPRESSED_BYTES_MAX + 1))
    send(kafka, topic, facts(namespace, [1]))
    with taking(tmp_path, kafka.bootstrap, topic, publish=True) as process:
        process.await_read(topic, 2)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    [letter] = kafka.read(dead_letter_topic(topic))
    assert (letter.key, letter.value) == (None, b"")
    assert dict(letter.headers)["epistream-dlq-original-offset"] == b"0"


def letters_in(folder: Path) -> list[DeadLetter]:
    """What the store keeps of what was refused."""
    with read_only(folder) as catalog:
        return deadletters.read(catalog.connection, 0, 10)


def bomb(kafka: Kafka, topic: str, compression: str, value: bytes) -> None:
    """Sends one record, in a batch of its own."""
    producer: Any = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type=compression, max_request_size=2 * len(value)
    )
    try:
        producer.send(topic, value).get(60)
    finally:
        producer.close()
