"""One trace leads from the producer to the push, over Kafka and over gRPC; by default nothing of it is there."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from epistream.clients import Producer, SyncProducer
from epistream.clients.kafka_producer import KafkaProducer
from epistream.indexer.feed import Batch
from epistream.indexer.model import Malformed, Record
from epistream.services.traced_changes import Push
from epistream.services.tracing import BEGUN_PER_SECOND_MAX, PUSHES_MAX, Traces
from epistream.v1 import knowledge_pb2 as pb
from tests.support.collector import PRODUCER, Collector, Span, collector, producers_tracer
from tests.support.intake import topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.rpc import Client, client_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TREE = {
    "epistream.receive": "send",
    "epistream.prepare": "epistream.receive",
    "epistream.commit": "epistream.receive",
    "epistream.push": "epistream.commit",
}
"""Each span's parent."""


@pytest.fixture(scope="module", autouse=True)
def _soon() -> Iterator[None]:
    """The SDK of the services here sends every 50 ms, and gives up after a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        yield


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as collected:
        yield collected


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    return topic_with_dead_letters(kafka)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, kafka: Kafka, topic: str, collected: Collector
) -> Iterator[RunningService]:
    """One that follows what producers say, and nothing else."""
    with running_service(
        tmp_path_factory.mktemp("traced") / "data",
        kafka=kafka.bootstrap,
        kafka_topics=topic,
        kafka_group=topic,
        trace_endpoint=collected.endpoint,
        trace_ratio="0",
    ) as service:
        yield service


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service.address) as client:
        yield client


def by_name(spans: list[Span]) -> dict[str, Span]:
    """The spans, of which each must be there once."""
    names = [one.name for one in spans]
    assert len(set(names)) == len(names), names
    return {one.name: one for one in spans}


def assert_one_way(found: dict[str, Span]) -> None:
    """The spans of a trace are those of the way from the producer to the push, each within its parent's."""
    assert found.keys() == {"send", *TREE}
    assert not found["send"].span.parent_span_id
    for name, parent in TREE.items():
        assert found[name].span.parent_span_id == found[parent].span.span_id, name
        assert found[name].span.start_time_unix_nano >= found["send"].span.start_time_unix_nano
        assert found[name].span.end_time_unix_nano >= found[name].span.start_time_unix_nano
        assert found[name].service == "epistream"
        assert b"Fact number" not in found[name].span.SerializeToString()
    assert found["send"].service == PRODUCER


async def test_one_trace_leads_through_kafka_to_the_push(
    kafka: Kafka, topic: str, client: Client, collected: Collector
) -> None:
    await client.make_namespace("kafka")
    async with client.subscribe("kafka", after_revision=0) as subscription:
        await subscription.next_of("subscribed")
        with producers_tracer(collected.endpoint) as tracer, KafkaProducer(kafka.bootstrap) as producer:
            with tracer.start_as_current_span("send") as span:
                sent = producer.send(submission("kafka", 1), topic=topic)
            position = sent.result()
        [change] = await subscription.changes(1)
        trace = span.get_span_context().trace_id
        collected.await_named("epistream.push", trace)
        found = by_name(collected.of_trace(trace))
    assert_one_way(found)
    receive = found["epistream.receive"]
    assert receive.span.kind == trace_pb2.Span.SPAN_KIND_CONSUMER
    assert receive.attributes() == {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": position.offset,
    }
    assert receive.span.end_time_unix_nano >= found["epistream.commit"].span.end_time_unix_nano - 1_000_000
    assert found["epistream.prepare"].attributes()["epistream.batch_size"] == 1
    assert found["epistream.commit"].attributes() == {
        "epistream.batch_size": 1,
        "epistream.submissions": 1,
        "epistream.outcome": "ADMITTED",
        "epistream.reason": "NEW",
        "epistream.namespace": "kafka",
        "epistream.revision": change.revision,
        "epistream.item": "item-1",
    }
    assert found["epistream.push"].attributes() == {
        "epistream.namespace": "kafka",
        "epistream.consumer": "model",
        "epistream.revision": change.revision,
        "epistream.batch_size": 1,
    }


