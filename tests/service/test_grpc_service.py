"""What surrounds the services: health, reflection, metrics, limits, deadlines, going down."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from epistream.services.metrics import Metrics
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import Broken, EpistreamError, Unavailable
from tests.support.methods import METHODS
from tests.support.rpc import (
    PATIENCE_SECONDS,
    Client,
    assert_turned_away,
    client_of,
    failure_of,
    rpc_failure_of,
    submission,
    told_by,
    vector,
)
from tests.support.service import Fail, RunningService, running_service
from tests.support.waits import until

STATEFUL_SET = Path(__file__).parents[2] / "k8s" / "base" / "statefulset.yaml"
SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICES = {method.containing_service.full_name for method in METHODS.values()}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service.address) as client:
        yield client


async def test_every_service_is_healthy(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", *SERVICES):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    listed = (await health.List(health_pb2.HealthListRequest())).statuses
    assert {name: one.status for name, one in listed.items()} == dict.fromkeys(("", *SERVICES), SERVING)


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_bytes_that_are_no_request_of_health_are_refused_and_fill_no_log(
    service: RunningService, client: Client, method: str
) -> None:
    logged = service.logged()
    call: grpc.aio.StreamStreamCall[bytes, bytes] = client.channel.stream_stream(f"/grpc.health.v1.Health/{method}")()
    await call.write(b"\xff")
    await call.done_writing()
    error = await rpc_failure_of(call.read())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert service.logged() == logged


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_of_the_contract_is_served(client: Client, method: str) -> None:
    call = client.stream_raw(method)
    await call.write(b"\xff")
    await call.done_writing()
    error = await rpc_failure_of(call.read())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_reflection_tells_a_client_of_any_language_all_it_needs(client: Client) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert listed >= SERVICES | {"grpc.health.v1.Health"}
    symbol = "epistream.v1.SyncService"
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    found = (await call.read()).file_descriptor_response.file_descriptor_proto
    file = descriptor_pb2.FileDescriptorProto.FromString(found[0])
    await call.done_writing()
    assert [m.name for s in file.service for m in s.method] == ["Subscribe", "ListConsumers", "WaitApplied"]


async def test_a_call_without_a_deadline_gets_one(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", default_call_seconds="0.5") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("deadline")
            await client.submit_many("deadline", [1])
            wait = sync_pb.WaitAppliedRequest(namespace="deadline", revision=1, consumers=["nobody"])
            error = await failure_of(client.sync.WaitApplied(wait))
    assert isinstance(error, Unavailable)
    assert error.reason == "DEADLINE"


async def test_calls_have_a_bound_and_the_one_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_calls="2") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("calls")
            streams = [client.ingest.SubmitStream() for _ in range(2)]
            for number, stream in enumerate(streams):
                await stream.write(ingest_pb.SubmitStreamRequest(submissions=[submission("calls", number)]))
                await stream.read()
            await assert_turned_away(client.make_namespace("calls"), "OVERLOADED")
            for stream in streams:
                await stream.done_writing()
                assert await stream.read() == grpc.aio.EOF
            await client.make_namespace("calls")


async def test_an_answer_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_answer_bytes=str(2 * 1024 * 1024)) as service:
        async with client_of(service.address) as client:
            await client.make_namespace("answer")
            for start in (1, 7):
                batch = [submission("answer", n, content=f"{n} " + "x" * 250_000) for n in range(start, start + 6)]
                await client.submit(*batch)
            request = knowledge_pb.SearchRequest(namespace="answer", vector=pb.Embedding(float32=vector(1)), limit=20)
            error = await rpc_failure_of(client.knowledge.Search(request))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "ask for less" in (error.details() or "")
            request.limit = 3
            assert len((await client.knowledge.Search(request)).hits) == 3


# Metrics


async def test_the_metrics_move(service: RunningService, client: Client) -> None:
    await client.make_namespace("metrics")
    admitted = 'epistream_ingest_outcomes_total{outcome="admitted",source="grpc"}'
    refused = 'epistream_ingest_outcomes_total{outcome="refused",source="grpc"}'
    before = {name: service.metric(name, 0) for name in (admitted, refused, "epistream_freshness_seconds_count")}
    async with client.subscribe("metrics", head=True) as stream:
        await stream.next_of("subscribed")
        assert service.metric("epistream_watch_streams") >= 1
        await client.submit_many("metrics", range(1, 4))
        await client.submit(submission("metrics", 4, origin=pb.ORIGIN_UNSPECIFIED), submission("nowhere", 1))
        await stream.changes(3)
        await stream.acknowledge(3)
        wait = sync_pb.WaitAppliedRequest(namespace="metrics", revision=3, consumers=["model"])
        await client.sync.WaitApplied(wait)
    assert service.metric(admitted) >= before[admitted] + 3
    assert service.metric(refused) >= before[refused] + 1
    assert service.metric("epistream_freshness_seconds_count") >= before["epistream_freshness_seconds_count"] + 3
    assert service.metric('epistream_store_revision{namespace="metrics"}') >= 3
    assert service.metric('epistream_index_vectors{namespace="metrics"}') >= 3
    assert service.metric("epistream_push_latency_seconds_count") >= 1
    assert service.metric("epistream_applied_latency_seconds_count") >= 1
    assert service.metric("epistream_store_commit_duration_seconds_count") >= 2
    assert service.metric('epistream_dlq_total{reason="unknown_namespace"}') >= 1
    assert service.metric('epistream_grpc_requests_total{code="OK",method="IngestService/Submit"}') >= 2
    assert service.metric("epistream_encoder_ready") == 0


def test_no_metric_has_a_label_that_grows_with_what_is_known() -> None:
    labels = {label for metric in vars(Metrics()).values() for label in getattr(metric, "_labelnames", ())}
    assert labels == {"method", "code", "source", "outcome", "reason", "topic", "part", "result"}


# What goes wrong


async def test_an_event_loop_that_stands_still_fails_the_liveness_probe(tmp_path: Path) -> None:
    [container] = yaml.safe_load(STATEFUL_SET.read_text())["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))

    with running_service(tmp_path / "data", health_address="127.0.0.1:0", fail=Fail("loop_held", at_pass=1)) as held:

        async def told() -> grpc.StatusCode:
            async with grpc.aio.insecure_channel(held.health_address) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check(request, timeout=probe["timeoutSeconds"])
                code: grpc.StatusCode = await check.code()
            return code

        async def is_alive() -> bool:
            return await told() == grpc.StatusCode.OK

        async def is_out_of_time() -> bool:
            return await told() == grpc.StatusCode.DEADLINE_EXCEEDED

        assert await is_alive()
        held.signal(signal.SIGUSR1)
        await until(is_out_of_time, "a probe that fails")
        assert "epistream_writer_waiting_bytes 0.0" in held.metrics_page(), "all else goes on"
        held.signal(signal.SIGUSR2)
        await until(is_alive, "a probe that succeeds")


async def test_a_call_whose_request_never_comes_is_ended(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", default_call_seconds="0.5") as service:
        async with client_of(service.address) as client:
            ask: Any = client.channel.stream_unary("/epistream.v1.KnowledgeService/Get")
            error = told_by(await asyncio.wait_for(rpc_failure_of(ask()), PATIENCE_SECONDS))
    assert isinstance(error, Unavailable)
    assert error.reason == "DEADLINE"


async def test_a_disk_that_does_not_flush_ends_the_service_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", fail=Fail("flush", at_pass=9)) as service:
        async with client_of(service.address) as client:
            await client.make_namespace("disk")
            acknowledged = 0
            error: EpistreamError | None = None
            while error is None:
                try:
                    await client.submit(submission("disk", acknowledged + 1))
                    acknowledged += 1
                except grpc.aio.AioRpcError as failure:
                    error = told_by(failure)
            assert isinstance(error, Broken)
        assert await asyncio.to_thread(service.wait) == 1
        assert acknowledged > 3
        service.restart()
        async with client_of(service.address) as client:
            request = ns_pb.GetNamespaceRequest(name="disk")
            head = (await client.namespaces.GetNamespace(request)).namespace.head_revision
            assert head in (acknowledged, acknowledged + 1), "what was not flushed may be there all the same"
            [receipt] = await client.submit(submission("disk", acknowledged + 1))
            assert (receipt.revision, receipt.earlier) == (acknowledged + 1, head > acknowledged)
