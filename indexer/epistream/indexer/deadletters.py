"""Records that were refused: their bytes, untouched, and why."""

import hashlib
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import apsw

from epistream.indexer import positions
from epistream.indexer.model import Position, Record
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import in_words

SCHEMA: Final = """
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY,
    topic TEXT,
    partition INTEGER,
    offset INTEGER,
    received_us INTEGER NOT NULL,
    timestamp_us INTEGER,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    receipt BLOB NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (topic, partition, offset, digest)
);
"""

_SHA256_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused."""

    number: int
    """Its number in the store: 1, 2, 3 …"""
    record: Record
    receipt: pb.Receipt
    """Why it was refused."""

    @property
    def reason(self) -> str:
        """The name of the reason, such as UNKNOWN_NAMESPACE."""
        return pb.Reason.Name(self.receipt.reason).removeprefix("REASON_")

    @property
    def error(self) -> str:
        """What was wrong, for people: the violations, each with the path of its field."""
        return "; ".join(map(in_words, self.receipt.violations))


def write(connection: apsw.Connection, refused: Iterable[tuple[Record, pb.Receipt]]) -> None:
    """Keep refused records. One that was kept before, by its topic's id, its place and its bytes, is kept once.

    The positions in Kafka say the ids of the topics.
    """
    connection.executemany(
        "INSERT INTO dead_letters"
        " (topic, partition, offset, received_us, timestamp_us, key, value, headers, receipt, digest)"
        " VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        [_row(connection, record, receipt) for record, receipt in refused],
    )


def read(connection: apsw.Connection, after: int, limit: int) -> list[DeadLetter]:
    """At most `limit` dead letters whose number is above `after`, in order."""
    return list(each(connection, after, limit))


def each(connection: apsw.Connection, after: int, limit: int) -> Generator[DeadLetter, None, None]:
    """As `read`, one after the other: each can be large."""
    rows = connection.execute(
        "SELECT number, topic, partition, offset, received_us, timestamp_us, key, value, headers, receipt"
        " FROM dead_letters WHERE number > ? ORDER BY number LIMIT ?",
        (after, limit),
    )
    for row in rows:
        yield _dead_letter(*row)


def newest_offsets(connection: apsw.Connection) -> dict[tuple[str, int], int]:
    """The newest offset that was refused, by topic and partition."""
    rows = connection.execute(
        "SELECT topic, partition, MAX(offset) FROM dead_letters WHERE topic IS NOT NULL GROUP BY topic, partition"
    )
    return {(topic, partition): offset for topic, partition, offset in rows}


def receipt_of(connection: apsw.Connection, record: Record, at: Position) -> pb.Receipt | None:
    """The receipt of a record, if it was refused when it was read before.

    A topic that was made anew has other records at the same places, and it may be with the same bytes: they are told by
    the topic's id. Where that is not known, as with brokers before 2.8, by their bytes alone.
    """
    row = connection.execute(
        "SELECT receipt FROM dead_letters WHERE topic = ? AND partition = ? AND offset = ? AND digest = ?",
        (at.topic, at.partition, at.offset, _digest(connection, record)),
    ).get
    return pb.Receipt.FromString(row) if row is not None else None


def learn(connection: apsw.Connection, topic_ids: Mapping[tuple[str, int], str]) -> None:
    """Keep of which topics the letters of partitions are that do not say so: when `positions.learn` learns it."""
    connection.executemany(
        "UPDATE OR IGNORE dead_letters SET digest = CAST(?3 || digest AS BLOB)"
        " WHERE topic = ?1 AND partition = ?2 AND length(digest) = ?4",
        [(topic, partition, topic_id.encode(), _SHA256_BYTES) for (topic, partition), topic_id in topic_ids.items()],
    )


def _row(connection: apsw.Connection, record: Record, receipt: pb.Receipt) -> tuple[object, ...]:
    at = record.position
    return (
        at.topic if at else None,
        at.partition if at else None,
        at.offset if at else None,
        record.received_us,
        record.timestamp_us,
        record.key,
        record.value,
        _pack(record.headers),
        receipt.SerializeToString(deterministic=True),
        _digest(connection, record),
    )


def _digest(connection: apsw.Connection, record: Record) -> bytes:
    """What tells a record from others at its place: its topic's id, where that is known, and its value's SHA-256."""
    at = record.position
    topic_id = positions.topic_id(connection, at.topic, at.partition) if at else ""
    return topic_id.encode() + hashlib.sha256(record.value or b"").digest()


def _dead_letter(
    number: int,
    topic: str | None,
    partition: int,
    offset: int,
    received_us: int,
    timestamp_us: int | None,
    key: bytes | None,
    value: bytes | None,
    headers: bytes,
    receipt: bytes,
) -> DeadLetter:
    record = Record(
        value=value,
        received_us=received_us,
        headers=tuple((h.name, h.value) for h in journal_pb2.RecordHeaders.FromString(headers).headers),
        key=key,
        timestamp_us=timestamp_us,
        position=Position(topic, partition, offset) if topic is not None else None,
    )
    return DeadLetter(number, record, pb.Receipt.FromString(receipt))


def _pack(headers: Iterable[tuple[str, bytes]]) -> bytes:
    packed = journal_pb2.RecordHeaders()
    for name, value in headers:
        packed.headers.add(name=name, value=value)
    return packed.SerializeToString()
