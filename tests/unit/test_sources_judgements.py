"""The feedback of mapping files: for each rater, lossless, or refused with what to write instead."""

from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from epistream.clients.sources import judgements
from epistream.clients.sources.mapping import parse
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.templates import WrongMapping
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_mappings import ANSWERED, COMPARED
from tests.support.sources_reference import examples

LEAST = {"work": "w", "origin": "EXPERT", "modality": "TEXT"}
STARS = {"kind": "RATING", "rater": "{user}", "score": "{stars}", "scale": [1, 5]}
RANKS = {"kind": "RANKING", "rater": "{by}", "place": "{ranks}"}
PAIR = {"kind": "PAIRWISE", "rater": "{by}", "place": [1, 2]}


def made(said: Any, record: Any) -> list[pb.Submission]:
    """What a mapping makes of a record: all of it as the service wants it."""
    whole = list(submissions(parse({**LEAST, **said}, "x.yaml"), record))
    for one in whole:
        one.namespace = "n"
        assert violations(one) == ()
    return whole


def judged(one: pb.Submission) -> list[tuple[str, int | float]]:
    """The ends of the ids that it judges, with places or scores."""
    said = one.feedback.judged
    return [(each.item_id.rpartition("/")[2], each.place or each.score) for each in said]


def test_a_ranking_and_each_raters_ratings_are_kept_as_they_were_given() -> None:
    (first, second, _, ranking, *ratings) = made(yaml.safe_load(examples(judgements)[0]), ANSWERED)
    assert (first.content, second.content) == ("A", "B")
    assert ranking.feedback.kind == pb.FEEDBACK_KIND_RANKING
    assert ranking.feedback.rater == "ada"
    assert judged(ranking) == [("0", 2), ("1", 1), ("2", 2)]
    assert [(one.feedback.rater, judged(one)) for one in ratings] == [
        ("u1", [("0", 3)]),
        ("u2", [("0", 1.5)]),
        ("u1", [("2", 5)]),
    ]
    assert MessageToDict(ratings[0].feedback, preserving_proto_field_name=True) == {
        "kind": "FEEDBACK_KIND_RATING",
        "judged": [{"item_id": first.item_id, "score": 3}],
        "rater": "u1",
        "rater_type": "RATER_TYPE_HUMAN",
        "aspect": "helpfulness",
        "scale_min": 1,
        "scale_max": 5,
    }
    assert MessageToDict(ratings[0].details) == {"said": "so so"}, "what else the entry says"


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("model_a", [("4", 1, "w:a/4"), ("4", 2, "w:b/4")]),
        ("model_b", [("4", 1, "w:b/4"), ("4", 2, "w:a/4")]),
        ("tie", [("4", 1, "w:a/4"), ("4", 1, "w:b/4")]),
    ],
)
def test_a_word_of_the_record_says_which_of_two_is_the_better_one(winner: str, expected: Any) -> None:
    (only,) = made(yaml.safe_load(examples(judgements)[1]), {**COMPARED, "winner": winner})
    assert [
        (key, place, one.item_id) for (key, place), one in zip(judged(only), only.feedback.judged, strict=True)
    ] == (expected), "the better one first"
    assert MessageToDict(only.details) == {"turn": 1}


def test_a_word_without_a_meaning_is_told_and_none_is_no_verdict() -> None:
    said = yaml.safe_load(examples(judgements)[1])
    assert made(said, {**COMPARED, "winner": None}) == []
    with pytest.raises(UnreadableRecord, match=r"feedback\[0\]\.place: expected one of model_a, model_b, tie, found"):
        made(said, {**COMPARED, "winner": "both bad"})


@pytest.mark.parametrize(("said", "score"), [(True, 1), ("no", 0), ("1", 1), (0, 0)])
def test_yes_and_no_may_be_said_in_several_ways(said: Any, score: int) -> None:
    feedback = [{"kind": "BINARY", "rater": "gpt", "rater_type": "AI", "score": "{ok}", "aspect": "alignment"}]
    _, only = made({"content": "{text}", "feedback": feedback}, {"text": "A", "ok": said})
    assert only.feedback.judged[0].score == score
    assert (only.feedback.rater_type, only.origin) == (pb.RATER_TYPE_AI, pb.ORIGIN_SYNTHETIC)
    assert only.provenance.generator == "gpt"


def test_an_edit_and_a_critique() -> None:
    said = {
        "each": ["draft", "final"],
        "content": "{each}",
        "standing": ["negative", "positive"],
        "feedback": [
            {"kind": "EDIT", "rater": "{editor}", "time": "{when}"},
            {"kind": "CRITIQUE", "rater": "{editor}", "items": ["{about}"], "rationale": "{why}", "degree": "minor"},
        ],
    }
    record = {"draft": "A", "final": "B", "editor": "eve", "when": "2026-01-02", "why": "Too short.", "about": "x"}
    _, _, edit, critique = made(said, record)
    assert edit.feedback.kind == pb.FEEDBACK_KIND_EDIT
    assert judged(edit) == [("0", 0), ("1", 0)]
    assert edit.provenance.time.ToJsonString() == "2026-01-02T00:00:00Z"
    assert (critique.feedback.rationale, critique.feedback.degree) == ("Too short.", "minor")
    assert critique.feedback.judged[0].item_id == "w:x"
    (alone,) = made(said, {**record, "final": None, "why": None})
    assert alone.content == "A", "of one version nothing was edited, and nobody said why"


