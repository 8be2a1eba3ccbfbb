"""What Kafka is told comes in the order in which it was decided, in pages that hold so much."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer import outbox
from epistream.indexer.engine import Engine
from epistream.indexer.outbox import Message, Page
from epistream.indexer.positions import Cursor
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire import topics
from tests.support.collapsing import ALL_KINDS, EVERY, collapsed, kinds, opened, raised, said
from tests.support.knowing import NAMESPACE, HandClock, commit, open_engine, retraction, submission


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def engine(tmp_path: Path, clock: HandClock) -> Iterator[Engine]:
    engine = open_engine(tmp_path, clock)
    yield engine
    engine.close()


def pages(engine: Engine, limit: int) -> list[Page]:
    found = [engine.outbox.pending(None, limit)]
    while found[-1].full:
        found.append(engine.outbox.pending(found[-1].cursor, limit))
    return found


def outcomes(messages: list[Message]) -> list[tuple[str, pb.Outcome.ValueType]]:
    receipts = [pb.Receipt.FromString(m.value or b"") for m in messages if m.topic == topics.OUTCOMES]
    return [(receipt.submission_id, receipt.outcome) for receipt in receipts]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 100])
def test_outcomes_come_in_the_order_of_their_receipts(engine: Engine, clock: HandClock, limit: int) -> None:
    """A retraction of what is not there is refused, and taken when it comes once more after the item did."""
    expected = []
    for number in range(3):
        item = f"item-{number}"
        for sent in (
            retraction(item, id=f"r-{number}"),
            submission(f"Fact {number}.", id=f"s-{number}", item=item),
            retraction(item, id=f"r-{number}"),
            *(retraction("nothing", id=f"n-{number}-{one}") for one in range(3)),
        ):
            clock.us += 1
            [receipt] = commit(engine, sent)
            expected.append((receipt.submission_id, receipt.outcome))
    assert ("r-1", pb.OUTCOME_REFUSED) in expected
    assert ("r-1", pb.OUTCOME_REVISED) in expected
    read = pages(engine, limit)
    assert outcomes([message for page in read for message in page.messages]) == expected
    assert [message for page in read for message in page.messages if message.topic == topics.CHANGES]
    newest = engine.store.journal.last()[0]
    assert read[-1].cursor == Cursor(newest, 12)


def test_at_the_same_time_what_was_refused_comes_first(engine: Engine) -> None:
    commit(engine, submission("A fact.", id="s", item="item"), retraction("nothing", id="n"))
    [page] = pages(engine, 100)
    assert outcomes([*page.messages]) == [("n", pb.OUTCOME_REFUSED), ("s", pb.OUTCOME_ADMITTED)]


def test_a_page_ends_before_it_is_too_large_but_has_something(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [submission(f"Fact {n}. " + "x" * (100_000 if n == 2 else 1_000), id=f"s-{n}") for n in range(5)]
    commit(engine, *facts, *(retraction("nothing", id=f"n-{number}") for number in range(5)))
    [whole] = pages(engine, 100)
    monkeypatch.setattr(outbox, "PAGE_BYTES", 10_000)
    read = pages(engine, 100)
    assert tuple(message for page in read for message in page.messages) == whole.messages
    assert len(read) > 2
    for page in read:
        size = sum(len(message.value or b"") for message in page.messages)
        assert size < 10_000 or len(page.messages) == 2  # a change and its outcome
    assert read[-1].cursor == whole.cursor


def test_an_alarm_is_told_when_it_is_raised_and_when_it_is_cleared_and_no_window_between(tmp_path: Path) -> None:
    clock = HandClock()
    engine = opened(tmp_path / "watched", clock)
    collapsed(engine)
    said(engine, kinds(ALL_KINDS, 5 * EVERY, 3), "All kinds again")
    while (window := engine.collapse_watch.next()) is not None:
        clock.us += 1
        assert engine.collapse_watch.record(window, engine.collapse_watch.compare(window))
    assert "gpt" not in raised(engine)
    kept = [entry for entry in engine.store.journal.follow(0) if entry.record.WhichOneof("record") == "watched"]
    assert len(kept) > 8

    found = [message for page in pages(engine, 7) for message in page.messages if message.topic == topics.ALARMS]

    key = f"{NAMESPACE}/TEXT/gpt".encode()
    alarms = [pb.CollapseAlarm.FromString(message.value or b"") for message in found if message.key == key]
    assert [alarm.on for alarm in alarms] == [True, False]
    assert {message.key for message in found} <= {key, f"{NAMESPACE}/TEXT/".encode()}
    of = {entry.record.watched.SerializeToString(deterministic=True): entry.sequence for entry in kept}
    for message in found:
        assert dict(message.headers)["epistream-sequence"] == b"%d" % of[message.value or b""]
    engine.close()
