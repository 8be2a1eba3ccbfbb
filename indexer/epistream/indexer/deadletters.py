"""Records that were refused: their bytes, untouched, and why."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import apsw

from epistream.indexer.model import Position, Record
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused."""

    number: int
    """Its number in the store: 1, 2, 3 …"""
    record: Record
    receipt: pb.Receipt
    """Why it was refused."""


def write(connection: apsw.Connection, refused: Iterable[tuple[Record, pb.Receipt]]) -> None:
    """Keep refused records. One that was kept before, by its place in Kafka and its bytes, is kept once."""
    connection.executemany(
        "INSERT INTO dead_letters"
        " (topic, partition, offset, received_us, timestamp_us, key, value, headers, receipt, digest)"
        " VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        [_row(record, receipt) for record, receipt in refused],
    )


def read(connection: apsw.Connection, after: int, limit: int) -> list[DeadLetter]:
    """At most `limit` dead letters whose number is above `after`, in order."""
    rows = connection.execute(
        "SELECT number, topic, partition, offset, received_us, timestamp_us, key, value, headers, receipt"
        " FROM dead_letters WHERE number > ? ORDER BY number LIMIT ?",
        (after, limit),
    )
    return [_dead_letter(*row) for row in rows]


def newest_offsets(connection: apsw.Connection) -> dict[tuple[str, int], int]:
    """The newest offset that was refused, by topic and partition."""
    rows = connection.execute(
        "SELECT topic, partition, MAX(offset) FROM dead_letters WHERE topic IS NOT NULL GROUP BY topic, partition"
    )
    return {(topic, partition): offset for topic, partition, offset in rows}


def receipt_of(connection: apsw.Connection, record: Record, at: Position) -> pb.Receipt | None:
    """The receipt of a record, if it was refused when it was read before.

    A topic that was made anew has other records at the same places: they are told by their bytes.
    """
    row = connection.execute(
        "SELECT receipt FROM dead_letters WHERE topic = ? AND partition = ? AND offset = ? AND digest = ?",
        (at.topic, at.partition, at.offset, _digest(record)),
    ).get
    return pb.Receipt.FromString(row) if row is not None else None


def _row(record: Record, receipt: pb.Receipt) -> tuple[object, ...]:
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
        _digest(record),
    )


def _digest(record: Record) -> bytes:
    return hashlib.sha256(record.value or b"").digest()


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
