"""What raters say is kept beside the items, each submission once, and changes none of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from epistream.indexer import sayings
from epistream.indexer import store as stores
from epistream.indexer.agreement import VOTES
from epistream.indexer.engine import Engine
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import InvalidInput
from epistream.wire.limits import SUBMISSION_BYTES_MAX
from tests.support.knowing import NAMESPACE, commit, open_engine, submission


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    yield engine
    engine.close()


def ranking(id: str, rater: str, **places: int) -> pb.Submission:  # noqa: A002 - as in the contract
    """A rater's ranking of items; of equal places a tie."""
    feedback = pb.Feedback(kind=pb.FEEDBACK_KIND_RANKING, rater=rater, rater_type=pb.RATER_TYPE_HUMAN)
    for item_id, place in places.items():
        feedback.judged.add(item_id=item_id, place=place)
    made = pb.Submission(namespace=NAMESPACE, submission_id=id, origin=pb.ORIGIN_EXPERT, feedback=feedback)
    made.provenance.producer = "panel"
    return made


def listed(engine: Engine, item_id: str, limit: int = 0, token: str = "") -> api.ListFeedbackResponse:
    request = api.ListFeedbackRequest(namespace=NAMESPACE, item_id=item_id, limit=limit, page_token=token)
    return engine.knowledge.list_feedback(request)


def feedback(kind: pb.FeedbackKind.ValueType, *judged: pb.Judged, **fields: Any) -> pb.Feedback:
    """With all that a rater may say of any kind."""
    said: dict[str, Any] = {
        "rater": "r1",
        "rater_type": pb.RATER_TYPE_HUMAN,
        "aspect": "truth",
        "rationale": "Twice, but for one day.",
    }
    return pb.Feedback(kind=kind, judged=judged, **said, **fields)


KINDS = {
    "pairwise": feedback(
        pb.FEEDBACK_KIND_PAIRWISE,
        pb.Judged(item_id="a", place=1, score=0.75),
        pb.Judged(item_id="b", place=2, score=-0.5),
        degree="slightly better",
    ),
    "a tie": feedback(
        pb.FEEDBACK_KIND_PAIRWISE, pb.Judged(item_id="a", place=1), pb.Judged(item_id="b", place=1), degree="equal"
    ),
    "ranking": feedback(
        pb.FEEDBACK_KIND_RANKING,
        pb.Judged(item_id="c", place=4),  # nothing else is known of it
        pb.Judged(item_id="a", place=1, score=6.5),
        pb.Judged(item_id="b", place=4),
    ),
    "rating": feedback(pb.FEEDBACK_KIND_RATING, pb.Judged(item_id="a", score=0.0), scale_min=-1.0, scale_max=4.5),
    "binary": feedback(pb.FEEDBACK_KIND_BINARY, pb.Judged(item_id="a", score=0.0)),
    "edit": feedback(pb.FEEDBACK_KIND_EDIT, pb.Judged(item_id="b"), pb.Judged(item_id="a")),
    "critique": feedback(pb.FEEDBACK_KIND_CRITIQUE, pb.Judged(item_id="a")),
}


def test_each_kind_of_feedback_is_among_those_that_are_recorded_here() -> None:
    assert {given.kind for given in KINDS.values()} == {kind for kind in pb.FeedbackKind.values() if kind}


