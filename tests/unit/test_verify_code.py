"""Code waits until its tests were run, where the policy asks for it; who ran them decides no more than that."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, InvalidInput
from tests.support.knowing import (
    NAMESPACE,
    HandClock,
    commit,
    commit_in_batches,
    direction,
    let_go,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)

EXECUTOR = api.Reviewer(name="executor", origin=pb.ORIGIN_SYNTHETIC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    asked(engine, verify_code=True)
    yield engine
    assert stores.check(engine.store) == []
    engine.close()


def asked(engine: Engine, *, verify_code: bool) -> None:
    engine.namespaces.update_policy(
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(verify_code=verify_code))
    )


def floor(engine: Engine, share: float) -> None:
    policy = ns_pb.Policy(real_share_floor=share)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))


def code(
    number: int,
    origin: pb.Origin.ValueType = pb.ORIGIN_SYNTHETIC,
    item: str = "f",
    by: str = "writer",
    derived_from: Sequence[str] = (),
) -> pb.Submission:
    vector = direction(*[0.0] * number, 1.0)
    content = f"def f(x):\n    return {number}\n"
    made = submission(
        content, id=str(number), item=item, origin=origin, producer=by, vector=vector, derived_from=derived_from
    )
    made.modality = pb.MODALITY_CODE
    return made


def decide(engine: Engine, review_id: int, verdict: api.ReviewVerdict.ValueType) -> pb.Receipt:
    request = api.DecideReviewRequest(namespace=NAMESPACE, review_id=review_id, reviewer=EXECUTOR, verdict=verdict)
    return engine.reviews.decide(engine.reviews.prepare(request))


@pytest.mark.parametrize("origin", [pb.ORIGIN_SYNTHETIC, pb.ORIGIN_CRAWLED, pb.ORIGIN_COLLABORATIVE])
def test_code_that_no_expert_answers_for_waits_and_is_itself_when_its_tests_passed(
    engine: Engine, origin: pb.Origin.ValueType
) -> None:
    (receipt,) = commit(engine, code(1, origin))
    assert (receipt.outcome, receipt.reason, receipt.revision) == (pb.OUTCOME_HELD, pb.REASON_UNVERIFIED, 0)
    (held,) = pending(engine, pb.REASON_UNVERIFIED)
    receipt = decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)
    assert (receipt.outcome, receipt.reason, receipt.item_id) == (pb.OUTCOME_ADMITTED, pb.REASON_REVIEW_ADMITTED, "f")
    with engine.store.reader() as catalog:
        head = catalog.head(engine.namespaces.configs[NAMESPACE].number, "f")
    # Tests that pass make no expert of it.
    assert head is not None
    assert head.origin == origin


def test_a_new_version_waits_too_and_the_one_before_stays(engine: Engine) -> None:
    commit(engine, code(1, pb.ORIGIN_EXPERT, by="ada"))
    assert pending(engine) == []
    asked(engine, verify_code=False)
    commit(engine, code(2, item="g"))
    asked(engine, verify_code=True)
    (receipt,) = commit(engine, code(3, item="g"))
    assert receipt.reason == pb.REASON_UNVERIFIED
    (held,) = pending(engine)
    receipt = decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)
    assert (receipt.outcome, receipt.version) == (pb.OUTCOME_REVISED, 2)


def test_what_fails_its_tests_is_rejected_and_says_why(engine: Engine) -> None:
    commit(engine, code(1))
    (held,) = pending(engine)
    receipt = decide(engine, held.sequence, api.REVIEW_VERDICT_REJECT)
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REJECTED, pb.REASON_FAILED_TESTS)
    # A person who turns it away gives another reason.
    commit(engine, code(2))
    (held,) = pending(engine)
    (receipt,) = engine.pipeline.release([ruling(engine, held, admits=False)])
    assert receipt.reason == pb.REASON_REVIEW_REJECTED


def test_other_knowledge_and_what_changes_nothing_does_not_wait(engine: Engine) -> None:
    text = submission("It is so.", id="t", item="t", origin=pb.ORIGIN_CRAWLED, producer="web")
    expert = code(1, pb.ORIGIN_EXPERT, by="ada")
    same = code(1, pb.ORIGIN_SYNTHETIC, by="gpt")
    outcomes = [receipt.outcome for receipt in commit(engine, text, expert, same, expert)]
    assert outcomes == [pb.OUTCOME_ADMITTED, pb.OUTCOME_ADMITTED, pb.OUTCOME_MERGED, pb.OUTCOME_ADMITTED]


def test_tests_do_not_decide_what_is_held_for_another_reason(engine: Engine) -> None:
    commit(engine, code(1, pb.ORIGIN_EXPERT, by="ada"), code(2))
    (held,) = pending(engine)
    assert held.decision.receipt.reason == pb.REASON_LOWER_AUTHORITY
    with pytest.raises(InvalidInput, match=r"reviewer\.origin"):
        decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)


def test_a_person_may_let_it_in_and_the_gate_itself_does_not(engine: Engine) -> None:
    commit(engine, code(1), code(2, item="g"))
    first, second = pending(engine)
    (receipt,) = engine.pipeline.release([let_go(engine, first)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_UNVERIFIED)
    (receipt,) = engine.pipeline.release([ruling(engine, second, origin=pb.ORIGIN_COLLABORATIVE)])
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_REVIEW_ADMITTED)


def test_what_was_let_in_and_then_put_off_goes_on_without_being_run_again(engine: Engine) -> None:
    floor(engine, 1.0)
    commit(engine, code(1))
    (held,) = pending(engine, pb.REASON_UNVERIFIED)
    receipt = decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_DEFERRED)
    floor(engine, 0.0)
    assert engine.pipeline.let_go(NAMESPACE) == 1
    assert pending(engine) == []
    with engine.store.reader() as catalog:
        assert catalog.head(engine.namespaces.configs[NAMESPACE].number, "f") is not None


def test_a_version_that_was_taken_back_while_it_waited_does_not_come_back(engine: Engine) -> None:
    asked(engine, verify_code=False)
    commit(engine, code(1))
    asked(engine, verify_code=True)
    commit(engine, code(2))
    (held,) = pending(engine, pb.REASON_UNVERIFIED)

    (receipt,) = commit(engine, retraction("f", id="r", origin=pb.ORIGIN_SYNTHETIC, producer="writer"))

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REVISED, pb.REASON_RETRACTION)
    with pytest.raises(Conflict, match="is not held any more"):
        decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)
    (again,) = commit(engine, code(2))
    assert (again.outcome, again.reason, again.earlier) == (pb.OUTCOME_REJECTED, pb.REASON_RETRACTION, True)
    assert engine.namespaces.get(NAMESPACE).item_count == 0


@pytest.mark.parametrize(
    ("origin", "by", "ends"),
    [
        (pb.ORIGIN_SYNTHETIC, "writer", True),
        (pb.ORIGIN_CRAWLED, "web", True),
        (pb.ORIGIN_SYNTHETIC, "mallory", False),
    ],
)
def test_a_first_version_can_be_withdrawn_while_it_waits(
    engine: Engine, origin: pb.Origin.ValueType, by: str, *, ends: bool
) -> None:
    commit(engine, code(1))

    (receipt,) = commit(engine, retraction("f", id="r", origin=origin, producer=by))

    assert receipt.reason == (pb.REASON_ALREADY_RETRACTED if ends else pb.REASON_UNKNOWN_ITEM)
    assert len(pending(engine)) == (0 if ends else 1)


def test_what_was_taken_back_is_so_however_a_stream_is_cut(tmp_path: Path) -> None:
    gone = retraction("f", id="r", origin=pb.ORIGIN_SYNTHETIC, producer="writer")
    expert = code(3, pb.ORIGIN_EXPERT, by="ada")
    said = code(2)
    said.submission_id, said.item_id = "named by nobody", ""
    expert_says = code(2, pb.ORIGIN_EXPERT, item="g", by="ada")
    expert_says.submission_id = "of the expert"
    sent = [code(1), said, code(4, item="h"), gone, expert_says, expert, code(5)]
    dumps = []
    for size in (1, 2, 3, len(sent)):
        opened = open_engine(tmp_path / str(size), HandClock())
        asked(opened, verify_code=True)
        receipts = commit_in_batches(opened, sent, size)
        assert receipts[3].reason == pb.REASON_ALREADY_RETRACTED
        assert [held.decision.held.item_id for held in pending(opened, pb.REASON_UNVERIFIED)] == ["h"]
        assert opened.namespaces.state(NAMESPACE).standing.unverified == 1
        dumps.append(list(opened.store.logical_dump()))
        opened.close()
    assert dumps == dumps[:1] * 4


def copies(engine: Engine, count: int) -> pb.Receipt:
    """Each made of the one before, and let in by its tests but the last: its receipt."""
    commit(engine, code(0, pb.ORIGIN_EXPERT, item="0", by="ada"))
    for number in range(1, count + 1):
        (receipt,) = commit(engine, code(number, item=str(number), derived_from=[str(number - 1)]))
        if number < count:
            decide(engine, pending(engine)[0].sequence, api.REVIEW_VERDICT_ADMIT)
    return receipt


@pytest.mark.parametrize("verdict", [api.REVIEW_VERDICT_ADMIT, api.REVIEW_VERDICT_REJECT])
def test_r24_what_is_beyond_the_cap_on_generations_its_tests_decide(
    engine: Engine, verdict: api.ReviewVerdict.ValueType
) -> None:
    receipt = copies(engine, 3)
    # It waits for one reason, and one decision ends it.
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_UNVERIFIED)
    assert (receipt.figures.generation, receipt.figures.generation_max) == (3, 2)
    (held,) = pending(engine)
    receipt = decide(engine, held.sequence, verdict)
    passed = verdict == api.REVIEW_VERDICT_ADMIT
    reason = pb.REASON_REVIEW_ADMITTED if passed else pb.REASON_FAILED_TESTS
    assert (receipt.reason, pending(engine)) == (reason, [])
    with engine.store.reader() as catalog:
        head = catalog.head(engine.namespaces.configs[NAMESPACE].number, "3")
    # It is counted on: what is made of it waits for its own tests.
    assert (head.generation if head else None) == (3 if passed else None)


def test_r24_where_no_test_decides_the_cap_holds_and_is_a_person_s_to_lift(engine: Engine) -> None:
    copies(engine, 2)
    decide(engine, pending(engine)[0].sequence, api.REVIEW_VERDICT_ADMIT)
    text = code(3, item="3", derived_from=["2"])
    text.modality = pb.MODALITY_TEXT
    asked(engine, verify_code=False)
    receipts = commit(engine, code(4, item="4", derived_from=["2"]))
    asked(engine, verify_code=True)
    receipts += commit(engine, text)
    assert [receipt.reason for receipt in receipts] == [pb.REASON_GENERATION] * 2
    for held in pending(engine):
        with pytest.raises(InvalidInput, match=r"reviewer\.origin"):
            decide(engine, held.sequence, api.REVIEW_VERDICT_ADMIT)
        (receipt,) = engine.pipeline.release([ruling(engine, held)])
        assert receipt.reason == pb.REASON_REVIEW_ADMITTED
