"""Clients that mean harm, or know no better: they are refused or cut off, and nobody else notices.

What healthy clients feel of it: bench/hostile.py. Who sends malformed bytes: test_bad_requests.py.
"""

import asyncio
import itertools
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import EpistreamError
from tests.support.http2 import initial_window_bytes, ping_until_sent_away
from tests.support.kill_rounds import fsck
from tests.support.metrics import served
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, assert_turned_away, client_of, rpc_failure_of, submission
from tests.support.secured import ACCESS, Secured, start
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

STREAMS: Final = 200
IDLER: Final = f"""
[principals.idler]
roles = ["lasting"]
token_hashes = ["{hash_of("idler")}"]
limits = {{ streams = {STREAMS} }}
"""
ASKED: Final = know_pb.GetRequest(namespace="facts", item_id="item-1")
OWN: Final = ("grpc.use_local_subchannel_pool", 1)
"""Of a client that has a connection to itself."""
COLLECTED: Final = "python_gc_objects_collected_total"
SPARE_FILES: Final = 8
NUMBERS: Final = itertools.count(100)
"""Of submissions that no other test has sent."""


@asynccontextmanager
async def undisturbed(service: RunningService) -> AsyncIterator[None]:
    """Somebody else's connection and stream, which go on as if there were nothing, over what happens in the block."""
    async with client_of(service.address, OWN) as client:
        await client.make_namespace("facts")
        await client.submit(submission("facts", 1))
        async with client.subscribe("facts", head=True) as stream:
            await stream.next_of("subscribed")
            yield
            receipts = await client.submit(*(submission("facts", next(NUMBERS)) for _ in range(3)))
            changes = await stream.changes(3)
            assert [change.revision for change in changes] == [receipt.revision for receipt in receipts]


async def test_who_pings_without_end_is_sent_away(service: RunningService) -> None:
    host, _, port = service.address.rpartition(":")

    def ping() -> bytes | None:
        with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection:
            return ping_until_sent_away(connection)

    async with undisturbed(service):
        assert await asyncio.to_thread(ping) == b"too_many_pings"


async def test_what_is_refused_leaves_next_to_nothing_for_a_collection(service: RunningService) -> None:
    """One ends some hundred calls at once, and everybody waits: of a refused call there were 41 objects, and more."""
    count, at_once = 1000, 50
    revised = submission("facts", 9, item_id="item-1", expected_version=77)
    conflict = ingest_pb.SubmitRequest(submissions=[revised], atomic=True).SerializeToString()
    nobody = health_pb2.HealthCheckRequest(service="nobody")
    async with undisturbed(service), client_of(service.address, OWN) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        before = collected(service)
        for _ in range(count // at_once):
            malformed = [rpc_failure_of(client.call_raw("KnowledgeService/Search", b"\xff")) for _ in range(at_once)]
            refused = [rpc_failure_of(client.call_raw("IngestService/Submit", conflict)) for _ in range(at_once)]
            unknown = [rpc_failure_of(health.Check(nobody)) for _ in range(at_once)]
            for errors, code in (
                (await asyncio.gather(*malformed), grpc.StatusCode.INVALID_ARGUMENT),
                (await asyncio.gather(*refused), grpc.StatusCode.ABORTED),
                (await asyncio.gather(*unknown), grpc.StatusCode.NOT_FOUND),
            ):
                assert {error.code() for error in errors} == {code}
        assert collected(service) - before < 12 * 3 * count


def collected(service: RunningService, *, ca: bytes | None = None, token: str | None = None) -> float:
    """How many objects of the service only collections have freed; read as `page_of` does."""
    page = served(service.metrics_address, ca=ca, token=token)
    return sum(sample.value for sample in page[COLLECTED].samples if sample.name == COLLECTED)


@pytest.mark.parametrize("kilobytes", [30, 100])
async def test_metadata_above_the_limit_is_refused(service: RunningService, kilobytes: int) -> None:
    async with undisturbed(service), client_of(service.address, OWN) as client:
        call = client.knowledge.Get(ASKED, metadata=(("x", "y" * kilobytes * 1024),), timeout=PATIENCE_SECONDS)
        error = await rpc_failure_of(call)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await client.knowledge.Get(ASKED)).change.item_id == "item-1"


async def test_a_message_above_the_limit_is_refused(service: RunningService) -> None:
    async with undisturbed(service), client_of(service.address, OWN) as client:
        error = await rpc_failure_of(client.call_raw("IngestService/Submit", bytes(20 * 1024 * 1024)))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        stream = client.stream_raw("IngestService/SubmitStream")
        await stream.write(bytes(20 * 1024 * 1024))
        assert await stream.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await client.knowledge.Get(ASKED)).change.item_id == "item-1"


@pytest.mark.parametrize("method", ["Submit", "SubmitStream"])
async def test_of_a_message_far_above_the_limit_next_to_nothing_is_taken_in(
    service: RunningService, method: str
) -> None:
    async with undisturbed(service), client_of(service.address, OWN) as client:
        before = peak_bytes(service.pid)
        stream = client.stream_raw(f"IngestService/{method}")
        await stream.write(bytes(256 * 1024 * 1024))
        assert await stream.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert peak_bytes(service.pid) - before < 32 * 1024 * 1024


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("settings", "window_bytes"), [({}, 64 * 1024), ({"receive_window_bytes": "1048576"}, 1 << 20)]
)
def test_a_call_may_come_unread_as_far_as_is_set(tmp_path: Path, settings: dict[str, str], window_bytes: int) -> None:
    with running_service(tmp_path / "data", settings) as service:
        host, _, port = service.address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection:
            assert initial_window_bytes(connection) == window_bytes


