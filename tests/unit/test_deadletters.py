"""What was refused is known again by its topic's id, its place and its bytes."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from prometheus_client import CollectorRegistry

from epistream.indexer import deadletters, positions
from epistream.indexer.engine import Engine
from epistream.indexer.model import Place, Position, Record
from epistream.services.kafka.intake import Intake
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.services.kafka.survey import Source
from epistream.services.writer import Writer
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


def test_what_two_topics_have_alike_is_learnt_once(connection: apsw.Connection) -> None:
    """One letter says its topic already, and another, from before that was known, would say the same."""
    refuse(connection, pb.REASON_MALFORMED)
    positions.place(connection, "facts", 0, 7, "one")
    refuse(connection, pb.REASON_MALFORMED)
    deadletters.learn(connection, {("facts", 0): "one"})
    assert reasons(connection) == [pb.REASON_MALFORMED] * 2
    assert deadletters.receipt_of(connection, RECORD, AT) is not None


def test_what_came_over_grpc_is_kept_each_time(connection: apsw.Connection) -> None:
    for _ in range(2):
        deadletters.write(connection, [(Record(b"", received_us=1), pb.Receipt(reason=pb.REASON_MALFORMED))])
    assert len(reasons(connection)) == 2


def test_letters_of_a_partition_that_is_to_be_read_anew_learn_their_topic_with_where_it_begins(tmp_path: Path) -> None:
    """Of a store of an earlier format, from which `reread` has taken the position before any id was learnt."""
    engine = Engine(tmp_path)
    writer = Writer(engine.pipeline.commit, committed=lambda *_: None, failed=lambda _: None)
    writer.start()
    intake = Intake(
        Source("nowhere", ("facts",), "group"),
        engine.pipeline,
        engine.store,
        writer,
        KafkaMetrics(CollectorRegistry()),
        failed=lambda _: None,
    )
    with engine.store.transaction() as connection:
        refuse(connection, pb.REASON_MALFORMED)
    intake._keep({("facts", 0): Place(0, topic_id="one")})
    assert deadletters.receipt_of(engine.store.writer, RECORD, AT) is not None
    writer.stop()
    engine.close()
