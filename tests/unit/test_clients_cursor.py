"""What the messages of a subscription's streams do to its position."""

import random

import pytest

from epistream.clients.cursor import (
    Changes,
    Cursor,
    Position,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotItems,
    Start,
    StreamFault,
    Subscribed,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import Resync

Message = sync.SubscribeResponse


def subscribed(after: int, head: int = 100, epoch: str = "e") -> Message:
    return Message(subscribed=sync.Subscribed(epoch=epoch, head_revision=head, after_revision=after, dimension=8))


def changes(*revisions: int) -> Message:
    return Message(changes=sync.Changes(changes=[pb.Change(revision=r, item_id=f"i{r}") for r in revisions]))


def progress(revision: int, head: int = 100) -> Message:
    return Message(progress=sync.Progress(revision=revision, head_revision=head))


def snapshot_begin(revision: int) -> Message:
    return Message(snapshot_begin=sync.SnapshotBegin(revision=revision))


def snapshot(*revisions: int) -> Message:
    return Message(snapshot=sync.Changes(changes=[pb.Change(revision=r, item_id=f"i{r}") for r in revisions]))


def snapshot_end(revision: int, count: int) -> Message:
    return Message(snapshot_end=sync.SnapshotEnd(revision=revision, count=count))


def opened(cursor: Cursor) -> sync.Subscription:
    subscription = sync.Subscription()
    cursor.open(subscription)
    return subscription


def revisions_of(event: object) -> list[int]:
    assert isinstance(event, Changes)
    return [change.revision for change in event.changes]


def test_the_example_of_the_page() -> None:
    cursor = Cursor(Start.BEGINNING, dense=True)
    assert opened(cursor).after_revision == 0
    assert cursor.take(subscribed(0)) == Subscribed("e", 100, 8)
    assert revisions_of(cursor.take(changes(1, 2, 3))) == [1, 2, 3]
    assert isinstance(cursor.take(progress(3)), Progress)
    again = opened(cursor)
    assert (again.after_revision, again.epoch) == (3, "e")
    cursor.take(subscribed(3))
    assert revisions_of(cursor.take(changes(3, 4, 5))) == [4, 5]
    assert cursor.duplicates == 1
    assert cursor.position == Position("e", 5)


def test_a_batch_of_duplicates_only_is_nothing() -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    cursor.take(subscribed(5))
    assert cursor.take(changes(4, 5)) is None
    assert cursor.duplicates == 2
    assert cursor.position == Position("e", 5)


@pytest.mark.parametrize("message", [changes(7), changes(6, 8), changes(5, 7), progress(6)])
def test_a_gap_of_a_dense_subscription_is_a_fault_and_moves_nothing(message: Message) -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    cursor.take(subscribed(5))
    with pytest.raises(StreamFault, match="missing"):
        cursor.take(message)
    assert cursor.position == Position("e", 5)


def test_a_filtered_subscription_may_skip_and_learns_by_progress_how_far_it_is() -> None:
    cursor = Cursor(Position("e", 5), dense=False)
    opened(cursor)
    cursor.take(subscribed(5))
    assert revisions_of(cursor.take(changes(9, 12))) == [9, 12]
    assert cursor.take(progress(40)) is not None
    assert opened(cursor).after_revision == 40


@pytest.mark.parametrize("message", [changes(6), progress(6)])
def test_a_stream_that_starts_too_late_is_a_fault_even_with_a_filter(message: Message) -> None:
    cursor = Cursor(Position("e", 5), dense=False)
    opened(cursor)
    cursor.take(subscribed(after=7))
    with pytest.raises(StreamFault):
        cursor.take(message)


def test_progress_never_moves_the_position_back() -> None:
    cursor = Cursor(Position("e", 5), dense=False)
    opened(cursor)
    cursor.take(subscribed(5))
    event = cursor.take(progress(3))
    assert isinstance(event, Progress)
    assert event.revision == 5
    assert cursor.position == Position("e", 5)


def test_the_head_is_a_position_before_the_first_change() -> None:
    cursor = Cursor(Start.HEAD, dense=True)
    assert opened(cursor).head
    cursor.take(subscribed(after=42))
    assert opened(cursor).after_revision == 42


def test_another_epoch_is_refused_though_the_service_does_not_say_so() -> None:
    cursor = Cursor(Position("old", 5), dense=True)
    opened(cursor)
    with pytest.raises(Resync) as caught:
        cursor.take(subscribed(5, epoch="new"))
    assert caught.value.reason == "EPOCH_MISMATCH"
    assert caught.value.state.epoch == "new"


def test_a_snapshot_moves_the_position_only_at_its_end() -> None:
    cursor = Cursor(Start.SNAPSHOT, dense=True)
    assert opened(cursor).snapshot
    cursor.take(subscribed(50))
    assert cursor.take(snapshot_begin(50)) == SnapshotBegin(50)
    assert isinstance(cursor.take(snapshot(3, 40)), SnapshotItems)
    assert cursor.take(progress(50)) is None
    assert opened(cursor).snapshot
    cursor.take(subscribed(50))
    cursor.take(snapshot_begin(50))
    cursor.take(snapshot(3, 40, 50))
    assert cursor.take(snapshot_end(50, 3)) == SnapshotEnd(50)
    assert cursor.position == Position("e", 50)
    assert revisions_of(cursor.take(changes(51))) == [51]


def test_an_empty_snapshot_ends_too() -> None:
    cursor = Cursor(Start.SNAPSHOT, dense=True)
    opened(cursor)
    cursor.take(subscribed(0))
    cursor.take(snapshot_begin(0))
    assert cursor.take(snapshot_end(0, 0)) == SnapshotEnd(0)
    assert cursor.position == Position("e", 0)


@pytest.mark.parametrize("end", [snapshot_end(50, 1), snapshot_end(50, 3), snapshot_end(51, 2)])
def test_a_snapshot_of_another_size_than_said_is_a_fault(end: Message) -> None:
    cursor = Cursor(Start.SNAPSHOT, dense=True)
    opened(cursor)
    cursor.take(subscribed(50))
    cursor.take(snapshot_begin(50))
    cursor.take(snapshot(3, 40))
    with pytest.raises(StreamFault, match="snapshot"):
        cursor.take(end)
    assert cursor.position is None


@pytest.mark.parametrize("first", [changes(6), progress(5), snapshot_begin(5), snapshot(5), snapshot_end(5, 0)])
def test_a_stream_must_begin_with_subscribed(first: Message) -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    with pytest.raises(StreamFault):
        cursor.take(first)


@pytest.mark.parametrize("second", [subscribed(5), snapshot(5), snapshot_end(5, 0)])
def test_messages_out_of_place_are_faults(second: Message) -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    cursor.take(subscribed(5))
    with pytest.raises(StreamFault):
        cursor.take(second)


def test_changes_in_the_middle_of_a_snapshot_are_a_fault() -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    cursor.take(subscribed(5))
    cursor.take(snapshot_begin(50))
    with pytest.raises(StreamFault):
        cursor.take(changes(6))


def test_kinds_of_a_later_version_are_ignored() -> None:
    cursor = Cursor(Position("e", 5), dense=True)
    opened(cursor)
    cursor.take(subscribed(5))
    assert cursor.take(Message()) is None


def test_a_drain_says_how_far_the_stream_came() -> None:
    cursor = Cursor(Position("e", 5), dense=False)
    opened(cursor)
    cursor.take(subscribed(5))
    assert cursor.take(Message(drain=sync.Drain(revision=9))) is None
    assert cursor.position == Position("e", 9)


@pytest.mark.parametrize("seed", range(20))
def test_any_cuts_and_repetitions_hand_on_every_change_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    cursor = Cursor(Start.BEGINNING, dense=True)
    received: list[int] = []
    while len(received) < 200:
        after = opened(cursor).after_revision
        cursor.take(subscribed(max(0, after - rng.randrange(3))))
        at = after
        for _ in range(rng.randrange(6)):
            at = max(0, at - rng.randrange(3))
            size = rng.randrange(1, 9)
            event = cursor.take(changes(*range(at + 1, at + size + 1)))
            received.extend(revisions_of(event) if event is not None else [])
            at = max(at + size, cursor.revision)
    assert received == list(range(1, len(received) + 1))
