"""What a subscriber acknowledges, and how it ends."""

import asyncio
import contextlib
import gc
from datetime import UTC, datetime

import pytest

from epistream.clients import (
    Changes,
    Event,
    InvalidInput,
    NotFound,
    Position,
    Progress,
    SnapshotItems,
    Start,
    Subscriber,
    Unavailable,
    connect,
)
from epistream.clients.subscriber import ACKNOWLEDGE_INTERVAL_SECONDS
from tests.support.histories import random_history, state_after
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.subscribing import (
    a_snapshot,
    changes_up_to,
    subscriber_of,
    through_proxy,
    without_vectors,
)
from tests.support.waits import until


async def acknowledge_each(subscriber: Subscriber, revision: int, time: datetime) -> None:
    """Acknowledge every batch up to `revision` as it comes, and what is older after it."""
    async for event in subscriber:
        if isinstance(event, Changes):
            subscriber.acknowledge(event.revision, time)
            subscriber.acknowledge(event.revision - 1)
            await asyncio.sleep(0.003)
            if event.revision == revision:
                break


async def test_acknowledgements_are_cumulative() -> None:
    history = random_history(700, seed=18)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        time = datetime(2026, 1, 2, 3, tzinfo=UTC)
        await acknowledge_each(subscriber, 700, time)
        stream = server.streams[0]
        await until(lambda: bool(stream.acknowledgements) and stream.acknowledgements[-1].applied_revision == 700)
        revisions = [acknowledgement.applied_revision for acknowledgement in stream.acknowledgements]
        assert revisions == sorted(set(revisions))
        assert stream.acknowledgements[-1].applied_time.ToDatetime(UTC) == time


async def test_in_an_interval_one_acknowledgement_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epistream.clients.subscriber.ACKNOWLEDGE_INTERVAL_SECONDS", 3600.0)
    async with ScriptedServer(random_history(700, seed=18)) as server, subscriber_of(server.address) as subscriber:
        await acknowledge_each(subscriber, 700, datetime(2026, 1, 2, 3, tzinfo=UTC))
        await until(lambda: bool(server.streams[0].acknowledgements))
        assert len(server.streams[0].acknowledgements) == 1


async def test_the_last_acknowledgement_is_sent_when_the_subscriber_is_closed_and_none_after() -> None:
    async with ScriptedServer(random_history(20, seed=19)) as server:
        async with subscriber_of(server.address) as subscriber:
            await changes_up_to(subscriber, 20)
            for revision in (1, 19, 20):
                subscriber.acknowledge(revision)
        subscriber.acknowledge(20)
        await until(lambda: server.streams[0].ended and bool(server.streams[0].acknowledgements))
        assert server.streams[0].acknowledgements[-1].applied_revision == 20
        assert len(server.streams) == 1


async def test_what_was_not_received_cannot_be_acknowledged() -> None:
    async with ScriptedServer(random_history(20, seed=19)) as server, subscriber_of(server.address) as subscriber:
        await changes_up_to(subscriber, 20)
        with pytest.raises(InvalidInput, match="21 was not received"):
            subscriber.acknowledge(21)


async def test_a_new_stream_is_told_what_was_acknowledged_on_the_last() -> None:
    async with ScriptedServer(random_history(20, seed=20)) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(break_after=4))
        await changes_up_to(subscriber, 20)
        subscriber.acknowledge(15)
        await anext(subscriber)
        await anext(subscriber)
        await until(lambda: [a.applied_revision for a in server.streams[1].acknowledgements] == [15])


async def test_nothing_is_acknowledged_during_a_snapshot() -> None:
    """The service has sent nothing yet then, and refuses whoever has applied more than that."""
    history = random_history(60, seed=21)
    async with ScriptedServer(history[:20]) as server, subscriber_of(server.address, auto_snapshot=True) as subscriber:
        server.scripts.append(Script(break_after=4))
        await changes_up_to(subscriber, 20)
        subscriber.acknowledge(20)
        server.epoch = "epoch-2"
        server.history = history[:10]
        assert await a_snapshot(subscriber) == (10, state_after(history, 10))
        subscriber.acknowledge(10)
        await until(lambda: [a.applied_revision for a in server.streams[-1].acknowledgements] == [10])


