"""Kafka clients of the service: opened with the settings that exactly-once needs, closed whatever happens."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from epistream.indexer.model import Place
from epistream.wire.errors import Broken
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.topics import DEAD_LETTER_BYTES_MAX

REQUEST_TIMEOUT_MS: Final = 5_000
_BOOTSTRAP_TIMEOUT_MS: Final = 3_000
_RECONNECT_MS: Final = 1_000
_FETCH_BYTES_MIN: Final = 1024 * 1024
_FETCH_WAIT_MS: Final = 50
"""A broker answers when it has the bytes above, or after this time with what it has: each batch has costs of its own
from here to the replicas. The service's share of a core, and the milliseconds from submitted to applied (p50, p99;
measured on two cores, in turns, beside producer and Kafka): at 1,350 records a second after 25 ms 0.76, 150, 280; after
60 ms 0.62, 130, 225; after 100 ms 0.54, 170, 300; hence a little less than 60. At 300 a second after 50 ms: 0.25, 63,
107."""
_FETCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""What one answer of a broker brings at most, and so what waits in the client."""
_PARTITION_BYTES_MAX: Final = 2 * DEAD_LETTER_BYTES_MAX


def require_crc32c() -> None:
    """Every batch is checked. Without the compiled check that takes eleven times as long, and nobody would know why.

    Raises:
        Broken: the package is missing.
    """
    try:
        import crc32c  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise Broken("reading from Kafka needs the package crc32c: pip install 'epistream[kafka]'") from error


def checksums() -> str:
    """How the checksum of a batch is computed here: by the processor's own instruction, or without."""
    import crc32c

    return "crc32c in hardware" if crc32c.hardware_based else "crc32c in software"


def compressions() -> dict[str, bool]:
    """The four that a producer may choose from, and whether each can be read here."""
    from kafka import codec

    names = ("gzip", "snappy", "lz4", "zstd")
    return {name: bool(getattr(codec, f"has_{name}")()) for name in names}


@contextlib.contextmanager
def consumer(bootstrap: str, client_id: str, security: KafkaSecurity = PLAINTEXT) -> Iterator[Any]:
    """A consumer of raw bytes that belongs to no group, begins nowhere by itself, and commits nothing.

    What it decompresses is bounded (`batches`): read it with `polled`. Opening blocks for at most three seconds.
    kafka-python's errors come out as they are.

    Raises:
        Unavailable: no broker answers, or its certificate is not trusted.
        Denied: the broker does not let us in.
    """
    from epistream.clients.kafka_network import opened
    from epistream.services.kafka.batches import bound
    from kafka import KafkaConsumer

    # Never a deserializer: kafka-python would spin for ever at the first record that one cannot read.
    client = opened(
        KafkaConsumer,
        bootstrap,
        security,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        fetch_min_bytes=_FETCH_BYTES_MIN,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        fetch_max_bytes=_FETCH_BYTES_MAX,
        max_partition_fetch_bytes=_PARTITION_BYTES_MAX,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
        reconnect_backoff_max_ms=_RECONNECT_MS,
        metrics_enabled=False,
    )
    bound(client)
    with contextlib.closing(client):
        yield client


def read_on(consumer: Any, topic: str, partition: int, place: Place) -> None:
    """Have a consumer read a partition that it is assigned on from a place.

    Where Kafka does not have any more what was read up to there, a later `polled` raises LogTruncationError.
    """
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    # `consumer.seek` takes no epoch, and without one Kafka is not asked (KIP-320).
    at = OffsetAndMetadata(place.offset, "", place.leader_epoch)
    consumer._subscription.seek(TopicPartition(topic, partition), at)  # noqa: SLF001


def polled(consumer: Any, timeout_ms: int, records_max: int) -> Mapping[Any, Sequence[Any]]:
    """The next records of a consumer, by partition; none after some time, and once in a while although there are more.

    Blocks for at most `timeout_ms`. kafka-python's errors come out as they are.
    """
    from epistream.services.kafka.batches import Enough

    try:
        return consumer.poll(timeout_ms, max_records=records_max)  # type: ignore[no-any-return]
    except Enough:
        return {}


@contextlib.contextmanager
def admin(bootstrap: str, client_id: str, security: KafkaSecurity = PLAINTEXT) -> Iterator[Any]:
    """A client that asks about topics and keeps the positions of groups; opened as `consumer` is."""
    from epistream.clients.kafka_network import opened
    from kafka.admin import KafkaAdminClient

    client = opened(
        KafkaAdminClient,
        bootstrap,
        security,
        client_id=client_id,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
        reconnect_backoff_max_ms=_RECONNECT_MS,
    )
    with contextlib.closing(client):
        yield client


def forget_coordinator(admin: Any, group: str) -> None:
    """Have a client of `admin` ask anew who coordinates a group: kafka-python (3.0.12) asks once, and never again."""
    from kafka.protocol.metadata import CoordinatorType

    admin._manager.cluster._coordinators.pop((CoordinatorType.GROUP, group), None)  # noqa: SLF001 - there is no other way in