def test_a_list_of_the_record_has_one_for_each_item() -> None:
    said = {"content": "{each}", "each": "images", "feedback": [RANKS]}
    record = {"images": ["a", "b", "c"], "by": "L7", "ranks": [2, 1, 2]}
    *_, ranking = made(said, record)
    assert judged(ranking) == [("0", 2), ("1", 1), ("2", 2)]
    several = {
        "content": "{each}",
        "each": "images",
        "feedback": [{**RANKS, "each": "votes", "rater": "{each.by}", "place": "{each.ranks}"}],
    }
    *_, first, second = made(
        several, {**record, "votes": [{"by": "x", "ranks": [1, 2, 3]}, {"by": "y", "ranks": [3, 2, 1]}]}
    )
    assert (first.feedback.rater, judged(first)) == ("x", [("0", 1), ("1", 2), ("2", 3)])
    assert (second.feedback.rater, judged(second)) == ("y", [("0", 3), ("1", 2), ("2", 1)])


@pytest.mark.parametrize(
    ("feedback", "record", "told"),
    [
        (RANKS, {"ranks": [1, 2, 3]}, "feedback[0].place: expected a list of 2, one for each item, found one of 3"),
        (RANKS, {"ranks": [1, None]}, "feedback[0].judged[1].place: expected an integer from 1 on, found nothing"),
        (RANKS, {"ranks": [1, 0]}, "feedback[0].judged[1].place: expected an integer from 1 on"),
        (RANKS, {"by": None, "ranks": [1, 2]}, "feedback[0].rater: expected a name"),
        (
            {**PAIR, "place": "{ranks}"},
            {"ranks": [1, 3]},
            "feedback[0].judged[1].place: expected an integer from 1 to 2",
        ),
        ({**PAIR, "degree": "{why}"}, {"why": "x" * 101}, "feedback[0].degree: expected one line of at most 100"),
        ({**STARS, "rater": "x"}, {"stars": 6}, "feedback[0].judged[0].score: expected a number from 1 to 5"),
        (
            {"kind": "BINARY", "rater": "x", "score": "{stars}"},
            {"stars": "maybe"},
            "score: expected 1 for yes or 0 for no",
        ),
        ({**RANKS, "each": "votes"}, {"votes": 3}, "votes: expected a list, found 3"),
    ],
)
def test_a_record_that_says_something_else_is_told_by_its_place(feedback: Any, record: Any, told: str) -> None:
    said = {"content": "{each}", "each": "texts", "feedback": [feedback]}
    with pytest.raises(UnreadableRecord) as caught:
        made(said, {"texts": ["a", "b"], "by": "L7", **record})
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("feedback", "told"),
    [
        (
            {"rater": "x"},
            "feedback[0].kind: expected one of PAIRWISE, RANKING, RATING, BINARY, EDIT, CRITIQUE, found nothing",
        ),
        ({**STARS, "kind": "STARS"}, "feedback[0].kind: expected one of PAIRWISE"),
        ({k: v for k, v in STARS.items() if k != "rater"}, "feedback[0].rater: required: who judged"),
        ({k: v for k, v in STARS.items() if k != "score"}, "feedback[0].score: required: RATING is nothing without it"),
        (
            {k: v for k, v in STARS.items() if k != "scale"},
            "feedback[0].scale: required for RATING: the lowest and the highest score, such as [1, 5]",
        ),
        ({**STARS, "scale": [5, 1]}, "feedback[0].scale: expected the lowest and the highest score"),
        ({**STARS, "scale": "1-5"}, "feedback[0].scale: expected the lowest and the highest score"),
        ({**STARS, "place": "1"}, "feedback[0].place: expected only for PAIRWISE, RANKING; take it out of RATING"),
        ({**STARS, "rater_type": "CROWD"}, "feedback[0].rater_type: expected one of HUMAN, AI, EXECUTOR"),
        ({**STARS, "stars": "x"}, "feedback[0]: nothing is called 'stars'; expected kind, rater_type"),
        ({**STARS, "score": {"a": 1}}, "feedback[0].score: expected one field and what its words mean"),
        (PAIR, "feedback[0]: PAIRWISE judges several items, and a record is one: say which list they are with `each`"),
        ("RATING", "feedback[0]: expected names and what they mean"),
    ],
)
def test_feedback_that_is_wrong_is_told_where_and_what_to_write(feedback: Any, told: str) -> None:
    with pytest.raises(WrongMapping) as caught:
        parse({**LEAST, "content": "{text}", "feedback": [feedback]}, "x.yaml")
    assert f"x.yaml: {told}" in caught.value.message