async def test_one_trace_leads_through_a_call_to_the_push(
    service: RunningService, client: Client, collected: Collector
) -> None:
    await client.make_namespace("grpc")
    other = pb.Filter(producers=["somebody else"])
    async with (
        client.subscribe("grpc", after_revision=0, filter=other, consumer="filtered") as filtered,
        client.subscribe("grpc", after_revision=0) as subscription,
    ):
        await filtered.next_of("subscribed")
        await subscription.next_of("subscribed")
        with producers_tracer(collected.endpoint) as tracer:
            async with Producer(service.address) as producer:
                with tracer.start_as_current_span("send") as span:
                    receipts = await producer.submit(submission("grpc", 1), submission("grpc", 2))
                await subscription.changes(2)
                theirs = submission("grpc", 3, provenance=pb.Provenance(producer="somebody else"))
                with tracer.start_as_current_span("send") as later:
                    await producer.submit(theirs)
        [change] = await filtered.changes(1)
        assert change.revision == 3
        # Spans come in the order in which they ended: what belongs to the first trace is there when this is.
        collected.await_named("epistream.push", later.get_span_context().trace_id, count=2)
        trace = span.get_span_context().trace_id
        found = by_name(collected.of_trace(trace))
    assert_one_way(found)
    assert found["epistream.receive"].span.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert found["epistream.receive"].attributes() == {"rpc.method": "Submit", "epistream.submissions": 2}
    assert found["epistream.prepare"].attributes()["epistream.batch_size"] == 2
    assert found["epistream.commit"].attributes()["epistream.revision"] == receipts[-1].revision
    assert found["epistream.push"].attributes()["epistream.consumer"] == "model"


async def test_the_blocking_producer_tells_its_callers_span(
    service: RunningService, client: Client, collected: Collector
) -> None:
    await client.make_namespace("blocking")

    def submit() -> int:
        with producers_tracer(collected.endpoint) as tracer, SyncProducer(service.address) as producer:
            with tracer.start_as_current_span("send") as span:
                producer.submit(submission("blocking", 1))
            return span.get_span_context().trace_id

    trace = await asyncio.to_thread(submit)
    [receive] = collected.await_named("epistream.receive", trace)
    [send] = collected.await_named("send", trace)
    assert receive.span.parent_span_id == send.span.span_id


async def test_what_becomes_of_a_record_is_told_also_when_it_is_refused(
    kafka: Kafka, topic: str, service: RunningService, collected: Collector
) -> None:
    assert service.is_running()
    # The extension of CloudEvents has the same, under its own name.
    kafka.produce(topic, [b"\xff no submission"], headers=[("CE_traceparent", SAMPLED.encode())])
    trace = int(SAMPLED.split("-")[1], 16)
    [commit] = collected.await_named("epistream.commit", trace)
    [receive] = collected.await_named("epistream.receive", trace)
    assert receive.span.parent_span_id.hex() == "b7ad6b7169203331"
    assert commit.attributes()["epistream.outcome"] == "REFUSED"
    assert commit.attributes()["epistream.reason"] == "MALFORMED"
    assert "epistream.push" not in by_name(collected.of_trace(trace))


async def test_the_producer_decides_what_is_followed_of_its_own(tmp_path: Path) -> None:
    with (
        collector() as collected,
        running_service(tmp_path / "data", trace_endpoint=collected.endpoint, trace_ratio="1") as service,
        producers_tracer(collected.endpoint, sampled=False) as unsampled,
    ):
        async with client_of(service.address) as client, Producer(service.address) as producer:
            await client.make_namespace("facts")
            with unsampled.start_as_current_span("send") as span:
                assert span.get_span_context().is_valid
                await producer.submit(submission("facts", 1))
            await producer.submit(submission("facts", 2))
            await client.retract("facts", "item-2")

            async def source() -> AsyncIterator[pb.Submission]:
                yield submission("facts", 3)

            assert [receipt.revision async for receipt in producer.stream(source())] == [4]
            spans = collected.await_named("epistream.receive", count=3)
        assert service.stop() == 0
    assert [one.attributes()["rpc.method"] for one in spans] == ["Submit", "Retract", "SubmitStream"]
    assert {one.span.parent_span_id for one in spans} == {b""}
    assert len({one.span.trace_id for one in spans}) == 3
    assert {one.service for one in collected.spans} == {"epistream"}
    commits = [one.attributes()["epistream.revision"] for one in collected.spans if one.name == "epistream.commit"]
    assert commits == [2, 3, 4]


async def test_a_collector_that_is_away_disturbs_nothing_and_is_told_of_once(tmp_path: Path) -> None:
    with collector() as once:
        address = once.address
    with running_service(tmp_path / "data", trace_endpoint=f"http://{address}", trace_ratio="1") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("facts")
            number = 0

            async def submit() -> None:
                nonlocal number
                number += 1
                [receipt] = await client.submit(submission("facts", number))
                assert receipt.revision == number

            await submit()
            await until(lambda: "takes no traces" in service.logged())
            await submit()
            with collector(address) as back:
                while "takes traces again" not in service.logged():
                    await submit()
                assert back.await_named("epistream.commit")
        assert len(re.findall("takes no traces", service.logged())) == 1
        assert "Transient error" not in service.logged()
        assert service.stop() == 0


