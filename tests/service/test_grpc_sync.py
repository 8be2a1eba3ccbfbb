"""SyncService over gRPC, as a client generated from the protos meets it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.v1.raw_pb2 import RawSubscribeResponse
from epistream.wire.errors import InvalidInput, NotFound, Resync, Unavailable
from tests.support.rpc import PATIENCE_SECONDS, SMALL_WINDOW, Client, Subscription, client_of, failure_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until

PACED_CHANGES = 300
SOON = duration_pb2.Duration(nanos=100_000_000)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("sync") / "data") as service:
        yield service


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service.address) as client:
        yield client


def revisions(changes: list[pb.Change]) -> list[int]:
    return [change.revision for change in changes]


def about(topic: str) -> dict[str, object]:
    return {"attributes": {"topic": topic}}


async def submit_large(client: Client, namespace: str, count: int) -> None:
    """That many items of a quarter of a megabyte."""
    for start in range(1, count + 1, 12):
        batch = [submission(namespace, n, content=f"{n} " + "x" * 250_000) for n in range(start, start + 12)]
        assert {receipt.outcome for receipt in await client.submit(*batch)} == {pb.OUTCOME_ADMITTED}


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


# Many, slow, and going away


async def test_every_subscriber_gets_the_same_bytes(client: Client) -> None:
    await client.make_namespace("same")
    wanted = sync_pb.Subscription(namespace="same", consumer="model", after_revision=0)
    calls = [client.stream_raw("SyncService/Subscribe") for _ in range(50)]

    async def follow(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> bytes:
        await call.write(sync_pb.SubscribeRequest(subscribe=wanted).SerializeToString())
        body = b""
        while len(sync_pb.Changes.FromString(body).changes) < 30:
            raw = await asyncio.wait_for(call.read(), PATIENCE_SECONDS)
            assert isinstance(raw, bytes)
            body += RawSubscribeResponse.FromString(raw).changes
        return body

    followers = [asyncio.create_task(follow(call)) for call in calls]
    for start in range(1, 31, 3):
        await client.submit_many("same", range(start, start + 3))
    bodies = await asyncio.gather(*followers)
    for call in calls:
        call.cancel()
    assert revisions(list(sync_pb.Changes.FromString(bodies[0]).changes)) == list(range(1, 31))
    assert set(bodies) == {bodies[0]}


async def test_a_client_that_only_reads_may_half_close(client: Client) -> None:
    await client.make_namespace("half")
    async with client.subscribe("half", head=True, progress_interval=SOON) as stream:
        await stream.call.done_writing()
        await stream.next_of("subscribed")
        await stream.next_of("progress")
        await client.submit_many("half", [1])
        assert revisions(await stream.changes(1)) == [1]


async def test_large_items_come_in_messages_that_any_client_takes(client: Client) -> None:
    await client.make_namespace("large")
    await submit_large(client, "large", 24)
    async with client.subscribe("large", after_revision=0) as stream:
        await stream.next_of("subscribed")
        assert revisions(await stream.changes(24)) == list(range(1, 25))
    async with client.subscribe("large", snapshot=True) as stream:
        await stream.next_of("subscribed")
        count = 0
        while (message := await stream.next()).WhichOneof("message") != "snapshot_end":
            count += len(message.snapshot.changes)
        assert message.snapshot_end.count == count == 24


async def test_a_subscriber_that_does_not_read_costs_nobody_else_anything(
    client: Client, service: RunningService
) -> None:
    await client.make_namespace("slow")
    async with (
        client_of(service.address, SMALL_WINDOW) as slow_client,
        slow_client.subscribe("slow", after_revision=0, consumer="slow") as slow,
        client.subscribe("slow", after_revision=0, consumer="quick") as quick,
    ):
        await slow.next_of("subscribed")
        await quick.next_of("subscribed")
        await submit_large(client, "slow", 48)
        assert revisions(await quick.changes(48)) == list(range(1, 49))
        await client.submit_many("slow", range(49, 51))
        assert revisions(await quick.changes(2)) == [49, 50]
        listed = await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="slow"))
        sent = {consumer.consumer: consumer.sent_revision for consumer in listed.consumers}
        assert sent["quick"] == 50
        assert sent["slow"] < 48, "gRPC took 12 MB for a client that does not read"
        assert revisions(await slow.changes(50)) == list(range(1, 51))


async def test_who_does_not_acknowledge_gets_the_same_in_fewer_messages(client: Client) -> None:
    await client.make_namespace("paced")
    async with (
        client.subscribe("paced", head=True) as answering,
        client.subscribe("paced", head=True) as silent,
    ):
        for stream in (answering, silent):
            await stream.next_of("subscribed")

        async def received(stream: Subscription, *, acknowledges: bool) -> list[list[int]]:
            """The revisions of each message, up to the last change."""
            messages: list[list[int]] = []
            while not messages or messages[-1][-1] < PACED_CHANGES:
                messages.append(revisions(list((await stream.next_of("changes")).changes.changes)))
                if acknowledges:
                    await stream.acknowledge(messages[-1][-1])
            return messages

        receiving = asyncio.gather(received(answering, acknowledges=True), received(silent, acknowledges=False))
        for number in range(1, PACED_CHANGES + 1):
            await client.submit(submission("paced", number))
        many, few = await receiving
    for messages in (many, few):
        assert [revision for message in messages for revision in message] == list(range(1, PACED_CHANGES + 1))
    assert len(few) < len(many)


async def test_a_subscriber_that_was_too_slow_is_told_so(client: Client) -> None:
    await client.make_namespace("too-slow")
    async with client.subscribe("too-slow", after_revision=0) as stream:
        await stream.next_of("subscribed")
        await submit_large(client, "too-slow", 108)  # more than gRPC takes and more than the feed has in memory
        policy = ns_pb.Policy(retained_revisions=1)
        await client.namespaces.UpdatePolicy(ns_pb.UpdatePolicyRequest(name="too-slow", policy=policy))
        error = await stream.failure()
    assert isinstance(error, Resync)
    assert error.reason == "COMPACTED"


async def test_ended_streams_leave_nothing_behind(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("ended")
            for _ in range(20):
                async with client.subscribe("ended", head=True) as stream:
                    await stream.next_of("subscribed")
                async with client.subscribe("ended", after_revision=7) as stream:
                    await stream.failure()
            await until(lambda: service.metric("epistream_watch_streams") == 0)
            listed = await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="ended"))
            assert {consumer.connected for consumer in listed.consumers} == {False}
        assert service.stop() == 0
        assert "never retrieved" not in service.logged()
        assert "Traceback" not in service.logged()


async def test_subscriptions_have_a_bound(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_streams="2") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("bound")
            async with client.subscribe("bound", head=True) as first, client.subscribe("bound", head=True) as second:
                await first.next_of("subscribed")
                await second.next_of("subscribed")
                async with client.subscribe("bound", head=True) as third:
                    error = await third.failure()
                assert isinstance(error, Unavailable)
                assert error.reason == "OVERLOADED"
                [receipt] = await client.submit(submission("bound", 1))
                assert receipt.outcome == pb.OUTCOME_ADMITTED


async def test_going_down_ends_every_stream_with_a_word_and_success(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("drain")
            await client.submit_many("drain", [1, 2])
            async with client.subscribe("drain", after_revision=0) as stream:
                await stream.next_of("subscribed")
                await stream.changes(2)
                service.signal(signal.SIGTERM)
                drain = (await stream.next_of("drain")).drain
                assert drain.revision == 2
                assert 0.1 <= drain.retry_delay.ToMilliseconds() / 1000 <= 1.0
                assert await stream.call.read() == grpc.aio.EOF
                assert await stream.call.code() == grpc.StatusCode.OK
        assert service.wait() == 0


async def test_after_a_kill_a_stream_goes_on_without_gap_or_duplicate(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("killed")
            await client.submit_many("killed", range(1, 6))
            async with client.subscribe("killed", after_revision=0) as stream:
                epoch = (await stream.next()).subscribed.epoch
                assert revisions(await stream.changes(5)) == [1, 2, 3, 4, 5]
                service.kill()
        service.restart()
        async with client_of(service.address) as client:
            await client.submit_many("killed", [6])
            async with client.subscribe("killed", after_revision=5, epoch=epoch) as stream:
                assert (await stream.next()).subscribed.epoch == epoch
                assert revisions(await stream.changes(1)) == [6]


# Acknowledgements


async def test_acknowledgements_are_listed_and_waited_for(client: Client) -> None:
    await client.make_namespace("applied")
    await client.submit_many("applied", range(1, 4))
    async with (
        client.subscribe("applied", after_revision=0, consumer="one") as one,
        client.subscribe("applied", after_revision=0, consumer="two") as two,
    ):
        for stream in (one, two):
            await stream.next_of("subscribed")
            await stream.changes(3)
        waiting = asyncio.ensure_future(
            client.sync.WaitApplied(sync_pb.WaitAppliedRequest(namespace="applied", revision=3, consumers=["one"]))
        )
        await one.acknowledge(2)
        await one.acknowledge(3)
        assert list((await waiting).applied) == ["one"]
        everybody = sync_pb.WaitAppliedRequest(namespace="applied", revision=3)
        error = await failure_of(client.sync.WaitApplied(everybody, timeout=1.0))
        assert isinstance(error, Unavailable)
        assert error.reason == "DEADLINE"
        assert "two" in error.message
        assert "one" not in error.message
        listed = await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="applied"))
        assert listed.head_revision == 3
        found = [(c.consumer, c.connected, c.sent_revision, c.applied_revision) for c in listed.consumers]
        assert found == [("one", True, 3, 3), ("two", True, 3, 0)]
        assert listed.consumers[0].HasField("acknowledged_time")
        await client.submit_many("applied", [4])
        await two.changes(1)
        listed = await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="applied"))
        assert [c.lag_revisions for c in listed.consumers] == [1, 0]


async def test_a_consumer_with_two_replicas_has_applied_what_both_have(client: Client) -> None:
    await client.make_namespace("replicas")
    await client.submit_many("replicas", [1])
    wait = sync_pb.WaitAppliedRequest(namespace="replicas", revision=1, consumers=["twin"])
    async with (
        client.subscribe("replicas", after_revision=0, consumer="twin") as left,
        client.subscribe("replicas", after_revision=0, consumer="twin") as right,
    ):
        for stream in (left, right):
            await stream.next_of("subscribed")
            await stream.changes(1)
        await left.acknowledge(1)
        assert isinstance(await failure_of(client.sync.WaitApplied(wait, timeout=0.5)), Unavailable)
        await right.acknowledge(1)
        assert list((await client.sync.WaitApplied(wait, timeout=PATIENCE_SECONDS)).applied) == ["twin"]


async def test_waiting_for_a_revision_that_does_not_exist_fails_at_once(client: Client) -> None:
    await client.make_namespace("wait-future")
    error = await failure_of(client.sync.WaitApplied(sync_pb.WaitAppliedRequest(namespace="wait-future", revision=1)))
    assert isinstance(error, Resync)
    assert error.reason == "FUTURE_REVISION"


@pytest.mark.parametrize("acknowledged", [[4], [2, 1]])
async def test_what_was_not_sent_or_goes_back_cannot_be_acknowledged(client: Client, acknowledged: list[int]) -> None:
    await client.make_namespace(f"ack-{len(acknowledged)}")
    await client.submit_many(f"ack-{len(acknowledged)}", range(1, 4))
    async with client.subscribe(f"ack-{len(acknowledged)}", after_revision=0) as stream:
        await stream.next_of("subscribed")
        await stream.changes(3)
        for revision in acknowledged:
            await stream.acknowledge(revision)
        error = await stream.failure()
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == ["acknowledge.applied_revision"]


async def test_what_was_committed_while_a_call_was_cancelled_is_pushed(client: Client) -> None:
    await client.make_namespace("cancelled")
    async with client.subscribe("cancelled", head=True) as stream:
        await stream.next_of("subscribed")
        for number in range(1, 21):
            request = ingest_pb.SubmitRequest(submissions=[submission("cancelled", number)])
            call = client.ingest.Submit(request)
            await asyncio.sleep(0.0005 * (number % 5))
            call.cancel()
        await client.submit_many("cancelled", [100])
        seen: list[pb.Change] = []
        while not seen or seen[-1].item_id != "item-100":
            seen += await stream.changes(1)
        assert revisions(seen) == list(range(1, len(seen) + 1))
