"""A service's methods as a client generated from the protos has them, and submissions to call them with.

It stands beside `epistream.clients`: the service is tested by its contract, not by our own client's view of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, Self

import grpc
import grpc.aio
import numpy as np
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from epistream.v1 import admin_service_pb2_grpc as admin_rpc
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import ingest_service_pb2_grpc as ingest_rpc
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2_grpc as knowledge_rpc
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import namespace_service_pb2_grpc as namespace_rpc
from epistream.v1 import review_service_pb2_grpc as review_rpc
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.v1 import sync_service_pb2_grpc as sync_rpc
from epistream.wire.errors import EpistreamError
from epistream.wire.status import from_status

DIMENSION: Final = 16
PATIENCE_SECONDS: Final = 20.0
SMALL_WINDOW: Final = ("grpc.http2.bdp_probe", 0)
"""Of a client that does not read: otherwise gRPC may take any number of megabytes for it."""
SOON: Final = duration_pb2.Duration(nanos=100_000_000)


class Client:
    """The services over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.admin = admin_rpc.AdminServiceStub(channel)
        self.ingest = ingest_rpc.IngestServiceStub(channel)
        self.knowledge = knowledge_rpc.KnowledgeServiceStub(channel)
        self.reviews = review_rpc.ReviewServiceStub(channel)
        self.namespaces = namespace_rpc.NamespaceServiceStub(channel)
        self.sync = sync_rpc.SyncServiceStub(channel)

    async def make_namespace(self, name: str, *, retained_revisions: int = 0) -> ns_pb.Namespace:
        """A namespace whose producers bring their own vectors."""
        request = ns_pb.CreateNamespaceRequest(name=name, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
        request.policy.retained_revisions = retained_revisions
        return (await self.namespaces.CreateNamespace(request)).namespace

    async def submit(self, *submissions: pb.Submission, atomic: bool = False) -> list[pb.Receipt]:
        """The receipts of a batch."""
        request = ingest_pb.SubmitRequest(submissions=submissions, atomic=atomic)
        return list((await self.ingest.Submit(request, timeout=PATIENCE_SECONDS)).receipts)

    async def submit_many(self, namespace: str, numbers: Iterable[int]) -> None:
        """One batch of new items, `item-1` for 1."""
        receipts = await self.submit(*(submission(namespace, n) for n in numbers))
        assert {receipt.outcome for receipt in receipts} == {pb.OUTCOME_ADMITTED}

    async def retract(self, namespace: str, item_id: str) -> pb.Receipt:
        """Take an item back."""
        request = ingest_pb.RetractRequest(
            namespace=namespace,
            submission_id=f"retract-{item_id}",
            item_id=item_id,
            origin=pb.ORIGIN_EXPERT,
            provenance=pb.Provenance(producer="tests"),
        )
        return (await self.ingest.Retract(request, timeout=PATIENCE_SECONDS)).receipt

    async def call_raw(self, method: str, request: bytes) -> bytes:
        """A unary call with bytes as they are, such as of `IngestService/Submit`."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/epistream.v1.{method}")
        return await call(request, timeout=PATIENCE_SECONDS)

    def stream_raw(self, method: str) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        """A call with bytes as they are both ways, such as of `SyncService/Subscribe`."""
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(f"/epistream.v1.{method}")
        return call()

    def subscribe(self, namespace: str, **subscription: object) -> "Subscription":
        """A subscription that is read message by message."""
        return Subscription(self, namespace, **subscription)


@asynccontextmanager
async def client_of(address: str, *options: tuple[str, int]) -> AsyncIterator[Client]:
    """A client with gRPC's default options."""
    channel = grpc.aio.insecure_channel(address, options=options)
    try:
        yield Client(channel)
    finally:
        await channel.close()


class Subscription:
    """A subscription, read message by message. Use it as an async context, which ends it."""

    def __init__(self, client: Client, namespace: str, **subscription: object) -> None:
        wanted = sync_pb.Subscription(namespace=namespace, consumer="model")
        for name, value in subscription.items():
            if isinstance(value, (pb.Filter, duration_pb2.Duration)):
                getattr(wanted, name).CopyFrom(value)
            else:
                setattr(wanted, name, value)
        self.wanted = wanted
        self.call = client.sync.Subscribe()

    async def __aenter__(self) -> Self:
        await self.call.write(sync_pb.SubscribeRequest(subscribe=self.wanted))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()

    async def next(self) -> sync_pb.SubscribeResponse:
        """The next message; fails after a while, and at the end of the stream."""
        message = await asyncio.wait_for(self.call.read(), PATIENCE_SECONDS)
        assert isinstance(message, sync_pb.SubscribeResponse), f"the stream ended: {await self.call.code()}"
        return message

    async def next_of(self, kind: str) -> sync_pb.SubscribeResponse:
        """The next message of a kind; progress before it is skipped, anything else fails."""
        while (message := await self.next()).WhichOneof("message") != kind:
            assert message.WhichOneof("message") == "progress", f"expected {kind}, found {message}"
        return message

    async def changes(self, count: int) -> list[pb.Change]:
        """The next changes; progress is skipped, anything else fails."""
        found: list[pb.Change] = []
        while len(found) < count:
            found.extend((await self.next_of("changes")).changes.changes)
        assert len(found) == count, f"expected {count} changes, found {len(found)}"
        return found

    async def acknowledge(self, revision: int) -> None:
        """Say that everything up to a revision is applied."""
        acknowledgement = sync_pb.Acknowledgement(applied_revision=revision)
        await self.call.write(sync_pb.SubscribeRequest(acknowledge=acknowledgement))

    async def failure(self) -> EpistreamError:
        """What the stream ends with, after whatever is still sent."""
        return await failure_of(self.drained())

    async def drained(self) -> None:
        """Read until the end, and keep nothing. Raises what the stream ends with."""
        while isinstance(await asyncio.wait_for(self.call.read(), PATIENCE_SECONDS), sync_pb.SubscribeResponse):
            pass


async def failure_of(awaitable: object) -> EpistreamError:
    """The error of ours that a call fails with."""
    return told_by(await rpc_failure_of(awaitable))


def told_by(error: grpc.aio.AioRpcError) -> EpistreamError:
    """The error of ours that gRPC's brings."""
    status = rpc_status.from_call(error)
    assert status is not None, f"an error without details: {error}"
    return from_status(status)


def delay_told_by(error: grpc.aio.AioRpcError) -> float:
    """After how many seconds to come back, by an error's details. Fails without: `told_by` makes a second of that."""
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    assert status is not None, f"an error without details: {error}"
    assert any(detail.Unpack(retry) for detail in status.details), f"an error without a delay: {error}"
    delay_seconds: float = retry.retry_delay.ToMicroseconds() / 1e6
    assert delay_seconds > 0
    return delay_seconds


async def assert_turned_away(awaitable: object, reason: str) -> float:
    """A call fails with RESOURCE_EXHAUSTED for this reason, and is told after how many seconds to come back."""
    error = await rpc_failure_of(awaitable)
    assert (error.code(), told_by(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
    return delay_told_by(error)


async def rpc_failure_of(awaitable: object) -> grpc.aio.AioRpcError:
    """The error that a call fails with, as gRPC has it."""
    try:
        answer = await awaitable  # type: ignore[misc] # whatever can be awaited
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"expected an error, found {answer}")


def submission(namespace: str, number: int, **fields: object) -> pb.Submission:
    """The submission `s-1` of `item-1` for 1, with a content and a vector that are like no other number's."""
    made = pb.Submission(
        namespace=namespace,
        submission_id=f"s-{number}",
        item_id=f"item-{number}",
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        content=f"Fact number {number}.",
        provenance=pb.Provenance(producer="tests", generator="gpt"),
        embedding=pb.Embedding(float32=vector(number)),
    )
    made.MergeFrom(pb.Submission(**fields))  # type: ignore[arg-type] # as the caller says
    return made


def vector(number: int) -> bytes:
    """A vector that is near to no other number's."""
    return np.random.default_rng(number).standard_normal(DIMENSION).astype("<f4").tobytes()


def revisions(changes: list[pb.Change]) -> list[int]:
    """Those of changes, in their order."""
    return [change.revision for change in changes]


async def submit_large(client: Client, namespace: str, count: int) -> None:
    """That many items of a quarter of a megabyte."""
    for start in range(1, count + 1, 12):
        batch = [submission(namespace, n, content=f"{n} " + "x" * 250_000) for n in range(start, start + 12)]
        assert {receipt.outcome for receipt in await client.submit(*batch)} == {pb.OUTCOME_ADMITTED}
