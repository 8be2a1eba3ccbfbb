"""A real Kafka for tests: the one whose address is in EPISTREAM_TEST_KAFKA, else one of our own for the session."""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.clients.kafka_producer import CappedProducer, Position
from epistream.services.kafka import clients
from epistream.services.kafka.jars import KAFKA_VERSION
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.errors import EpistreamError, Unavailable
from epistream.wire.topics import SUBMISSIONS
from tests.support.kafka_runtime import kafka_runtime
from tests.support.waits import wait_until

ADDRESS_VARIABLE: Final = "EPISTREAM_TEST_KAFKA"
Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


def which_kafka() -> str:
    """For the head of a test run: which Kafka its tests use."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if address:
        return f"kafka: {address} (from {ADDRESS_VARIABLE})"
    return f"kafka: Apache Kafka {KAFKA_VERSION} of our own ({ADDRESS_VARIABLE} is not set)"


@contextmanager
def a_kafka(folder: Path) -> Iterator[str]:
    """The address of a Kafka; one of our own lives in `folder` as long as the block."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if address:
        yield address
        return
    try:
        runtime = kafka_runtime()
    except EpistreamError as error:
        raise AssertionError(
            f"These tests need a real Kafka. Set {ADDRESS_VARIABLE} to the address of one, or: {error}"
        ) from error
    with LocalKafka(folder, runtime=runtime) as kafka:
        yield kafka.bootstrap


@dataclass(frozen=True, slots=True)
class Kafka:
    """What the fixture `kafka` gives."""

    bootstrap: str

    def new_topic(self, name: str = "test", *, partitions: int = 1, **settings: str) -> str:
        """Makes a topic that no other test knows, with as many copies as the cluster makes by itself.

        Settings with `_` for `.`, such as `max_message_bytes="1000"`.
        """
        topic = f"{name}-{uuid.uuid4().hex[:12]}"
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        made = {topic: {"num_partitions": partitions, "replication_factor": -1, "configs": configs}}
        with clients.admin(self.bootstrap, "test") as admin:
            wait_until(lambda: _made(admin, made), f"the topic {topic}")
        return topic

    def ensure_topics(self, submission_topics: Iterable[str] = SUBMISSIONS) -> None:
        """As the service does by itself: anew if a broker goes away meanwhile."""

        def tried() -> bool:
            try:
                ensure_topics(self.bootstrap, submission_topics=submission_topics)
            except Unavailable:
                return False
            return True

        wait_until(tried, "the topics")

    def make_anew(self, topic: str, *, partitions: int = 1) -> None:
        """Deletes a topic and makes another one under its name."""
        made = {topic: {"num_partitions": partitions, "replication_factor": -1}}
        with clients.admin(self.bootstrap, "test") as admin:
            wait_until(lambda: _gone(admin, topic), f"the end of {topic}")
            wait_until(lambda: _made(admin, made), f"the new topic {topic}")

    def produce(
        self, topic: str, values: Iterable[bytes | None], *, key: bytes | None = None, headers: Headers = ()
    ) -> list[Position]:
        """Sends raw values, all with the same key and headers, and waits until all are acknowledged."""
        with CappedProducer(self.bootstrap, client_id="test") as producer:
            sent = [producer.send(topic, value, key=key, headers=headers) for value in values]
        return [future.result() for future in sent]

    def read(self, topic: str) -> list[Record]:
        """All records of a topic that are there now, partition by partition; anew if a broker goes away meanwhile."""
        from kafka.errors import KafkaConnectionError

        found: list[Record] = []

        def tried() -> bool:
            try:
                found[:] = self._read(topic)
            except KafkaConnectionError:
                return False
            return True

        wait_until(tried, f"the records of {topic}")
        return found

    def _read(self, topic: str) -> list[Record]:
        from kafka import KafkaConsumer, TopicPartition

        consumer: Any = KafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, isolation_level="read_committed"
        )
        try:
            parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            ends = consumer.end_offsets(parts)
            consumer.assign(parts)
            consumer.seek_to_beginning(*parts)
            records: list[Record] = []
            while any(consumer.position(part) < ends[part] for part in parts):
                for batch in consumer.poll(timeout_ms=500).values():
                    records += [
                        Record(r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp) for r in batch
                    ]
        finally:
            consumer.close()
        return sorted(records, key=lambda record: (record.partition, record.offset))


def _gone(admin: Any, topic: str) -> bool:
    """Whether there is no such topic; if there is, or the cluster cannot say now, it is deleted for the next time."""
    from kafka.errors import KafkaError

    try:
        if topic not in admin.list_topics():
            return True
        admin.delete_topics([topic])
    except KafkaError as error:  # also where it is deleted already, and the broker that was asked had not heard
        if not error.retriable:
            raise
    return False


def _made(admin: Any, topics: dict[str, dict[str, Any]]) -> bool:
    """Makes them; False if the cluster cannot now, such as with too few brokers for the copies they are to have."""
    from kafka.errors import InvalidReplicationFactorError, KafkaError, TopicAlreadyExistsError

    try:
        admin.create_topics(topics, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # so the answer to an earlier try was lost: nobody else takes such a name
        return True
    except InvalidReplicationFactorError:
        return False
    except KafkaError as error:
        if not error.retriable:
            raise
        return False
    return True