async def test_what_was_applied_before_a_snapshot_is_not_acknowledged_during_it() -> None:
    async with ScriptedServer(random_history(60, seed=21)) as server:
        server.floor = 50
        server.scripts.append(Script(silent_after=3))
        async with subscriber_of(server.address, Position("epoch-1", 5), auto_snapshot=True) as subscriber:
            while not isinstance(await anext(subscriber), SnapshotItems):
                pass
            subscriber.acknowledge(5)
            await asyncio.sleep(4 * ACKNOWLEDGE_INTERVAL_SECONDS)
            assert server.streams[0].acknowledgements == []


async def test_an_iteration_that_was_cancelled_can_be_taken_up_again() -> None:
    history = random_history(40, seed=22)
    async with ScriptedServer(history[:20]) as server, subscriber_of(server.address) as subscriber:
        received = await changes_up_to(subscriber, 20)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                async for event in subscriber:
                    assert isinstance(event, Progress)
        await server.commit(*history[20:])
        received += await changes_up_to(subscriber, 40)
        assert received == without_vectors(history)


async def test_closing_ends_an_iteration_in_another_task() -> None:
    async with ScriptedServer(random_history(5, seed=1)) as server:
        subscriber = subscriber_of(server.address, progress_interval_seconds=30.0)
        events: list[Event] = []

        async def iterate() -> None:
            async for event in subscriber:
                events.append(event)  # noqa: PERF401 -- each as it comes

        iterating = asyncio.create_task(iterate())
        await until(lambda: len(events) == 2)
        await subscriber.aclose()
        async with asyncio.timeout(5):
            await iterating


async def test_closing_ends_a_wait_for_a_service_that_is_away() -> None:
    async with ScriptedServer() as server:
        address = server.address
    subscriber = subscriber_of(address)
    iterating = asyncio.create_task(anext(subscriber))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await subscriber.aclose()
        with pytest.raises(StopAsyncIteration):
            await iterating


@pytest.mark.parametrize(
    "script",
    [
        Script(),
        Script(break_after=3),
        Script(silent_after=1),
        Script(drain_after=3),
        Script(refuse=NotFound("There is no namespace tests.", reason="UNKNOWN_NAMESPACE")),
        Script(refuse=Unavailable("too many", reason="OVERLOADED", retry_delay_seconds=0.01)),
    ],
    ids=["good", "broken", "silent", "drained", "refused", "put off"],
)
async def test_no_connection_is_left_behind(script: Script) -> None:
    """Without the help of the collector, which may come much later."""
    server = ScriptedServer(random_history(20, seed=23))
    async with through_proxy(server) as proxy:
        gc.disable()
        kept: list[object] = []
        try:
            for _ in range(4):
                server.scripts.append(script)
                subscriber = subscriber_of(proxy.address)
                kept.append(subscriber)
                async with subscriber:
                    try:
                        await changes_up_to(subscriber, 20)
                    except NotFound as error:
                        kept.append(error)
                    with contextlib.suppress(TimeoutError, NotFound):
                        async with asyncio.timeout(0.02):
                            await anext(subscriber)
            await until(lambda: proxy.open_connections == 0)
        finally:
            gc.enable()


async def test_a_channel_of_the_caller_stays_open() -> None:
    history = random_history(20, seed=24)
    async with ScriptedServer(history) as server, connect(server.address) as channel:
        for _ in range(2):
            async with Subscriber(channel, "tests", "consumer", start=Start.BEGINNING) as subscriber:
                assert len(await changes_up_to(subscriber, 20)) == 20
