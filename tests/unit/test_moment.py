"""What is held for want of a parent, as batches move on: what ends it, and what it costs to ask about it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from epistream.indexer import moment, pipeline
from epistream.indexer.engine import Engine
from epistream.indexer.known import BatchView
from epistream.indexer.model import Embedded
from epistream.indexer.store import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import (
    NAMESPACE,
    HandClock,
    commit,
    commit_in_batches,
    open_engine,
    pending,
    retraction,
    submission,
)

SYNTHETIC, CRAWLED = pb.ORIGIN_SYNTHETIC, pb.ORIGIN_CRAWLED


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path)
    yield opened
    assert check(opened.store) == []
    opened.close()


def made(item: str, *parents: str) -> pb.Submission:
    """Synthetic knowledge that was derived from items."""
    return submission(f"{item}: so a model says.", id=f"s-{item}", item=item, origin=SYNTHETIC, derived_from=parents)


def unnamed(content: str, number: int, *parents: str) -> pb.Submission:
    """The same, that names no item."""
    return submission(content, id=f"u-{number}", origin=SYNTHETIC, derived_from=parents)


def human(item: str, content: str = "") -> pb.Submission:
    content = content or f"{item}: so a person says."
    return submission(content, id=content, item=item)


def waiting(engine: Engine) -> list[str]:
    return [held.decision.held.item_id for held in pending(engine, pb.REASON_UNKNOWN_PARENT)]


@pytest.mark.parametrize("size", [1, 9])
@pytest.mark.parametrize(
    ("origin", "producer", "ends"),
    [(SYNTHETIC, "alice", True), (CRAWLED, "web", True), (SYNTHETIC, "mallory", False)],
)
def test_what_is_taken_back_while_it_lacks_a_parent_does_not_go_on(
    engine: Engine, origin: pb.Origin.ValueType, producer: str, size: int, *, ends: bool
) -> None:
    gone = retraction("child", id="r", origin=origin, producer=producer)
    sent = [made("child", "a"), made("of-child", "child", "a"), gone, human("a")]

    receipts = commit_in_batches(engine, sent, size)

    again, *_ = commit(engine, sent[0])
    if not ends:
        assert (receipts[2].reason, again.reason) == (pb.REASON_UNKNOWN_ITEM, pb.REASON_RELEASED)
        return
    assert (receipts[2].outcome, receipts[2].reason) == (pb.OUTCOME_MERGED, pb.REASON_ALREADY_RETRACTED)
    assert (again.outcome, again.reason) == (pb.OUTCOME_REJECTED, pb.REASON_RETRACTION)
    assert waiting(engine) == ["of-child"]


def test_what_is_taken_back_is_so_however_a_stream_is_cut_whatever_it_waits_for(tmp_path: Path) -> None:
    sent = [
        *(submission(f"{n}: so it is.", id=f"{n}", origin=SYNTHETIC) for n in range(10)),
        made("child", "a"),
        submission("child: later.", id="later", item="child", origin=SYNTHETIC),
        retraction("child", id="r"),
    ]
    dumps = []
    for size in (1, 12, 13):
        opened = open_engine(tmp_path / str(size), HandClock())
        for start in range(0, 900, 100):  # so that there is no room for more
            more = [submission(f"more {n}", id=f"more {n}", origin=SYNTHETIC) for n in range(start, start + 100)]
            commit(opened, *more)
        receipts = commit_in_batches(opened, sent, size)
        assert [receipt.reason for receipt in receipts[-3:-1]] == [pb.REASON_UNKNOWN_PARENT, pb.REASON_DEFERRED]
        assert {held.decision.held.item_id for held in pending(opened)} == {""}
        dumps.append(list(opened.store.logical_dump()))
        opened.close()
    assert dumps == dumps[:1] * 3


@pytest.mark.parametrize("size", [1, 2])
def test_what_the_batch_has_said_is_not_among_those_that_are_looked_at(
    engine: Engine, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many say it: else it would depend on how a stream is cut what goes on."""
    for module in (moment, pipeline):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    commit(engine, *(unnamed("It is so.", n, "a") for n in range(9)), made("other", "a"))

    commit_in_batches(engine, [human("x", "It is so."), human("a")], size)

    assert waiting(engine) == []
    assert engine.namespaces.get(NAMESPACE).item_count == 3


def test_what_lacks_another_parent_does_not_join_each_batch_that_names_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch compares all that join it with each other: with each version of `a` all of them would once more."""
    commit(engine, *(made(f"c{n}", "a", "lost") for n in range(5)), made("whole", "a"))
    joined: list[str] = []
    join = BatchView.join

    def counting(view: BatchView, candidates: Sequence[Embedded]) -> None:
        joined.extend(candidate.decoded.item_id for candidate in candidates)
        join(view, candidates)

    monkeypatch.setattr(BatchView, "join", counting)
    commit(engine, *(human("a", f"a: the {n}th.") for n in range(4)))

    assert joined == ["whole"]
    assert waiting(engine) == [f"c{n}" for n in range(5)]


def set_floor(engine: Engine, floor: float) -> None:
    policy = ns_pb.Policy(real_share_floor=floor, near_duplicate_threshold=1.0)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))


@pytest.mark.parametrize("opened_again", [False, True])
def test_what_somebody_else_has_said_puts_off_nothing_more(tmp_path: Path, *, opened_again: bool) -> None:
    """The count of what was put off is that of the store at any time, so another life decides the same."""
    engine = open_engine(tmp_path)
    set_floor(engine, 1.0)
    said = human("fact")
    receipts = commit(engine, unnamed(said.content, 1), unnamed("An orphan.", 2, "never"), said)
    commit(engine, human("other", "An orphan."))
    assert [receipt.reason for receipt in receipts] == [pb.REASON_DEFERRED, pb.REASON_UNKNOWN_PARENT, pb.REASON_NEW]
    standing = engine.namespaces.state(NAMESPACE).standing
    assert (standing.put_off.total(), standing.orphans, pending(engine)) == (0, 0, [])
    if opened_again:
        engine.close()
        engine = Engine(tmp_path, clock=HandClock())
    set_floor(engine, 0.0001)

    (receipt,) = commit(engine, made("next"))

    assert receipt.reason == pb.REASON_NEW
    assert check(engine.store) == []
    engine.close()
