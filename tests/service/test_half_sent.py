"""Calls whose request does not come, of nobody and of somebody who may call, and answers that are not taken.

gRPC would wait for a request, and count the call among those that may be open, before any code of ours hears of it; and
it keeps an answer for which the client has no room, when the call has been answered.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import psutil
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from tests.support.http2 import call_without_room
from tests.support.rpc import PATIENCE_SECONDS, Client, assert_turned_away, client_of, submission
from tests.support.secured import ACCESS, Secured, start
from tests.support.service import RunningService, running_service
from tests.support.waits import until

CHECK: Final = "/grpc.health.v1.Health/Check"
GET: Final = "/epistream.v1.KnowledgeService/Get"
ASKED: Final = know_pb.GetRequest(namespace="facts", item_id="item-1")
OWN: Final = ("grpc.use_local_subchannel_pool", 1)
"""Of a client that has a connection to itself."""
ARRIVING: Final = 32
"""Requests of one principal that may take long."""


@asynccontextmanager
async def begun(client: Client, method: str, count: int) -> AsyncIterator["list[grpc.aio.StreamUnaryCall[Any, Any]]"]:
    """Calls of which nothing but their headers is sent, which end with the block."""
    ask: Any = client.channel.stream_unary(method)
    calls = [ask() for _ in range(count)]
    await asyncio.gather(*(call.wait_for_connection() for call in calls), return_exceptions=True)
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("half-sent")
    with running_service(folder / "data", health_address="127.0.0.1:0", max_calls="50", max_streams="50") as service:
        yield service


async def assert_all_is_answered(service: RunningService, place: str) -> None:
    """Whether the process lives, at one of its ports; and a question."""
    async with client_of(getattr(service, place), OWN) as asking, client_of(service.address, OWN) as other:
        await other.make_namespace("facts")
        await other.submit(submission("facts", 1))
        health = health_pb2_grpc.HealthStub(asking.channel)
        for _ in range(20):
            found = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
            assert found.status == health_pb2.HealthCheckResponse.SERVING
            assert (await other.knowledge.Get(ASKED)).change.item_id == "item-1"


@pytest.mark.parametrize(("place", "connections", "each"), [("health_address", 30, 20), ("address", 1, 700)])
async def test_nobody_keeps_health_or_others_out_with_requests_that_never_come(
    service: RunningService, place: str, connections: int, each: int
) -> None:
    """At the port that is for health alone a connection may have 20 open; at the other there may be 600 of all."""
    async with AsyncExitStack() as half:
        calls = []
        for _ in range(connections):
            client = await half.enter_async_context(client_of(getattr(service, place), OWN))
            calls += await half.enter_async_context(begun(client, CHECK, each))
        await assert_all_is_answered(service, place)
        codes = await asyncio.wait_for(asyncio.gather(*(call.code() for call in calls)), PATIENCE_SECONDS)
    assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes.count(grpc.StatusCode.DEADLINE_EXCEEDED) >= 100


@pytest.mark.parametrize(("place", "connections", "each"), [("health_address", 30, 20), ("address", 1, 700)])
async def test_nobody_keeps_health_or_others_out_with_answers_that_are_not_taken(
    service: RunningService, place: str, connections: int, each: int
) -> None:
    host, _, port = getattr(service, place).rpartition(":")
    with ExitStack() as unread:
        for _ in range(connections):
            connection = unread.enter_context(socket.create_connection((host, int(port)), PATIENCE_SECONDS))
            call_without_room(connection, CHECK, host, each)
        await asyncio.sleep(1)
        await assert_all_is_answered(service, "health_address")
        if place == "address":
            async with client_of(service.address, OWN) as client:
                await until(lambda: _is_not_healthy(client), "that all calls have come")
                await assert_turned_away(_check(client), "OVERLOADED")
    await until(lambda: _is_healthy(service), "that health is told there again")


def _check(client: Client) -> Any:
    asked = health_pb2.HealthCheckRequest()
    return health_pb2_grpc.HealthStub(client.channel).Check(asked, timeout=PATIENCE_SECONDS)


async def _is_not_healthy(client: Client) -> bool:
    return bool(await _check(client).code() != grpc.StatusCode.OK)


async def _is_healthy(service: RunningService) -> bool:
    async with client_of(service.address, OWN) as client:
        return bool(await _check(client).code() == grpc.StatusCode.OK)


async def test_calls_count_for_the_bound_of_all_before_their_requests_have_come(service: RunningService) -> None:
    async with client_of(service.address, OWN) as half, client_of(service.address, OWN) as whole:
        async with begun(half, GET, 50):
            await until(lambda: _is_turned_away(whole), "that no more calls are taken")
        await until(lambda: _is_answered(whole), "that calls are taken again")


async def _is_turned_away(client: Client) -> bool:
    call = client.knowledge.Get(ASKED, timeout=PATIENCE_SECONDS)
    return await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def _is_answered(client: Client) -> bool:
    return not await _is_turned_away(client)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from start(tmp_path_factory.mktemp("half-sent-secured"), ACCESS)


async def test_a_principals_calls_are_open_before_their_requests_have_come(secured: Secured) -> None:
    async with secured.client("single", OWN) as client, begun(client, GET, 1):
        await assert_turned_away(client.knowledge.Get(ASKED, timeout=PATIENCE_SECONDS), "OVERLOADED")


async def test_of_requests_that_take_long_a_principal_may_have_only_some_on_their_way(secured: Secured) -> None:
    async with secured.client("root") as root, secured.client("careless", OWN) as client:
        await root.make_namespace("facts")
        await root.submit(submission("facts", 1))
        async with begun(client, GET, ARRIVING + 1) as calls:
            ends = [asyncio.ensure_future(call.code()) for call in calls]
            done, _ = await asyncio.wait(ends, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            assert [end.result() for end in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
            assert (await client.knowledge.Get(ASKED)).change.item_id == "item-1", "what comes at once is not of them"
            assert (await root.knowledge.Get(ASKED)).change.item_id == "item-1"


async def test_of_answers_that_are_not_taken_a_principal_may_have_only_so_many(secured: Secured) -> None:
    """64 MiB of them, and gRPC keeps each twice."""
    process = psutil.Process(secured.service.pid)
    async with (
        secured.client("root") as root,
        secured.client("single", OWN, ("grpc.http2.bdp_probe", 0), ("grpc.max_receive_message_length", -1)) as client,
    ):
        await root.make_namespace("large")
        for number in range(1, 26):
            words = " ".join(f"{chr(96 + number) * 3}{place}" for place in range(40_000))[:250_000]
            [receipt] = await root.submit(submission("large", number, content=words))
            assert receipt.outcome == pb.OUTCOME_ADMITTED
        asked = know_pb.DiffRequest(namespace="large")
        getattr(asked, "from").revision = 0
        before = process.memory_info().rss
        calls = await answered(client, "Diff", asked, 40, untaken=10)
        untaken = [call for call in calls if not call.done()]
        assert 8 <= len(untaken) <= 10, "of 6 MiB each"
        for call in calls:
            if call not in untaken:
                assert "have not taken" in (await call.details() or "")
        assert process.memory_info().rss - before < 300 * 1024 * 1024
        for call in untaken:
            call.cancel()
        await until(lambda: _takes(client, asked), "that answers are sent again")


async def test_answers_that_are_not_taken_count_beside_a_principals_calls(secured: Secured) -> None:
    """One and 16 more, for one that may have one call open."""
    async with secured.client("root") as root, secured.client("single", OWN, ("grpc.http2.bdp_probe", 0)) as client:
        await root.make_namespace("middling")
        words = " ".join(f"word{place}" for place in range(40_000))[:250_000]
        [receipt] = await root.submit(submission("middling", 1, content=words))
        asked = know_pb.GetRequest(namespace="middling", item_id=receipt.item_id)
        calls = await answered(client, "Get", asked, 30, untaken=17)
        assert sum(not call.done() for call in calls) == 17


async def answered(
    client: Client, method: str, request: Message, count: int, *, untaken: int
) -> "list[grpc.aio.UnaryStreamCall[Any, Any]]":
    """Calls that are answered one after the other, of which the answers are not taken.

    Returns when no more than `untaken` of them are open, and has given the others time to end wrongly, too.
    """
    ask: Any = client.channel.unary_stream(f"/epistream.v1.KnowledgeService/{method}")
    calls = []
    for _ in range(count):
        calls.append(ask(request.SerializeToString()))
        await calls[-1].initial_metadata()
    await until(lambda: sum(not call.done() for call in calls) <= untaken, "the end of the other calls")
    await asyncio.sleep(0.5)
    return calls


async def _takes(client: Client, asked: know_pb.DiffRequest) -> bool:
    call = client.knowledge.Diff(asked, timeout=PATIENCE_SECONDS)
    return await call.code() == grpc.StatusCode.OK
