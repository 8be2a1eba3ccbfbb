"""SyncService over gRPC, as a client generated from the protos meets it."""

import grpc
import pytest
from google.protobuf import duration_pb2

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import InvalidInput, NotFound, Resync
from tests.support.rpc import SOON, Client, failure_of, revisions, submission


def about(topic: str) -> dict[str, object]:
    return {"attributes": {"topic": topic}}


# Starting


async def test_from_the_beginning_come_all_changes_in_order_and_then_the_new_ones(client: Client) -> None:
    namespace = await client.make_namespace("beginning")
    await client.submit_many("beginning", range(1, 6))
    async with client.subscribe("beginning", after_revision=0) as stream:
        subscribed = (await stream.next()).subscribed
        assert (subscribed.head_revision, subscribed.after_revision) == (5, 0)
        assert subscribed.dimension == namespace.encoder.dimension
        assert len(subscribed.epoch) > 0
        assert revisions(await stream.changes(5)) == [1, 2, 3, 4, 5]
        await client.submit_many("beginning", range(6, 8))
        changes = await stream.changes(2)
        assert revisions(changes) == [6, 7]
        assert changes[0].knowledge.content == "Fact number 6."
        assert changes[0].kind == pb.CHANGE_KIND_ADMITTED
        assert changes[0].embedding == b""


async def test_resuming_goes_on_after_the_revision(client: Client) -> None:
    await client.make_namespace("resume")
    await client.submit_many("resume", range(1, 6))
    async with client.subscribe("resume", after_revision=3) as stream:
        epoch = (await stream.next()).subscribed.epoch
        assert revisions(await stream.changes(2)) == [4, 5]
    async with client.subscribe("resume", after_revision=5, epoch=epoch) as stream:
        assert (await stream.next()).subscribed.after_revision == 5
        await client.submit_many("resume", [6])
        assert revisions(await stream.changes(1)) == [6]


async def test_from_the_head_come_only_the_new_ones(client: Client) -> None:
    await client.make_namespace("head")
    await client.submit_many("head", range(1, 4))
    async with client.subscribe("head", head=True) as stream:
        assert (await stream.next()).subscribed.after_revision == 3
        await client.submit_many("head", [4])
        assert revisions(await stream.changes(1)) == [4]


async def test_a_snapshot_has_what_is_known_and_the_changes_follow(client: Client) -> None:
    await client.make_namespace("snapshot")
    await client.submit_many("snapshot", range(1, 6))
    await client.retract("snapshot", "item-2")
    async with client.subscribe("snapshot", snapshot=True) as stream:
        head = (await stream.next()).subscribed.after_revision
        begin = (await stream.next()).snapshot_begin
        assert begin.revision == head
        assert not begin.compacted
        items = list((await stream.next()).snapshot.changes)
        end = (await stream.next()).snapshot_end
        assert (end.revision, end.count) == (head, len(items))
        await client.submit_many("snapshot", [7])
        assert revisions(await stream.changes(1)) == [head + 1]
    assert sorted(change.item_id for change in items) == ["item-1", "item-3", "item-4", "item-5"]


async def test_an_empty_snapshot_has_a_beginning_and_an_end(client: Client) -> None:
    await client.make_namespace("empty")
    async with client.subscribe("empty", snapshot=True) as stream:
        kinds = [(await stream.next()).WhichOneof("message") for _ in range(3)]
        assert kinds == ["subscribed", "snapshot_begin", "snapshot_end"]


async def test_a_revision_beyond_the_head_is_said_to_be_so_at_once(client: Client) -> None:
    await client.make_namespace("future")
    await client.submit_many("future", range(1, 4))
    for revision in (4, 1_000_000):
        async with client.subscribe("future", after_revision=revision) as stream:
            error = await stream.failure()
        assert isinstance(error, Resync)
        assert (error.reason, error.state.head_revision) == ("FUTURE_REVISION", 3)
        assert await stream.call.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_another_stores_revision_is_refused(client: Client) -> None:
    await client.make_namespace("epoch")
    await client.submit_many("epoch", range(1, 4))
    async with client.subscribe("epoch", after_revision=2, epoch="of-another-store") as stream:
        error = await stream.failure()
    assert isinstance(error, Resync)
    assert error.reason == "EPOCH_MISMATCH"
    assert error.state.epoch not in ("", "of-another-store")


