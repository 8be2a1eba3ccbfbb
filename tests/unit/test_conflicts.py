"""Conflicts are objects: they open, go on, close and are resolved by what the journal says (R8 of docs/gate.md)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, Denied, InvalidInput, NotFound
from tests.support.knowing import (
    NAMESPACE,
    commit,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)

VECTORS = [direction(1.0, 0.1 + n / 1000) for n in range(9)]
ADA = api.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT)
BOB = api.Reviewer(name="bob", origin=pb.ORIGIN_COLLABORATIVE)


def limit(
    milligrams: int, *, item: str = "", origin: pb.Origin.ValueType = pb.ORIGIN_CRAWLED, producer: str = "web"
) -> pb.Submission:
    content = f"The daily limit is {milligrams} mg."
    vector = VECTORS[milligrams % len(VECTORS)]
    return submission(content, id=f"{milligrams}", item=item, origin=origin, producer=producer, vector=vector)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    yield engine
    assert stores.check(engine.store) == []
    engine.close()


@pytest.fixture
def both(engine: Engine) -> Engine:
    """Two producers that contradict each other, both in answers."""
    receipts = commit(engine, limit(5, item="five", producer="a"), limit(50, item="fifty", producer="b"))
    assert [receipt.outcome for receipt in receipts] == [pb.OUTCOME_ADMITTED] * 2
    return engine


@pytest.fixture
def held(engine: Engine) -> Engine:
    """A model that contradicts an expert."""
    commit(engine, limit(5, item="five", origin=pb.ORIGIN_EXPERT), limit(50, origin=pb.ORIGIN_SYNTHETIC, producer="m"))
    assert len(pending(engine)) == 1
    return engine


def conflicts(engine: Engine, state: api.ConflictState.ValueType = api.CONFLICT_STATE_OPEN) -> list[api.Conflict]:
    request = api.ListConflictsRequest(namespace=NAMESPACE, state=state)
    return list(engine.resolutions.list_conflicts(request).conflicts)


def names(conflict: api.Conflict) -> list[str]:
    return [party.item_id or f"review {party.review_id}" for party in conflict.parties]


def marks(engine: Engine, item: str, at: int | None = None) -> list[list[str]]:
    request = know.GetRequest(namespace=NAMESPACE, item_id=item, as_of=None if at is None else pb.AsOf(revision=at))
    return [list(mark.item_ids) for mark in engine.knowledge.get(request).open_conflicts]


def resolve(
    engine: Engine, conflict: api.Conflict, *items: str, reviews: tuple[int, ...] = (), by: api.Reviewer = ADA
) -> api.Conflict:
    request = api.ResolveConflictRequest(
        namespace=NAMESPACE,
        conflict_id=conflict.conflict_id,
        reviewer=by,
        standing_item_ids=items,
        standing_review_ids=reviews,
        comment="looked it up",
    )
    return engine.resolutions.resolve(engine.resolutions.prepare(request))


def test_a_conflict_is_not_resolved_where_what_is_to_stand_says_something_else_by_now(both: Engine) -> None:
    (conflict,) = conflicts(both)
    request = api.ResolveConflictRequest(
        namespace=NAMESPACE, conflict_id=conflict.conflict_id, reviewer=ADA, standing_item_ids=["five"]
    )
    prepared = both.resolutions.prepare(request)
    commit(both, limit(6, item="five", producer="a"))

    with pytest.raises(Conflict, match="changed since it was read"):
        both.resolutions.resolve(prepared)

    assert [one.conflict_id for one in conflicts(both)] == [conflict.conflict_id]
    assert marks(both, "fifty") == [["five"]]


def test_r8_a_statement_and_its_contradiction_open_one_conflict_and_are_answered_with_the_mark(both: Engine) -> None:
    (conflict,) = conflicts(both)
    assert names(conflict) == ["fifty", "five"]
    assert [party.producer for party in conflict.parties] == ["b", "a"]
    assert [party.content for party in conflict.parties] == ["The daily limit is 50 mg.", "The daily limit is 5 mg."]
    assert "50" in conflict.differences[0]
    query = know.SearchRequest(namespace=NAMESPACE, vector=pb.Embedding(float32=VECTORS[5].tobytes()))
    hits = both.knowledge.search(query).hits
    assert {(hit.change.item_id, tuple(hit.open_conflicts[0].item_ids)) for hit in hits} == {
        ("five", ("fifty",)),
        ("fifty", ("five",)),
    }
    assert {hit.open_conflicts[0].conflict_id for hit in hits} == {conflict.conflict_id}


def test_what_an_expert_holds_back_is_a_party_until_it_is_decided(held: Engine) -> None:
    (conflict,) = conflicts(held)
    (waits,) = pending(held)
    assert names(conflict) == [f"review {waits.sequence}", "five"]
    assert held.reviews.get(NAMESPACE, waits.sequence).conflict_id == conflict.conflict_id
    assert marks(held, "five") == [[]]
    held.pipeline.release([ruling(held, waits, admits=False, comment="no")])
    assert (conflicts(held), marks(held, "five")) == ([], [])
    (over,) = conflicts(held, api.CONFLICT_STATE_RESOLVED)
    assert [(party.gone, party.stands) for party in over.parties] == [(True, False), (False, True)]
    assert (over.resolution.reviewer, over.resolution.comment) == ("dr-ada", "no")


def test_what_was_let_in_goes_on_in_the_same_conflict_as_an_item(held: Engine) -> None:
    (before,) = conflicts(held)
    (receipt,) = held.pipeline.release([ruling(held, one) for one in pending(held)])
    (after,) = conflicts(held)
    assert after.conflict_id == before.conflict_id
    assert names(after) == [receipt.item_id, "five"]
    assert marks(held, "five") == [[receipt.item_id]]
    assert marks(held, receipt.item_id) == [["five"]]


def test_as_of_a_time_before_it_was_let_in_no_party_is_named_that_was_none_then(held: Engine) -> None:
    commit(held, submission("So it is.", id="later", item="later", vector=VECTORS[8]))
    then = held.feed.head(NAMESPACE)
    before = {item: marks(held, item, at=then) for item in ("five", "later")}
    (receipt,) = held.pipeline.release([ruling(held, one) for one in pending(held)])
    assert any(receipt.item_id in mark for mark in marks(held, "five"))
    assert {item: marks(held, item, at=then) for item in ("five", "later")} == before


def test_what_is_let_in_after_the_expert_said_something_else_opens_another(held: Engine) -> None:
    commit(held, limit(6, item="five", origin=pb.ORIGIN_EXPERT))
    assert conflicts(held) == []

    (receipt,) = held.pipeline.release([ruling(held, one) for one in pending(held)])

    assert [names(conflict) for conflict in conflicts(held)] == [[receipt.item_id, "five"]]


def test_who_says_what_was_held_is_a_party_in_its_place(held: Engine) -> None:
    (receipt,) = commit(held, limit(50, origin=pb.ORIGIN_EXPERT, item="fifty"))
    assert receipt.outcome == pb.OUTCOME_ADMITTED
    assert [names(conflict) for conflict in conflicts(held)] == [["fifty", "five"]]
    assert pending(held) == []


@pytest.mark.parametrize("by", ["retraction", "revision"])
def test_a_conflict_is_over_when_nothing_of_a_party_is_left(both: Engine, by: str) -> None:
    then = both.feed.head(NAMESPACE)
    assert marks(both, "fifty") == [["five"]]
    left = retraction("five", id="r") if by == "retraction" else submission("Ask a doctor.", id="r", item="five")
    commit(both, left)
    assert (conflicts(both), marks(both, "fifty")) == ([], [])
    assert marks(both, "fifty", at=then) == [["five"]], "as of then it was open"
    (over,) = conflicts(both, api.CONFLICT_STATE_RESOLVED)
    assert {party.item_id: party.gone for party in over.parties} == {"fifty": False, "five": True}
    assert over.resolution.reviewer == ""


def test_a_party_that_was_taken_back_twice_is_told_with_what_it_said(both: Engine) -> None:
    origins = (pb.ORIGIN_CRAWLED, pb.ORIGIN_EXPERT)
    taken_back = [retraction("fifty", id=f"r-{origin}", origin=origin, producer="b") for origin in origins]
    assert {receipt.outcome for receipt in commit(both, *taken_back)} == {pb.OUTCOME_REVISED}
    (over,) = conflicts(both, api.CONFLICT_STATE_RESOLVED)
    gone = next(party for party in over.parties if party.gone)
    assert (gone.item_id, gone.content, gone.origin) == ("fifty", "The daily limit is 50 mg.", pb.ORIGIN_CRAWLED)


def test_a_conflict_goes_on_while_two_are_left_and_when_one_is_only_confirmed(both: Engine) -> None:
    commit(both, limit(500, item="much"))
    first, second = conflicts(both)
    assert sorted(names(second)) == ["fifty", "five", "much"]
    commit(both, limit(5, item="five", origin=pb.ORIGIN_EXPERT, producer="dr-ada"))
    assert [conflict.conflict_id for conflict in conflicts(both)] == [first.conflict_id, second.conflict_id]
    commit(both, retraction("five", id="r"))
    (left,) = conflicts(both)
    assert left.conflict_id == second.conflict_id
    assert marks(both, "much") == [["fifty"]]


@pytest.mark.parametrize("size", [1, 9])
def test_a_conflict_goes_on_when_a_party_says_something_else_that_still_contradicts(engine: Engine, size: int) -> None:
    revised = limit(6, item="five", producer="a")
    sent = [limit(5, item="five", producer="a"), limit(50, item="fifty", producer="b"), revised]
    commit_in_batches(engine, sent, size)

    (conflict,) = conflicts(engine)
    assert names(conflict) == ["fifty", "five"]
    assert (marks(engine, "fifty"), marks(engine, "five")) == ([["five"]], [["fifty"]])

    agreed = limit(50, item="five", producer="a")
    agreed.submission_id = "agreed"
    commit(engine, agreed)
    assert conflicts(engine) == []


def test_of_three_parties_one_that_contradicts_nobody_any_more_is_gone(both: Engine) -> None:
    commit(both, limit(500, item="much"))

    commit(both, submission("Ask a doctor.", id="r", item="fifty", vector=VECTORS[5]))

    assert marks(both, "much") == [["five", "fifty"]], "it is near, and says something else"
    commit(both, submission("Ask a doctor.", id="far", item="five", vector=direction(0, 1)))
    assert marks(both, "much") == [["fifty"]]


def test_what_was_resolved_is_not_asked_again_at_the_next_version(both: Engine) -> None:
    (conflict,) = conflicts(both)
    resolve(both, conflict, "five", "fifty")

    (receipt,) = commit(both, limit(6, item="five"))

    assert receipt.outcome == pb.OUTCOME_REVISED
    assert conflicts(both) == []


def test_a_conflict_goes_on_when_who_reviews_confirms_a_party(both: Engine) -> None:
    nameless = limit(50, origin=pb.ORIGIN_SYNTHETIC, producer="m")
    nameless.provenance.generator = ""
    commit(both, nameless)
    (one,) = pending(both, pb.REASON_NO_GENERATOR)

    (receipt,) = both.pipeline.release([ruling(both, one)])

    assert (receipt.outcome, receipt.item_id, receipt.version) == (pb.OUTCOME_REVISED, "fifty", 2)
    assert [names(conflict) for conflict in conflicts(both)] == [["fifty", "five"]]
    assert marks(both, "five") == [["fifty"]]


def test_who_resolves_says_what_stands_and_the_rest_is_retracted(both: Engine) -> None:
    (conflict,) = conflicts(both)
    over = resolve(both, conflict, "five")
    assert over.state == api.CONFLICT_STATE_RESOLVED
    assert {party.item_id: party.stands for party in over.parties} == {"five": True, "fifty": False}
    assert (over.resolution.reviewer, over.resolution.comment) == ("dr-ada", "looked it up")
    with pytest.raises(NotFound):
        marks(both, "fifty")
    assert marks(both, "five") == []
    history = both.knowledge.history(know.HistoryRequest(namespace=NAMESPACE, item_id="fifty")).changes
    assert history[-1].knowledge.provenance.producer == "dr-ada"


def test_of_three_one_may_stand(both: Engine) -> None:
    commit(both, limit(500, item="much"))
    _, three = conflicts(both)

    over = resolve(both, three, "much")

    assert {party.item_id: party.stands for party in over.parties} == {"much": True, "five": False, "fifty": False}
    assert conflicts(both) == [], "the other one has lost both its parties"


def test_both_may_stand(both: Engine) -> None:
    (conflict,) = conflicts(both)
    head = both.feed.head(NAMESPACE)
    over = resolve(both, conflict, "five", "fifty", by=BOB)
    assert all(party.stands for party in over.parties)
    assert (marks(both, "five"), marks(both, "fifty"), both.feed.head(NAMESPACE)) == ([], [], head)


@pytest.mark.parametrize("stands", ["held", "known", "both"])
def test_what_is_held_is_decided_with_its_conflict(held: Engine, stands: str) -> None:
    (conflict,) = conflicts(held)
    (waits,) = pending(held)
    items = () if stands == "held" else ("five",)
    over = resolve(held, conflict, *items, reviews=() if stands == "known" else (waits.sequence,))
    assert (conflicts(held), pending(held)) == ([], [])
    assert [party.stands for party in over.parties] == [stands != "known", stands != "held"]
    assert held.namespaces.get(NAMESPACE).item_count == (2 if stands == "both" else 1)
    assert held.reviews.get(NAMESPACE, waits.sequence).decision.reviewer == "dr-ada"


def test_the_same_resolution_again_has_the_same_answer_and_another_is_too_late(both: Engine) -> None:
    (conflict,) = conflicts(both)
    first = resolve(both, conflict, "five")
    before = list(both.store.logical_dump())
    assert resolve(both, conflict, "five") == first
    with pytest.raises(Conflict, match=f"conflict {conflict.conflict_id} is not open any more"):
        resolve(both, conflict, "fifty")
    with pytest.raises(Conflict):
        resolve(both, conflict, "five", by=BOB)
    assert list(both.store.logical_dump()) == before


def test_what_is_wrong_with_a_resolution_is_told_and_nothing_is_written(held: Engine) -> None:
    (conflict,) = conflicts(held)
    (waits,) = pending(held)
    before = list(held.store.logical_dump())
    with pytest.raises(InvalidInput, match="none is no party of the conflict, these are: five"):
        resolve(held, conflict, "none")
    with pytest.raises(InvalidInput, match="required: a party that stands"):
        resolve(held, conflict)
    with pytest.raises(Denied, match="against five, which is EXPERT"):
        resolve(held, conflict, reviews=(waits.sequence,), by=BOB)
    with pytest.raises(NotFound, match="has no conflict 999"):
        resolve(held, api.Conflict(conflict_id=999), "five")
    assert list(held.store.logical_dump()) == before


def test_conflicts_are_listed_in_pages_and_by_item(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        vector = direction(*[0.0] * (n + 1), 1.0)
        for amount in (1, 2):
            name = f"{'one' if amount == 1 else 'two'}-{n}"
            commit(engine, submission(f"Of {n} take {amount}.", id=name, item=name, vector=vector))
    found, request = [], api.ListConflictsRequest(namespace=NAMESPACE, limit=2)
    while True:
        page = engine.resolutions.list_conflicts(request)
        found += [names(conflict) for conflict in page.conflicts]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == [[f"two-{n}", f"one-{n}"] for n in range(5)]
    of_item = engine.resolutions.list_conflicts(api.ListConflictsRequest(namespace=NAMESPACE, item_id="one-3"))
    assert [names(conflict) for conflict in of_item.conflicts] == [["two-3", "one-3"]]
    monkeypatch.setattr(engine.resolutions, "_answer_bytes_max", 1)
    assert [len(conflict.parties) for conflict in engine.resolutions.list_conflicts(request).conflicts] == [2]
