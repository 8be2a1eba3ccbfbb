"""What becomes of a submission: the rules of match and gate, through the whole pipeline."""

import contextlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from epistream.indexer import known
from epistream.indexer.engine import Engine
from epistream.indexer.index import searchable
from epistream.indexer.model import Position
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken, Conflict, InvalidInput, NotFound
from tests.support.knowing import NAMESPACE, commit, direction, open_engine, record, retraction, submission

NEAR = direction(1.0, 0.1)
NEARER = direction(1.0, 0.11)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    yield engine
    engine.close()


def what(receipt: pb.Receipt) -> tuple[str, str]:
    return (
        pb.Outcome.Name(receipt.outcome).removeprefix("OUTCOME_"),
        pb.Reason.Name(receipt.reason).removeprefix("REASON_"),
    )


def answer(engine: Engine, item: str, revision: int | None = None) -> str | None:
    request = api.GetRequest(namespace=NAMESPACE, item_id=item)
    if revision is not None:
        request.as_of.revision = revision
    try:
        return engine.knowledge.get(request).change.knowledge.content
    except NotFound:
        return None


def test_new_knowledge_is_admitted_with_version_and_revision_one(engine: Engine) -> None:
    (receipt,) = commit(engine, submission("Water boils at 100 °C.", id="1", item="boiling"))
    assert what(receipt) == ("ADMITTED", "NEW")
    assert (receipt.item_id, receipt.version, receipt.revision) == ("boiling", 1, 1)


