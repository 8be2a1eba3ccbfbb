"""What people, models and programs made and judged together: the adapters of stage IV."""

from pathlib import Path

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.importing import prepared
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, job_of, said, verdicts
from tests.support.source_shapes import shape
from tests.support.sources import csv_table


def test_programs_that_were_run_carry_the_executors_verdicts() -> None:
    first, last = items("rlef")
    assert list(last.provenance.derived_from) == [first.item_id]
    assert (first.attributes["standing"], last.attributes["standing"]) == ("negative", "positive")
    assert last.origin == pb.ORIGIN_COLLABORATIVE
    run = verdicts("rlef")
    assert [round(one.judged[0].score, 3) for one in run] == [0.667, 1.0, 0.9]
    assert all(one.rater_type == pb.RATER_TYPE_EXECUTOR for one in run)
    assert run[0].rationale == "2/3, IndexError"


def test_wrong_solutions_are_negative_items_and_right_ones_are_not() -> None:
    right, wrong = items("codecontests")
    assert (right.attributes["standing"], wrong.attributes["standing"]) == ("positive", "negative")
    assert wrong.tests.language == "cpp"
    assert [one.judged[0].score for one in verdicts("codecontests")] == [1, 0]


@pytest.mark.parametrize(
    ("of_messages", "in_parquet", "site"),
    [(0, 0, ""), (2, 2, "codeforces"), (4, 4, "codejam"), (6, 5, "atcoder"), (7, 6, "aizu"), (8, 7, "")],
)
def test_a_problem_s_site_goes_by_the_numbers_of_its_format(of_messages: int, in_parquet: int, site: str) -> None:
    """Messages have no site of number 5; the class labels of the Parquet files have no gap."""
    listed = {**EXAMPLES["codecontests"], "source": of_messages}
    together = {**shape("codecontests", "solutions"), "name": listed["name"], "source": in_parquet}
    for record in (listed, together):
        first = items("codecontests", record)[0]
        assert first.attributes.get("site", "") == site
        assert first.item_id == f"codecontests:{site}{'/' if site else ''}1575_A. Doubling/0"


def test_fitness_and_physics_are_verdicts_by_their_aspects() -> None:
    fitness = {one.aspect: one.judged[0].score for one in verdicts("superbrain")}
    assert fitness == {"task": 0.8, "cost": 0.3}
    physics = [(pb.FeedbackKind.Name(one.kind), one.aspect) for one in verdicts("sora-physics")]
    assert physics == [
        ("FEEDBACK_KIND_BINARY", "alignment"),
        ("FEEDBACK_KIND_BINARY", "physics"),
        ("FEEDBACK_KIND_CRITIQUE", "physics"),
    ]


@pytest.mark.parametrize(
    ("score", "kind", "given"),
    [
        ("1.0", pb.FEEDBACK_KIND_BINARY, 1),
        ("0.0", pb.FEEDBACK_KIND_BINARY, 0),
        ("2.0", pb.FEEDBACK_KIND_CRITIQUE, None),
    ],
)
def test_a_rule_without_a_caption_is_a_verdict_on_the_video_alone(
    score: str, kind: pb.FeedbackKind.ValueType, given: int | None
) -> None:
    record = {"videopath": "a.mp4", "rule": "Things fall down.", "score": score}
    (only,) = submissions(BY_NAME["sora-physics"], record)
    (judged,) = only.feedback.judged
    assert (only.feedback.kind, only.feedback.rationale, judged.item_id) == (
        kind,
        "Things fall down.",
        "sora-physics:a.mp4",
    )
    assert (judged.score if judged.HasField("score") else None) == given


def test_a_rule_that_nobody_was_asked_about_is_a_rule_and_no_verdict(tmp_path: Path) -> None:
    """As VideoPhy-2 publishes `rule.csv`."""
    rows = [{"videopath": "a.mp4", "rule": rule} for rule in ("Things fall down.", "The cup has a shadow.")]
    csv_table(tmp_path / "rule.csv", rows)
    made = [one for record in prepared(job_of("sora-physics", tmp_path)) for one in record.submissions]
    assert [(one.content, one.media.uri, one.attributes["kind"]) for one in made] == [
        ("Things fall down.", "sora-physics:a.mp4", "rule"),
        ("The cup has a shadow.", "sora-physics:a.mp4", "rule"),
    ]
    assert len({one.item_id for one in made}) == 2
    assert not any(one.HasField("feedback") for one in made)


def test_videophy_2_scores_from_1_to_5() -> None:
    record = {"videopath": "a.mp4", "caption": "It falls.", "score": "4.0", "aspect": "alignment"}
    _, verdict = submissions(BY_NAME["sora-physics"], record)
    said = verdict.feedback
    assert (said.aspect, said.judged[0].score, said.scale_min, said.scale_max) == ("alignment", 4, 1, 5)


def test_a_heuristic_comes_from_another_only_where_heuristics_have_ids() -> None:
    (alone,) = items("superbrain")
    assert not alone.provenance.derived_from
    assert said(alone)["details"]["parent"] == "p2"
    (named,) = items("superbrain", {**EXAMPLES["superbrain"], "id": "p3"})
    assert (named.item_id, list(named.provenance.derived_from)) == ("superbrain:p3", ["superbrain:p2"])


def test_a_program_and_its_tests_are_of_the_language_that_the_record_names() -> None:
    example = EXAMPLES["rlef"]
    _, last = items("rlef", {**example, "language": "C++"})
    assert (last.tests.language, last.attributes["language"]) == ("c++", "c++")
    with pytest.raises(UnreadableRecord, match="language: expected a language such as python"):
        items("rlef", {**example, "language": "Visual Basic"})
