"""Streams that are many, slow, or end: what each is sent, whatever the others and the service do."""

import asyncio
import signal
from pathlib import Path

import grpc

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.v1.raw_pb2 import RawSubscribeResponse
from epistream.wire.errors import Resync
from tests.support.rpc import (
    PATIENCE_SECONDS,
    SMALL_WINDOW,
    SOON,
    Client,
    Subscription,
    assert_turned_away,
    client_of,
    revisions,
    submission,
    submit_large,
)
from tests.support.service import RunningService, running_service
from tests.support.waits import until

PACED_CHANGES = 300


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
                    await assert_turned_away(third.drained(), "OVERLOADED")
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
            # Some may have been committed together.
            seen += (await stream.next_of("changes")).changes.changes
        assert revisions(seen) == list(range(1, len(seen) + 1))
