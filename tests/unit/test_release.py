"""What was held is decided again: against what is known by then, once, with the authority of who decides."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.outbox import Outbox
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire import topics
from epistream.wire.errors import Conflict, Denied, NotFound
from tests.support.knowing import (
    NAMESPACE,
    commit,
    direction,
    let_go,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)

NEAR = direction(1.0, 0.1)
NEARER = direction(1.0, 0.11)
FIVE = submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR)
FIFTY = submission("The daily limit is 50 mg.", id="2", vector=NEARER, producer="writer", origin=pb.ORIGIN_SYNTHETIC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def contradicted(engine: Engine) -> Engine:
    """An expert's 5 mg, and a model's 50 mg, which is held."""
    receipts = commit(engine, FIVE, FIFTY)
    assert [receipt.outcome for receipt in receipts] == [pb.OUTCOME_ADMITTED, pb.OUTCOME_HELD]
    return engine


def get(engine: Engine, item: str) -> pb.Change:
    return engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=item)).change


def counts(engine: Engine) -> tuple[int, int, int]:
    """Items in answers, held, rejected."""
    known = engine.namespaces.get(NAMESPACE)
    return known.item_count, known.held_count, known.rejected_count


def test_what_an_expert_lets_in_is_expert_knowledge_that_is_searched_and_pushed(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    woken = threading.Event()
    contradicted.feed.subscribe_to_commits(woken.set)
    (receipt,) = contradicted.pipeline.release([ruling(contradicted, held, comment="for oxen")])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_REVIEW_ADMITTED)
    assert (receipt.producer, receipt.submission_id, receipt.revision) == ("writer", "2", 2)
    change = get(contradicted, receipt.item_id)
    assert (change.knowledge.content, change.knowledge.origin) == (FIFTY.content, pb.ORIGIN_EXPERT)
    assert (change.knowledge.provenance.producer, list(change.conflicts)) == ("writer", ["limit"])
    query = api.SearchRequest(namespace=NAMESPACE, vector=pb.Embedding(float32=NEARER.tobytes()))
    assert contradicted.knowledge.search(query).hits[0].change.item_id == receipt.item_id
    assert woken.is_set()
    assert counts(contradicted) == (2, 0, 0)
    newest = list(contradicted.store.journal.follow(0))[-1].record.decision
    assert (newest.releases, newest.decided_by, newest.comment) == (held.sequence, "dr-ada", "for oxen")


def test_what_is_rejected_is_in_no_answer_and_waits_no_more(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    (receipt,) = contradicted.pipeline.release([ruling(contradicted, held, admits=False)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REJECTED, pb.REASON_REVIEW_REJECTED)
    assert (receipt.item_id, receipt.revision) == ("", 0)
    assert (pending(contradicted), counts(contradicted)) == ([], (1, 0, 1))


@pytest.mark.parametrize("admits", [True, False])
def test_who_sends_it_again_gets_the_newest_receipt(contradicted: Engine, admits: bool) -> None:
    (held,) = pending(contradicted)
    (receipt,) = contradicted.pipeline.release([ruling(contradicted, held, admits=admits)])
    before = list(contradicted.store.logical_dump())
    (again,) = commit(contradicted, FIFTY)
    assert again.earlier
    again.earlier = False
    assert again == receipt
    assert list(contradicted.store.logical_dump()) == before


@pytest.mark.parametrize("admits", [True, False])
def test_nothing_is_decided_twice(contradicted: Engine, admits: bool) -> None:
    (held,) = pending(contradicted)
    decided = ruling(contradicted, held, admits=admits)
    with pytest.raises(Conflict, match="submission 2 of writer is not held any more"):
        contradicted.pipeline.release([decided, decided])
    assert pending(contradicted) == [held]
    contradicted.pipeline.release([decided])
    before = list(contradicted.store.logical_dump())
    with pytest.raises(Conflict, match="submission 2 of writer is not held any more"):
        contradicted.pipeline.release([decided])
    assert list(contradicted.store.logical_dump()) == before


def test_what_was_resolved_by_equal_content_cannot_be_decided(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    commit(contradicted, submission(FIFTY.content, id="3", vector=NEARER))
    with pytest.raises(Conflict):
        contradicted.pipeline.release([ruling(contradicted, held)])
    assert counts(contradicted) == (2, 0, 0)


def test_what_says_the_same_as_is_known_by_now_merges(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    commit(contradicted, submission("the daily limit is 50 mg", id="3", item="oxen", vector=NEARER))
    (receipt,) = contradicted.pipeline.release([ruling(contradicted, held)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_MERGED, pb.REASON_REVIEW_ADMITTED)
    assert receipt.item_id == "oxen"
    found = contradicted.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id="oxen"))
    assert [corroboration.submission_id for corroboration in found.corroborations] == ["2"]
    assert counts(contradicted)[1] == 0


def lower(engine: Engine, said: pb.Submission) -> None:
    """An expert's item, and something of a lower authority about it, which is held."""
    commit(engine, submission("Pluto is a planet.", id="p1", item="pluto"))
    (receipt,) = commit(engine, said)
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_LOWER_AUTHORITY)


