"""What the service tells Kafka: each change, each outcome, each dead letter, in order, and after a crash again."""

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from epistream.clients.kafka_producer import KafkaProducer
from epistream.indexer.model import Record as Arrived
from epistream.indexer.outbox import Outbox
from epistream.indexer.store import Readers
from epistream.services.kafka import clients, keeper, publisher
from epistream.services.kafka.child import Child
from epistream.services.kafka.keeper import Service
from epistream.services.kafka.local import LocalKafka, Variant, free_ports
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import ALARMS, CHANGES, OUTCOMES, dead_letter_topic
from tests.support import eager_publisher
from tests.support.bad_input import BAD_INPUT
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, ITEMS, kinds, opened, texts
from tests.support.intake import TakingProcess, facts, make_namespace, send, taking, topic_with_dead_letters
from tests.support.kafka import Kafka, Record
from tests.support.knowing import commit, submission, watch
from tests.support.proxies import Proxy
from tests.support.waits import until, wait_until

OTHER_HEADERS = (("note", b"\xff\x00"), ("empty", b""))
"""What headers may be that mean nothing here."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def told(kafka: Kafka, topic: str, namespace: str) -> list[Record]:
    """The messages about a namespace, in the order of the topic."""
    return [record for record in kafka.read(topic) if (record.key or b"").split(b"/")[0] == namespace.encode()]


@contextmanager
def counting(kafka: Kafka, topic: str) -> Iterator[Callable[[], int]]:
    """What tells how many messages a topic has, and costs less than to read them."""
    consumer: Any = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    with closing(consumer):
        yield lambda: sum(consumer.end_offsets(parts).values())


def sequence(record: Record) -> int:
    """A message's place in the journal."""
    return int(dict(record.headers)["epistream-sequence"])


def once(records: list[Record]) -> list[Record]:
    """The messages without those that were told again, as a consumer drops them: what is no newer than what it has."""
    newest: defaultdict[int, int] = defaultdict(int)
    kept = []
    for record in records:
        if sequence(record) > newest[record.partition]:
            newest[record.partition] = sequence(record)
            kept.append(record)
    return kept