def test_what_is_prepared_is_committed_and_published_when_no_file_can_be_opened(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the service has no more files to open: it would stop, since memory were behind the store."""
    commit(engine, submission("Water boils at 100 °C.", id="1", item="boiling"))
    prepared = engine.pipeline.prepare([record(submission("Water boils at 99.97 °C.", id="2", item="boiling"))])

    def refuse(*_: object, **__: object) -> None:
        raise apsw.CantOpenError

    with contextlib.ExitStack() as readers:
        monkeypatch.setattr(apsw, "Connection", refuse)
        with contextlib.suppress(Broken):
            while True:
                readers.enter_context(engine.store.reader())
        (receipt,) = engine.pipeline.commit(prepared)

    assert what(receipt) == ("REVISED", "REVISION")


def test_the_same_submission_again_gets_the_earlier_receipt_and_writes_nothing(engine: Engine) -> None:
    sent = submission("Water boils at 100 °C.", id="1")
    (first,) = commit(engine, sent)
    before = list(engine.store.logical_dump())
    (again,) = commit(engine, sent)
    assert again.earlier
    again.earlier = False
    assert again == first
    assert list(engine.store.logical_dump()) == before


def test_a_submission_id_used_for_other_content_is_refused_and_its_bytes_are_kept(engine: Engine) -> None:
    other = submission("Water boils at 90 °C.", id="1")
    commit(engine, submission("Water boils at 100 °C.", id="1"))
    (receipt,) = commit(engine, other)
    assert what(receipt) == ("REFUSED", "SUBMISSION_ID_REUSED")
    assert receipt.violations[0].field == "submission_id"
    assert [letter.record.value for letter in engine.store.dead_letters(0, 10)] == [other.SerializeToString()]


def test_the_same_content_of_another_producer_is_merged_as_a_corroboration(engine: Engine) -> None:
    commit(engine, submission("Water boils at 100 °C.", id="1", item="boiling"))
    (receipt,) = commit(engine, submission("Water  boils at\n100 °C.", id="1", producer="bob"))
    assert what(receipt) == ("MERGED", "SAME_CONTENT")
    assert (receipt.item_id, receipt.version, receipt.revision) == ("boiling", 1, 0)
    found = engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id="boiling"))
    assert found.corroboration_count == 1
    assert [c.producer for c in found.corroborations] == ["bob"]
    assert engine.feed.head(NAMESPACE) == 1


def test_two_equal_submissions_in_one_batch_are_one_item(engine: Engine) -> None:
    receipts = commit(engine, submission("Salt is NaCl.", id="1"), submission("Salt is NaCl.", id="2"))
    assert [what(r)[0] for r in receipts] == ["ADMITTED", "MERGED"]
    assert receipts[0].item_id == receipts[1].item_id


@pytest.mark.parametrize(
    ("head", "newcomer", "expected"),
    [
        (pb.ORIGIN_EXPERT, pb.ORIGIN_EXPERT, ("REVISED", "REVISION")),
        (pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE, ("HELD", "LOWER_AUTHORITY")),
        (pb.ORIGIN_EXPERT, pb.ORIGIN_CRAWLED, ("HELD", "LOWER_AUTHORITY")),
        (pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC, ("HELD", "LOWER_AUTHORITY")),
        (pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_EXPERT, ("REVISED", "REVISION")),
        (pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_CRAWLED, ("HELD", "LOWER_AUTHORITY")),
        (pb.ORIGIN_CRAWLED, pb.ORIGIN_COLLABORATIVE, ("REVISED", "REVISION")),
        (pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC, ("HELD", "LOWER_AUTHORITY")),
        (pb.ORIGIN_SYNTHETIC, pb.ORIGIN_CRAWLED, ("REVISED", "REVISION")),
        (pb.ORIGIN_SYNTHETIC, pb.ORIGIN_SYNTHETIC, ("REVISED", "REVISION")),
    ],
)
def test_a_known_item_is_revised_unless_its_head_has_the_higher_authority(
    engine: Engine, head: pb.Origin.ValueType, newcomer: pb.Origin.ValueType, expected: tuple[str, str]
) -> None:
    commit(engine, submission("Pluto is a planet.", id="1", item="pluto", origin=head))
    (receipt,) = commit(engine, submission("Ceres is an asteroid.", id="2", item="pluto", origin=newcomer))
    assert what(receipt) == expected
    revised = expected[0] == "REVISED"
    assert answer(engine, "pluto") == ("Ceres is an asteroid." if revised else "Pluto is a planet.")
    assert engine.namespaces.get(NAMESPACE).held_count == (0 if revised else 1)


def test_a_producer_that_sets_its_own_item_to_what_another_says_means_its_own_item(engine: Engine) -> None:
    commit(engine, submission("A is 1.", id="1", item="a"), submission("B is 2.", id="2", item="b"))
    (receipt,) = commit(engine, submission("B is 2.", id="3", item="a"))
    assert what(receipt) == ("REVISED", "REVISION")
    assert answer(engine, "a") == "B is 2."


@pytest.mark.parametrize(("expected_version", "outcome"), [(1, "REVISED"), (0, "REFUSED"), (2, "REFUSED")])
def test_an_expected_version_must_be_the_heads(engine: Engine, expected_version: int, outcome: str) -> None:
    commit(engine, submission("Port 80.", id="1", item="port"))
    before = list(engine.store.logical_dump())
    (receipt,) = commit(engine, submission("Port 443.", id="2", item="port", expected_version=expected_version))
    assert what(receipt)[0] == outcome
    if outcome == "REFUSED":
        assert receipt.reason == pb.REASON_VERSION_CONFLICT
        assert receipt.violations[0].field == "expected_version"
        assert [line for line in engine.store.logical_dump() if not line.startswith("dead_letters")] == before


def test_an_item_that_must_not_exist_yet_may_be_made(engine: Engine) -> None:
    (receipt,) = commit(engine, submission("Port 80.", id="1", item="port", expected_version=0))
    assert what(receipt) == ("ADMITTED", "NEW")


def test_the_same_claim_in_other_words_is_merged(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR))
    (receipt,) = commit(engine, submission("the daily limit is 5 mg", id="2", vector=NEARER))
    assert what(receipt) == ("MERGED", "SAME_CLAIM")
    assert receipt.item_id == "limit"
    assert 0.95 < receipt.figures.similarity < 1
    assert receipt.figures.threshold == 0.95


def test_five_and_fifty_milligrams_never_merge(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR))
    (receipt,) = commit(engine, submission("The daily limit is 50 mg.", id="2", vector=NEARER))
    assert what(receipt) == ("ADMITTED", "NEW_WITH_CONFLICT")
    assert receipt.figures.item_id == "limit"
    assert any("5 mg" in difference and "50 mg" in difference for difference in receipt.figures.differences)
    change = engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=receipt.item_id)).change
    assert list(change.conflicts) == ["limit"]


def test_synthetic_knowledge_that_contradicts_an_expert_near_by_is_held(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR))
    contradiction = submission("The daily limit is 50 mg.", id="2", vector=NEARER, origin=pb.ORIGIN_SYNTHETIC)
    (receipt,) = commit(engine, contradiction)
    assert what(receipt) == ("HELD", "CONFLICT_WITH_EXPERT")
    assert receipt.figures.origin == pb.ORIGIN_EXPERT
    assert engine.feed.head(NAMESPACE) == 1
    held = [e for e in engine.store.journal.follow(0) if e.record.decision.HasField("held")]
    assert [entry.record.decision.held for entry in held] == [contradiction]


def test_what_was_held_is_resolved_when_an_expert_says_the_same(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", vector=NEAR))
    commit(engine, submission("The daily limit is 6 mg.", id="2", vector=NEARER, origin=pb.ORIGIN_SYNTHETIC))
    assert engine.namespaces.get(NAMESPACE).held_count == 1
    commit(engine, submission("The daily limit is 6 mg.", id="3", vector=NEARER))
    assert engine.namespaces.get(NAMESPACE).held_count == 0


@pytest.mark.parametrize("content", ["The daily limit is 5 mg.", "the daily limit is 5 mg"])
def test_synthetic_knowledge_that_an_expert_confirms_is_promoted(engine: Engine, content: str) -> None:
    synthetic = submission("The daily limit is 5 mg.", id="1", item="x", vector=NEAR, origin=pb.ORIGIN_SYNTHETIC)
    commit(engine, synthetic)
    (receipt,) = commit(engine, submission(content, id="2", vector=NEARER))
    assert what(receipt) == ("REVISED", "PROMOTION")
    assert (receipt.item_id, receipt.version) == ("x", 2)
    found = engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id="x")).change.knowledge
    assert found.origin == pb.ORIGIN_EXPERT


def test_a_retraction_is_a_version_and_is_in_no_answer_from_its_revision_on(engine: Engine) -> None:
    commit(engine, submission("Lead is safe.", id="1", item="lead", vector=NEAR))
    (receipt,) = commit(engine, retraction("lead", id="2"))
    assert what(receipt) == ("REVISED", "RETRACTION")
    assert (receipt.version, receipt.revision) == (2, 2)
    assert answer(engine, "lead") is None
    assert answer(engine, "lead", revision=1) == "Lead is safe."
    query = api.SearchRequest(namespace=NAMESPACE, vector=pb.Embedding(float32=NEAR.tobytes()))
    assert not engine.knowledge.search(query).hits
    history = engine.knowledge.history(api.HistoryRequest(namespace=NAMESPACE, item_id="lead"))
    assert [change.kind for change in history.changes] == [pb.CHANGE_KIND_ADMITTED, pb.CHANGE_KIND_RETRACTED]


def test_retracting_twice_merges_and_retracting_nothing_is_refused(engine: Engine) -> None:
    commit(engine, submission("Lead is safe.", id="1", item="lead"), retraction("lead", id="2"))
    receipts = commit(engine, retraction("lead", id="3"), retraction("gold", id="4"))
    assert [what(r) for r in receipts] == [("MERGED", "ALREADY_RETRACTED"), ("REFUSED", "UNKNOWN_ITEM")]


def test_a_lower_authority_can_neither_retract_nor_bring_back(engine: Engine) -> None:
    commit(engine, submission("Lead is safe.", id="1", item="lead"))
    (held,) = commit(engine, retraction("lead", id="2", origin=pb.ORIGIN_SYNTHETIC))
    assert what(held) == ("HELD", "LOWER_AUTHORITY")
    commit(engine, retraction("lead", id="3"))
    back = [
        submission("Lead is safe.", id="4", origin=pb.ORIGIN_SYNTHETIC),
        submission("Lead is good.", id="5", item="lead", origin=pb.ORIGIN_CRAWLED),
    ]
    receipts = commit(engine, *back)
    assert [what(r) for r in receipts] == [("HELD", "RETRACTED_CONTENT"), ("HELD", "LOWER_AUTHORITY")]
    assert answer(engine, "lead") is None


def test_the_same_authority_can_bring_back(engine: Engine) -> None:
    commit(engine, submission("Lead is heavy.", id="1", item="lead"), retraction("lead", id="2"))
    (receipt,) = commit(engine, submission("Lead is heavy.", id="3"))
    assert what(receipt) == ("REVISED", "REINSTATEMENT")
    assert (receipt.item_id, receipt.version) == ("lead", 3)
    assert answer(engine, "lead") == "Lead is heavy."


def test_later_submissions_of_a_batch_see_what_earlier_ones_changed(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR))
    receipts = commit(
        engine,
        retraction("limit", id="2"),
        submission("the daily limit is 5 mg", id="3", vector=NEARER),
        submission("The daily limit is 5mg.", id="4", vector=NEAR),
    )
    assert [what(r) for r in receipts] == [
        ("REVISED", "RETRACTION"),
        ("ADMITTED", "NEW"),
        ("MERGED", "SAME_CLAIM"),
    ]
    assert receipts[2].item_id == receipts[1].item_id


@pytest.mark.parametrize("seed", range(12))
def test_when_a_submission_was_prepared_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Two engines take the same batches in the same order: one prepared them early, the other just before."""
    monkeypatch.setattr(known, "LOOK_AHEAD_MIN", 1)
    chance = random.Random(seed)
    monkeypatch.setattr(searchable, "CLOSE_MOST", chance.choice([1, 3, 64]))
    monkeypatch.setattr(searchable, "QUERIES_MAX", chance.choice([1, 5, 1024]))
    early, late = open_engine(tmp_path / "early"), open_engine(tmp_path / "late")
    numbers = itertools.count()

    def made() -> pb.Submission:
        number, item = str(next(numbers)), f"item-{chance.randrange(6)}"
        if chance.random() < 0.15:
            return retraction(item, id=number)
        content = f"The daily limit is {chance.choice([5, 6, 50])} mg{chance.choice(['.', '', ' for ' + number])}"
        vector = direction(1.0, chance.choice([0.0, 0.1, 0.10001, 0.2, 3.0]), chance.choice([0.0, 0.05]))
        origin = chance.choice([pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC])
        named = item if chance.random() < 0.3 else ""
        return submission(content, id=number, item=named, vector=vector, origin=origin)

    waiting = []
    for _ in range(60):
        if chance.random() < 0.6:
            records = [record(made()) for _ in range(chance.choice([1, 2, 20]))]
            waiting.append((records, early.pipeline.prepare(records)))
        elif chance.random() < 0.2:
            policy = ns_pb.Policy(near_duplicate_threshold=chance.choice([0.5, 0.85, 0.8501, 0.95, 1.0]))
            for engine in (early, late):
                engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        elif waiting:
            together = [waiting.pop(chance.randrange(len(waiting))) for _ in range(min(len(waiting), 2))]
            receipts = early.pipeline.commit([one for _, prepared in together for one in prepared])
            records = [one for arrived, _ in together for one in arrived]
            assert receipts == late.pipeline.commit(late.pipeline.prepare(records))
    assert {receipt.outcome for receipt in _receipts(early)} > {pb.OUTCOME_ADMITTED, pb.OUTCOME_MERGED}
    for engine in (early, late):
        engine.close()


def _receipts(engine: Engine) -> list[pb.Receipt]:
    return [entry.record.decision.receipt for entry in engine.store.journal.follow(0)]


def test_what_was_prepared_before_others_were_committed_is_decided_by_what_is_known_then(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "LOOK_AHEAD_MIN", 1)
    commit(engine, submission("The daily limit is 5 mg.", id="1", item="limit", vector=NEAR))
    prepared = engine.pipeline.prepare(
        [
            record(submission("the daily limit is 5 mg", id="2", vector=NEARER)),
            record(submission("the boiling point is 99 °C", id="3", vector=direction(0.1, 1.0))),
        ]
    )
    commit(engine, retraction("limit", id="4"))
    commit(engine, submission("The boiling point is 99 °C.", id="5", item="boiling", vector=direction(0.11, 1.0)))
    receipts = engine.pipeline.commit(prepared)
    assert [what(receipt) for receipt in receipts] == [("ADMITTED", "NEW"), ("MERGED", "SAME_CLAIM")]
    assert receipts[1].item_id == "boiling"


def test_what_was_prepared_before_the_policy_changed_is_decided_by_the_new_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "LOOK_AHEAD_MIN", 1)
    commit(engine, submission("The daily limit is 5 mg.", id="1", vector=direction(1, 0)))
    prepared = engine.pipeline.prepare(
        [record(submission("the daily limit is 5 mg", id="2", vector=direction(1, 0.5)))]
    )
    engine.namespaces.update_policy(
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(near_duplicate_threshold=0.87))
    )
    assert what(engine.pipeline.commit(prepared)[0]) == ("MERGED", "SAME_CLAIM")


