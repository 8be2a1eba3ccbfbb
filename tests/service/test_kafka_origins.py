"""A topic carries some origins only, so an ACL says as whom somebody may speak: over a real Kafka."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeAlias

import pytest
from google.protobuf import json_format

from epistream.clients.kafka_producer import CappedProducer, submission_headers
from epistream.services.kafka.positions import reread
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import EXPERT, SYNTHETIC, dead_letter_topic
from tests.support.bad_input import FRAME
from tests.support.intake import (
    admitted,
    dump,
    facts,
    findings,
    make_namespace,
    send,
    taking,
    topic_with_dead_letters,
)
from tests.support.kafka import Kafka
from tests.support.knowing import submission
from tests.support.rpc import client_of
from tests.support.service import running_service
from tests.support.waits import wait_until

GENERATED: Collection[pb.Origin.ValueType] = {pb.ORIGIN_SYNTHETIC, pb.ORIGIN_CRAWLED}
Headers: TypeAlias = tuple[tuple[str, bytes], ...]
FORMS: dict[str, Callable[[pb.Submission], tuple[bytes, Headers]]] = {
    "protobuf": lambda one: (one.SerializeToString(), ()),
    "JSON": lambda one: (json_format.MessageToJson(one).encode(), (("content-type", b"application/json"),)),
    "Confluent": lambda one: (FRAME + one.SerializeToString(), ()),
    "CloudEvents": lambda one: (one.SerializeToString(), (*submission_headers(one, cloud_events=True),)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("form", FORMS)
def test_an_origin_that_its_topic_does_not_carry_becomes_a_dead_letter_and_disturbs_nothing(
    kafka: Kafka, folder: Path, form: str
) -> None:
    namespace, topic = make_namespace(folder), topic_with_dead_letters(kafka)
    good = submission("Lead is heavy.", id="good", item="lead", namespace=namespace, origin=pb.ORIGIN_SYNTHETIC)
    posing = submission("Lead is light.", id="posing", item="lead", namespace=namespace, origin=pb.ORIGIN_EXPERT)
    after = submission("Tin is soft.", id="after", item="tin", namespace=namespace, origin=pb.ORIGIN_CRAWLED)
    note = ("note", b"\xff\x00")
    with CappedProducer(kafka.bootstrap) as producer:
        for one in (good, posing, after):
            value, headers = FORMS[form](one)
            producer.send(topic, value, key=one.submission_id.encode(), headers=(*headers, note))
    with taking(folder, kafka.bootstrap, topic, publish=True, carried={topic: GENERATED}) as process:
        process.await_head(namespace, 2)
        wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")
    assert admitted(folder, namespace) == [(1, "good"), (2, "after")]
    assert findings(folder) == []
    [letter] = kafka.read(dead_letter_topic(topic))
    value, headers = FORMS[form](posing)
    came = (*headers, note)
    assert (letter.key, letter.value, letter.headers[: len(came)]) == (b"posing", value, came)
    why = dict(letter.headers[len(came) :])
    assert why["epistream-dlq-reason"] == b"ORIGIN_NOT_CARRIED"
    assert f"{topic} carries CRAWLED, SYNTHETIC only, found EXPERT" in why["epistream-dlq-error"].decode()
    assert (why["epistream-dlq-original-topic"], why["epistream-dlq-original-offset"]) == (topic.encode(), b"1")


def test_a_topic_that_is_read_again_changes_nothing_whatever_it_carries_by_then(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    experts = [submission(f"Fact {n}.", id=f"s-{n}", item=f"item-{n}", namespace=namespace) for n in range(3)]
    generated = [
        submission(f"Rumour {n}.", id=f"r-{n}", namespace=namespace, origin=pb.ORIGIN_SYNTHETIC) for n in range(3)
    ]
    send(kafka, topic, [*experts, *generated])
    with taking(folder, kafka.bootstrap, topic, carried={topic: GENERATED}) as process:
        process.await_read(topic, 6)
    before = dump(folder)
    assert [id_ for _, id_ in admitted(folder, namespace)] == ["r-0", "r-1", "r-2"]
    for carried in ({}, {topic: {pb.ORIGIN_EXPERT}}):
        reread(folder, topic, 0)
        with taking(folder, kafka.bootstrap, topic, carried=carried) as process:
            process.await_read(topic, 6)
        assert dump(folder) == before
    # What comes now is decided by what the topic carries now.
    send(kafka, topic, facts(namespace, range(7, 8)))
    with taking(folder, kafka.bootstrap, topic, carried={topic: {pb.ORIGIN_EXPERT}}) as process:
        process.await_head(namespace, 4)


def test_a_retraction_by_a_higher_authority_than_the_topic_carries_takes_nothing_back(
    kafka: Kafka, folder: Path
) -> None:
    namespace, topic = make_namespace(folder), kafka.new_topic()
    send(kafka, topic, facts(namespace, range(1)))
    with taking(folder, kafka.bootstrap, topic) as process:
        process.await_head(namespace, 1)
    back = pb.Submission(
        namespace=namespace, submission_id="back", item_id="item-0", origin=pb.ORIGIN_EXPERT, retraction=True
    )
    back.provenance.producer = "writer"
    send(kafka, topic, [back])
    with taking(folder, kafka.bootstrap, topic, carried={topic: GENERATED}) as process:
        process.await_read(topic, 2)
    assert [id_ for _, id_ in admitted(folder, namespace)] == ["s-0"]


async def test_the_service_keeps_experts_out_of_the_topic_for_synthetic_knowledge(kafka: Kafka, folder: Path) -> None:
    """Its own topics, its own settings: nothing has to be set."""
    namespace, custom = make_namespace(folder), kafka.new_topic()
    sent = {
        EXPERT: [("x-e", pb.ORIGIN_EXPERT), ("x-c", pb.ORIGIN_COLLABORATIVE), ("x-s", pb.ORIGIN_SYNTHETIC)],
        SYNTHETIC: [("s-e", pb.ORIGIN_EXPERT), ("s-c", pb.ORIGIN_CRAWLED), ("s-s", pb.ORIGIN_SYNTHETIC)],
        custom: [("c-e", pb.ORIGIN_EXPERT), ("c-c", pb.ORIGIN_CRAWLED)],
    }
    with running_service(
        folder,
        kafka=kafka.bootstrap,
        kafka_topics=f"{EXPERT},{SYNTHETIC},{custom}",
        kafka_topic_origins=f"{custom}=CRAWLED",
        kafka_group=custom,
    ) as service:
        wait_until(lambda: {EXPERT, SYNTHETIC} <= _topics(kafka), "the service's topics")
        for topic, ones in sent.items():
            send(
                kafka,
                topic,
                [submission(f"Fact {id_}.", id=id_, namespace=namespace, origin=origin) for id_, origin in ones],
            )
        wait_until(lambda: len(admitted(folder, namespace)) >= 5, "all that is carried")
        wait_until(
            lambda: service.metric('epistream_dlq_total{reason="origin_not_carried"}') == 3, "all that is not carried"
        )
        assert sorted(id_ for _, id_ in admitted(folder, namespace)) == ["c-c", "s-c", "s-s", "x-c", "x-e"]
        async with client_of(service.address) as client:
            # Over gRPC the access file says who may be whom.
            [receipt] = await client.submit(submission("Fact g.", id="g", namespace=namespace))
        assert receipt.outcome == pb.OUTCOME_ADMITTED


def _topics(kafka: Kafka) -> set[str]:
    from kafka.admin import KafkaAdminClient

    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        return set(admin.list_topics())
