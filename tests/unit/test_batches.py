"""What a batch may become when it is decompressed, in memory too. The bytes are kafka-python's own."""

import struct
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
import snappy  # type: ignore[import-untyped]
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.default_records import DefaultRecordBatch

from epistream.services.kafka import batches
from epistream.services.kafka.batches import (
    DECOMPRESSED_BYTES_MAX,
    POLL_BYTES_MAX,
    RECORD_READ_BYTES_MAX,
    Enough,
    Refused,
)

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PARTITION = TopicPartition("facts", 0)
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
MIB = 1024 * 1024


def batch(
    codec: int, values: Sequence[bytes], offset: int = 0, headers: Sequence[tuple[str, bytes | None]] = ()
) -> bytes:
    """A batch as a producer makes it; its first record is at `offset`."""
    builder = MemoryRecordsBuilder(2, codec, 2**31 - 1)
    for value in values:
        builder.append(timestamp=7, key=b"key", value=value, headers=list(headers))
    builder.close()
    made = bytearray(builder.buffer())
    struct.pack_into(">q", made, 0, offset)  # as the broker does; the checksum is behind it
    return bytes(made)


class Reading:
    """A bounded consumer's view of one answer of a broker."""

    def __init__(self, answer: bytes, offset: int = 0) -> None:
        consumer: Any = type("Unconnected", (), {"_fetcher": type("Fetcher", (), {})()})()
        batches.bound(consumer)
        self.records = consumer._fetcher.PartitionRecords(offset, PARTITION, MemoryRecords(answer))

    def take(self, count: int = 500) -> list[Any]:
        return list(self.records.take(count))


def test_a_real_consumer_reads_with_it() -> None:
    consumer = KafkaConsumer(bootstrap_servers="127.0.0.1:1", api_version=(2, 5), bootstrap_timeout_ms=1)
    try:
        batches.bound(consumer)
        made = consumer._fetcher.PartitionRecords(0, PARTITION, MemoryRecords(batch(4, [b"a"])))
        assert [record.value for record in made.take(9)] == [b"a"]
    finally:
        consumer.close()


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["none", *CODECS])
def test_what_is_not_too_large_is_as_it_was(codec: int) -> None:
    values = [b"first", b"", b"x" * 100_000]
    headers = [("name", b"value"), ("name", None)]
    taken = Reading(batch(codec, values, 40, headers) + batch(codec, [b"next"], 43), 41).take()
    assert [(record.offset, record.value) for record in taken] == [(41, b""), (42, values[2]), (43, b"next")]
    assert taken[0].headers == headers
    assert (taken[0].key, taken[0].timestamp) == (b"key", 7)


@each_codec
def test_a_bomb_is_one_refused_record_and_the_next_batch_is_read(codec: int) -> None:
    bomb = batch(codec, [bytes(4 * MIB)] * 40, 100)
    assert len(bomb) < 160 * MIB / 20
    reading = Reading(bomb + batch(codec, [b"next"], 140), 100)
    tracemalloc.start()
    refused, following = reading.take()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * DECOMPRESSED_BYTES_MAX
    assert isinstance(refused.value, Refused)
    assert refused.offset == 139, "all of them are passed over"
    assert refused.value.why.startswith(f"the batch of the records 100 to 139 has {len(bomb):,} bytes as it came")
    assert (following.offset, following.value) == (140, b"next")
    assert reading.records.next_fetch_offset == 141


@each_codec
def test_a_record_that_is_too_large_is_refused_alone(codec: int) -> None:
    taken = Reading(batch(codec, [b"a", bytes(RECORD_READ_BYTES_MAX), b"c"], 7)).take()
    assert [(record.offset, record.value) for record in taken] == [(7, b"a"), (8, b""), (9, b"c")]
    assert taken[1].value.why.endswith("at most 2,162,688 are read")


def test_headers_without_number_are_not_taken_apart() -> None:
    many = [("", b"")] * (RECORD_READ_BYTES_MAX // 2 + 1)
    [refused] = Reading(batch(4, [b"a"], 0, many)).take()
    assert isinstance(refused.value, Refused)


class Bytes(str):
    """The name of a header, encoded as some clients do: as it came."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"\xff-caf\xc3\xa9-\xfe"


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["none", *CODECS])
def test_a_name_that_is_not_utf_8_takes_nothing_from_its_record(codec: int) -> None:
    headers = [("café", b"\xff"), (Bytes(), b"\xfe"), (Bytes(), None), ("last", b"")]
    taken = Reading(batch(codec, [b"a \xff", b"b"], 7, headers) + batch(codec, [b"next"], 9)).take()
    assert [(record.offset, record.value) for record in taken] == [(7, b"a \xff"), (8, b"b"), (9, b"next")]
    for record in taken[:2]:
        assert record.key == b"key"
        assert record.headers == [("café", b"\xff"), ("?-caf??-?", b"\xfe"), ("?-caf??-?", None), ("last", b"")]


def test_a_poll_ends_at_some_bytes_and_the_next_goes_on() -> None:
    assert POLL_BYTES_MAX == 16 * MIB
    reading = Reading(b"".join(batch(4, [bytes(MIB)] * 4, 4 * number) for number in range(10)))
    polls: list[list[int]] = [[]]
    while reading.records:
        try:
            polls[-1] += [record.offset for record in reading.take()]
        except Enough:
            polls.append([])
    assert [len(offsets) for offsets in polls] == [16, 16, 8]
    assert [offset for offsets in polls for offset in offsets] == list(range(40))


def test_a_length_that_snappy_only_claims_takes_nothing() -> None:
    claims = b"\xff\xff\xff\xff\x0f" + snappy.compress(b"abc")[1:]
    for payload in (claims, b"\x82SNAPPY\x00\0\0\0\1\0\0\0\1" + struct.pack(">i", len(claims)) + claims):
        with pytest.raises(batches._TooLarge):
            batches.decompressed(DefaultRecordBatch.CODEC_SNAPPY, payload)


@each_codec
def test_what_cannot_be_decompressed_is_corrupt(codec: int) -> None:
    with pytest.raises(CorruptRecordError, match="cannot be decompressed"):
        batches.decompressed(codec, b"\x05no such thing")


def test_what_was_read_before_something_corrupt_is_not_lost() -> None:
    damaged = bytearray(batch(4, [b"b"], 1))
    damaged[-1] ^= 1
    reading = Reading(batch(4, [b"a"]) + damaged)
    assert [record.value for record in reading.take()] == [b"a"]
    with pytest.raises(CorruptRecordError):
        reading.take()
