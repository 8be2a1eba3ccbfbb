"""R23 and R8: by whatever way a statement comes, what an expert says or has taken back holds it alike."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know
from epistream.v1 import review_service_pb2 as api
from tests.support.knowing import (
    NAMESPACE,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)
from tests.support.rehearsing import rehearsed

CRAWLED, SYNTHETIC = pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC
COLLABORATIVE, EXPERT = pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_EXPERT
FIVE, FIFTY, OTHER = "The limit is 5 mg.", "The limit is 50 mg.", "Bananas are yellow."
VECTORS = {FIVE: direction(1.0, 0.1), FIFTY: direction(1.0, 0.11), "the limit is 50 mg": direction(1.0, 0.12)}
HELD_BY_EXPERT = (pb.OUTCOME_HELD, pb.REASON_CONFLICT_WITH_EXPERT)
HELD_AS_RETRACTED = (pb.OUTCOME_HELD, pb.REASON_RETRACTED_CONTENT)
REVISED = (pb.OUTCOME_REVISED, pb.REASON_REVISION)
REINSTATED = (pb.OUTCOME_REVISED, pb.REASON_REINSTATEMENT)
PROMOTED = (pb.OUTCOME_REVISED, pb.REASON_PROMOTION)
RETRACTED = (pb.OUTCOME_REVISED, pb.REASON_RETRACTION)

each_cut = pytest.mark.parametrize("size", [1, 9], ids=["one by one", "at once"])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path / "store")
    yield opened
    assert stores.check(opened.store) == []
    opened.close()


def said(content: str, item: str = "", origin: pb.Origin.ValueType = SYNTHETIC, *, name: str = "") -> pb.Submission:
    name, vector = name or f"{item} {content}", VECTORS.get(content)
    return submission(content, id=name, item=item, origin=origin, vector=vector, producer="m")


def back(item: str, origin: pb.Origin.ValueType = SYNTHETIC) -> pb.Submission:
    return retraction(item, id=f"no {item}", origin=origin, producer="m")


def outcomes(engine: Engine, size: int, *sent: pb.Submission) -> list[tuple[int, int]]:
    return [(receipt.outcome, receipt.reason) for receipt in commit_in_batches(engine, sent, size)]


def answers(engine: Engine) -> dict[str, str]:
    """What a search for the limit finds, by item."""
    request = know.SearchRequest(namespace=NAMESPACE, vector=pb.Embedding(float32=VECTORS[FIVE].tobytes()))
    hits = engine.knowledge.search(request).hits
    return {hit.change.item_id: hit.change.knowledge.content for hit in hits if hit.similarity > 0.9}


def contradicted(engine: Engine) -> list[list[str]]:
    """The parties of the conflicts that are open; what is held has no name."""
    found = engine.resolutions.list_conflicts(api.ListConflictsRequest(namespace=NAMESPACE)).conflicts
    return [[party.item_id for party in conflict.parties if not party.gone] for conflict in found]


@each_cut
def test_r23_a_model_s_revision_that_contradicts_an_expert_is_held_as_a_new_statement_is(
    engine: Engine, size: int
) -> None:
    sent = [said(FIVE, "limit", EXPERT), said(OTHER, "s"), said(FIFTY, "s"), said(FIFTY, "new")]

    assert outcomes(engine, size, *sent)[2:] == [HELD_BY_EXPERT] * 2

    assert answers(engine) == {"limit": FIVE}
    assert contradicted(engine) == [["", "limit"]] * 2
    figures = pending(engine)[0].decision.receipt.figures
    assert (figures.item_id, figures.origin) == ("limit", EXPERT)
    assert figures.similarity > 0.95
    assert "50" in figures.differences[0]


def test_why_a_revision_is_held_is_told(engine: Engine) -> None:
    outcomes(engine, 9, said(FIVE, "limit", EXPERT), said(OTHER, "s"), said(FIFTY, "s"))

    request = know.ExplainRequest(namespace=NAMESPACE, producer="m", submission_id=f"s {FIFTY}")
    (told,) = engine.knowledge.explain(request).explanations

    (fired,) = [rule.description for rule in told.rules if rule.fired]
    assert fired.startswith("an expert says something else nearby; against limit version 1, which is EXPERT")


def test_a_revision_that_an_expert_lets_in_is_a_party_of_the_conflict_in_which_it_was_held(engine: Engine) -> None:
    outcomes(engine, 9, said(FIVE, "limit", EXPERT), said(OTHER, "s"), said(FIFTY, "s"))

    (receipt,) = engine.pipeline.release([ruling(engine, one) for one in pending(engine)])

    assert (receipt.outcome, receipt.item_id, receipt.version) == (pb.OUTCOME_REVISED, "s", 2)
    assert contradicted(engine) == [["s", "limit"]]


@pytest.mark.parametrize("origin", [CRAWLED, COLLABORATIVE, EXPERT], ids=pb.Origin.Name)
def test_people_s_revision_that_contradicts_an_expert_is_in_answers(
    engine: Engine, origin: pb.Origin.ValueType
) -> None:
    sent = [said(FIVE, "limit", EXPERT), said(OTHER, "s", origin), said(FIFTY, "s", origin)]
    assert outcomes(engine, 9, *sent)[-1] == REVISED
    assert answers(engine) == {"limit": FIVE, "s": FIFTY}


def test_a_model_s_revision_that_comes_late_contradicts_nothing_that_is_in_answers(engine: Engine) -> None:
    now, before = said(OTHER, "s"), said(FIFTY, "s")
    now.valid_from.FromSeconds(2_000)
    before.valid_from.FromSeconds(1_000)
    sent = [said(FIVE, "limit", EXPERT), now, before]
    assert outcomes(engine, 9, *sent)[-1] == (pb.OUTCOME_REVISED, pb.REASON_LATE)
    assert answers(engine) == {"limit": FIVE}


@each_cut
@pytest.mark.parametrize("item", ["s", "", "another"])
def test_r23_what_a_model_took_back_and_an_expert_contradicts_since_does_not_come_back(
    engine: Engine, item: str, size: int
) -> None:
    sent = [said(FIFTY, "s"), back("s"), said(FIVE, "limit", EXPERT), said(FIFTY, item, name="again")]

    assert outcomes(engine, size, *sent)[-1] == HELD_BY_EXPERT

    assert answers(engine) == {"limit": FIVE}
    assert contradicted(engine) == [["", "limit"]]


@each_cut
@pytest.mark.parametrize(
    ("item", "expected"),
    [("s", REINSTATED), ("another", (pb.OUTCOME_ADMITTED, pb.REASON_NEW_WITH_CONFLICT))],
)
def test_r8_what_comes_back_and_contradicts_what_came_since_is_a_conflict(
    engine: Engine, item: str, expected: tuple[int, int], size: int
) -> None:
    sent = [said(FIFTY, "s", CRAWLED), back("s", CRAWLED), said(FIVE, "limit", CRAWLED)]

    assert outcomes(engine, size, *sent, said(FIFTY, item, CRAWLED, name="again"))[-1] == expected

    assert answers(engine) == {"limit": FIVE, item: FIFTY}
    assert contradicted(engine) == [[item, "limit"]]


@each_cut
def test_what_was_taken_back_and_is_said_since_in_other_words_is_merged_under_another_name(
    engine: Engine, size: int
) -> None:
    sent = [said(FIFTY, "s"), back("s"), said("the limit is 50 mg", "limit", EXPERT), said(FIFTY, "another")]
    assert outcomes(engine, size, *sent)[-1] == (pb.OUTCOME_MERGED, pb.REASON_SAME_CLAIM)
    assert answers(engine) == {"limit": "the limit is 50 mg"}


@each_cut
@pytest.mark.parametrize("item", ["", "new", "b"])
def test_what_an_expert_took_back_comes_by_no_name(engine: Engine, item: str, size: int) -> None:
    sent = [said(OTHER, "b"), said(FIVE, "a", EXPERT), back("a", EXPERT), said(FIVE, item, name="again")]
    assert outcomes(engine, size, *sent)[-1] == HELD_AS_RETRACTED
    assert answers(engine) == {}
    assert pending(engine)[0].decision.receipt.figures.item_id == "a"


@each_cut
@pytest.mark.parametrize("item", ["", "new", "b"])
@pytest.mark.parametrize("origin", [SYNTHETIC, COLLABORATIVE], ids=pb.Origin.Name)
def test_nor_where_another_item_said_it_first_and_was_taken_back(
    engine: Engine, origin: pb.Origin.ValueType, item: str, size: int
) -> None:
    first = [said(FIVE, "b"), back("b"), said(FIVE, "a", EXPERT), back("a", EXPERT)]
    assert outcomes(engine, size, *first, said(FIVE, item, origin, name="again"))[-1] == HELD_AS_RETRACTED
    assert answers(engine) == {}


def test_what_an_expert_took_back_an_expert_lets_in(engine: Engine) -> None:
    outcomes(engine, 9, said(OTHER, "b"), said(FIVE, "a", EXPERT), back("a", EXPERT), said(FIVE, "b"))

    (receipt,) = engine.pipeline.release([ruling(engine, one) for one in pending(engine)])

    assert (receipt.outcome, receipt.item_id) == (pb.OUTCOME_REVISED, "b")
    assert answers(engine) == {"b": FIVE}


def test_what_is_in_answers_again_is_taken_back_no_more(engine: Engine) -> None:
    sent = [said(OTHER, "b"), said(FIVE, "a", EXPERT), back("a", EXPERT), said(FIVE, "c", EXPERT), said(FIVE, "b")]
    assert outcomes(engine, 9, *sent)[-1] == REVISED


def test_a_rehearsal_decides_the_same_of_what_comes_back_and_of_what_is_held(tmp_path: Path) -> None:
    sent = [said(FIFTY, "s", CRAWLED), back("s", CRAWLED), said(FIVE, "limit", CRAWLED), said(OTHER, "b")]
    sent += [said(FIFTY, "another", CRAWLED), said(FIFTY, "s", CRAWLED, name="again"), said(FIVE, "a", EXPERT)]
    sent += [said(FIFTY, "b"), back("limit", EXPERT), said(FIVE, "b")]
    with closing(open_engine(tmp_path / "store")) as engine:
        found = outcomes(engine, 4, *sent)
    assert found[5:] == [REINSTATED, PROMOTED, HELD_BY_EXPERT, RETRACTED, HELD_AS_RETRACTED]
    result = rehearsed(tmp_path / "store", tmp_path / "again")
    assert (result.differences, result.other_figures) == ([], 0)


@pytest.mark.parametrize("size", [1, 100], ids=["one by one", "at once"])
@pytest.mark.parametrize("about", ["other questions", "other numbers"])
def test_r23_no_crowd_stands_between_a_model_and_the_expert_it_contradicts(
    engine: Engine, size: int, about: str
) -> None:
    """More than are compared lie nearer: about something else, or each against all others."""
    crowd = [said(FIFTY if about == "other questions" else f"The limit is {90 + n} mg.", f"c{n}") for n in range(30)]
    for n, one in enumerate(crowd):
        one.origin, one.embedding.float32 = CRAWLED, VECTORS[FIFTY].tobytes()
        one.prompt = f"Question {n}?" if about == "other questions" else ""
    same = said("the limit is 5.0 mg", "s")
    same.embedding.float32 = VECTORS[FIFTY].tobytes()

    found = outcomes(engine, size, *crowd, said(FIVE, "limit", EXPERT), said(FIFTY, "m"), same)

    assert found[-2:] == [HELD_BY_EXPERT, (pb.OUTCOME_MERGED, pb.REASON_SAME_CLAIM)]
