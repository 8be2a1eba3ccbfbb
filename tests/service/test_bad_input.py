"""Bad input over gRPC and over Kafka: a typed refusal with the field's path, the bytes kept, and nothing else delayed.

Each kind of bad input is sent between two good submissions, to a service whose namespace takes vectors of 16 numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.clients import SyncKnowledgeClient
from epistream.clients.kafka_producer import CappedProducer
from epistream.indexer import deadletters
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.encoder import PACKAGED_DIMENSION, PACKAGED_MODEL
from epistream.indexer.store import read_only
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.limits import SUBMISSION_BYTES_MAX
from epistream.wire.topics import OUTCOMES, dead_letter_topic
from tests.support.bad_input import (
    BAD_INPUT,
    BAD_NUMBERS,
    FRAME,
    NAMESPACE,
    UNFIT_INPUT,
    BadInput,
    good_json,
    good_submission,
)
from tests.support.kafka import Kafka, Record
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, Client, client_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

OVER_KAFKA: Final = "over-kafka"
"""The producer of the good submissions over Kafka."""
HEADERS: Final = (("trace", b"a-1"), ("trace", b"a-2"))
"""Headers that mean nothing to the service, and stand twice."""


def _about(name: str, reason: pb.Reason.ValueType, field: str, **fields: object) -> Callable[[pb.Submission], BadInput]:
    """Something bad about an item and a submission that came before."""

    def made(good: pb.Submission) -> BadInput:
        bad = pb.Submission()
        bad.CopyFrom(good)
        bad.submission_id += "-bad"
        bad.content += " Or so they say."
        for field_name, value in fields.items():
            if value is None:
                bad.ClearField(field_name)  # type: ignore[arg-type] # a field's name
            else:
                setattr(bad, field_name, value.format(good.submission_id) if isinstance(value, str) else value)
        return BadInput(name, bad.SerializeToString(), (), reason, (field,), over_grpc=True)

    return made


Bad = BadInput | Callable[[pb.Submission], BadInput]
IN_CONTEXT: Final[dict[str, Callable[[pb.Submission], BadInput]]] = {
    name: _about(name, reason, field, **fields)
    for name, reason, field, fields in (
        (
            "an id that was used for other content",
            pb.REASON_SUBMISSION_ID_REUSED,
            "submission_id",
            {"submission_id": "{}"},
        ),
        ("a version that is not the head's", pb.REASON_VERSION_CONFLICT, "expected_version", {"expected_version": 7}),
        ("a new item that exists", pb.REASON_VERSION_CONFLICT, "expected_version", {"expected_version": 0}),
        (
            "a version of an item that does not exist",
            pb.REASON_VERSION_CONFLICT,
            "expected_version",
            {"item_id": "{}-no-such-item", "expected_version": 1},
        ),
        (
            "a retraction of an item that does not exist",
            pb.REASON_UNKNOWN_ITEM,
            "item_id",
            {"item_id": "{}-no-such-item", "retraction": True, "modality": None, "content": None, "embedding": None},
        ),
        ("no embedding where there is no encoder", pb.REASON_INVALID, "embedding", {"embedding": None}),
    )
}
GRPC_ONLY: Final = (
    BadInput("JSON", good_json(), (), pb.REASON_MALFORMED, ("",), over_grpc=True),
    BadInput(
        "a Confluent frame",
        FRAME + good_submission().SerializeToString(),
        (),
        pb.REASON_MALFORMED,
        ("",),
        over_grpc=True,
    ),
)
EVERYTHING: Final[dict[str, Bad]] = {bad.name: bad for bad in (*BAD_INPUT, *UNFIT_INPUT, *BAD_NUMBERS)} | IN_CONTEXT
OVER_GRPC: Final[dict[str, Bad]] = {
    name: bad for name, bad in EVERYTHING.items() if not isinstance(bad, BadInput) or bad.over_grpc
} | {bad.name: bad for bad in GRPC_ONLY}


@dataclass(frozen=True, slots=True)
class Sent:
    """A bad submission between two good ones."""

    before: pb.Submission
    bad: BadInput
    after: pb.Submission

    @classmethod
    def of(cls, bad: Bad, number: int, producer: str) -> "Sent":
        """With good ones of numbers that nobody else has."""
        before, after = (
            submission(
                NAMESPACE,
                number + more,
                submission_id=f"{producer}-{number + more}",
                item_id=f"{producer}-{number + more}",
                provenance=pb.Provenance(producer=producer),
                content=f"Number {number + more} comes {producer}.",
            )
            for more in (0, 1)
        )
        return cls(before, bad if isinstance(bad, BadInput) else bad(before), after)


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    """A topic of one partition that takes records as large as the service's own."""
    name = kafka.new_topic("bad", max_message_bytes="2097152")
    ensure_topics(kafka.bootstrap, submission_topics=[name])
    return name


