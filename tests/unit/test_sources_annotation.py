"""What people wrote, showed or judged: the adapters of stage II."""

import json

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, said, verdicts
from tests.support.source_shapes import RANKED, shape


def test_rankings_are_kept_with_their_ties() -> None:
    (ranked,) = verdicts("imagereward")
    assert ranked.kind == pb.FEEDBACK_KIND_RANKING
    assert [(one.item_id, one.place) for one in ranked.judged] == [
        ("imagereward:000-1/0", 2),
        ("imagereward:000-1/1", 1),
        ("imagereward:000-1/2", 2),
    ]
    *outputs, ranking = submissions(BY_NAME["instruct-gpt"], RANKED)
    assert [one.provenance.generator for one in outputs] == ["instruct-gpt"] * 3
    assert [one.place for one in ranking.feedback.judged] == [2, 1, 2]
    assert ranking.feedback.rater == "L7"
    with pytest.raises(UnreadableRecord, match="rank: expected a list of 3 to 3, found one of 2"):
        submissions(BY_NAME["instruct-gpt"], {**RANKED, "rank": [2, 1]})


def test_a_comparison_keeps_its_degree_and_the_rejected_answer_is_negative() -> None:
    chosen, rejected = items("llama")
    assert (chosen.attributes["standing"], rejected.attributes["standing"]) == ("positive", "negative")
    assert rejected.origin == pb.ORIGIN_SYNTHETIC
    (pair,) = verdicts("llama")
    assert pair.degree == "slightly better"
    assert [one.item_id for one in pair.judged] == [chosen.item_id, rejected.item_id]
    assert chosen.attributes["batch"] == "w12"


def test_an_edit_of_llama_3_comes_after_what_was_edited() -> None:
    record = {**EXAMPLES["llama"], "edited": "No: it makes chlorine gas. Open a window.", "time": "2023-05-01"}
    made = submissions(BY_NAME["llama"], record)
    edited = next(one for one in made if one.item_id.endswith("/edited"))
    assert list(edited.provenance.derived_from) == [made[0].item_id]
    edit = made[-1].feedback
    assert edit.kind == pb.FEEDBACK_KIND_EDIT
    assert all(one.provenance.time.ToJsonString() == "2023-05-01T00:00:00Z" for one in made)
    assert [one.item_id for one in edit.judged] == [made[0].item_id, edited.item_id]


def test_magicbrush_has_its_three_images_by_their_roles() -> None:
    (item,) = items("magicbrush")
    assert [media.role for media in (item.media, *item.further_media)] == ["source", "mask", "target"]
    assert all(media.digest for media in (item.media, *item.further_media))
    assert item.media.uri == "magicbrush:139-output1.png", "as the record names it"
    example = EXAMPLES["magicbrush"]
    (unmasked,) = items("magicbrush", {**example, "mask_img": None, "target_img": b"PNG"})
    assert [media.role for media in (unmasked.media, *unmasked.further_media)] == ["source", "target"]
    assert unmasked.further_media[0].uri == "magicbrush:139/2-target.png"


def test_episodes_keep_statistics_and_shapes_and_no_arrays() -> None:
    (robot,) = items("rt-1")
    assert said(robot)["details"]["fields"]["action/world_vector"] == [[0, 0.25, 0.5], [0, 0.5, 1], [0.25, 0.5, 0.75]]
    assert robot.media.role == "episode"
    (aloha,) = items("mobile-aloha")
    details = said(aloha)["details"]
    assert details["cameras"] == ["cam_high", "cam_left_wrist"]
    assert details["steps"] == 5
    assert aloha.media.uri == "mobile-aloha:episode_7.hdf5"
    with pytest.raises(UnreadableRecord, match="--set task=TEXT"):
        items("mobile-aloha", {**EXAMPLES["mobile-aloha"], "task": None})


def test_a_function_of_apps_has_its_arguments_and_result_as_json() -> None:
    (item,) = items("apps", shape("apps", "question"))
    assert item.tests.entry_point == "add"
    assert [(case.input, case.output) for case in item.tests.cases] == [("[1, 2]", "3")]


def test_results_that_stand_each_in_a_list_of_its_own_are_taken_out_of_it() -> None:
    """As the work's own judge takes them."""
    record = shape("apps", "question")
    for outputs, expected in (
        ([[3], [4]], ["3", "4"]),
        ([[[3]], [[]]], ["[3]", "[]"]),
        ([[3], [4, 5]], ["[3]", "[4, 5]"]),
        ([[3], 4], ["[3]", "4"]),
    ):
        said = {"fn_name": "add", "inputs": [[1, 2], [2, 2]], "outputs": outputs}
        (item,) = items("apps", {**record, "input_output": json.dumps(said)})
        assert [case.output for case in item.tests.cases] == expected


def test_a_method_of_a_solution_of_apps_is_called_on_an_object() -> None:
    record = shape("apps", "question")
    method = "class Solution:\n    def add(self, a, b): return a + b"
    as_function, as_method = items("apps", {**record, "solutions": json.dumps(["def add(a, b): return a + b", method])})
    assert (as_function.tests.setup, as_method.tests.setup) == ("", "add = Solution().add")
    assert as_method.tests.entry_point == "add"
    assert as_method.tests.cases == as_function.tests.cases
