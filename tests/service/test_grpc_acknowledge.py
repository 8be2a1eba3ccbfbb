"""Who has applied what: acknowledgements are listed, and waited for."""

import asyncio

import pytest

from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import InvalidInput, Resync, Unavailable
from tests.support.rpc import (
    PATIENCE_SECONDS,
    Client,
    failure_of,
)


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


async def test_what_is_larger_than_any_acknowledgement_ends_the_stream(client: Client) -> None:
    await client.make_namespace("ack-large")
    large = sync_pb.SubscribeRequest.FromString(b"\x7a\x88\x27" + bytes(5000))  # as if of a later version
    async with client.subscribe("ack-large", after_revision=0) as stream:
        await stream.next_of("subscribed")
        await stream.call.write(large)
        error = await stream.failure()
    assert isinstance(error, InvalidInput)
    assert error.reason == "TOO_LARGE"
