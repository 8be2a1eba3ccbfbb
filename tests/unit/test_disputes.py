"""What raters dispute among what is in answers is reviewed, once, and a reviewer's word settles it (R30)."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, Denied, InvalidInput, NotFound
from tests.support.knowing import (
    NAMESPACE,
    START_US,
    HandClock,
    commit,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)
from tests.support.rehearsing import rehearsed

ADA = api.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT)
BEN = api.Reviewer(name="ben", origin=pb.ORIGIN_COLLABORATIVE)
STANDS, FALLS = api.REVIEW_VERDICT_ADMIT, api.REVIEW_VERDICT_REJECT


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path / "store")
    for n in range(3):
        commit(opened, fact(n))
    yield opened
    assert stores.check(opened.store) == []
    opened.close()


def fact(n: int, version: int = 1, origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT) -> pb.Submission:
    content, vector = f"Fact {n} is {version}.", direction(*[0.0] * n, 1.0)
    return submission(content, id=f"{n}-{version}", item=f"i{n}", origin=origin, vector=vector)


def vote(item_id: str, rater: str, score: float, *, top: float = 0.0, aspect: str = "", id: str = "") -> pb.Submission:  # noqa: A002
    """A rater's yes or no; on a scale from 1 where `top` is its end."""
    sent = pb.Submission(namespace=NAMESPACE, origin=pb.ORIGIN_EXPERT)
    sent.submission_id = id or f"{item_id}-{rater}-{score}-{aspect}"
    sent.provenance.producer = "panel"
    said = sent.feedback
    said.kind = pb.FEEDBACK_KIND_RATING if top else pb.FEEDBACK_KIND_BINARY
    said.rater, said.rater_type, said.aspect = rater, pb.RATER_TYPE_HUMAN, aspect
    if top:
        said.scale_min, said.scale_max = 1, top
    said.judged.add(item_id=item_id, score=score)
    return sent


def disputed(engine: Engine, **asked: object) -> list[api.Review]:
    request = api.ListReviewsRequest(namespace=NAMESPACE, **asked)  # type: ignore[arg-type]
    reviews = engine.reviews.list_reviews(request).reviews
    return [review for review in reviews if review.receipt.reason == pb.REASON_DISPUTED]


def decide(
    engine: Engine, review_id: int, verdict: api.ReviewVerdict.ValueType, by: api.Reviewer = ADA, comment: str = ""
) -> pb.Receipt:
    request = api.DecideReviewRequest(
        namespace=NAMESPACE, review_id=review_id, verdict=verdict, reviewer=by, comment=comment
    )
    return engine.reviews.decide(engine.reviews.prepare(request))


@pytest.mark.parametrize(
    ("votes", "is_disputed"),
    [
        ([("a", 1, 0), ("b", 0, 0)], True),
        ([("a", 1, 0), ("b", 1, 0)], False),
        ([("a", 1, 0), ("a", 0, 0)], False),
        ([("a", 4, 5), ("b", 5, 5)], False),
        ([("a", 3, 5), ("b", 5, 5)], True),
        ([("a", 1, 3), ("b", 2, 3)], True),
        ([("a", 3, 11), ("b", 8, 11)], True),
        ([("a", 3, 11), ("b", 7.99, 11)], False),
        ([("a", 1, 0), ("b", 1, 5)], False),
    ],
    ids=[
        "yes and no",
        "of one mind",
        "changed its mind",
        "4 and 5 of 5",
        "3 and 5 of 5",
        "1 and 2 of 3",
        "3 and 8 of 1 to 11",
        "less than half apart",
        "two ballots",
    ],
)
def test_r30_an_item_in_answers_is_reviewed_when_raters_are_half_a_scale_apart(
    engine: Engine,
    votes: list[tuple[str, float, float]],
    is_disputed: bool,
) -> None:
    commit(engine, *(vote("i1", rater, score, top=top, id=str(n)) for n, (rater, score, top) in enumerate(votes)))
    assert [review.item_id for review in disputed(engine)] == ["i1"] * is_disputed


def test_r30_what_is_disputed_comes_before_what_is_held_and_nobody_disputes(engine: Engine) -> None:
    said = submission(
        "Fact 0 is 9.", id="h", item="i0", origin=pb.ORIGIN_SYNTHETIC, producer="gpt", vector=direction(1)
    )
    commit(engine, said, vote("i0", "a", 1), vote("i0", "b", 1), vote("i2", "a", 1), vote("i2", "b", 0))
    reviews = engine.reviews.list_reviews(api.ListReviewsRequest(namespace=NAMESPACE)).reviews
    assert [(review.item_id, review.priority.disputed) for review in reviews] == [("i2", True), ("i0", False)]
    first = reviews[0]
    assert (first.submission.content, first.receipt.version, first.receipt.item_id) == ("Fact 2 is 1.", 1, "i2")
    assert [review.review_id for review in disputed(engine, reasons=[pb.REASON_DISPUTED])] == [first.review_id]
    assert disputed(engine, reasons=[pb.REASON_LOWER_AUTHORITY]) == []
    assert disputed(engine, producers=["nobody"]) == []
    assert disputed(engine, modalities=[pb.MODALITY_CODE]) == []


