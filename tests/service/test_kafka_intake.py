"""Knowledge in over a real Kafka: each record takes effect exactly once, whatever is killed, and nothing is skipped."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kafka import TopicPartition
from kafka.errors import CoordinatorNotAvailableError
from kafka.structs import OffsetAndMetadata

from epistream.clients.kafka_producer import CappedProducer, KafkaProducer, submission_headers
from epistream.services.kafka import clients
from epistream.services.kafka.backlog import WAITING_BYTES_MAX
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.positions import reread
from epistream.services.writer import Commit
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.wire.errors import InvalidInput, Unavailable
from epistream.wire.topics import RECORD_BYTES_MAX
from tests.support.bad_input import BAD_INPUT, FRAME
from tests.support.intake import (
    Taking,
    TakingProcess,
    admitted,
    assert_each_once,
    dump,
    facts,
    findings,
    make_namespace,
    send,
    taking,
)
from tests.support.kafka import Kafka
from tests.support.knowing import submission
from tests.support.rpc import client_of
from tests.support.rpc import submission as numbered
from tests.support.service import running_service
from tests.support.waits import until, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextmanager
def sending_on(kafka: Kafka, topic: str) -> Iterator[None]:
    """A producer of nothing good, which never pauses for long."""
    ending = threading.Event()

    def send_on() -> None:
        with CappedProducer(kafka.bootstrap, client_id="test") as producer:
            while not ending.wait(0.002):
                producer.send(topic, b"\xff")

    thread = threading.Thread(target=send_on)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_all_four_formats_arrive(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    plain, framed, json, event = facts(namespace, range(4))
    with CappedProducer(kafka.bootstrap) as producer:
        producer.send(topic, plain.SerializeToString(), headers=submission_headers(plain))
        producer.send(topic, FRAME + framed.SerializeToString(), headers=submission_headers(framed))
        value = json_format.MessageToJson(json).encode()
        producer.send(topic, value, headers=[("content-type", b"application/json")])
        producer.send(topic, event.SerializeToString(), headers=submission_headers(event, cloud_events=True))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 4)
    assert_each_once(folder, namespace, range(4))


@pytest.mark.slow
def test_a_killed_intake_takes_every_record_in_once(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic(partitions=2)
    rng = random.Random(7)
    sent = 0
    with KafkaProducer(kafka.bootstrap) as producer:
        for _ in range(6):
            process = TakingProcess(folder, kafka.bootstrap, topic)
            try:
                before = len(admitted(folder, namespace))
                for one in facts(namespace, range(sent, sent + 600)):
                    producer.send(one, topic=topic)
                sent += 600
                process.wait_until(lambda: len(admitted(folder, namespace)) > before, "some progress")  # noqa: B023
                time.sleep(rng.random() * 0.2)
            finally:
                process.kill()
    with taking(folder, kafka.bootstrap, topic) as last:
        last.await_head(namespace, sent)
    assert_each_once(folder, namespace, range(sent))


def test_reading_a_topic_again_leaves_every_row_as_it_was(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic(max_message_bytes=str(RECORD_BYTES_MAX))
    send(kafka, topic, facts(namespace, range(300)))
    kafka.produce(topic, [bad.value for bad in BAD_INPUT], key=b"bad")
    send(kafka, topic, [submission("Fact 3 is another.", id="s-new", item="item-3", namespace=namespace)])
    send(kafka, topic, [submission("Taken.", id="s-5", item="item-5", namespace=namespace)])  # the id of another
    end = 302 + len(BAD_INPUT)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, end)
    before = dump(folder)
    reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, end)
    assert dump(folder) == before


def test_a_slow_writer_holds_reading_up_and_loses_nothing(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    large = [
        submission(f"Fact {n}. " + "x" * 100_000, id=f"s-{n}", item=f"item-{n}", namespace=namespace)
        for n in range(400)
    ]
    send(kafka, topic, large)
    gate = threading.Event()

    def held(commit: Commit) -> Commit:
        def wait_then_commit(prepared: Any, *, atomic: bool = False) -> list[pb.Receipt]:
            gate.wait()
            return commit(prepared, atomic=atomic)

        return wait_then_commit

    with taking(folder, kafka.bootstrap, topic, around_commit=held) as process:
        backlog = process.intake._lanes[0].backlog
        wait_until(lambda: not backlog.await_room(0), "a full backlog")
        held_bytes, rounds = backlog._bytes, set[float]()

        def polled_on() -> bool:
            rounds.add(process.polling._alive_at)
            return len(rounds) == 4

        wait_until(polled_on, "polls meanwhile")
        assert backlog._bytes == held_bytes < 2 * WAITING_BYTES_MAX
        assert process.engine.pipeline.positions()[topic, 0].offset == 0
        gate.set()
        process.await_head(namespace, 400)
    assert_each_once(folder, namespace, range(400))


@pytest.mark.slow
def test_a_kafka_that_is_killed_under_load_costs_nothing_and_doubles_nothing(
    own_kafka: LocalKafka, folder: Path
) -> None:
    kafka = Kafka(own_kafka.bootstrap)
    namespace, topic = make_namespace(folder), kafka.new_topic(partitions=2)
    stop = threading.Event()
    sent: list[pb.Submission] = []

    def produce() -> None:
        with KafkaProducer(kafka.bootstrap) as producer:
            while not stop.is_set():
                [one] = facts(namespace, [len(sent)])
                producer.send(one, topic=topic)
                sent.append(one)
                time.sleep(0.001)
            producer.flush(60)

    with taking(folder, kafka.bootstrap, topic) as process:
        thread = threading.Thread(target=produce)
        thread.start()
        try:
            process.await_head(namespace, 200)
            own_kafka.kill()
            own_kafka.start()
            process.await_head(namespace, process.head(namespace) + 200)
        finally:
            stop.set()
            thread.join()
        process.await_head(namespace, len(sent))
    assert_each_once(folder, namespace, range(len(sent)))


@pytest.mark.slow
def test_a_kafka_that_comes_later_delays_nothing_else(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = make_namespace(folder)
    own = LocalKafka(tmp_path / "late-kafka")
    with taking(folder, own.bootstrap, "late") as process:
        assert process.writer.run(lambda: 7).result() == 7
        wait_until(lambda: "Kafka does not answer" in caplog.text, "the second attempt")
        with own:
            with clients.admin(own.bootstrap, "test") as admin:
                admin.create_topics({"late": {"num_partitions": 1, "replication_factor": 1}})
            send(Kafka(own.bootstrap), "late", facts(namespace, range(3)))
            process.await_head(namespace, 3)


def test_records_removed_before_they_were_read_stop_the_partition_by_name(
    kafka: Kafka, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from kafka import TopicPartition

    namespace, topic, other = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(10)))
    with taking(folder, kafka.bootstrap, topic, other) as process:
        process.await_head(namespace, 10)
    send(kafka, topic, facts(namespace, range(10, 30)))
    with clients.admin(kafka.bootstrap, "test") as admin:
        admin.delete_records({TopicPartition(topic, 0): 25})
    with taking(folder, kafka.bootstrap, topic, other) as process:
        wait_until(process.intake.stopped, "the stop")
        send(kafka, other, facts(namespace, range(100, 103)))
        process.await_head(namespace, 13)
        why = process.intake.stopped()[topic, 0]
        assert why.reason == "OFFSET_OUT_OF_RANGE"
        assert "offset 10" in why.message
        assert f"epistream kafka reread {topic} 0 --folder FOLDER" in why.message
        sample = f'epistream_ingest_stopped{{partition="0",reason="OFFSET_OUT_OF_RANGE",topic="{topic}"}} 1.0'
        assert sample in process.metrics()
        assert process.engine.pipeline.positions()[topic, 0].offset == 10
        wait_until(lambda: process.intake.lag()[topic, 0].records == 20, "its lag")
    assert why.message in caplog.text
    assert "offset 10" in reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic, other) as process:
        process.await_head(namespace, 18)
        assert process.intake.stopped() == {}
    assert_each_once(folder, namespace, [*range(10), *range(25, 30), *range(100, 103)])


@pytest.mark.parametrize("count", [3, 10, 13])
def test_a_topic_made_anew_stops_its_partition_however_much_stands_in_it(
    kafka: Kafka, folder: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    namespace, topic, other = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(10)))
    with taking(folder, kafka.bootstrap, topic, other) as process:
        process.await_head(namespace, 10)
    kafka.make_anew(topic)
    send(kafka, topic, facts(namespace, range(20, 20 + count)))
    for head, new in ((13, range(100, 103)), (16, range(103, 106))):  # it stays so, however often it is started
        with taking(folder, kafka.bootstrap, topic, other) as process:
            wait_until(process.intake.stopped, "the stop")
            send(kafka, other, facts(namespace, new))
            process.await_head(namespace, head)
            why = process.intake.stopped()[topic, 0]
            assert why.reason == "TOPIC_REPLACED"
            assert "read from offset 10. The topic was deleted and made anew" in why.message
            assert f"epistream kafka reread {topic} 0 --folder FOLDER" in why.message
            sample = f'epistream_ingest_stopped{{partition="0",reason="TOPIC_REPLACED",topic="{topic}"}} 1.0'
            assert sample in process.metrics()
            assert process.engine.pipeline.positions()[topic, 0].offset == 10
    assert why.message in caplog.text
    assert "offset 10" in reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic, other) as process:
        process.await_head(namespace, 16 + count)
        assert process.intake.stopped() == {}
    assert_each_once(folder, namespace, [*range(10), *range(20, 20 + count), *range(100, 106)])


def test_who_coordinates_a_group_is_asked_anew_once_that_was_forgotten(kafka: Kafka) -> None:
    topic = TopicPartition(kafka.new_topic(), 0)

    def told(admin: Any, offset: int) -> bool:
        try:  # the first group of a new Kafka has none yet
            answers = admin.alter_group_offsets(topic.topic, {topic: OffsetAndMetadata(offset, "", -1)})
        except CoordinatorNotAvailableError:
            return False
        return not answers[topic].errno

    with clients.admin(kafka.bootstrap, "test") as admin:
        for offset in (1, 2):
            wait_until(partial(told, admin, offset), "that the group is told")
            assert admin._manager.cluster.get_coordinator(topic.topic) is not None
            clients.forget_coordinator(admin, topic.topic)
            assert admin._manager.cluster.get_coordinator(topic.topic) is None
        assert admin.list_group_offsets({topic.topic: [topic]})[topic.topic][topic].offset == 2


def test_what_was_refused_is_decided_in_a_topic_that_was_made_anew_and_only_there(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder) + "-later", kafka.new_topic()
    send(kafka, topic, facts(namespace, range(3)))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 3)
    make_namespace(folder, namespace)
    reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 3)
        assert process.head(namespace) == 0
    kafka.make_anew(topic)
    send(kafka, topic, facts(namespace, range(3)))
    with taking(folder, kafka.bootstrap, topic) as process:
        wait_until(process.intake.stopped, "the stop")
    reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 3)
    assert_each_once(folder, namespace, range(3))


def reasons(process: Taking) -> dict[tuple[str, int], str]:
    """Of the partitions that are stopped."""
    return {at: why.reason for at, why in process.intake.stopped().items()}


def test_a_topic_made_anew_while_it_is_read_stops_its_partitions_though_no_offset_shows_it(
    kafka: Kafka, folder: Path
) -> None:
    """The poller stands still meanwhile: it finds records where it is to read on, as if nothing had been."""
    namespace, topic = make_namespace(folder), kafka.new_topic(partitions=2)
    both = {(topic, number): "TOPIC_REPLACED" for number in range(2)}

    def send_to_both(numbers: range) -> None:
        with CappedProducer(kafka.bootstrap) as producer:
            for number, one in zip(numbers, facts(namespace, numbers), strict=True):
                producer.send(topic, one.SerializeToString(), partition=number % 2)

    send_to_both(range(20))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 20)
        poller = process.polling._keeper.pid
        assert poller is not None
        os.kill(poller, signal.SIGSTOP)
        try:
            kafka.make_anew(topic, partitions=2)
            send_to_both(range(100, 126))
        finally:
            os.kill(poller, signal.SIGCONT)
        wait_until(lambda: reasons(process) == both, "the stop of both")
    reread(folder, topic, 0)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 13)
        assert reasons(process) == {(topic, 1): "TOPIC_REPLACED"}
    reread(folder, topic, 1)
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 46)
        assert reasons(process) == {}
    assert_each_once(folder, namespace, [*range(20), *range(100, 126)])


def test_what_is_damaged_in_kafkas_files_stops_only_its_partition_however_much_others_bring(
    own_kafka: LocalKafka, folder: Path
) -> None:
    kafka = Kafka(own_kafka.bootstrap)
    namespace, topic, other = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(3)))
    kafka.produce(topic, [b"to be damaged"])
    send(kafka, topic, facts(namespace, range(3, 5)))
    [file] = (own_kafka.log.parent / "data" / f"{topic}-0").glob("*.log")
    with file.open("r+b") as segment:
        segment.seek(file.read_bytes().index(b"to be damaged"))
        segment.write(b"T")
    with taking(folder, kafka.bootstrap, topic, other) as process:
        with sending_on(kafka, other):
            process.await_head(namespace, 3)
            wait_until(process.intake.stopped, "the stop")
        assert {at: why.reason for at, why in process.intake.stopped().items()} == {(topic, 0): "UNREADABLE"}
        send(kafka, other, facts(namespace, range(100, 103)))
        process.await_head(namespace, 6)
        assert process.engine.pipeline.positions()[topic, 0].offset == 3
    reread(folder, topic, 0, 4)
    with taking(folder, kafka.bootstrap, topic, other) as process:
        process.await_head(namespace, 8)


def test_a_partition_may_begin_at_its_end_and_then_misses_nothing(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(5)))
    with taking(folder, kafka.bootstrap, topic, start="latest") as process:
        wait_until(process.intake.lag, "the partition")
    send(kafka, topic, facts(namespace, range(5, 8)))  # while nobody reads
    with taking(folder, kafka.bootstrap, topic, start="latest") as process:
        process.await_head(namespace, 3)
    assert_each_once(folder, namespace, range(5, 8))


def test_a_topic_and_a_partition_that_come_later_are_found(kafka: Kafka, folder: Path) -> None:
    namespace, topic, missing = make_namespace(folder), kafka.new_topic(), "late-" + folder.parent.name.lower()
    with taking(folder, kafka.bootstrap, topic, missing) as process:
        wait_until(process.intake.lag, "the first partition")
        with clients.admin(kafka.bootstrap, "test") as admin:
            admin.create_partitions({topic: 3})
            admin.create_topics({missing: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        wait_until(lambda: len(process.intake.lag()) == 4, "four partitions")
        with CappedProducer(kafka.bootstrap) as producer:
            for number, one in enumerate(facts(namespace, range(3))):
                producer.send(topic, one.SerializeToString(), partition=number)
        send(kafka, missing, facts(namespace, range(3, 5)))
        process.await_head(namespace, 5)
    assert_each_once(folder, namespace, range(5))


def test_aborted_transactions_are_not_knowledge_and_leave_no_lag(kafka: Kafka, folder: Path) -> None:
    from kafka import KafkaProducer as Client

    namespace, topic = make_namespace(folder), kafka.new_topic()
    kept, dropped = facts(namespace, range(2))
    producer: Any = Client(bootstrap_servers=kafka.bootstrap, transactional_id=f"test-{topic}")
    try:
        producer.init_transactions()
        for one, finish in ((kept, producer.commit_transaction), (dropped, producer.abort_transaction)):
            producer.begin_transaction()
            producer.send(topic, one.SerializeToString()).get(30)
            finish()
    finally:
        producer.close()
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 1)
        wait_until(lambda: [lag.records for lag in process.intake.lag().values()] == [0], "no lag")
        assert process.intake.lag()[topic, 0].seconds == 0
    assert_each_once(folder, namespace, [0])


def group_offset(admin: Any, group: str, topic: str) -> int:
    """What Kafka's group was told of the topic's partition; 0 before that, or while nobody can say."""
    from kafka import TopicPartition
    from kafka.errors import KafkaConnectionError

    partition = TopicPartition(topic, 0)
    try:
        kept = admin.list_group_offsets({group: [partition]})[group]
    except KafkaConnectionError:  # of three brokers the one that is killed just now
        clients.forget_coordinator(admin, group)
        return 0
    return int(kept[partition].offset) if partition in kept else 0


def test_kafkas_group_is_told_how_far_the_store_is(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    group = f"group-{topic}"
    send(kafka, topic, facts(namespace, range(10)))
    with (
        taking(folder, kafka.bootstrap, topic, group=group) as process,
        clients.admin(kafka.bootstrap, "test") as admin,
    ):
        process.await_head(namespace, 10)
        wait_until(lambda: group_offset(admin, group, topic) == 10, "the group's offset")
        send(kafka, topic, facts(namespace, range(10, 13)))
        process.await_head(namespace, 13)
        wait_until(lambda: group_offset(admin, group, topic) == 13, "the group's offset")


def test_a_group_that_refused_is_told_again_though_nothing_new_has_come(
    kafka: Kafka, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka refuses positions while its group moves to another broker, and, as here, while the group has members."""
    from kafka import KafkaConsumer

    namespace, topic = make_namespace(folder), kafka.new_topic()
    group = f"group-{topic}"
    send(kafka, topic, facts(namespace, range(3)))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_read(topic, 3)
    with clients.admin(kafka.bootstrap, "test") as admin:
        member: Any = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
        # One that joins before it knows the topic is given nothing, and may never ask anew.
        wait_until(lambda: member.partitions_for_topic(topic), "the topic, as the member sees it")
        member.subscribe([topic])
        wait_until(lambda: member.poll(100) is not None and member.assignment(), "the member's partition")
        with closing(member), taking(folder, kafka.bootstrap, topic, group=group):
            wait_until(lambda: "does not take our positions" in caplog.text, "the refusal")
            assert group_offset(admin, group, topic) < 3
            member.close()
            wait_until(lambda: group_offset(admin, group, topic) == 3, "the group's offset")