@pytest.mark.parametrize("kind", KINDS)
def test_feedback_is_recorded_as_it_was_given_and_changes_no_item(engine: Engine, tmp_path: Path, kind: str) -> None:
    commit(engine, submission("Tides come twice a day.", id="1", item="a"), submission("No.", id="2", item="b"))
    head = engine.namespaces.get(NAMESPACE).head_revision
    sent = pb.Submission(
        namespace=NAMESPACE,
        submission_id="f1",
        origin=pb.ORIGIN_EXPERT,
        feedback=KINDS[kind],
        attributes={"lang": "en"},
    )
    sent.provenance.producer = "panel"
    sent.details.update({"batch": "w12", "seconds": 3.5})

    (receipt,) = commit(engine, sent)
    before = list(engine.store.logical_dump())
    stores.rebuild(engine.store)
    assert stores.check(engine.store) == []
    rebuilt = list(engine.store.logical_dump())
    engine.close()
    again = Engine(tmp_path)

    assert (receipt.outcome, receipt.reason, receipt.revision) == (pb.OUTCOME_RECORDED, pb.REASON_FEEDBACK, 0)
    assert rebuilt == before
    for judged in KINDS[kind].judged:
        (recorded,) = listed(again, judged.item_id).feedback
        assert recorded.submission == sent
        assert recorded.time == receipt.time
    known = again.namespaces.get(NAMESPACE)
    assert (known.head_revision, known.feedback_count, known.item_count) == (head, 1, 2)
    again.close()


def test_a_rater_may_leave_places_out() -> None:
    assert violations(ranking("f1", "r1", a=1, b=2, c=5, d=3)) == ()


def test_r29_a_ranking_is_of_any_length_that_a_submission_has_room_for(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    sent = ranking("f1", "r1", **{f"images/{number:07d}.png": number for number in range(1, 40_001)})
    assert 0.9 < sent.ByteSize() / SUBMISSION_BYTES_MAX < 1

    (receipt,) = commit(engine, sent)
    engine.close()
    again = Engine(tmp_path)

    assert receipt.reason == pb.REASON_FEEDBACK
    for item_id in ("images/0000001.png", "images/0040000.png"):
        (recorded,) = listed(again, item_id).feedback
        assert recorded.submission == sent
    again.close()


def test_a_ranking_is_of_two_items_at_least() -> None:
    (told,) = violations(ranking("f1", "r1", a=1))

    assert (told.field, told.description) == (
        "feedback.judged",
        "FEEDBACK_KIND_RANKING judges 2 or more items, found 1",
    )


def test_feedback_that_is_sent_again_is_recorded_once(engine: Engine) -> None:
    sent = ranking("f1", "r1", a=1, b=1)
    (first,) = commit(engine, sent)
    before = list(engine.store.logical_dump())
    (again,) = commit(engine, sent)
    assert again.earlier
    assert again.outcome == first.outcome
    assert list(engine.store.logical_dump()) == before
    (other,) = commit(engine, ranking("f1", "r2", a=1, b=1))
    assert other.reason == pb.REASON_SUBMISSION_ID_REUSED


def test_each_raters_feedback_is_listed_in_pages_in_the_order_in_which_it_came(engine: Engine) -> None:
    sent = [ranking(f"f{n}", f"r{n}", a=1, b=2) for n in range(5)]
    commit(engine, *sent)
    found, token = [], ""
    while True:
        page = listed(engine, "a", limit=2, token=token)
        assert len(page.feedback) <= 2
        found += [recorded.submission for recorded in page.feedback]
        token = page.next_page_token
        if not token:
            break
    assert found == sent
    with pytest.raises(InvalidInput, match="item_id"):
        listed(engine, "")


def test_long_rankings_hide_no_vote_and_what_is_looked_at_together_is_bounded(engine: Engine) -> None:
    vote = pb.Submission(namespace=NAMESPACE, submission_id="v", origin=pb.ORIGIN_EXPERT)
    vote.provenance.producer = "panel"
    vote.feedback.CopyFrom(KINDS["binary"])
    long = [ranking(f"f{n}", f"r{n}", a=1, **{f"item-{i}": 2 for i in range(100)}) for n in range(5)]
    commit(engine, vote, *long)
    number = engine.namespaces.state(NAMESPACE).config.number

    with engine.store.reader() as catalog:
        votes = sayings.newest_feedback(catalog, number, ["a"], 1, kinds=VOTES)
        newest = sayings.newest_feedback(catalog, number, ["a"], 100, bytes_max=2 * long[0].ByteSize())

    assert [one.recorded for one in votes] == [vote]
    assert [one.recorded for one in newest] == long[3:]