def test_what_stands_is_settled_until_raters_are_at_odds_anew(engine: Engine) -> None:
    commit(engine, vote("i1", "a", 1), vote("i1", "b", 0))
    (review,) = disputed(engine)
    receipt = decide(engine, review.review_id, STANDS, BEN, "It is in the book.")
    assert (receipt.item_id, receipt.version, receipt.revision) == ("i1", 1, 2)
    assert decide(engine, review.review_id, STANDS, BEN, "It is in the book.") == receipt
    for verdict, by in ((FALLS, BEN), (STANDS, ADA)):
        with pytest.raises(Conflict, match="not disputed any more"):
            decide(engine, review.review_id, verdict, by)
    assert engine.namespaces.get(NAMESPACE).head_revision == 3
    told = engine.reviews.get(NAMESPACE, review.review_id).decision
    assert (told.reviewer, told.comment, told.receipt) == ("ben", "It is in the book.", receipt)
    commit(engine, vote("i1", "c", 1))
    assert disputed(engine) == []
    commit(engine, vote("i1", "d", 0))
    (again,) = disputed(engine)
    assert again.review_id > review.review_id


def test_what_falls_is_retracted_in_the_reviewer_s_name(engine: Engine) -> None:
    commit(engine, vote("i1", "a", 1), vote("i1", "b", 0))
    (review,) = disputed(engine)
    with pytest.raises(Denied, match="i1, which is EXPERT"):
        decide(engine, review.review_id, FALLS, BEN)
    assert len(disputed(engine)) == 1
    receipt = decide(engine, review.review_id, FALLS, comment="It is not.")
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REVISED, pb.REASON_RETRACTION)
    assert (receipt.item_id, receipt.revision, receipt.producer) == ("i1", 4, "dr-ada")
    assert decide(engine, review.review_id, FALLS, comment="It is not.") == receipt
    assert disputed(engine) == []
    with engine.store.reader() as catalog:
        head = catalog.head(engine.namespaces.configs[NAMESPACE].number, "i1")
    assert head is not None
    assert head.retracted
    review = engine.reviews.get(NAMESPACE, review.review_id)
    assert review.submission.content == "Fact 1 is 1."
    assert (review.decision.receipt, review.decision.reviewer) == (receipt, "dr-ada")


@pytest.mark.parametrize("ends", [fact(1, 2), retraction("i1", id="r")], ids=["revised", "retracted"])
def test_what_is_said_anew_or_taken_back_is_in_dispute_no_more(engine: Engine, ends: pb.Submission) -> None:
    commit(engine, vote("i1", "a", 1), vote("i1", "b", 0))
    (review,) = disputed(engine)
    commit(engine, ends)
    assert disputed(engine) == []
    # What was said of the version before counts no more.
    commit(engine, vote("i1", "c", 0))
    assert disputed(engine) == []
    with pytest.raises(Conflict, match="not disputed any more"):
        decide(engine, review.review_id, STANDS)
    told = engine.reviews.get(NAMESPACE, review.review_id).decision
    assert (told.receipt.submission_id, told.reviewer) == (ends.submission_id, "")


def test_what_a_reviewer_lets_in_late_leaves_the_head_in_dispute(engine: Engine) -> None:
    now, before = fact(5), fact(5, 2, origin=pb.ORIGIN_CRAWLED)
    now.valid_from.FromSeconds(2000)
    before.valid_from.FromSeconds(1000)
    commit(engine, now, before, vote("i5", "a", 1), vote("i5", "b", 0))
    (held,) = pending(engine, pb.REASON_LOWER_AUTHORITY)
    engine.pipeline.release([ruling(engine, held)])
    with engine.store.reader() as catalog:
        head = catalog.head(engine.namespaces.configs[NAMESPACE].number, "i5")
    assert head is not None
    assert (head.version, head.newest_version) == (1, 2)
    assert [review.receipt.version for review in disputed(engine)] == [1]


def test_a_retraction_that_somebody_sent_before_in_the_reviewer_s_name_ends_nothing(engine: Engine) -> None:
    commit(engine, fact(1), vote("i1", "a", 1), vote("i1", "b", 0))
    (review,) = disputed(engine)
    before = retraction("i1", id=f"dispute-{review.review_id}-version-1", producer=BEN.name)
    before.origin, before.expected_version = BEN.origin, 1
    assert [receipt.outcome for receipt in commit(engine, before)] == [pb.OUTCOME_HELD]
    engine.pipeline.release([ruling(engine, held, admits=False) for held in pending(engine)])
    last, _ = engine.store.journal.last()

    with pytest.raises(Conflict, match=r"ben was sent before"):
        decide(engine, review.review_id, api.REVIEW_VERDICT_REJECT, by=BEN)

    assert (engine.store.journal.last()[0], disputed(engine)) == (last, [review])


def test_votes_may_come_before_their_item(engine: Engine) -> None:
    commit(engine, vote("i5", "a", 1), vote("i5", "b", 0))
    assert disputed(engine) == []
    (sequence,) = [row[0] for row in engine.store.writer.execute("SELECT dispute FROM disputes")]
    with pytest.raises(NotFound):
        engine.reviews.get(NAMESPACE, sequence)
    commit(engine, fact(5))
    assert [review.review_id for review in disputed(engine)] == [sequence]


