"""Submissions reach Kafka once and in order; a broker that is away costs bounded memory and gives a clear error."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients.kafka_producer import CappedProducer, KafkaProducer, Position, ProducerLimits
from epistream.services.kafka.local import LocalKafka
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput, Unavailable
from epistream.wire.topics import EXPERT, SYNTHETIC
from tests.support.kafka import Kafka, Record

HURRIED = ProducerLimits(
    in_flight_bytes_max=1_000_000,
    room_timeout_seconds=0.5,
    delivery_timeout_seconds=30,
    connect_timeout_seconds=1,
)


def _submission(number: int, **fields: object) -> pb.Submission:
    submission = pb.Submission(
        namespace="pharmacy",
        submission_id=f"s{number}",
        item_id="aspirin",
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        content=f"The limit is {number} mg.",
        provenance=pb.Provenance(producer="dr who"),
    )
    submission.MergeFrom(pb.Submission(**fields))  # type: ignore[arg-type]
    return submission


def _send_for_ever(producer: CappedProducer, topic: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        producer.send(topic, b"%d" % number)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _since(kafka: Kafka, topic: str, sent: list[Position]) -> list[Record]:
    """The records of a shared topic at these positions."""
    records = {(record.partition, record.offset): record for record in kafka.read(topic)}
    return [records[position.partition, position.offset] for position in sent if position.topic == topic]


def test_a_submission_goes_to_the_topic_of_its_origin_as_it_is(kafka: Kafka) -> None:
    kafka.ensure_topics()
    topics = {
        pb.ORIGIN_EXPERT: EXPERT,
        pb.ORIGIN_COLLABORATIVE: EXPERT,
        pb.ORIGIN_SYNTHETIC: SYNTHETIC,
        pb.ORIGIN_CRAWLED: SYNTHETIC,
    }
    submission = _submission(1)
    submission.submitted_time.FromMilliseconds(1_700_000_000_123)
    for origin, topic in topics.items():
        submission.origin = origin
        with KafkaProducer(kafka.bootstrap) as producer:
            position = producer.send(submission).result(timeout=30)
        assert position.topic == topic
        [record] = _since(kafka, topic, [position])
        assert record.value == submission.SerializeToString()
        assert record.key == b"pharmacy/aspirin"
        assert record.headers == (("content-type", b"application/protobuf"),)
        assert record.timestamp_ms == 1_700_000_000_123


def test_a_retraction_follows_the_submissions_of_its_item(kafka: Kafka) -> None:
    topic = kafka.new_topic(partitions=5)
    with KafkaProducer(kafka.bootstrap) as producer:
        sent = [producer.send(_submission(n), topic=topic) for n in range(20)]
        retraction = pb.Submission(
            namespace="pharmacy", submission_id="r", item_id="aspirin", origin=pb.ORIGIN_EXPERT, retraction=True
        )
        last = producer.send(retraction, topic=topic)
    positions = [future.result() for future in sent]
    assert {position.partition for position in positions} == {last.result().partition}
    assert [position.offset for position in positions] == list(range(20))
    assert last.result().offset == 20


def test_an_item_without_an_id_is_keyed_by_its_submission(kafka: Kafka) -> None:
    topic = kafka.new_topic()
    submission = _submission(7)
    submission.ClearField("item_id")
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send(submission, topic=topic)
    assert [record.key for record in kafka.read(topic)] == [b"pharmacy/s7"]


def test_cloud_events_headers_are_added_when_asked_for(kafka: Kafka) -> None:
    topic = kafka.new_topic()
    submission = _submission(1)
    submission.submitted_time.FromMilliseconds(1_700_000_000_123)
    with KafkaProducer(kafka.bootstrap, cloud_events=True) as producer:
        producer.send(submission, topic=topic)
    [record] = kafka.read(topic)
    assert dict(record.headers) == {
        "content-type": b"application/protobuf",
        "ce_specversion": b"1.0",
        "ce_type": b"epistream.v1.Submission",
        "ce_id": b"s1",
        "ce_source": b"/pharmacy/dr%20who",
        "ce_time": b"2023-11-14T22:13:20.123+00:00",
    }


def test_a_submission_whose_time_cannot_be_is_sent_with_the_time_of_now(kafka: Kafka) -> None:
    topic = kafka.new_topic()
    submission = _submission(1)
    submission.submitted_time.seconds = 2**62
    with KafkaProducer(kafka.bootstrap, cloud_events=True) as producer:
        producer.send(submission, topic=topic)
    [record] = kafka.read(topic)
    assert record.timestamp_ms > 1_700_000_000_000
    assert record.value == submission.SerializeToString()


def test_a_submission_without_an_origin_is_refused_at_once(kafka: Kafka) -> None:
    submission = _submission(1)
    submission.ClearField("origin")
    with KafkaProducer(kafka.bootstrap) as producer, pytest.raises(InvalidInput) as caught:
        producer.send(submission)
    assert [violation.field for violation in caught.value.violations] == ["origin"]


def test_a_record_that_is_too_large_is_refused_and_the_next_one_goes(kafka: Kafka) -> None:
    topic = kafka.new_topic(max_message_bytes="10000")
    producer = CappedProducer(kafka.bootstrap)
    with pytest.raises(InvalidInput) as here:
        producer.send(topic, b"x" * 3_000_000)
    there = producer.send(topic, b"x" * 20_000).exception(timeout=30)
    assert isinstance(there, InvalidInput)
    assert here.value.reason == there.reason == "TOO_LARGE"
    assert producer.send(topic, b"small").result(timeout=30).offset == 0
    with pytest.raises(InvalidInput):
        producer.close()
    assert producer.in_flight_bytes == 0


def test_a_refused_record_spoils_no_other_of_its_batch_or_of_another_topic(kafka: Kafka) -> None:
    narrow, wide = kafka.new_topic(max_message_bytes="10000"), kafka.new_topic()
    producer = CappedProducer(kafka.bootstrap)
    sent = []
    for number in range(300):
        value = b"x" * 20_000 if number % 50 == 25 else b"%d" % number
        sent.append((producer.send(narrow, value), producer.send(wide, b"%d" % number)))
    with pytest.raises(InvalidInput):
        producer.close()
    refused = [number for number, (future, _) in enumerate(sent) if future.exception()]
    assert refused == [25, 75, 125, 175, 225, 275]
    kept = [b"%d" % number for number in range(300) if number not in refused]
    assert [record.value for record in kafka.read(narrow)] == kept
    assert [record.value for record in kafka.read(wide)] == [b"%d" % number for number in range(300)]


def test_the_other_records_of_a_batch_that_was_refused_as_a_whole_can_be_sent_again(kafka: Kafka) -> None:
    topic = kafka.new_topic()
    producer = CappedProducer(kafka.bootstrap)
    producer.send(topic, b"first").result(timeout=30)
    good, bad, good_too = (producer.send(topic, b"x", timestamp_ms=time) for time in (None, 2**60, None))
    assert isinstance(bad.exception(timeout=30), InvalidInput)
    for future in (good, good_too):
        assert isinstance(future.exception(timeout=30), Unavailable)
    assert producer.send(topic, b"last").result(timeout=30).offset == 1
    with pytest.raises((InvalidInput, Unavailable)):
        producer.close()


def test_an_unknown_topic_is_named(kafka: Kafka) -> None:
    with CappedProducer(kafka.bootstrap, HURRIED) as producer:
        with pytest.raises(Unavailable, match=r"no-such-topic.*does the topic exist"):
            producer.send("no-such-topic", b"x")
        assert producer.in_flight_bytes == 0


def test_a_name_that_no_topic_can_have_is_refused(kafka: Kafka) -> None:
    with CappedProducer(kafka.bootstrap, HURRIED) as producer:
        with pytest.raises(InvalidInput, match='"bad topic" is illegal'):
            producer.send("bad topic", b"x")
        assert producer.in_flight_bytes == 0


def test_without_a_broker_the_address_is_named() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1\b.*Is Kafka running"):
        KafkaProducer("127.0.0.1:1", HURRIED)
    with pytest.raises(InvalidInput, match="host:port"):
        KafkaProducer("nowhere", HURRIED)


def test_many_threads_share_a_producer_and_nothing_is_lost_or_doubled(kafka: Kafka) -> None:
    topic = kafka.new_topic(partitions=2)
    limits = ProducerLimits(in_flight_bytes_max=100_000)
    with CappedProducer(kafka.bootstrap, limits) as producer:

        def send(sender: int) -> None:
            for number in range(500):
                producer.send(topic, b"%d %d" % (sender, number), key=b"%d" % sender)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush()
        assert producer.in_flight_bytes == 0
    values = [record.value for record in kafka.read(topic)]
    for sender in range(4):
        own = [value for value in values if value and value.startswith(b"%d " % sender)]
        assert own == [b"%d %d" % (sender, number) for number in range(500)]


def test_a_broker_that_is_away_costs_bounded_memory_and_a_clear_error_and_gets_all_when_it_is_back(
    own_kafka: LocalKafka,
) -> None:
    topic = Kafka(own_kafka.bootstrap).new_topic()
    producer = CappedProducer(own_kafka.bootstrap, ProducerLimits(room_timeout_seconds=0.5))
    producer.send(topic, b"0").result(timeout=30)
    before = _resident_bytes()
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        more = itertools.count(1)
        with pytest.raises(Unavailable, match=r"is away or slow.*not taken"):
            _send_for_ever(producer, topic, more)
        taken = next(more) - 1
        assert 0 <= ProducerLimits().in_flight_bytes_max - producer.in_flight_bytes < 10_000
        assert _resident_bytes() - before < 64 * 2**20
        with pytest.raises(Unavailable, match=f"not acknowledged {taken - 1} records"):
            producer.flush(timeout_seconds=0.2)
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)
    producer.close()
    assert producer.in_flight_bytes == 0
    assert [record.value for record in Kafka(own_kafka.bootstrap).read(topic)] == [b"%d" % n for n in range(taken)]


def test_a_broker_that_is_killed_and_comes_back_gets_each_record_once_and_in_order(own_kafka: LocalKafka) -> None:
    topic = Kafka(own_kafka.bootstrap).new_topic()
    with CappedProducer(own_kafka.bootstrap) as producer:
        sent = [producer.send(topic, b"%d" % n) for n in range(3000)]
        sent[500].result(timeout=30)
        own_kafka.kill()
        sent += [producer.send(topic, b"%d" % n) for n in range(3000, 4000)]
        own_kafka.start()
    assert all(future.exception() is None for future in sent)
    assert [record.value for record in Kafka(own_kafka.bootstrap).read(topic)] == [b"%d" % n for n in range(4000)]


def test_closing_while_the_broker_is_away_fails_what_waits_and_ends(own_kafka: LocalKafka) -> None:
    topic = Kafka(own_kafka.bootstrap).new_topic()
    before = set(threading.enumerate())
    producer = CappedProducer(own_kafka.bootstrap, HURRIED)
    producer.send(topic, b"0").result(timeout=30)
    own_kafka.kill()
    waiting = [producer.send(topic, b"%d" % n) for n in range(1, 10)]
    assert not set(threading.enumerate()) <= before
    with pytest.raises(Unavailable, match="not acknowledged 9 records"):
        producer.close(timeout_seconds=0.2)
    for future in waiting:
        assert isinstance(future.exception(timeout=5), Unavailable)
    assert producer.in_flight_bytes == 0
    assert set(threading.enumerate()) <= before
