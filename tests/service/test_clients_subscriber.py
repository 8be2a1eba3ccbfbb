"""Subscribers over real sockets, against a service that goes wrong on demand."""

import asyncio
import random

import pytest

from epistream.clients import (
    Changes,
    KnowledgeClient,
    NotFound,
    Position,
    Progress,
    Resync,
    Start,
    State,
    Subscribed,
    Unavailable,
)
from epistream.v1 import knowledge_pb2 as pb
from tests.support.histories import filtered, random_history, state_after
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.subscribing import (
    a_snapshot,
    changes_up_to,
    subscriber_of,
    through_proxy,
    without_vectors,
)
from tests.support.waits import until


async def test_a_subscriber_yields_the_history_and_then_what_is_committed() -> None:
    history = random_history(60, seed=1)
    async with ScriptedServer(history[:40]) as server, subscriber_of(server.address) as subscriber:
        received = await changes_up_to(subscriber, 40)
        await server.commit(*history[40:])
        received += await changes_up_to(subscriber, 60)
        assert received == without_vectors(history)
        assert subscriber.position == Position("epoch-1", 60)
        assert len(server.streams) == 1


async def test_a_hundred_cuts_at_any_byte_lose_and_repeat_nothing() -> None:
    """The connection is reset after a random number of bytes, in the middle of handshakes, headers and messages."""
    rng = random.Random(1)
    history = random_history(8000, seed=2)
    async with through_proxy(ScriptedServer(history)) as proxy:
        proxy.budget = lambda: rng.randrange(1, 10_000) if proxy.connections <= 100 else None
        async with subscriber_of(proxy.address) as subscriber:
            assert await changes_up_to(subscriber, 8000) == without_vectors(history)
        assert proxy.connections > 100


@pytest.mark.parametrize("seed", range(5))
async def test_any_failures_of_streams_lose_and_repeat_nothing(seed: int) -> None:
    rng = random.Random(seed)
    history = random_history(400, seed)
    async with ScriptedServer(history[:100]) as server:
        for _ in range(25):
            kind = rng.choice(["break_after", "end_after", "drain_after", "silent_after"])
            server.scripts.append(Script(repeat=rng.random() < 0.5, **{kind: rng.randrange(1, 12)}))  # type: ignore[arg-type]
        server.drain_delay_seconds = 0.01
        async with subscriber_of(server.address) as subscriber:
            received: list[pb.Change] = []
            for revision in range(100, 401, 20):
                await server.commit(*history[len(server.history) : revision])
                received += await changes_up_to(subscriber, revision)
        assert received == without_vectors(history)
        assert subscriber.counts.faults == 0


async def test_a_subscriber_resumes_in_another_process_from_the_position_that_was_kept() -> None:
    history = random_history(50, seed=3)
    async with ScriptedServer(history[:30]) as server:
        async with subscriber_of(server.address) as first:
            await changes_up_to(first, 30)
            kept = first.position
        assert kept is not None
        await server.commit(*history[30:])
        async with subscriber_of(server.address, kept) as second:
            assert await changes_up_to(second, 50) == without_vectors(history[30:])
        assert server.streams[1].subscription.epoch == "epoch-1"
        assert server.streams[1].subscription.after_revision == 30


async def test_from_the_head_nothing_committed_while_disconnected_is_lost() -> None:
    history = random_history(50, seed=4)
    async with ScriptedServer(history[:30]) as server, subscriber_of(server.address, Start.HEAD) as subscriber:
        server.scripts.append(Script(break_after=1))
        assert isinstance(await anext(subscriber), Subscribed)
        await server.commit(*history[30:])
        assert await changes_up_to(subscriber, 50) == without_vectors(history[30:])


async def test_duplicates_are_dropped_and_counted() -> None:
    history = random_history(40, seed=5)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(repeat=True))
        assert await changes_up_to(subscriber, 40) == without_vectors(history)
        while not isinstance(await anext(subscriber), Progress):
            pass
        assert subscriber.counts.duplicates == 40 + len(range(7, 40, 7))