def test_what_a_reviewer_has_let_in_is_settled(engine: Engine) -> None:
    policy = ns_pb.Policy(generation_max=1)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    model = fact(4, origin=pb.ORIGIN_SYNTHETIC)
    copied = submission("A copy.", id="c", item="i5", origin=pb.ORIGIN_SYNTHETIC, derived_from=["i4"])
    commit(engine, model, copied, vote("i5", "a", 1), vote("i5", "b", 0))
    (held,) = pending(engine, pb.REASON_GENERATION)
    engine.pipeline.release([ruling(engine, held)])
    assert disputed(engine) == []


def test_raters_of_one_name_with_two_producers_are_two(engine: Engine) -> None:
    other = vote("i1", "1", 0, id="other")
    other.provenance.producer = "another panel"
    commit(engine, vote("i1", "1", 1), other)
    assert len(disputed(engine)) == 1


def test_a_scale_wider_than_a_number_can_say_is_refused_and_nothing_else_is_disturbed(engine: Engine) -> None:
    wide = vote("i1", "a", 0, top=1.7e308)
    wide.feedback.scale_min = -1.7e308
    refused, taken = commit(engine, wide, vote("i1", "b", 1))
    assert (refused.outcome, taken.outcome) == (pb.OUTCOME_REFUSED, pb.OUTCOME_RECORDED)
    assert [violation.field for violation in refused.violations] == ["feedback.scale_max"]


def test_a_program_neither_opens_a_dispute_nor_settles_one(engine: Engine) -> None:
    verdict = vote("i1", "executor", 0)
    verdict.feedback.rater_type = pb.RATER_TYPE_EXECUTOR
    commit(engine, vote("i1", "a", 1), verdict)
    assert disputed(engine) == []
    commit(engine, vote("i1", "b", 0))
    (review,) = disputed(engine)
    with pytest.raises(InvalidInput, match=r"reviewer\.origin"):
        decide(engine, review.review_id, STANDS, api.Reviewer(name="executor", origin=pb.ORIGIN_SYNTHETIC))


def test_what_a_vote_takes_does_not_grow_with_the_votes_before_it(engine: Engine) -> None:
    def steps(rater: str) -> int:
        """Of SQLite's machine, in tens, to take in one vote."""
        counted = itertools.count()
        engine.store.writer.set_progress_handler(lambda: next(counted) < 0, 10)
        commit(engine, vote("i1", rater, 1))
        engine.store.writer.set_progress_handler(None)
        return next(counted)

    commit(engine, *(vote("i1", f"r{n}", 1) for n in range(20)))
    few = steps("first")
    commit(engine, *(vote("i1", f"r{n}", 1) for n in range(20, 1500)))

    assert 0 < steps("last") < 2 * few
    commit(engine, vote("i1", "other", 0))
    assert [review.item_id for review in disputed(engine)] == ["i1"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_however_the_stream_is_cut_the_disputes_are_the_same(tmp_path: Path, size: int) -> None:
    sent = [
        *(vote("i2", "a", 1), fact(1), vote("i1", "a", 1), vote("i1", "b", 0), fact(1, 2), vote("i1", "c", 1)),
        *(fact(2), vote("i2", "b", 0), retraction("i1", id="r"), vote("i1", "d", 0), fact(1, 3)),
    ]
    engine = open_engine(tmp_path)
    for start in range(0, len(sent), size):
        commit(engine, *sent[start : start + size])
    execute = engine.store.writer.execute
    disputes = list(execute("SELECT dispute, item_id, ended FROM disputes ORDER BY dispute"))
    votes = list(execute("SELECT item_id, place FROM votes ORDER BY rater"))
    # i1's was ended by its second version, i2's votes came before and after it did.
    assert disputes == [(5, "i1", 6), (9, "i2", None)]
    assert votes == [("i2", 1.0), ("i2", 0.0)]
    assert stores.check(engine.store) == []
    engine.close()


def test_a_settled_dispute_stays_so_in_another_life_and_a_rehearsal(tmp_path: Path) -> None:
    clock = HandClock()
    engine = open_engine(tmp_path / "store", clock)
    for sent in (fact(0), fact(1), vote("i0", "a", 1), vote("i0", "b", 0), vote("i1", "a", 1), vote("i1", "b", 0)):
        clock.us += 1000
        commit(engine, sent)
    kept, fell = sorted(disputed(engine), key=lambda review: review.review_id)
    for review, verdict in ((kept, STANDS), (fell, FALLS)):
        clock.us += 1000
        decide(engine, review.review_id, verdict)
    stores.rebuild(engine.store)
    assert disputed(engine) == []
    engine.close()
    opened = Engine(tmp_path / "store", clock=HandClock(START_US))
    assert disputed(opened) == []
    opened.close()
    result = rehearsed(tmp_path / "store", tmp_path / "again")
    assert (result.differences, result.other_figures, result.left_out) == ([], 0, {})
