"""What waits for people is listed by its priority, told with what is said of it, and decided once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer import reviews
from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, InvalidInput, NotFound
from tests.support.knowing import (
    DIMENSION,
    NAMESPACE,
    START_US,
    HandClock,
    commit,
    direction,
    let_go,
    open_engine,
    pending,
    submission,
)
from tests.support.samples import DATA, needs_samples, rows

ADA = api.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT)
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def engine(tmp_path: Path, clock: HandClock) -> Iterator[Engine]:
    engine = open_engine(tmp_path, clock)
    for n in range(6):
        commit(engine, submission(f"Fact {n} is so.", id=str(n), item=f"i{n}", vector=direction(*[0.0] * n, 1.0)))
    yield engine
    assert stores.check(engine.store) == []
    engine.close()


def hold(engine: Engine, n: int, producer: str = "web", origin: pb.Origin.ValueType = pb.ORIGIN_CRAWLED) -> int:
    """Have something about item `n` held; returns its review's id."""
    vector = direction(*[0.0] * n, 1.0)
    said = f"Fact {n} is other, says {producer}."
    (receipt,) = commit(
        engine, submission(said, id=f"h{n}", item=f"i{n}", origin=origin, producer=producer, vector=vector)
    )
    assert receipt.outcome == pb.OUTCOME_HELD
    return pending(engine)[-1].sequence


def listed(engine: Engine, **asked: object) -> api.ListReviewsResponse:
    return engine.reviews.list_reviews(api.ListReviewsRequest(namespace=NAMESPACE, **asked))  # type: ignore[arg-type]


def vote(engine: Engine, item_id: str, **scores: float) -> None:
    for rater, score in scores.items():
        sent = pb.Submission(namespace=NAMESPACE, submission_id=f"{item_id}-{rater}", origin=pb.ORIGIN_EXPERT)
        sent.provenance.producer = "panel"
        sent.feedback.kind, sent.feedback.rater = pb.FEEDBACK_KIND_BINARY, rater
        sent.feedback.rater_type = pb.RATER_TYPE_HUMAN
        sent.feedback.judged.add(item_id=item_id, score=score)
        (receipt,) = commit(engine, sent)
        assert receipt.outcome == pb.OUTCOME_RECORDED


def made_by(producer: str, row: dict[str, Any], vector: NDArray[np.float64]) -> pb.Submission:
    """Held, for nobody says which model made it."""
    return submission(
        row["b"],
        id=row["id"],
        item=row["id"],
        origin=pb.ORIGIN_SYNTHETIC,
        producer=producer,
        generator="",
        vector=direction(*vector),
    )


def rating(item_id: str, rater: str, score: float, top: float) -> pb.Submission:
    sent = pb.Submission(namespace=NAMESPACE, submission_id=f"{item_id}-{rater}", origin=pb.ORIGIN_EXPERT)
    sent.provenance.producer = "panel"
    said = sent.feedback
    said.kind, said.rater, said.rater_type = pb.FEEDBACK_KIND_RATING, rater, pb.RATER_TYPE_HUMAN
    said.scale_min, said.scale_max = 1, top
    said.judged.add(item_id=item_id, score=score)
    return sent


def decide(
    engine: Engine,
    review_id: int,
    verdict: api.ReviewVerdict.ValueType = api.REVIEW_VERDICT_ADMIT,
    comment: str = "",
    by: api.Reviewer = ADA,
) -> pb.Receipt:
    request = api.DecideReviewRequest(
        namespace=NAMESPACE, review_id=review_id, reviewer=by, verdict=verdict, comment=comment
    )
    return engine.reviews.decide(engine.reviews.prepare(request))


def test_r30_what_raters_dispute_is_listed_before_what_they_agree_on(engine: Engine) -> None:
    agreed, disputed = hold(engine, 0, origin=pb.ORIGIN_SYNTHETIC), hold(engine, 1)
    vote(engine, "i0", a=1, b=1, c=1)
    vote(engine, "i1", a=1, b=0, c=1)
    unrated = hold(engine, 2)
    # What they say counts for the item `i1` too, which is in answers: tests/unit/test_disputes.py.
    found = listed(engine, reasons=[pb.REASON_LOWER_AUTHORITY]).reviews
    assert [review.review_id for review in found] == [disputed, unrated, agreed]
    assert [review.priority.disputed for review in found] == [True, False, False]
    assert found[0].priority.uncertainty == pytest.approx(0.918, abs=1e-3)


