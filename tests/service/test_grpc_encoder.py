"""The service with its own encoder: it answers before the model is loaded, and says what it cannot answer yet."""

from collections.abc import Iterator

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.indexer.encoder import PACKAGED_DIMENSION, PACKAGED_MODEL
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.rpc import Client, client_of, delay_told_by, rpc_failure_of, submission, told_by
from tests.support.service import RunningService, running_service

LOADED_SECONDS = 120.0


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("encoder") / "data", encoder=PACKAGED_MODEL) as service:
        yield service


def text(number: int, content: str, origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT) -> pb.Submission:
    made = submission("text", number, content=content)
    made.ClearField("embedding")
    made.origin = origin
    return made


async def test_text_is_embedded_once_the_encoder_is_loaded_and_all_else_before(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await everything_but_text_is_answered(service, client)
        await text_waits_within_its_deadline(client)
        await text_is_found(client)
    assert service.metric("epistream_encoder_ready") == 1


async def everything_but_text_is_answered(service: RunningService, client: Client) -> None:
    assert service.metric("epistream_encoder_ready") == 0, "the model was loaded before anything could be asked"
    health = health_pb2_grpc.HealthStub(client.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    made = (await client.namespaces.CreateNamespace(ns_pb.CreateNamespaceRequest(name="text"))).namespace
    assert (made.encoder.model, made.encoder.dimension) == (PACKAGED_MODEL, PACKAGED_DIMENSION)
    await client.make_namespace("vectors")
    await client.submit_many("vectors", [1])
    async with client.subscribe("vectors", after_revision=0) as stream:
        await stream.next_of("subscribed")
        assert len(await stream.changes(1)) == 1


async def text_waits_within_its_deadline(client: Client) -> None:
    search = knowledge_pb.SearchRequest(namespace="text", text="What is the limit?")
    request = ingest_pb.SubmitRequest(submissions=[text(1, "The daily limit is 50 mg.")])
    for call in (client.knowledge.Search(search), client.ingest.Submit(request, timeout=3.0)):
        error = await rpc_failure_of(call)
        assert told_by(error).reason == "ENCODER_LOADING"
        assert delay_told_by(error) > 0
    [receipt] = (await client.ingest.Submit(request, timeout=LOADED_SECONDS)).receipts
    assert receipt.outcome == pb.OUTCOME_ADMITTED


async def text_is_found(client: Client) -> None:
    others = [
        text(2, "Bridges are inspected every two years."),
        text(3, "The daily limit is 5 mg.", pb.ORIGIN_SYNTHETIC),
    ]
    bridges, conflicting = await client.submit(*others)
    assert bridges.reason == pb.REASON_NEW
    assert conflicting.outcome != pb.OUTCOME_MERGED
    search = knowledge_pb.SearchRequest(
        namespace="text", text="How much may be taken in a day?", include_query_embedding=True
    )
    answer = await client.knowledge.Search(search)
    assert answer.hits[0].change.knowledge.content.startswith("The daily limit")
    assert len(answer.query_embedding) == 4 * PACKAGED_DIMENSION
