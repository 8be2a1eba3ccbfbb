"""How far each Kafka partition has been read, and how far Kafka has been told what came of it.

Both are kept in the same transactions as what they speak of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import apsw

from epistream.indexer.model import Place, Position

SCHEMA: Final = """
CREATE TABLE positions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    leader_epoch INTEGER NOT NULL,
    topic_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE acknowledged (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    sequence INTEGER NOT NULL,
    dead_letter INTEGER NOT NULL
);
INSERT INTO acknowledged VALUES (1, 0, 0);
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the journal and the dead letters were told to Kafka."""

    sequence: int
    """The newest journal entry."""
    dead_letter: int
    """The newest dead letter."""


def write(connection: apsw.Connection, newest: Mapping[tuple[str, int], Position]) -> None:
    """Move each partition to after its newest record.

    A position never goes back, so that reading a topic again changes nothing.
    """
    connection.executemany(
        "INSERT INTO positions VALUES (?1,?2,?3,?4,'') ON CONFLICT (topic, partition) DO UPDATE"
        " SET next_offset = ?3, leader_epoch = ?4 WHERE ?3 > next_offset",
        [(p.topic, p.partition, p.offset + 1, p.leader_epoch) for p in newest.values()],
    )


def place(connection: apsw.Connection, topic: str, partition: int, next_offset: int | None, topic_id: str = "") -> None:
    """Have a partition of the topic with this id read from `next_offset`, or as if it had never been read when None.

    For a partition that is read for the first time, and for an operator's decision: this one can go back.
    """
    if next_offset is None:
        connection.execute("DELETE FROM positions WHERE topic = ? AND partition = ?", (topic, partition))
        return
    connection.execute(
        "INSERT INTO positions VALUES (?1,?2,?3,-1,?4) ON CONFLICT (topic, partition) DO UPDATE"
        " SET next_offset = ?3, leader_epoch = -1, topic_id = ?4",
        (topic, partition, next_offset, topic_id),
    )


def learn(connection: apsw.Connection, topic_ids: Mapping[tuple[str, int], str]) -> None:
    """Keep which topics the positions of partitions are of, where that was not known: what is known stays."""
    connection.executemany(
        "UPDATE positions SET topic_id = ?3 WHERE topic = ?1 AND partition = ?2 AND topic_id = ''",
        [(topic, partition, topic_id) for (topic, partition), topic_id in topic_ids.items()],
    )


def read(connection: apsw.Connection) -> dict[tuple[str, int], Place]:
    """Where to read on, by topic and partition."""
    rows = connection.execute("SELECT topic, partition, next_offset, leader_epoch, topic_id FROM positions")
    return {(topic, partition): Place(*place) for topic, partition, *place in rows}


def topic_id(connection: apsw.Connection, topic: str, partition: int) -> str:
    """The id of the topic that a partition's position is of; empty where that is not known."""
    row = connection.execute("SELECT topic_id FROM positions WHERE topic = ? AND partition = ?", (topic, partition)).get
    return row or ""


def renew(connection: apsw.Connection) -> None:
    """Give the positions of an earlier format what they lack now: which topics they are of, not known yet."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('positions') WHERE name = 'topic_id'").get:
        connection.execute("ALTER TABLE positions ADD COLUMN topic_id TEXT NOT NULL DEFAULT ''")


def acknowledge(connection: apsw.Connection, cursor: Cursor) -> None:
    """Kafka has everything up to `cursor`. It never goes back."""
    connection.execute(
        "UPDATE acknowledged SET sequence = MAX(sequence, ?), dead_letter = MAX(dead_letter, ?)",
        (cursor.sequence, cursor.dead_letter),
    )


def acknowledged(connection: apsw.Connection) -> Cursor:
    """How far Kafka has been told."""
    return Cursor(*connection.execute("SELECT sequence, dead_letter FROM acknowledged").get)