async def test_a_missing_revision_is_asked_for_again() -> None:
    history = random_history(40, seed=6)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(skip=frozenset({17})))
        assert await changes_up_to(subscriber, 40) == without_vectors(history)
        assert subscriber.counts.faults == 1
        assert server.streams[1].subscription.after_revision == 14


async def test_a_missing_last_revision_shows_by_the_progress() -> None:
    history = random_history(40, seed=6)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(skip=frozenset({40})))
        assert await changes_up_to(subscriber, 40) == without_vectors(history)
        assert subscriber.counts.faults == 1


async def test_revisions_that_stay_missing_are_told() -> None:
    async with ScriptedServer(random_history(40, seed=6)) as server, subscriber_of(server.address) as subscriber:
        server.scripts.extend([Script(skip=frozenset({17}))] * 2)
        with pytest.raises(Resync, match="Revision 17 is missing") as caught:
            await changes_up_to(subscriber, 40)
        assert caught.value.reason == "GAP"


@pytest.mark.parametrize("reason", ["COMPACTED", "FUTURE_REVISION", "EPOCH_MISMATCH"])
async def test_a_position_that_means_nothing_is_told(reason: str) -> None:
    history = random_history(40, seed=7)
    async with ScriptedServer(history) as server:
        server.floor = 30
        position = {
            "COMPACTED": Position("epoch-1", 5),
            "FUTURE_REVISION": Position("epoch-1", 41),
            "EPOCH_MISMATCH": Position("epoch-0", 35),
        }[reason]
        async with subscriber_of(server.address, position) as subscriber:
            with pytest.raises(Resync) as caught:
                await anext(subscriber)
            assert caught.value.reason == reason
            assert caught.value.state == State("epoch-1", 40, 30)
        async with subscriber_of(server.address, position, auto_snapshot=True) as subscriber:
            revision, items = await a_snapshot(subscriber)
            assert revision == 40
            assert items == state_after(history, 40)
            assert subscriber.counts.resyncs == (reason != "COMPACTED")  # then the service goes on by itself


@pytest.mark.parametrize("floor", [10, 11, 12])
async def test_the_oldest_revision_that_is_retained_can_be_resumed_from(floor: int) -> None:
    """After revision 10, the first change needed is 11."""
    history = random_history(20, seed=8)
    async with ScriptedServer(history) as server:
        server.floor = floor
        async with subscriber_of(server.address, Position("epoch-1", 10)) as subscriber:
            if floor <= 11:
                assert await changes_up_to(subscriber, 20) == without_vectors(history[10:])
            else:
                with pytest.raises(Resync):
                    await anext(subscriber)


async def test_an_interrupted_snapshot_begins_again_and_is_whole() -> None:
    history = random_history(200, seed=9, items=120)
    async with ScriptedServer(history) as server:
        server.scripts.extend([Script(break_after=4), Script(silent_after=1), Script(miscount=True)])
        async with subscriber_of(server.address, Start.SNAPSHOT) as subscriber:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("epistream.clients.subscriber.OPENING_SECONDS_MAX", 0.3)
                assert await a_snapshot(subscriber) == (200, state_after(history, 200))
            await server.commit(*random_history(210, seed=9, items=120)[200:])
            assert len(await changes_up_to(subscriber, 210)) == 10
            assert subscriber.counts.reconnects == 3
            assert subscriber.counts.faults == 1


async def test_an_empty_namespace_has_an_empty_snapshot() -> None:
    async with ScriptedServer() as server, subscriber_of(server.address, Start.SNAPSHOT) as subscriber:
        assert await a_snapshot(subscriber) == (0, {})
        history = random_history(3, seed=1)
        await server.commit(*history)
        assert await changes_up_to(subscriber, 3) == without_vectors(history)


async def test_what_ceases_to_match_the_filter_leaves() -> None:
    only = pb.Filter(attributes={"colour": "red"})
    history = random_history(300, seed=10)
    expected = without_vectors(filtered(history, only))
    assert pb.CHANGE_KIND_LEFT in {change.kind for change in expected}
    async with ScriptedServer(history) as server:
        server.scripts.extend(Script(break_after=count) for count in (3, 5, 4))
        async with subscriber_of(server.address, filter=only) as subscriber:
            assert await changes_up_to(subscriber, 300) == expected