@needs_samples
def test_r30_what_published_annotators_dispute_is_listed_before_what_they_agree_on(tmp_path: Path) -> None:
    """1,010 statements that models are taken to have made, each judged by five people beside another one, or three."""
    judged = [row for row in rows(DATA / "pairs_sample.jsonl") if "annotators" in row]
    labels = ["contradiction", "neutral", "entailment"]
    engine = open_engine(tmp_path)
    vectors = np.random.default_rng(0).standard_normal((len(judged), DIMENSION))
    said = [made_by(f"gpt-{n % 3}", row, vector) for n, (row, vector) in enumerate(zip(judged, vectors, strict=True))]
    votes = [
        rating(row["id"], f"annotator {rater}", 1 + labels.index(label), len(labels))
        for row in judged
        for rater, label in enumerate(row["annotators"])
    ]
    assert {receipt.reason for receipt in commit(engine, *said)} == {pb.REASON_NO_GENERATOR}
    assert {receipt.outcome for receipt in commit(engine, *votes)} == {pb.OUTCOME_RECORDED}

    in_order, token = list[str](), ""
    while token or not in_order:
        page = listed(engine, limit=100, page_token=token)
        in_order += [review.submission.item_id for review in page.reviews]
        token = page.next_page_token

    disputed = {row["id"] for row in judged if len(set(row["annotators"])) > 1}
    assert 0 < len(disputed) < len(judged) == len(in_order)
    assert set(in_order[: len(disputed)]) == disputed
    engine.close()


def test_a_review_that_has_waited_long_comes_first(engine: Engine, clock: HandClock) -> None:
    old = hold(engine, 0)
    vote(engine, "i0", a=1, b=1)
    clock.us = START_US + 4 * DAY_US
    hold(engine, 1)
    vote(engine, "i1", a=1, b=0)
    first = listed(engine).reviews[0]
    assert (first.review_id, first.priority.due) == (old, True)