@pytest.fixture(scope="module")
def service(kafka: Kafka, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("bad") / "data"
    with running_service(folder, kafka=kafka.bootstrap, kafka_topics=topic) as service:
        with SyncKnowledgeClient(service.address) as client:
            client.create_namespace(NAMESPACE, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
        yield service


def letters(folder: Path, after: int = 0) -> list[DeadLetter]:
    """The dead letters of a store that is in use."""
    with read_only(folder) as catalog:
        return deadletters.read(catalog.connection, after, 1000)


def newest_letter(folder: Path) -> int:
    """The number of the newest."""
    with read_only(folder) as catalog:
        return int(catalog.connection.execute("SELECT IFNULL(MAX(number), 0) FROM dead_letters").get)


def assert_refused(receipt: pb.Receipt, bad: BadInput) -> None:
    """The receipt says what the table says."""
    assert receipt.outcome == pb.OUTCOME_REFUSED
    assert pb.Reason.Name(receipt.reason) == pb.Reason.Name(bad.reason)
    assert [violation.field for violation in receipt.violations] == list(bad.fields)
    assert all(violation.description for violation in receipt.violations)
    assert not receipt.revision
    assert receipt.time.seconds


async def submitted_raw(client: Client, method: str, *submissions: bytes) -> ingest_pb.SubmitResponse:
    submit: Any = client.channel.unary_unary(method, response_deserializer=ingest_pb.SubmitResponse.FromString)
    request = RawSubmitRequest(submissions=submissions).SerializeToString()
    answer: ingest_pb.SubmitResponse = await submit(request, timeout=PATIENCE_SECONDS)
    return answer


def raw(*sent: Sent) -> list[bytes]:
    return [
        value
        for one in sent
        for value in (one.before.SerializeToString(), one.bad.value or b"", one.after.SerializeToString())
    ]


def test_there_are_at_least_forty_kinds() -> None:
    assert len(OVER_GRPC) >= 40
    assert len(EVERYTHING) >= 40


@pytest.mark.parametrize("name", OVER_GRPC)
async def test_over_grpc_it_is_refused_and_kept_and_its_neighbours_are_admitted(
    client: Client, service: RunningService, name: str
) -> None:
    sent = Sent.of(OVER_GRPC[name], 10 * list(OVER_GRPC).index(name), "over-grpc")
    newest = newest_letter(service.folder)
    answer = await submitted_raw(client, "/epistream.v1.IngestService/Submit", *raw(sent))
    before, refused, after = answer.receipts
    assert_refused(refused, sent.bad)
    assert (before.outcome, after.outcome) == (pb.OUTCOME_ADMITTED, pb.OUTCOME_ADMITTED)
    [letter] = letters(service.folder, newest)
    assert letter.record.value == (sent.bad.value or b"")[: SUBMISSION_BYTES_MAX + 1]
    assert letter.record.position is None
    assert letter.receipt == refused


async def test_on_a_stream_it_is_refused_and_the_stream_goes_on(client: Client, service: RunningService) -> None:
    sent = [Sent.of(bad, 10 * number, "over-stream") for number, bad in enumerate(OVER_GRPC.values())]
    newest = newest_letter(service.folder)
    submit: Any = client.channel.stream_stream(
        "/epistream.v1.IngestService/SubmitStream",
        response_deserializer=ingest_pb.SubmitStreamResponse.FromString,
    )
    call = submit()
    for one in sent:
        await call.write(RawSubmitRequest(submissions=raw(one)).SerializeToString())
    await call.done_writing()
    answers = [answer async for answer in call]
    for one, answer in zip(sent, answers, strict=True):
        before, refused, after = answer.receipts
        assert_refused(refused, one.bad)
        assert (before.outcome, after.outcome) == (pb.OUTCOME_ADMITTED, pb.OUTCOME_ADMITTED)
    kept = [letter.record.value for letter in letters(service.folder, newest)]
    assert kept == [(one.bad.value or b"")[: SUBMISSION_BYTES_MAX + 1] for one in sent]


@dataclass(frozen=True, slots=True, repr=False)
class Seen:
    """What became of the records over Kafka."""

    sent: dict[str, Sent]
    offsets: dict[str, int]
    """Where each bad record stands."""
    letters: dict[int, DeadLetter]
    """What the store keeps, by offset."""
    dead: dict[int, Record]
    """What is in the topic of dead letters, by the offset of the record that it was."""
    outcomes: Sequence[Record]


@pytest.fixture(scope="module")
def seen(service: RunningService, kafka: Kafka, topic: str) -> Seen:
    """Every kind was sent over Kafka, and the service has told what came of it."""
    sent = {name: Sent.of(bad, 10 * number, OVER_KAFKA) for number, (name, bad) in enumerate(EVERYTHING.items())}
    offsets = {}
    with CappedProducer(kafka.bootstrap) as producer:
        for name, one in sent.items():
            producer.send(topic, one.before.SerializeToString())
            bad = producer.send(topic, one.bad.value, key=name.encode(), headers=(*one.bad.headers, *HEADERS))
            last = producer.send(topic, one.after.SerializeToString())
            offsets[name] = bad.result(PATIENCE_SECONDS).offset
        assert last.result(PATIENCE_SECONDS).offset == 3 * len(sent) - 1
    everything = len(sent) + 2 * len(sent)
    wait_until(lambda: positions(service.folder).get((topic, 0)) == everything, "that all records are taken in")
    wait_until(lambda: service.metric("epistream_outbox_pending") == 0, "that Kafka is told everything")
    kept = {place.offset: letter for letter in letters(service.folder) if (place := letter.record.position) is not None}
    dead = {int(dict(r.headers)["epistream-dlq-original-offset"]): r for r in kafka.read(dead_letter_topic(topic))}
    return Seen(sent, offsets, kept, dead, kafka.read(OUTCOMES))


def positions(folder: Path) -> dict[tuple[str, int], int]:
    with read_only(folder) as catalog:
        rows = catalog.connection.execute("SELECT topic, partition, next_offset FROM positions")
        return {(topic, part): at for topic, part, at in rows}


@pytest.mark.parametrize("name", EVERYTHING)
def test_over_kafka_it_is_refused_and_becomes_a_dead_letter(seen: Seen, topic: str, name: str) -> None:
    bad, offset = seen.sent[name].bad, seen.offsets[name]
    letter, record = seen.letters[offset], seen.dead[offset]
    assert_refused(letter.receipt, bad)
    headers = (*bad.headers, *HEADERS)
    assert (letter.record.key, letter.record.value, letter.record.headers) == (name.encode(), bad.value, headers)
    assert (record.partition, record.key, record.value) == (0, name.encode(), bad.value)
    assert record.headers[: len(headers)] == headers
    why = dict(record.headers[len(headers) :])
    assert why.pop("epistream-dlq-reason").decode() == pb.Reason.Name(bad.reason).removeprefix("REASON_")
    error = why.pop("epistream-dlq-error").decode()
    assert all(field in error for field in bad.fields)
    assert error
    assert why.pop("epistream-dlq-original-topic").decode() == topic
    assert why.pop("epistream-dlq-original-partition") == b"0"
    assert int(why.pop("epistream-dlq-original-offset")) == offset
    assert int(why.pop("epistream-dlq-original-timestamp")) > 0
    assert all(key.startswith("epistream-dlq-") for key in why)


@pytest.mark.parametrize("name", EVERYTHING)
def test_over_kafka_its_outcome_is_told_and_its_neighbours_are_admitted(seen: Seen, name: str) -> None:
    sent, letter = seen.sent[name], seen.letters[seen.offsets[name]]
    number = str(letter.number).encode()
    told = [r for r in seen.outcomes if dict(r.headers).get("epistream-dead-letter") == number]
    assert letter.receipt in [pb.Receipt.FromString(record.value or b"") for record in told]
    for good in (sent.before, sent.after):
        key = f"{NAMESPACE}/{OVER_KAFKA}/{good.submission_id}".encode()
        told = [r for r in seen.outcomes if r.key == key and "epistream-sequence" in dict(r.headers)]
        assert [pb.Receipt.FromString(r.value or b"").outcome for r in told] == [pb.OUTCOME_ADMITTED]


def test_over_kafka_nothing_else_became_a_dead_letter(seen: Seen) -> None:
    assert set(seen.letters) == set(seen.offsets.values())
    assert set(seen.dead) == set(seen.offsets.values())


async def test_an_embedding_where_the_namespace_takes_none_is_refused(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", encoder=PACKAGED_MODEL) as service:
        async with client_of(service.address) as client:
            policy = ns_pb.Policy(accept_producer_embeddings=False)
            await client.namespaces.CreateNamespace(ns_pb.CreateNamespaceRequest(name="own", policy=policy))
            [receipt] = await client.submit(
                submission("own", 1, embedding=pb.Embedding(values=[1.0] * PACKAGED_DIMENSION))
            )
        [letter] = letters(service.folder)
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REFUSED, pb.REASON_INVALID)
    assert [violation.field for violation in receipt.violations] == ["embedding"]
    assert letter.receipt == receipt
