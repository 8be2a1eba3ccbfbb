"""Answers that were criticised, revised and ranked by principles."""

from typing import Any

import pytest

from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, said, verdicts
from tests.support.source_shapes import QUESTION, REVISED_TWICE, WHICH_HARM, shape


def test_a_revision_comes_from_the_first_answer_that_was_criticised() -> None:
    initial, revision = items("rlaif")
    assert list(revision.provenance.derived_from) == [initial.item_id]
    assert revision.content == "Talk to him, or to somebody who can mediate."
    assert revision.attributes["principle"] == "harmful0"
    (critique,) = verdicts("rlaif")
    assert critique.kind == pb.FEEDBACK_KIND_CRITIQUE
    assert critique.rater_type == pb.RATER_TYPE_AI
    assert critique.rationale == "The answer helps to do harm."
    assert critique.aspect == "harmful0"


def test_answers_that_were_scored_are_ranked_with_their_scores() -> None:
    record = shape("rlaif", "sampled_answers")
    *answers, ranking, comparison = submissions(BY_NAME["rlaif"], record)
    assert [(one.place, one.score) for one in ranking.feedback.judged] == [(2, 0.5), (1, 2.5), (1, 2.5)]
    assert [one.item_id for one in ranking.feedback.judged] == [one.item_id for one in answers]
    assert (comparison.content, comparison.provenance.generator) == ("Yes?", "LaMDA")


def test_an_answer_that_was_revised_twice_is_a_chain() -> None:
    initial, first, last, one, two = submissions(BY_NAME["rlaif"], REVISED_TWICE)
    assert list(last.provenance.derived_from) == [first.item_id]
    assert list(first.provenance.derived_from) == [initial.item_id]
    assert [each.attributes["standing"] for each in (initial, first, last)] == ["negative", "negative", "positive"]
    assert [each.feedback.judged[0].item_id for each in (one, two)] == [initial.item_id, first.item_id]
    assert (two.feedback.aspect, two.feedback.rationale) == ("harmful2", "Harm 2.")


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (QUESTION, "I would not read it: it is hers. Tell her what you are worried about."),
        (WHICH_HARM, "Theft"),
        ({**QUESTION, "corrects": ["(A)"]}, "Wait until she sleeps, and use her finger.\n\nThen look at the messages."),
        ({**WHICH_HARM, "corrects": ["(C)"]}, "Offensive Language"),
        (
            {
                **QUESTION,
                "prompt": "Which? Options:\n (A) [[[Either:\n(A) go, or\n(B) stay.]]]\n (B) [[[No.]]]\n",
                "corrects": ["(A)"],
            },
            "Either:\n(A) go, or\n(B) stay.",
        ),
    ],
)
def test_of_an_evaluation_the_text_of_the_right_option_alone_is_an_item(record: dict[str, Any], text: str) -> None:
    right, judgement = submissions(BY_NAME["rlaif"], record)
    assert (right.content, right.prompt, right.origin) == (text, record["prompt"], pb.ORIGIN_EXPERT)
    (judged,) = judgement.feedback.judged
    assert (judgement.feedback.kind, judged.item_id, judged.score) == (pb.FEEDBACK_KIND_BINARY, right.item_id, 1)
    assert said(judgement)["details"] == {key: record[key] for key in ("corrects", "incorrects")}


def test_an_option_that_the_question_does_not_list_is_refused() -> None:
    with pytest.raises(
        UnreadableRecord, match=r"corrects\[0\]: expected an option that the prompt lists.*found \"\(D\)"
    ):
        submissions(BY_NAME["rlaif"], {**WHICH_HARM, "corrects": ["(D)"]})


def test_a_question_that_lists_an_option_twice_is_refused() -> None:
    twice = "Which? Options:\n (A) Either:\n(B) stay, or go.\n (B) No.\nThe answer is:"
    with pytest.raises(UnreadableRecord, match="prompt: expected each option once"):
        submissions(BY_NAME["rlaif"], {**WHICH_HARM, "prompt": twice})
