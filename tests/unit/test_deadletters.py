"""What was refused is known again by its topic's id, its place and its bytes."""

from collections.abc import Iterator
from contextlib import closing

import apsw
import pytest

from epistream.indexer import deadletters, positions
from epistream.indexer.model import Position, Record
from epistream.v1 import knowledge_pb2 as pb

AT = Position("facts", 0, 7)
RECORD = Record(b"the same bytes", received_us=1, position=AT)


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(positions.SCHEMA)
        connection.execute(deadletters.SCHEMA)
        yield connection


def refuse(connection: apsw.Connection, reason: pb.Reason.ValueType) -> None:
    deadletters.write(connection, [(RECORD, pb.Receipt(reason=reason))])


def reasons(connection: apsw.Connection) -> list[int]:
    return [letter.receipt.reason for letter in deadletters.read(connection, 0, 10)]


def test_the_same_bytes_at_the_same_place_of_another_topic_are_another_record(connection: apsw.Connection) -> None:
    positions.place(connection, "facts", 0, 7, "one")
    refuse(connection, pb.REASON_UNKNOWN_NAMESPACE)
    refuse(connection, pb.REASON_MALFORMED)
    assert reasons(connection) == [pb.REASON_UNKNOWN_NAMESPACE]
    positions.place(connection, "facts", 0, 0, "other")
    assert deadletters.receipt_of(connection, RECORD, AT) is None
    refuse(connection, pb.REASON_MALFORMED)
    assert reasons(connection) == [pb.REASON_UNKNOWN_NAMESPACE, pb.REASON_MALFORMED]
    positions.place(connection, "facts", 0, 0, "one")
    found = deadletters.receipt_of(connection, RECORD, AT)
    assert found is not None
    assert found.reason == pb.REASON_UNKNOWN_NAMESPACE


def test_letters_learn_with_their_partition_which_topic_they_are_of(connection: apsw.Connection) -> None:
    positions.place(connection, "facts", 0, 7)
    refuse(connection, pb.REASON_MALFORMED)
    assert deadletters.receipt_of(connection, RECORD, AT) is not None
    for topic_id in ("one", "other"):
        positions.learn(connection, {("facts", 0): topic_id})
        deadletters.learn(connection, {("facts", 0): topic_id, ("facts", 1): topic_id})
        assert (deadletters.receipt_of(connection, RECORD, AT) is not None) is (topic_id == "one")
        positions.place(connection, "facts", 0, 0)


def test_what_came_over_grpc_is_kept_each_time(connection: apsw.Connection) -> None:
    for _ in range(2):
        deadletters.write(connection, [(Record(b"", received_us=1), pb.Receipt(reason=pb.REASON_MALFORMED))])
    assert len(reasons(connection)) == 2