def test_any_number_of_old_disputes_do_not_hide_what_is_held_and_due(
    engine: Engine, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade, which finds disputes in all feedback: they are older than what is held, and many."""
    for bound, most in (("READ_MAX", 6), ("RANKED_MAX", 4)):
        monkeypatch.setattr(reviews, bound, most)
    for n in range(6):
        vote(engine, f"i{n}", a=1, b=0)
    clock.us += 90 * DAY_US
    due = [hold(engine, n) for n in range(2)]
    clock.us += 4 * DAY_US
    hold(engine, 2)

    found = listed(engine, limit=20)

    assert found.pending_count == 6 + 3
    assert [review.review_id for review in found.reviews][:2] == due
    assert [review.priority.due for review in found.reviews][:4] == [True] * 4


def test_only_what_is_asked_for_is_listed_in_pages(engine: Engine) -> None:
    ids = [hold(engine, n, producer="even" if n % 2 == 0 else "odd") for n in range(6)]
    assert listed(engine).pending_count == 6
    assert {review.receipt.producer for review in listed(engine, producers=["odd"]).reviews} == {"odd"}
    assert listed(engine, reasons=[pb.REASON_CONFLICT_WITH_EXPERT]).pending_count == 0
    assert listed(engine, reasons=[pb.REASON_LOWER_AUTHORITY]).pending_count == 6
    assert listed(engine, modalities=[pb.MODALITY_CODE]).pending_count == 0
    found, token = [], ""
    while True:
        page = listed(engine, limit=4, page_token=token)
        found += [review.review_id for review in page.reviews]
        token = page.next_page_token
        if not token:
            break
    assert sorted(found) == ids
    with pytest.raises(InvalidInput, match="page_token"):
        listed(engine, page_token="x")


def test_a_page_of_reviews_ends_before_it_is_too_large(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [hold(engine, n) for n in range(4)]
    size = listed(engine, limit=1).ByteSize()
    monkeypatch.setattr(engine.reviews, "_answer_bytes_max", 3 * size)
    first = listed(engine)
    second = listed(engine, page_token=first.next_page_token)
    assert (len(first.reviews), len(second.reviews), second.next_page_token) == (2, 2, "")
    assert sorted(review.review_id for page in (first, second) for review in page.reviews) == ids


def test_a_review_is_told_with_what_was_said_and_how_it_ended(engine: Engine) -> None:
    review_id = hold(engine, 0)
    eve = api.Reviewer(name="eve", origin=pb.ORIGIN_EXPERT)
    for by, text in ((ADA, "Who says so?"), (eve, "I do."), (ADA, "Who says so?"), (ADA, "I looked it up.")):
        engine.reviews.comment(
            api.CommentReviewRequest(namespace=NAMESPACE, subject_id=review_id, reviewer=by, text=text)
        )
    waits = engine.reviews.get(NAMESPACE, review_id)
    assert [(comment.reviewer, comment.text) for comment in waits.comments] == [
        ("dr-ada", "Who says so?"),
        ("eve", "I do."),
        ("dr-ada", "I looked it up."),
    ]
    assert (waits.item_id, waits.submission.content) == ("i0", "Fact 0 is other, says web.")
    assert not waits.HasField("decision")
    receipt = decide(engine, review_id, comment="It is so.")
    over = engine.reviews.get(NAMESPACE, review_id).decision
    assert (over.receipt, over.reviewer, over.comment) == (receipt, "dr-ada", "It is so.")
    assert listed(engine).pending_count == 0


def test_what_ended_by_itself_names_no_reviewer(engine: Engine) -> None:
    review_id = hold(engine, 0)
    (receipt,) = commit(engine, submission("Fact 0 is other, says web.", id="same", item="i0"))
    over = engine.reviews.get(NAMESPACE, review_id).decision
    assert (over.receipt, over.reviewer) == (receipt, "")


def test_the_same_decision_again_has_the_same_answer_and_another_is_too_late(engine: Engine) -> None:
    review_id = hold(engine, 0)
    first = decide(engine, review_id, api.REVIEW_VERDICT_REJECT, "no")
    assert decide(engine, review_id, api.REVIEW_VERDICT_REJECT, "no") == first
    bob = api.Reviewer(name="bob", origin=pb.ORIGIN_EXPERT)
    for verdict, comment, by in (
        (api.REVIEW_VERDICT_ADMIT, "no", ADA),
        (api.REVIEW_VERDICT_REJECT, "never", ADA),
        (api.REVIEW_VERDICT_REJECT, "no", bob),
    ):
        with pytest.raises(Conflict) as error:
            decide(engine, review_id, verdict, comment, by)
        assert error.value.reason == "NOT_HELD"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"reviewer": api.Reviewer(origin=pb.ORIGIN_EXPERT)}, "reviewer.name"),
        ({"reviewer": api.Reviewer(name="a\nb", origin=pb.ORIGIN_EXPERT)}, "reviewer.name"),
        ({"reviewer": api.Reviewer(name="model", origin=pb.ORIGIN_SYNTHETIC)}, "reviewer.origin"),
        ({"verdict": api.REVIEW_VERDICT_UNSPECIFIED}, "verdict"),
        ({"verdict": 9}, "verdict"),
        ({"comment": "x" * 4001}, "comment"),
        ({"comment": "a\0b"}, "comment"),
    ],
)
def test_what_is_wrong_with_a_decision_is_told(engine: Engine, wrong: dict[str, object], named: str) -> None:
    right = {"reviewer": ADA, "verdict": api.REVIEW_VERDICT_ADMIT}
    request = api.DecideReviewRequest(namespace=NAMESPACE, review_id=hold(engine, 0), **{**right, **wrong})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as error:
        engine.reviews.prepare(request)
    assert [violation.field for violation in error.value.violations] == [named]


def test_only_what_was_held_is_a_review(engine: Engine) -> None:
    for review_id in (0, 1, 2, 999, 2**64 - 1):
        with pytest.raises(NotFound):
            engine.reviews.get(NAMESPACE, review_id)
        with pytest.raises(NotFound):
            decide(engine, review_id)
        with pytest.raises(NotFound):
            engine.reviews.comment(
                api.CommentReviewRequest(namespace=NAMESPACE, subject_id=review_id, reviewer=ADA, text="Which?")
            )
    with pytest.raises(NotFound):
        engine.reviews.get("nowhere", hold(engine, 0))


def test_what_the_gate_let_go_of_and_held_again_is_another_review(engine: Engine) -> None:
    before = hold(engine, 0)
    (held,) = pending(engine)
    engine.pipeline.release([let_go(engine, held)])
    assert engine.reviews.get(NAMESPACE, before).decision.receipt.outcome == pb.OUTCOME_HELD
    (after,) = listed(engine).reviews
    assert after.review_id > before