def test_an_atomic_batch_with_one_refusal_writes_nothing_and_names_it(engine: Engine) -> None:
    with pytest.raises(InvalidInput) as refused:
        commit(engine, submission("A is 1.", id="1"), retraction("nothing", id="2"), atomic=True)
    assert [violation.field for violation in refused.value.violations] == ["submissions[1].item_id"]
    assert engine.feed.head(NAMESPACE) == 0
    assert engine.namespaces.get(NAMESPACE).item_count == 0
    with pytest.raises(Conflict) as stale:
        commit(engine, submission("A is 1.", id="1", item="a", expected_version=4), atomic=True)
    assert [violation.field for violation in stale.value.violations] == ["submissions[0].expected_version"]


def test_a_new_policy_decides_every_later_submission(engine: Engine) -> None:
    commit(engine, submission("The daily limit is 5 mg.", id="1", vector=direction(1, 0)))
    loose = submission("the daily limit is 5 mg", id="2", vector=direction(1, 0.6))
    assert commit(engine, loose)[0].reason == pb.REASON_NEW
    updated = engine.namespaces.update_policy(
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(near_duplicate_threshold=0.8))
    )
    assert updated.policy_version == 2
    (receipt,) = commit(engine, submission("the daily limit is 5mg", id="3", vector=direction(0.9, 0.6)))
    assert what(receipt) == ("MERGED", "SAME_CLAIM")


def test_a_record_that_was_refused_stays_refused_when_it_is_read_again_but_not_another_at_its_place(
    engine: Engine,
) -> None:
    def read(sent: pb.Submission) -> tuple[str, str]:
        (receipt,) = engine.pipeline.commit(engine.pipeline.prepare([record(sent, Position("facts", 0, 0))]))
        return what(receipt)

    too_early = retraction("lead", id="1")
    assert read(too_early) == ("REFUSED", "UNKNOWN_ITEM")
    commit(engine, submission("Lead is safe.", id="2", item="lead"))
    assert read(too_early) == ("REFUSED", "UNKNOWN_ITEM")
    assert read(retraction("lead", id="3")) == ("REVISED", "RETRACTION")
    assert len(engine.store.dead_letters(0, 10)) == 1