async def test_a_revision_that_is_no_longer_retained_needs_a_snapshot(client: Client) -> None:
    await client.make_namespace("compacted", retained_revisions=3)
    await client.submit_many("compacted", range(1, 11))
    async with client.subscribe("compacted", after_revision=6) as stream:
        error = await stream.failure()
    assert isinstance(error, Resync)
    assert (error.reason, error.state.compacted_revision, error.state.head_revision) == ("COMPACTED", 7, 10)
    assert await stream.call.code() == grpc.StatusCode.OUT_OF_RANGE
    async with client.subscribe("compacted", after_revision=7) as stream:
        await stream.next_of("subscribed")
        assert revisions(await stream.changes(3)) == [8, 9, 10]
    async with client.subscribe("compacted", after_revision=6, snapshot_if_compacted=True) as stream:
        assert (await stream.next()).subscribed.after_revision == 10
        assert (await stream.next()).snapshot_begin.compacted
        assert len((await stream.next()).snapshot.changes) == 10
        assert (await stream.next()).snapshot_end.count == 10


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "subscribe.start"),
        ({"head": False}, "subscribe.head"),
        ({"snapshot": False}, "subscribe.snapshot"),
        ({"head": True, "consumer": ""}, "subscribe.consumer"),
        ({"head": True, "consumer": "x" * 201}, "subscribe.consumer"),
        ({"head": True, "progress_interval": duration_pb2.Duration(seconds=61)}, "subscribe.progress_interval"),
        ({"head": True, "progress_interval": duration_pb2.Duration(nanos=1)}, "subscribe.progress_interval"),
    ],
)
async def test_a_wrong_subscription_is_refused_by_its_field(
    client: Client, wrong: dict[str, object], field: str
) -> None:
    await client.make_namespace("wrong")
    async with client.subscribe("wrong", **wrong) as stream:
        error = await stream.failure()
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == [field]


async def test_an_unknown_namespace_is_not_found(client: Client) -> None:
    async with client.subscribe("nowhere", head=True) as stream:
        assert isinstance(await stream.failure(), NotFound)


async def test_the_first_message_must_subscribe_and_only_the_first(client: Client) -> None:
    await client.make_namespace("first")
    call = client.sync.Subscribe()
    await call.write(sync_pb.SubscribeRequest(acknowledge=sync_pb.Acknowledgement(applied_revision=1)))
    assert isinstance(await failure_of(call.read()), InvalidInput)
    call = client.sync.Subscribe()
    await call.done_writing()
    assert isinstance(await failure_of(call.read()), InvalidInput)
    async with client.subscribe("first", head=True) as stream:
        await stream.next_of("subscribed")
        again = sync_pb.Subscription(namespace="first", consumer="model", head=True)
        await stream.call.write(sync_pb.SubscribeRequest(subscribe=again))
        assert isinstance(await stream.failure(), InvalidInput)


async def test_bytes_that_are_no_message_end_the_stream_with_a_word(client: Client) -> None:
    call = client.stream_raw("SyncService/Subscribe")
    await call.write(b"\xff\xff\xff\xff")
    assert isinstance(await failure_of(call.read()), InvalidInput)


# Filters and progress


async def test_an_item_that_no_longer_matches_has_left(client: Client) -> None:
    await client.make_namespace("left")
    filter_ = pb.Filter(attributes={"topic": "a"})
    async with client.subscribe("left", after_revision=0, filter=filter_) as stream:
        await stream.next_of("subscribed")
        await client.submit(submission("left", 1, **about("a")), submission("left", 2, **about("b")))
        [change] = await stream.changes(1)
        assert (change.item_id, change.kind) == ("item-1", pb.CHANGE_KIND_ADMITTED)
        moved = submission("left", 3, item_id="item-1", content="Something else now.", **about("b"))
        await client.submit(moved)
        [change] = await stream.changes(1)
        assert (change.item_id, change.kind, change.version) == ("item-1", pb.CHANGE_KIND_LEFT, 2)
        assert not change.HasField("knowledge")
        back = submission("left", 4, item_id="item-1", content="And back again.", **about("a"))
        await client.submit(back)
        [change] = await stream.changes(1)
        assert (change.item_id, change.kind, change.version) == ("item-1", pb.CHANGE_KIND_REVISED, 3)


async def test_progress_tells_how_far_a_filtered_stream_is(client: Client) -> None:
    await client.make_namespace("progress")
    await client.submit(*(submission("progress", n, **about("a" if n == 3 else "b")) for n in range(1, 11)))
    filter_ = pb.Filter(attributes={"topic": "a"})
    async with client.subscribe("progress", after_revision=0, filter=filter_, progress_interval=SOON) as stream:
        await stream.next_of("subscribed")
        assert revisions(await stream.changes(1)) == [3]
        progress = (await stream.next_of("progress")).progress
        assert (progress.revision, progress.head_revision) == (10, 10)
        await client.submit(submission("progress", 11, **about("b")))
        while (await stream.next_of("progress")).progress.revision != 11:
            pass


async def test_an_idle_stream_hears_from_the_service_again_and_again(client: Client) -> None:
    await client.make_namespace("idle")
    async with client.subscribe("idle", head=True, progress_interval=SOON) as stream:
        await stream.next_of("subscribed")
        times = [(await stream.next_of("progress")).progress.time.ToMicroseconds() for _ in range(3)]
        assert times == sorted(set(times))


async def test_vectors_come_where_they_were_asked_for(client: Client) -> None:
    namespace = await client.make_namespace("vectors")
    await client.submit_many("vectors", [1])
    async with client.subscribe("vectors", after_revision=0, include_embeddings=True) as stream:
        await stream.next_of("subscribed")
        [change] = await stream.changes(1)
        assert len(change.embedding) == 4 * namespace.encoder.dimension
    async with client.subscribe("vectors", snapshot=True, include_embeddings=True) as stream:
        [item] = (await stream.next_of("subscribed"), await stream.next(), await stream.next())[2].snapshot.changes
        assert item.embedding == change.embedding