def test_each_change_and_each_outcome_is_told_in_order(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    again = submission("Fact 3.", id="s-again", namespace=namespace)
    other = submission("Fact 3 is another.", id="s-other", item="item-3", namespace=namespace)
    send(kafka, topic, [*facts(namespace, range(500)), again, other])
    with taking(folder, kafka.bootstrap, topic, publish=True, publisher=publisher) as process:
        process.await_read(topic, 502)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
        assert "epistream_outbox_published_total" in process.metrics()
        epoch = process.engine.epoch.encode()
    changes = told(kafka, CHANGES, namespace)
    decoded = [pb.Change.FromString(record.value or b"") for record in changes]
    assert [change.revision for change in decoded] == list(range(1, 502))
    assert [change.knowledge.submission_id for change in decoded] == [*(f"s-{n}" for n in range(500)), "s-other"]
    assert [dict(record.headers)["epistream-revision"] for record in changes] == [b"%d" % n for n in range(1, 502)]
    assert {dict(record.headers)["content-type"] for record in changes} == {b"application/protobuf"}
    outcomes = told(kafka, OUTCOMES, namespace)
    assert {dict(record.headers)["epistream-epoch"] for record in (*changes, *outcomes)} == {epoch}
    receipts = [pb.Receipt.FromString(record.value or b"") for record in outcomes]
    assert [receipt.submission_id for receipt in receipts] == [*(f"s-{n}" for n in range(500)), "s-again", "s-other"]
    assert [r.outcome for r in receipts[-2:]] == [pb.OUTCOME_MERGED, pb.OUTCOME_REVISED]
    assert [sequence(record) for record in outcomes] == sorted({sequence(record) for record in outcomes})


def test_an_alarm_of_the_collapse_watch_is_told(kafka: Kafka, folder: Path) -> None:
    namespace, topic = f"watched-{uuid.uuid4().hex[:8]}", topic_with_dead_letters(kafka)
    engine = opened(folder, name=namespace)
    commit(engine, *texts(kinds(ALL_KINDS, ITEMS), "People", "ada", namespace=namespace))
    commit(engine, *texts(kinds(FEW_KINDS, 2 * EVERY, 1), "Few kinds", namespace=namespace))
    watch(engine)
    (alarm,) = (one for (producer, _), one in engine.namespaces.state(namespace).alarms.items() if producer == "gpt")
    engine.close()
    with taking(folder, kafka.bootstrap, topic, publish=True, publisher=publisher) as process:
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    found = {record.key: record for record in told(kafka, ALARMS, namespace)}
    record = found[f"{namespace}/TEXT/gpt".encode()]
    assert pb.CollapseAlarm.FromString(record.value or b"") == alarm
    assert alarm.on
    assert dict(record.headers)["content-type"] == b"application/protobuf"


@pytest.mark.slow
def test_after_crashes_nothing_is_missing_and_what_is_told_again_can_be_told(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    rng = random.Random(3)
    count = 0
    with KafkaProducer(kafka.bootstrap) as producer, counting(kafka, CHANGES) as messages:
        for _ in range(3):
            process = TakingProcess(folder, kafka.bootstrap, topic, publish=True)
            try:
                before = messages()
                for one in facts(namespace, range(count, count + 500)):
                    producer.send(one, topic=topic)
                count += 500
                process.wait_until(lambda: messages() > before, "some message")  # noqa: B023
                time.sleep(rng.random() * 0.5)
            finally:
                process.kill()
    with taking(folder, kafka.bootstrap, topic, publish=True) as last:
        last.await_head(namespace, count)
        wait_until(lambda: last.engine.outbox.count() == 0, "an empty outbox")
    for records in (told(kafka, CHANGES, namespace), told(kafka, OUTCOMES, namespace)):
        kept = once(records)
        assert len(kept) == count
        assert {record.value for record in kept} == {record.value for record in records}
    revisions = [pb.Change.FromString(r.value or b"").revision for r in once(told(kafka, CHANGES, namespace))]
    assert revisions == list(range(1, count + 1))


def test_every_kind_of_bad_record_becomes_a_dead_letter_and_the_next_good_one_is_taken(
    kafka: Kafka, folder: Path
) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    with KafkaProducer(kafka.bootstrap) as producer:
        for number, bad in enumerate(BAD_INPUT):
            headers = (*bad.headers, *OTHER_HEADERS)
            producer._producer.send(topic, bad.value, key=b"bad-%d" % number, headers=headers)
            [good] = facts(namespace, [number])
            producer.send(good, topic=topic)
    with taking(folder, kafka.bootstrap, topic, publish=True, group="who-refused") as process:
        process.await_head(namespace, len(BAD_INPUT))
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    letters = {record.key: record for record in kafka.read(dead_letter_topic(topic))}
    assert len(letters) == len(BAD_INPUT)
    for number, bad in enumerate(BAD_INPUT):
        letter = letters[b"bad-%d" % number]
        own = tuple((n, v) for n, v in letter.headers if not n.startswith("epistream-dlq-"))
        why = {n.removeprefix("epistream-dlq-"): v for n, v in letter.headers if n.startswith("epistream-dlq-")}
        assert letter.value == bad.value, bad.name
        assert own == (*bad.headers, *OTHER_HEADERS), bad.name
        assert why["attempts"] == b"1"
        assert why["group"] == b"who-refused"
        assert why["service-version"] == version("epistream").encode()
        assert why["reason"] == pb.Reason.Name(bad.reason).removeprefix("REASON_").encode(), bad.name
        assert why["original-topic"] == topic.encode()
        assert why["original-partition"] == b"0"
        assert why["original-offset"] == b"%d" % (2 * number)
        assert int(why["original-timestamp"]) > 0
        assert why["error"]
    assert [change.revision for change in _changes(kafka, namespace)] == list(range(1, len(BAD_INPUT) + 1))


def _changes(kafka: Kafka, namespace: str) -> list[pb.Change]:
    return [pb.Change.FromString(record.value or b"") for record in told(kafka, CHANGES, namespace)]


def test_a_record_without_key_or_header_value_is_a_dead_letter_like_any_other(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    kafka.produce(topic, [b"no submission"], headers=[("empty", b"")])
    send(kafka, topic, facts(namespace, range(1)))
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        process.await_head(namespace, 1)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    [letter] = kafka.read(dead_letter_topic(topic))
    assert (letter.key, letter.value) == (None, b"no submission")
    assert letter.headers[0] == ("empty", b"")


@pytest.mark.slow
def test_commits_go_on_while_kafka_is_away_and_all_is_told_later(
    own_kafka: LocalKafka, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(eager_publisher.PATIENCE_VARIABLE, "3")
    kafka = Kafka(own_kafka.bootstrap)
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        send(kafka, topic, facts(namespace, range(10)))
        process.await_head(namespace, 10)
        wait_until(lambda: process.published(CHANGES) == 10, "the first messages")
        own_kafka.kill()
        prepared = process.engine.pipeline.prepare([_grpc(one) for one in facts(namespace, range(10, 2000))])
        for start in range(0, len(prepared), 100):
            process.writer.submit_batch(prepared[start : start + 100]).result(60)
        assert process.head(namespace) == 2000
        failures = partial(process.registry.get_sample_value, "epistream_outbox_failures_total")
        wait_until(lambda: failures() != 0, "a failure")
        own_kafka.start()
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    assert [change.revision for change in map(_change, once(told(kafka, CHANGES, namespace)))] == [*range(1, 2001)]


def _grpc(one: pb.Submission) -> Arrived:
    return Arrived(one.SerializeToString(), time.time_ns() // 1000)


def _change(record: Record) -> pb.Change:
    return pb.Change.FromString(record.value or b"")


def test_missing_topics_are_said_and_waited_for(
    own_kafka: LocalKafka, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = Kafka(own_kafka.bootstrap)
    topic = kafka.new_topic()
    kafka.produce(topic, [b"no submission"])
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        ours = f"trying again until it works: sending to {dead_letter_topic(topic)}"
        wait_until(lambda: ours in caplog.text, "the message")
        assert "does the topic exist" in caplog.text
        kafka.ensure_topics((topic,))
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    assert len(kafka.read(dead_letter_topic(topic))) == 1


@pytest.mark.slow
def test_topics_that_are_deleted_are_made_again_and_hold_nothing_up_for_ever(
    own_kafka: LocalKafka, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(eager_publisher.PATIENCE_VARIABLE, "3")
    kafka = Kafka(own_kafka.bootstrap)
    namespace, topic = make_namespace(folder), kafka.new_topic()
    with taking(folder, kafka.bootstrap, topic, publish=True, make_topics=True) as process:
        send(kafka, topic, facts(namespace, range(3)))
        process.await_head(namespace, 3)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
        with clients.admin(kafka.bootstrap, "test") as admin:
            admin.delete_topics([OUTCOMES, dead_letter_topic(topic)])
            wait_until(lambda: not {OUTCOMES, dead_letter_topic(topic)} & {*admin.list_topics()}, "the deletion")
        send(kafka, topic, facts(namespace, range(3, 6)))
        kafka.produce(topic, [b"no submission"])
        process.await_read(topic, 7)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox", seconds=90)
    receipts = [pb.Receipt.FromString(one.value or b"") for one in once(told(kafka, OUTCOMES, namespace))]
    assert [receipt.submission_id for receipt in receipts][-3:] == ["s-3", "s-4", "s-5"]
    assert [letter.value for letter in kafka.read(dead_letter_topic(topic))] == [b"no submission"]
    assert [one.revision for one in map(_change, once(told(kafka, CHANGES, namespace)))] == [*range(1, 7)]


def test_a_message_that_kafka_never_takes_holds_no_other_up(
    kafka: Kafka, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    with_small_letters = dead_letter_topic(topic)
    kafka.ensure_topics(())
    with clients.admin(kafka.bootstrap, "test") as admin:
        settings = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "2000"}}
        admin.create_topics({with_small_letters: settings}, wait_for_metadata=True)
    kafka.produce(topic, [b"small", b"large" * 1000, b"small again"])
    send(kafka, topic, facts(namespace, range(3)))
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        process.await_head(namespace, 3)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
        sample = f'epistream_outbox_unpublishable_total{{topic="{with_small_letters}"}} 1.0'
        assert sample in process.metrics()
        kept = process.engine.store.dead_letters(0, 10)
        assert [letter.record.value for letter in kept] == [b"small", b"large" * 1000, b"small again"]
    assert {letter.value for letter in kafka.read(with_small_letters)} == {b"small", b"small again"}
    assert len(once(told(kafka, CHANGES, namespace))) == 3
    assert "Kafka refuses a message" in caplog.text


def test_what_kafka_has_is_noted_so_that_a_restart_tells_nothing_again(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    send(kafka, topic, facts(namespace, range(50)))
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        process.await_head(namespace, 50)
        wait_until(lambda: process.published(CHANGES) == 50, "the messages")
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        assert process.engine.outbox.count() == 0
        send(kafka, topic, facts(namespace, range(50, 51)))
        process.await_head(namespace, 51)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    assert len(told(kafka, CHANGES, namespace)) == 51
    assert len(told(kafka, OUTCOMES, namespace)) == 51


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_publisher_that_is_killed_is_started_anew_and_one_that_is_asked_to_end_waits_for_the_service(
    kafka: Kafka, folder: Path, number: signal.Signals
) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    send(kafka, topic, facts(namespace, range(20)))
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        wait_until(lambda: process.published(CHANGES) == 20, "the first messages")
        before = process.publishing._keeper.pid
        assert before is not None
        os.kill(before, number)
        send(kafka, topic, facts(namespace, range(20, 40)))
        process.await_head(namespace, 40)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
        assert (process.publishing._keeper.pid == before) == (number == signal.SIGTERM)
    assert [change.revision for change in map(_change, once(told(kafka, CHANGES, namespace)))] == [*range(1, 41)]


def test_a_publisher_that_cannot_be_started_is_tried_again(
    kafka: Kafka, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[object] = []

    def failing(*arguments: Any, **named: Any) -> Child:
        if eager_publisher.__name__ in arguments[0]:
            attempts.append(arguments)
        if len(attempts) in {1, 2}:
            raise OSError(11, "Resource temporarily unavailable")
        return Child(*arguments, **named)

    monkeypatch.setattr(keeper, "Child", failing)
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    send(kafka, topic, facts(namespace, range(3)))
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        process.await_head(namespace, 3)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
        assert "epistream_outbox_failures_total 2.0" in process.metrics()
    assert "could not be started" in caplog.text
    assert len(told(kafka, CHANGES, namespace)) == 3


class Told(Service):
    """What a publisher tells."""

    def __init__(self) -> None:
        self.published: Counter[str] = Counter()

    def tell(self, **message: Any) -> None:
        self.published.update(message.get("published", {}))


@pytest.mark.slow
async def test_what_is_too_much_at_once_for_a_slow_way_is_sent_a_few_at_a_time(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2 MB, which take 5 seconds, each record is tried for 2."""
    monkeypatch.setattr(publisher, "_LIMITS", replace(publisher._LIMITS, delivery_timeout_seconds=2.0))
    namespace, [port] = make_namespace(folder), free_ports(1)
    async with Proxy(port) as proxy:
        proxy.bytes_per_second = 400_000
        with LocalKafka(tmp_path_factory.mktemp("slow-kafka"), variant=beside(port, proxy.address)) as broker:
            kafka = Kafka(broker.bootstrap)
            topic = topic_with_dead_letters(kafka)
            with taking(folder, broker.bootstrap, topic) as process:
                large = [submission(f"Fact {n}. " + "x" * 50_000, id=f"s-{n}", namespace=namespace) for n in range(40)]
                process.writer.submit_batch(process.engine.pipeline.prepare([*map(_grpc, large)])).result(60)
                service = Told()
                one = publisher.Publisher(proxy.address, Outbox(Readers(folder)), service)
                publishing = asyncio.create_task(asyncio.to_thread(one.run))
                try:
                    await until(lambda: service.published[CHANGES] == 40, "all changes", seconds=150)
                finally:
                    one.stop()
                    await publishing
            changes = once(told(kafka, CHANGES, namespace))
    assert [change.revision for change in map(_change, changes)] == [*range(1, 41)]


def beside(port: int, address: str) -> Variant:
    """A Kafka that listens at one more port, and says that it is to be reached at `address` there."""
    own = "PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"
    return Variant(
        {
            "listeners": f"{own},OTHER://127.0.0.1:{port}",
            "advertised.listeners": f"{own},OTHER://{address}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT",
        }
    )