async def test_a_filter_that_matches_nothing_moves_on_by_progress_and_resumes_from_there() -> None:
    async with ScriptedServer(random_history(100, seed=11)) as server:
        server.scripts.append(Script(break_after=2))
        async with subscriber_of(server.address, filter=pb.Filter(producers=["nobody"])) as subscriber:
            assert await changes_up_to(subscriber, 100) == []
            await until(lambda: subscriber.counts.reconnects == 1 or len(server.streams) == 1)
            await anext(subscriber)
        assert server.streams[1].subscription.after_revision == 100


async def test_a_silent_stream_is_left() -> None:
    history = random_history(40, seed=12)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(silent_after=3))
        assert await changes_up_to(subscriber, 40) == without_vectors(history)
        assert len(server.streams) == 2
        await until(lambda: server.streams[0].ended)


async def test_a_connection_that_swallows_everything_is_left_for_a_new_one() -> None:
    """Nothing closes it, and another client of the process has one to the same address: keepalive takes 25 s."""
    history = random_history(40, seed=13)
    server = ScriptedServer(history[:20])
    async with (
        through_proxy(server) as proxy,
        KnowledgeClient(proxy.address) as other,
        subscriber_of(proxy.address) as subscriber,
    ):
        await other.consumers("tests")
        await changes_up_to(subscriber, 20)
        proxy.swallow()
        await server.commit(*history[20:])
        async with asyncio.timeout(10):
            assert await changes_up_to(subscriber, 40) == without_vectors(history[20:])


async def test_a_consumer_that_takes_its_time_is_not_taken_for_a_dead_stream() -> None:
    history = random_history(100, seed=14)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        received: list[pb.Change] = []
        async for event in subscriber:
            if isinstance(event, Changes):
                received.extend(event.changes)
                if len(received) == 7:
                    await asyncio.sleep(0.5)  # more than three intervals
            if len(received) == 100:
                break
        assert received == without_vectors(history)
        assert len(server.streams) == 1


async def test_a_drained_stream_comes_back_after_the_delay_it_was_told() -> None:
    history = random_history(40, seed=15)
    async with ScriptedServer(history) as server, subscriber_of(server.address) as subscriber:
        server.drain_delay_seconds = 0.25
        server.scripts.append(Script(drain_after=3))
        received = await changes_up_to(subscriber, 14)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        received += await changes_up_to(subscriber, 40)
        assert loop.time() - begun >= 0.25
        assert received == without_vectors(history)
        assert subscriber.counts.reconnects == 1


async def test_a_service_that_comes_back_on_its_address_is_found() -> None:
    history = random_history(40, seed=16)
    async with ScriptedServer(history[:20]) as server, subscriber_of(server.address) as subscriber:
        received = await changes_up_to(subscriber, 20)
        reading = asyncio.create_task(changes_up_to(subscriber, 40))
        await server.stop()
        await until(lambda: bool(subscriber.last_error))
        server.history.extend(history[20:])
        await server.start()
        assert received + await reading == without_vectors(history)


async def test_a_service_a_slow_network_away_can_be_reached() -> None:
    """Its first bytes take 0.7 s, more than the longest wait between two attempts to connect."""
    async with through_proxy(ScriptedServer(random_history(10, seed=17))) as proxy:
        proxy.delay_seconds = 0.7
        async with subscriber_of(proxy.address) as subscriber:
            await changes_up_to(subscriber, 10)
        assert proxy.connections == 1


async def test_errors_that_waiting_does_not_mend_are_raised() -> None:
    async with ScriptedServer() as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(refuse=NotFound("There is no namespace tests.", reason="UNKNOWN_NAMESPACE")))
        with pytest.raises(NotFound, match="no namespace tests"):
            await anext(subscriber)


async def test_an_overloaded_service_is_asked_again() -> None:
    async with ScriptedServer(random_history(5, seed=1)) as server, subscriber_of(server.address) as subscriber:
        server.scripts.append(Script(refuse=Unavailable("too many", reason="OVERLOADED", retry_delay_seconds=0.1)))
        assert len(await changes_up_to(subscriber, 5)) == 5