def test_where_to_read_can_be_decided_only_while_no_service_runs(kafka: Kafka, folder: Path) -> None:
    make_namespace(folder)
    topic = kafka.new_topic()
    with taking(folder, kafka.bootstrap, topic), pytest.raises(Unavailable):
        reread(folder, topic, 0)
    with pytest.raises(InvalidInput):
        reread(folder, topic, 0, -1)
    with pytest.raises(InvalidInput):
        reread(folder / "nowhere", topic, 0)


@pytest.mark.slow
def test_stopping_ends_everything_in_time_whatever_kafka_does(
    own_kafka: LocalKafka, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = make_namespace(folder)
    topic = Kafka(own_kafka.bootstrap).new_topic()
    with taking(folder, own_kafka.bootstrap, topic, publish=True) as process:
        wait_until(process.intake.lag, "the partition")
        send(Kafka(own_kafka.bootstrap), topic, facts(namespace, range(5)))
        process.await_head(namespace, 5)
        own_kafka.kill()
        process.intake.stop()
        assert "left behind" not in caplog.text
        assert not [t for t in threading.enumerate() if t.name in {"kafka-poller", "kafka-take"}]
        assert process.polling._keeper.pid is None


async def test_a_service_takes_in_over_kafka_and_answers_over_grpc(kafka: Kafka, folder: Path) -> None:
    topic = kafka.new_topic()
    with running_service(folder, kafka=kafka.bootstrap, kafka_topics=topic, kafka_group=topic) as service:
        async with client_of(service.address) as client:
            await client.make_namespace("facts")
            send(kafka, topic, [numbered("facts", n) for n in range(20)])
            await until(lambda: service.metric('epistream_store_revision{namespace="facts"}') == 20)
            found = await client.knowledge.Get(knowledge_pb.GetRequest(namespace="facts", item_id="item-7"))
            assert found.change.knowledge.content == "Fact number 7."
        await until(lambda: service.metric("epistream_outbox_pending") == 0)
        labels = f'{{partition="0",topic="{topic}"}}'
        await until(lambda: service.metric(f"epistream_ingest_lag_records{labels}") == 0)
        await until(lambda: service.metric("epistream_consumer_poll_age_seconds") < 5)
        assert service.stop() == 0
    assert findings(folder) == []


def test_the_store_keeps_positions_and_effects_together(kafka: Kafka, folder: Path) -> None:
    """At any moment that a reader sees, the position is that of what is stored."""
    namespace, topic = make_namespace(folder), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(3000)))
    seen = set[int]()
    looked = threading.Event()

    def seen_before(commit: Commit) -> Commit:
        def await_look_then_commit(prepared: Any, *, atomic: bool = False) -> list[pb.Receipt]:
            looked.clear()
            looked.wait(60)
            return commit(prepared, atomic=atomic)

        return await_look_then_commit

    with taking(folder, kafka.bootstrap, topic, around_commit=seen_before) as process:

        def look() -> bool:
            with process.engine.store.reader() as catalog:
                count = catalog.connection.execute("SELECT COUNT(*) FROM submissions").get
                at = catalog.connection.execute("SELECT MAX(next_offset) FROM positions").get
            assert count == (at or 0)
            seen.add(count)
            looked.set()
            return process.head(namespace) == 3000

        wait_until(look, "all of them")
    assert len(seen) > 2
