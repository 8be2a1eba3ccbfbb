"""Who follows a namespace and how far each is; nothing of it is told by, or to, those of another."""

import asyncio

import pytest

from epistream.services import consumers as module
from epistream.services.consumers import Behind, Consumers, Stream
from epistream.wire.errors import Unavailable

HEAD = 10
OLD = 8
"""What is this old should be with everybody."""


def a_stream(consumers: Consumers, consumer: str, *, passed: int, changes: int = 0, applied: int = 0) -> Stream:
    """One that looked through the revisions up to `passed`, sent changes up to `changes`, of which `applied` are."""
    stream = consumers.connect("facts", consumer, 0)
    stream.passed_revision, stream.changes_revision = passed, changes
    stream.sent_revision = passed
    if applied:
        consumers.acknowledge(stream, applied, now_us=1)
    return stream


def test_nobody_is_behind_where_nobody_follows() -> None:
    assert Consumers().behind("facts", HEAD, OLD) == Behind(0, 0)


def test_who_has_applied_all_that_was_sent_is_not_behind_whatever_its_filter_left_out() -> None:
    consumers = Consumers()
    a_stream(consumers, "filtered", passed=HEAD, changes=3, applied=3)
    assert consumers.behind("facts", HEAD, OLD) == Behind(0, 0)


def test_who_does_not_acknowledge_is_as_far_as_what_was_sent() -> None:
    consumers = Consumers()
    a_stream(consumers, "watching", passed=9, changes=9)
    assert consumers.behind("facts", HEAD, OLD) == Behind(1, 0)


def test_who_has_not_applied_what_is_old_is_slow() -> None:
    consumers = Consumers()
    a_stream(consumers, "slow", passed=HEAD, changes=HEAD, applied=7)
    a_stream(consumers, "quick", passed=HEAD, changes=HEAD, applied=8)
    assert consumers.behind("facts", HEAD, OLD) == Behind(3, 1)


def test_a_consumer_counts_once_and_only_in_its_namespace_while_it_is_there() -> None:
    consumers = Consumers()
    first, second = (a_stream(consumers, "slow", passed=1) for _ in range(2))
    assert consumers.behind("facts", HEAD, OLD) == Behind(9, 1)
    assert consumers.behind("others", HEAD, OLD) == Behind(0, 0)
    consumers.disconnect(first)
    consumers.disconnect(second)
    assert consumers.behind("facts", HEAD, OLD) == Behind(0, 0)


def test_streams_are_numbered_in_their_namespace() -> None:
    consumers = Consumers()
    numbers = [consumers.connect(namespace, "one", 0).number for namespace in ("facts", "others", "others", "facts")]
    assert numbers == [1, 1, 2, 2]


def test_the_streams_of_a_namespace_push_out_none_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISCONNECTED_MAX", 3)
    consumers = Consumers()
    consumers.disconnect(consumers.connect("facts", "kept", 0))
    for _ in range(5):
        consumers.disconnect(consumers.connect("others", "many", 0))
    assert [stream.consumer for stream in consumers.of("facts")] == ["kept"]
    assert [stream.number for stream in consumers.of("others")] == [3, 4, 5]


async def waiting_for(consumers: Consumers, namespace: str, *names: str) -> "asyncio.Task[list[str]]":
    task = asyncio.create_task(consumers.applied(namespace, 5, names, 10))
    await asyncio.sleep(0)  # it waits now
    return task


async def test_who_waits_is_woken_by_its_own_namespace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    consumers = Consumers()
    here, there = consumers.connect("facts", "one", 5), consumers.connect("others", "one", 5)
    waiting = await waiting_for(consumers, "facts", "one")
    asked: list[str] = []
    of = consumers.of

    def looked(namespace: str) -> list[Stream]:
        asked.append(namespace)
        return of(namespace)

    monkeypatch.setattr(consumers, "of", looked)
    consumers.acknowledge(there, 5, now_us=1)
    await asyncio.sleep(0)
    assert asked == [], "nobody looks again for what was done elsewhere"
    consumers.acknowledge(here, 4, now_us=1)
    await asyncio.sleep(0)
    assert (asked, waiting.done()) == (["facts"], False)
    consumers.acknowledge(here, 5, now_us=1)
    assert await waiting == ["one"]


async def test_the_end_of_the_stream_that_was_behind_is_what_was_waited_for() -> None:
    consumers = Consumers()
    left, right = consumers.connect("facts", "twin", 5), consumers.connect("facts", "twin", 5)
    consumers.acknowledge(left, 5, now_us=1)
    waiting = await waiting_for(consumers, "facts", "twin")
    consumers.disconnect(right)
    assert await asyncio.wait_for(waiting, 5) == ["twin"]


async def test_who_waits_in_vain_is_told_for_whom() -> None:
    consumers = Consumers()
    consumers.acknowledge(consumers.connect("facts", "quick", 5), 5, now_us=1)
    consumers.connect("facts", "slow", 5)
    with pytest.raises(Unavailable, match=r"not yet applied by nobody, slow$") as error:
        await consumers.applied("facts", 5, ["quick", "slow", "nobody"], 0)
    assert error.value.reason == "DEADLINE"
