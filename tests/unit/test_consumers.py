"""Who follows a namespace and how far each is; nothing of it is told by, or to, those of another."""

import asyncio
import sys
from types import FrameType

import pytest

from epistream.services import consumers as module
from epistream.services.consumers import Behind, Consumers, Stream
from epistream.wire.errors import InvalidInput, Unavailable

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


@pytest.mark.parametrize(
    ("applied", "refused", "why"),
    [(0, 6, "6 is beyond what was sent, which is 5"), (4, 3, "3 is before 4, acknowledged earlier")],
)
def test_what_cannot_have_been_applied_is_refused_and_changes_nothing(applied: int, refused: int, why: str) -> None:
    consumers = Consumers()
    stream = a_stream(consumers, "one", passed=5, changes=5, applied=applied)
    stream.unacknowledged.append((6, 0))
    with pytest.raises(InvalidInput, match=why) as error:
        consumers.acknowledge(stream, refused, now_us=2)
    assert [violation.field for violation in error.value.violations] == ["acknowledge.applied_revision"]
    assert (stream.applied_revision, stream.acknowledged_us) == (applied, 1 if applied else 0)
    assert list(stream.unacknowledged) == [(6, 0)]
    # The same again is no more than was said.
    assert consumers.acknowledge(stream, 5, now_us=3) == consumers.acknowledge(stream, 5, now_us=4) == []


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


async def work_of(consumers: Consumers, stream: Stream, revision: int) -> int:
    """How many functions of the module are called or go on for an acknowledgement, until everybody waits again."""
    count = 0

    def counted(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename == module.__file__

    sys.setprofile(counted)
    try:
        consumers.acknowledge(stream, revision, now_us=1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        sys.setprofile(None)
    return count


async def test_who_waits_is_not_woken_by_what_is_done_elsewhere_or_is_not_enough() -> None:
    consumers = Consumers()
    streams = [consumers.connect(*of, 5) for of in (("facts", "one"), ("facts", "two"), ("others", "one"))]
    for _ in range(20):
        consumers.disconnect(consumers.connect("facts", "ended", 5))
    first = await waiting_for(consumers, "facts", "one")
    alone = [await work_of(consumers, stream, 3) for stream in streams]
    waiting = [first, *[await waiting_for(consumers, "facts", "one") for _ in range(20)]]
    assert [await work_of(consumers, stream, 4) for stream in streams] == alone
    assert not any(task.done() for task in waiting)
    consumers.acknowledge(streams[0], 5, now_us=1)
    assert await asyncio.gather(*waiting) == [["one"]] * 21


async def test_all_are_waited_for_also_one_that_opens_a_stream_meanwhile() -> None:
    consumers = Consumers()
    one, two = consumers.connect("facts", "one", 5), consumers.connect("facts", "two", 5)
    consumers.acknowledge(one, 5, now_us=1)
    waiting = await waiting_for(consumers, "facts")
    again = consumers.connect("facts", "one", 5)
    consumers.acknowledge(two, 5, now_us=1)
    await asyncio.sleep(0)
    assert not waiting.done()
    consumers.acknowledge(again, 5, now_us=1)
    assert await asyncio.wait_for(waiting, 5) == ["one", "two"]


async def test_a_consumer_that_is_forgotten_has_applied_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISCONNECTED_MAX", 1)
    consumers = Consumers()
    for name in ("first", "second"):
        stream = consumers.connect("facts", name, 5)
        consumers.acknowledge(stream, 5, now_us=1)
        consumers.disconnect(stream)
    assert await consumers.applied("facts", 5, ["second"], 10) == ["second"]
    with pytest.raises(Unavailable, match=r"by first$"):
        await consumers.applied("facts", 5, ["first", "second"], 0)


async def test_of_a_consumer_that_is_gone_the_newest_stream_counts() -> None:
    consumers = Consumers()
    older, newer = consumers.connect("facts", "one", 5), consumers.connect("facts", "one", 5)
    consumers.acknowledge(newer, 5, now_us=1)
    consumers.disconnect(newer)
    with pytest.raises(Unavailable, match=r"by one$"):
        await consumers.applied("facts", 5, ["one"], 0)
    consumers.disconnect(older)
    assert await consumers.applied("facts", 5, ["one"], 10) == ["one"]


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