@pytest.fixture(scope="module")
def idled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from start(tmp_path_factory.mktemp("idled"), ACCESS + IDLER)


@pytest.mark.parametrize("asked", ["knowledge", "health"])
async def test_what_is_answered_leaves_a_collection_no_more_than_grpc_does(idled: Secured, asked: str) -> None:
    """gRPC itself leaves a cycle of six or seven objects in each call. With more of ours each kept its call, too."""
    count, at_once, ca = 1000, 50, idled.authority.ca_file.read_bytes()
    async with idled.client("root") as root:
        await root.make_namespace(asked)
        await root.submit(submission(asked, 1))
        health = health_pb2_grpc.HealthStub(root.channel)
        ask: dict[str, Callable[[], Awaitable[object]]] = {
            "knowledge": lambda: root.knowledge.Get(know_pb.GetRequest(namespace=asked, item_id="item-1")),
            "health": lambda: health.Check(health_pb2.HealthCheckRequest()),
        }
        before = collected(idled.service, ca=ca, token="root")
        for _ in range(count // at_once):
            await asyncio.gather(*(ask[asked]() for _ in range(at_once)))
        assert collected(idled.service, ca=ca, token="root") - before < 8 * count


async def test_idle_streams_end_at_the_limit_of_their_principal(idled: Secured) -> None:
    async with idled.client("root") as root, idled.client("idler", OWN) as client, AsyncExitStack() as streams:
        await root.make_namespace("facts")
        opened = [await streams.enter_async_context(client.subscribe("facts", head=True)) for _ in range(STREAMS)]
        for stream in opened:
            await stream.next_of("subscribed")
        async with client.subscribe("facts", head=True) as more:
            await assert_turned_away(more.drained(), "OVERLOADED")
        await root.submit(submission("facts", 1))
        for stream in opened:
            assert len(await stream.changes(1)) == 1
        assert (await root.knowledge.Get(ASKED)).change.item_id == "item-1"


BY_US: Final = grpc.StatusCode.UNAUTHENTICATED
BY_GRPC: Final = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("characters", "codes"), [(9_000, {BY_US}), (20_000, {BY_US, BY_GRPC}), (30_000, {BY_GRPC}), (60_000, {BY_GRPC})]
)
async def test_a_token_of_any_length_is_refused(idled: Secured, characters: int, codes: set[grpc.StatusCode]) -> None:
    """By the service, as any token that is nobody's; above the limit for metadata by gRPC, from 16 KiB on by chance."""
    async with idled.client("root") as root:
        await root.make_namespace("facts")
        async with idled.client("x" * characters, OWN) as client:
            error = await rpc_failure_of(client.knowledge.Get(ASKED, timeout=PATIENCE_SECONDS))
        assert error.code() in codes
        await root.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name="facts"))


def test_a_service_without_files_to_open_refuses_and_goes_on_when_there_are(tmp_path: Path) -> None:
    """Connections take all that it may open. What it acknowledges is there, and afterwards all is taken again."""
    acknowledged: dict[str, int] = {}
    with running_service(tmp_path / "data") as service:
        process = psutil.Process(service.pid)
        host, _, port = service.address.rpartition(":")
        with SyncKnowledgeClient(service.address) as client:
            client.create_namespace("facts", encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
        with SyncProducer(service.address, timeout_seconds=5) as producer, ExitStack() as connections:
            submit(producer, range(5), acknowledged)
            _, hard = process.rlimit(resource.RLIMIT_NOFILE)
            most = process.num_fds() + SPARE_FILES
            process.rlimit(resource.RLIMIT_NOFILE, (most, hard))
            for _ in range(4 * SPARE_FILES):
                connections.enter_context(socket.create_connection((host, int(port)), PATIENCE_SECONDS))
            wait_until(lambda: process.num_fds() >= most, "that there are no more files to open")
            submit(producer, range(5, 15), acknowledged)
            assert service.is_running()
        with SyncProducer(service.address, timeout_seconds=PATIENCE_SECONDS) as producer:
            submit(producer, range(15, 20), acknowledged)
            assert {f"s-{number}" for number in range(15, 20)} <= acknowledged.keys()
        with SyncKnowledgeClient(service.address) as client:
            for number, revision in acknowledged.items():
                assert client.get("facts", number.replace("s-", "item-")).change.revision == revision
        assert service.stop() == 0
    assert fsck(tmp_path / "data") == []


def submit(producer: SyncProducer, numbers: range, acknowledged: dict[str, int]) -> None:
    """Submit one after the other; what is not acknowledged is an error that says so."""
    for number in numbers:
        try:
            [receipt] = producer.submit(submission("facts", number))
        except EpistreamError:
            continue
        assert receipt.outcome == pb.OUTCOME_ADMITTED
        acknowledged[receipt.submission_id] = receipt.revision