DWARF = submission("Pluto is a dwarf planet.", id="p2", item="pluto", origin=pb.ORIGIN_SYNTHETIC, producer="writer")


def test_the_authority_of_who_decides_counts(engine: Engine) -> None:
    lower(engine, DWARF)
    (held,) = pending(engine)
    with pytest.raises(Denied, match="against pluto, which is EXPERT"):
        engine.pipeline.release([ruling(engine, held, origin=pb.ORIGIN_COLLABORATIVE)])
    assert pending(engine) == [held]
    (receipt,) = engine.pipeline.release([ruling(engine, held)])
    assert (receipt.outcome, receipt.item_id, receipt.version) == (pb.OUTCOME_REVISED, "pluto", 2)
    assert get(engine, "pluto").knowledge.origin == pb.ORIGIN_EXPERT
    (receipt,) = commit(engine, submission("Pluto is a comet.", id="p3", item="pluto", origin=pb.ORIGIN_SYNTHETIC))
    assert receipt.outcome == pb.OUTCOME_HELD, "what an expert let in is not for a model to replace"


def test_a_held_retraction_is_decided_too(engine: Engine) -> None:
    lower(engine, retraction("pluto", id="p2", origin=pb.ORIGIN_CRAWLED))
    (receipt,) = engine.pipeline.release([ruling(engine, held) for held in pending(engine)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REVISED, pb.REASON_REVIEW_ADMITTED)
    with pytest.raises(NotFound):
        get(engine, "pluto")


def test_a_person_cannot_let_in_what_came_too_late(engine: Engine) -> None:
    expecting = pb.Submission()
    expecting.CopyFrom(DWARF)
    expecting.expected_version = 1
    lower(engine, expecting)
    commit(engine, submission("Pluto is a plutino.", id="p3", item="pluto"))
    (held,) = pending(engine)
    with pytest.raises(Conflict, match=r"came too late, reject it: expected version 1, but the item is at version 2"):
        engine.pipeline.release([ruling(engine, held)])
    assert pending(engine) == [held]
    (receipt,) = engine.pipeline.release([let_go(engine, held)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REJECTED, pb.REASON_VERSION_CONFLICT)
    assert counts(engine) == (1, 0, 1)


def test_what_the_gate_lets_go_of_keeps_its_origin_and_may_be_held_again(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    (receipt,) = contradicted.pipeline.release([let_go(contradicted, held)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_CONFLICT_WITH_EXPERT)
    (anew,) = pending(contradicted, pb.REASON_CONFLICT_WITH_EXPERT)
    assert anew.sequence > held.sequence
    assert anew.decision.held == held.decision.held
    assert counts(contradicted)[1] == 1
    commit(contradicted, retraction("limit", id="3"))
    (receipt,) = contradicted.pipeline.release([let_go(contradicted, anew)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_RELEASED)
    assert get(contradicted, receipt.item_id).knowledge.origin == pb.ORIGIN_SYNTHETIC


def test_what_is_let_in_together_sees_what_came_before_it(engine: Engine) -> None:
    twins = [
        submission("Pluto is a dwarf planet.", id=id, item=item, origin=pb.ORIGIN_SYNTHETIC, producer=id)
        for id, item in (("a", "pluto"), ("b", "ceres"))  # noqa: A001 - as in the contract
    ]
    commit(engine, submission("X", id="1", item="pluto"), submission("Y", id="2", item="ceres"), *twins)
    assert len(pending(engine)) == 2
    receipts = engine.pipeline.release([ruling(engine, held) for held in pending(engine)])
    assert [(r.outcome, r.item_id) for r in receipts] == [(pb.OUTCOME_REVISED, "pluto"), (pb.OUTCOME_REVISED, "ceres")]
    assert (counts(engine), pending(engine)) == ((2, 0, 0), [])


def test_kafka_is_told_of_both_decisions(contradicted: Engine) -> None:
    (held,) = pending(contradicted)
    (receipt,) = contradicted.pipeline.release([ruling(contradicted, held)])
    messages = Outbox(contradicted.store.readers).pending(None, 100).messages
    key = f"{NAMESPACE}/writer/2".encode()
    told = [pb.Receipt.FromString(m.value or b"") for m in messages if m.topic == topics.OUTCOMES and m.key == key]
    assert [one.outcome for one in told] == [pb.OUTCOME_HELD, pb.OUTCOME_ADMITTED]
    assert told[1] == receipt
    assert [m.key for m in messages if m.topic == topics.CHANGES] == [NAMESPACE.encode()] * 2


def test_decisions_survive_a_restart_and_the_views_that_are_made_anew(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    commit(engine, FIVE, FIFTY, submission("The daily limit is 9 mg.", id="3", vector=NEAR, origin=pb.ORIGIN_SYNTHETIC))
    engine.pipeline.release([ruling(engine, held, admits=n > 0) for n, held in enumerate(pending(engine))])
    before = list(engine.store.logical_dump())
    assert stores.check(engine.store) == []
    stores.rebuild(engine.store)
    assert list(engine.store.logical_dump()) == before
    engine.close()
    engine = open_engine(tmp_path)
    assert counts(engine) == (2, 0, 1)
    assert engine.feed.head(NAMESPACE) == 2
    engine.close()