BLOCKER = """
import os, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            open(os.environ["ASKED_FOR"], "a").write(name + "\\n")
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


@pytest.fixture
def asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without OpenTelemetry in the processes that are started; what of it was asked for is in the file."""
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker/sitecustomize.py").write_text(BLOCKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "blocker"), prepend=os.pathsep)
    monkeypatch.setenv("ASKED_FOR", str(tmp_path / "asked-for"))
    (tmp_path / "asked-for").touch()
    return tmp_path / "asked-for"


async def test_a_service_that_traces_nothing_needs_nothing_of_opentelemetry(
    kafka: Kafka, tmp_path: Path, asked_for: Path
) -> None:
    topic = topic_with_dead_letters(kafka)
    with running_service(tmp_path / "data", kafka=kafka.bootstrap, kafka_topics=topic, kafka_group=topic) as service:
        async with client_of(service.address) as client:
            await client.make_namespace("facts")
            async with client.subscribe("facts", after_revision=0) as subscription:
                await subscription.next_of("subscribed")
                headers = [("traceparent", SAMPLED.encode())]
                await client.submit(submission("facts", 1))
                kafka.produce(topic, [submission("facts", 2).SerializeToString()], headers=headers)
                await subscription.changes(2)
        assert service.stop() == 0
    assert asked_for.read_text() == ""  # noqa: ASYNC240 - nothing runs beside


def test_traces_without_their_packages_are_refused_at_the_start(tmp_path: Path, asked_for: Path) -> None:
    arguments = [f"--folder={tmp_path / 'data'}", "--trace-endpoint=http://127.0.0.1:4317", "--encoder=none"]
    done = subprocess.run(
        [sys.executable, "-m", "epistream.services", "up", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'epistream[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked_for.read_text()


# In this process


@pytest.fixture
def traces(collected: Collector) -> Iterator[Traces]:
    """In this process."""
    traces = Traces(collected.endpoint, 0.0, lambda call: call())
    yield traces
    traces.stop()


def test_only_so_many_traces_begin_in_a_second(traces: Traces) -> None:
    calls = [traces.called("Submit", [("traceparent", SAMPLED)], 1) for _ in range(20 * BEGUN_PER_SECOND_MAX)]
    followed = [trace for trace in calls if trace is not None]
    assert len(followed) >= BEGUN_PER_SECOND_MAX
    assert len(followed) < len(calls)


@pytest.mark.parametrize(
    "header",
    ["", "nonsense", SAMPLED[:-1], SAMPLED.replace("0af", "XYZ"), "ff" + SAMPLED[2:], f"00-{'0' * 32}-{'0' * 16}-01"],
)
def test_a_header_that_is_wrong_is_as_none(traces: Traces, header: str) -> None:
    assert traces.called("Submit", [("traceparent", header.encode("latin-1"))], 1) is None


def test_a_header_that_is_no_text_is_as_none_and_w3cs_own_goes_before_cloudevents(traces: Traces) -> None:
    assert traces.called("Submit", [("traceparent", b"\xff\x00")], 1) is None
    assert traces.called("Submit", [("traceparent", SAMPLED.encode()), ("ce_traceparent", b"nonsense")], 1) is not None
    assert traces.called("Submit", [("ce_traceparent", b"nonsense"), ("Traceparent", SAMPLED.encode())], 1) is not None


def test_a_commit_that_fails_fails_as_it_would_and_one_that_cannot_be_told_does_not(
    traces: Traces, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trace = traces.called("Submit", [("traceparent", SAMPLED)], 1)
    assert trace is not None
    followed = Malformed(trace.follow(Record(b"x", 1)), pb.REASON_MALFORMED, ())

    def failing(*_: object, **__: object) -> list[pb.Receipt]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        traces.committing(failing)([followed])
    monkeypatch.setattr(trace, "committed", failing)
    assert traces.committing(lambda *_, **__: [pb.Receipt(revision=1)])([followed]) == [pb.Receipt(revision=1)]
    assert "could not be traced" in caplog.text


def test_only_the_first_pushes_of_a_trace_are_told(traces: Traces, collected: Collector) -> None:
    parent = SAMPLED.replace("0af7", "1111")
    trace = traces.called("Submit", [("traceparent", parent)], 1)
    assert trace is not None
    for _ in range(PUSHES_MAX + 5):
        trace.pushed(Push("facts", "model", 0, Batch(b"", 1, 1, ()), 1, 2), 1)
    trace.end()
    collected.await_named("epistream.receive", trace_id := int(parent.split("-")[1], 16))
    assert len(collected.await_named("epistream.push", trace_id)) == PUSHES_MAX
