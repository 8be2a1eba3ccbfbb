"""The process that reads Kafka beside the service: whatever becomes of it and of what it tells, each record once."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from epistream.clients.kafka_producer import CappedProducer
from epistream.indexer import deadletters, pipeline
from epistream.indexer.model import Arrived, Decoded, Malformed, Record, record_of
from epistream.indexer.store import read_only
from epistream.services.kafka import polling
from epistream.services.kafka.backlog import Backlog
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.parcels import Parcel, unpack
from epistream.services.kafka.positions import reread
from epistream.services.kafka.progress import Progress
from epistream.services.kafka.taker import ATTEMPTS
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import dead_letter_topic
from tests.support.intake import assert_each_once, facts, make_namespace, send, taking
from tests.support.kafka import Kafka
from tests.support.waits import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_poller_that_is_killed_is_started_anew_and_one_that_is_asked_to_end_waits_for_the_service(
    kafka: Kafka, folder: Path, number: signal.Signals
) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic(partitions=2)
    with taking(folder, kafka.bootstrap, topic) as process:
        send(kafka, topic, facts(namespace, range(20)))
        process.await_head(namespace, 20)
        before = process.polling._keeper.pid
        assert before is not None
        for start in (20, 400):
            send(kafka, topic, facts(namespace, range(start, start + 380)))
            if start == 20:
                os.kill(before, number)
        process.await_head(namespace, 780)
        assert (process.polling._keeper.pid == before) == (number == signal.SIGTERM)
        restarts = 'epistream_ingest_retries_total{stage="poll"} 1.0' in process.metrics()
        assert restarts == (number == signal.SIGKILL)
        wait_until(lambda: all(lag.records == 0 for lag in process.intake.lag().values()), "no lag")
    assert_each_once(folder, namespace, range(780))


@pytest.mark.parametrize("where", [(polling, "unpack"), (Backlog, "put"), (Progress, "handed_on")], ids=lambda w: w[1])
def test_what_the_poller_reads_and_the_service_cannot_take_in_is_read_again(
    kafka: Kafka,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: tuple[Any, str],
) -> None:
    there, name = where
    works, calls = getattr(there, name), 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in {1, 4}:
            raise MemoryError("for the test")
        return works(*arguments)

    monkeypatch.setattr(there, name, failing)
    namespace, topic = make_namespace(folder), kafka.new_topic()
    with taking(folder, kafka.bootstrap, topic) as process:
        for start in range(0, 50, 10):
            send(kafka, topic, facts(namespace, range(start, start + 10)))
            process.await_head(namespace, start + 10)
    assert caplog.text.count("What the Kafka poller tells cannot be taken in") == 2
    assert_each_once(folder, namespace, range(50))


def test_a_record_that_decoding_fails_on_becomes_a_dead_letter_and_the_others_go_on(
    kafka: Kafka, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_it_came(parcel: Parcel) -> Arrived:
        arrived = unpack(parcel)
        return record_of(arrived) if b"Fact 3." in (record_of(arrived).value or b"") else arrived

    def failing(record: Record) -> Decoded | Malformed:
        raise ZeroDivisionError(f"for the test: {record.value!r}")

    monkeypatch.setattr(polling, "unpack", as_it_came)
    monkeypatch.setattr(pipeline, "decode", failing)
    namespace, topic = make_namespace(folder), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(10)))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 10)
        assert "epistream_ingest_given_up_total 1.0" in process.metrics()
        told = process.engine.outbox.pending(None, 100).messages
    [letter] = [message for message in told if message.topic == dead_letter_topic(topic)]
    assert dict(letter.headers)["epistream-dlq-attempts"] == b"%d" % ATTEMPTS
    assert_each_once(folder, namespace, [n for n in range(10) if n != 3])


class NotUnicode(str):
    """The name of a header."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        """What Kafka's protocol forbids and brokers take."""
        return b"\xff\xfe"


def test_what_brokers_do_not_look_at_holds_up_nothing(kafka: Kafka, folder: Path) -> None:
    """The names of headers; and the times, where a topic lets a clock be wrong as ours do."""
    namespace, topic = make_namespace(folder), kafka.new_topic(message_timestamp_after_max_ms=str(2**63 - 1))
    good = [fact.SerializeToString() for fact in facts(namespace, range(3))]
    with CappedProducer(kafka.bootstrap, client_id="test") as producer:
        for value in (good[0], b"\xff"):
            producer.send(topic, value, headers=[(NotUnicode(), b"value")])
        for value in (good[1], b"\xff"):
            producer.send(topic, value, timestamp_ms=2**63 - 1)
        producer.send(topic, good[2])
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 5)
        assert process.intake.stopped() == {}
        with read_only(folder) as catalog:
            letters = deadletters.read(catalog.connection, 0, 10)
    assert [letter.record.position.offset for letter in letters if letter.record.position] == [1, 3]
    assert {letter.receipt.reason for letter in letters} == {pb.REASON_MALFORMED}
    assert_each_once(folder, namespace, range(3))


@pytest.mark.slow
def test_a_log_that_has_lost_its_end_stops_its_partition_also_where_it_has_grown_past_it_again(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Kafka loses what its disk has not kept, or its other brokers do not have; here while no service runs."""
    with LocalKafka(tmp_path_factory.mktemp("own-kafka")) as own:
        kafka = Kafka(own.bootstrap)
        namespace, topic, other = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
        send(kafka, topic, facts(namespace, range(6)))
        [file] = (own.log.parent / "data" / f"{topic}-0").glob("*.log")
        kept_bytes = file.stat().st_size
        send(kafka, topic, facts(namespace, range(6, 10)))
        with taking(folder, own.bootstrap, topic, other) as process:
            process.await_head(namespace, 10)
        own.kill()
        os.truncate(file, kept_bytes)
        own.start()
        send(kafka, topic, facts(namespace, range(20, 30)))
        with taking(folder, own.bootstrap, topic, other) as process:
            wait_until(process.intake.stopped, "the stop")
            why = process.intake.stopped()[topic, 0]
            assert why.reason == "LOG_TRUNCATED"
            assert "read from offset 10. Kafka has lost what was read from offset 6 on," in why.message
            send(kafka, other, facts(namespace, range(100, 103)))
            process.await_head(namespace, 13)
            assert process.engine.pipeline.positions()[topic, 0].offset == 10
        reread(folder, topic, 0, 6)
        with taking(folder, own.bootstrap, topic, other) as process:
            process.await_head(namespace, 23)
            assert process.intake.stopped() == {}
    assert_each_once(folder, namespace, [*range(10), *range(20, 30), *range(100, 103)])
