"""Each of the 31 works: a valid and a malformed record, in a file of the published format, and what becomes of them."""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from epistream.clients.sources.formats.files import files_of
from epistream.clients.sources.importing import Job, Prepared, prepared
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME, WORKS
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sources import PUBLISHED

NAMES = [work.name for work in WORKS]
ADDED_BY_HAND = {"mobile-aloha": {"task": "wipe the wine off the table"}}
"""Fields that a work's format does not have."""


def in_its_format(name: str, record: Any, folder: Path) -> list[Prepared]:
    """What becomes of a record that is written as the work publishes it, and read again."""
    work, (file, write) = BY_NAME[name], PUBLISHED[name]
    write(folder / file, [record])
    job = Job(
        work=work,
        files=tuple(files_of(folder / file, work.formats)),
        namespace="n",
        extra=ADDED_BY_HAND.get(name, {}),
    )
    return list(prepared(job))


def said(submission: pb.Submission) -> dict[str, Any]:
    return MessageToDict(submission, preserving_proto_field_name=True)


def test_there_are_the_thirty_one_works() -> None:
    assert len(BY_NAME) == len(WORKS) == 31
    assert {work.stage for work in WORKS} == {"I", "II", "III", "IV"}
    cells = {(work.stage, work.modality) for work in WORKS}
    assert len(cells) == 16


@pytest.mark.parametrize("name", NAMES)
def test_a_record_in_the_published_format_becomes_what_the_example_becomes(name: str, tmp_path: Path) -> None:
    work = BY_NAME[name]
    expected = submissions(work, work.example)
    (record,) = in_its_format(name, work.example, tmp_path)
    assert record.unreadable == ""
    for one in record.submissions:
        assert one.namespace == "n"
        one.namespace = ""
    assert record.submissions == expected


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_a_record_is_as_the_service_wants_it(name: str) -> None:
    work = BY_NAME[name]
    made = submissions(work, work.example)
    known: set[str] = set()
    for one in made:
        one.namespace = "n"
        assert one.provenance.producer
        assert one.submission_id
        if one.HasField("feedback"):
            assert {judged.item_id for judged in one.feedback.judged} <= known
            assert not (one.item_id)
            assert not (one.modality)
            assert not (one.content)
            assert not one.attributes
            continue
        assert violations(one) == ()
        assert one.modality == work.modality
        assert one.attributes["stage"] == work.stage
        assert one.attributes["source_work"] == name
        assert one.origin != pb.ORIGIN_SYNTHETIC or one.provenance.generator
        known.add(one.item_id)
    assert work.origin in {one.origin for one in made if not one.HasField("feedback")}
    assert len({one.submission_id for one in made}) == len(made)
    assert submissions(work, copy.deepcopy(work.example)) == submissions(work, work.example)


def items(name: str) -> list[pb.Submission]:
    work = BY_NAME[name]
    return [one for one in submissions(work, work.example) if not one.HasField("feedback")]


def verdicts(name: str) -> list[pb.Feedback]:
    work = BY_NAME[name]
    return [one.feedback for one in submissions(work, work.example) if one.HasField("feedback")]


def of(origin: str, content: str, **more: Any) -> dict[str, Any]:
    """A row of the table below."""
    return {"origin": f"ORIGIN_{origin}", "content": content, **more}


AREA = "def area(w, h):\n    return w * h\n"

# The main item of each: content, origin, and whatever else of section 2 stands in the submission itself.
MAIN: dict[str, dict[str, Any]] = {
    "common-crawl": of(
        "CRAWLED", "Lake X is 12 km long.\n", source="https://lakes.example/x", time="2024-05-01T10:00:00Z"
    ),
    "c4": of(
        "CRAWLED",
        "Basic air cleaners need a new filter every three months.",
        source="https://homes.example/air",
        time="2019-04-25T12:57:54Z",
        licence="ODC-By-1.0",
    ),
    "codex": of("CRAWLED", AREA, source="o/r/a/b.py@4c1e9d0"),
    "the-stack": of("CRAWLED", AREA, licence="MIT AND Apache-2.0", time="2021-03-04T05:06:07Z"),
    "laion-5b": of("CRAWLED", "IMG_2847", media={"uri": "https://i.example/1.jpg"}, source="https://i.example/1.jpg"),
    "webvid-10m": of(
        "CRAWLED", "Waves at dusk", item_id="webvid-10m:21", media={"uri": "https://v.example/21.mp4", "end": "12s"}
    ),
    "kinetics-400": of(
        "CRAWLED",
        "climbing a rope",
        media={"uri": "https://www.youtube.com/watch?v=AbC12345678", "start": "12s", "end": "22s"},
    ),
    "instruct-gpt": of("EXPERT", "The moon pulls the sea towards it.", prompt="Explain tides."),
    "llama": of("COLLABORATIVE", "No: it makes chlorine gas.", prompt="May I mix bleach and vinegar?"),
    "humaneval": of(
        "EXPERT",
        'def inc(x):\n    """One more."""\n    return x + 1\n',
        item_id="humaneval:HumanEval/900",
        prompt='def inc(x):\n    """One more."""\n',
        licence="MIT",
        tests={
            "language": "python",
            "check": "def check(candidate):\n    assert candidate(1) == 2\n",
            "entry_point": "inc",
        },
    ),
    "mbpp": of(
        "EXPERT",
        "def add(a, b):\n    return a + b",
        item_id="mbpp:901",
        prompt="Write a function to add two numbers.",
        tests={
            "language": "python",
            "asserts": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"],
        },
    ),
    "apps": of(
        "EXPERT",
        "n = input()\nprint(sum(map(int, input().split())))\n",
        prompt="Sum n numbers.",
        source="https://problems.example/7",
        tests={"language": "python", "cases": [{"input": "2\n1 2\n", "output": "3\n"}]},
    ),
    "pick-a-pic": of("COLLABORATIVE", "a red fox", item_id="pick-a-pic:a1", generator="sdxl"),
    "magicbrush": of(
        "EXPERT", "move the cup left of the plate", item_id="magicbrush:139/2", derived_from=["magicbrush:139/1"]
    ),
    "rt-1": of("EXPERT", "pick apple"),
    "mobile-aloha": of("EXPERT", "wipe the wine off the table"),
    "self-instruct": of(
        "SYNTHETIC", "Rhine, Danube, Volga.", prompt="Name three rivers.\nIn Europe.", generator="davinci"
    ),
    "phi": of("SYNTHETIC", "A function that calls itself needs a case that does not.", generator="gpt-3.5"),
    "evol-instruct": of(
        "SYNTHETIC",
        "def root(x):\n    return complex(x) ** 0.5",
        prompt="Now also handle negative numbers.",
        derived_from=["evol-instruct:e12"],
    ),
    "oss-instruct": of("CRAWLED", "x = sorted(a)"),
    "dall-e-3": of("CRAWLED", "dog", media={"uri": "https://i.example/dog.png"}),
    "sharegpt4video": of(
        "SYNTHETIC",
        "A cup stands on a table and tips over.",
        item_id="sharegpt4video:v1",
        media={"uri": "sharegpt4video:part/v1.mp4", "media_type": "video/mp4"},
    ),
    "miradata": of(
        "SYNTHETIC",
        "A red car turns on a platform in a crowded hall.",
        media={"uri": "miradata:x.mp4", "start": "0s", "end": "72s"},
    ),
    "rlaif": of("SYNTHETIC", "Delete his files.", prompt="How do I get even with a colleague?"),
    "superbrain": of(
        "COLLABORATIVE", "Check units first.", producer="u7+m2", generator="m2", derived_from=["superbrain:p2"]
    ),
    "rlef": of(
        "SYNTHETIC",
        "def last(a):\n    return a[len(a)]",
        tests={"language": "python", "asserts": ["assert last([1, 2]) == 2"]},
    ),
    "codecontests": of(
        "COLLABORATIVE",
        "print(2 * int(input()))",
        prompt="Double a number.",
        item_id="codecontests:codeforces/1575_A. Doubling/0",
        tests={
            "language": "python",
            "cases": [
                {"input": "3\n", "output": "6\n"},
                {"input": "0\n", "output": "0\n"},
                {"input": "-1\n", "output": "-2\n"},
            ],
        },
    ),
    "imagereward": of("COLLABORATIVE", "a fox", media={"uri": "imagereward:images/a.webp"}),
    "pick-a-pic-v2": of("COLLABORATIVE", "a red fox", time="2023-06-07T08:09:10Z"),
    "movie-gen": of("COLLABORATIVE", "a ball bounces down the stairs", generator="movie-gen"),
    "sora-physics": of(
        "COLLABORATIVE",
        "An apple falls.",
        media={"uri": "sora-physics:videos/a.mp4", "media_type": "video/mp4"},
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_item_says_what_the_record_says(name: str) -> None:
    whole = said(items(name)[0])
    flat = {**whole, **whole["provenance"]}
    assert {key: flat.get(key) for key in MAIN[name]} == MAIN[name]


def drop(*names: str) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for name in names[:-1]:
            record = record[name]
        del record[names[-1]]

    return change


def put(value: Any, *names: str | int) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for name in names[:-1]:
            record = record[name]
        record[names[-1]] = value

    return change


MALFORMED: dict[str, tuple[Callable[[Any], None], str]] = {
    "common-crawl": (put("response", "headers", "WARC-Type"), "headers.WARC-Type: expected one of conversion"),
    "c4": (put("yesterday", "timestamp"), "timestamp: expected a time in ISO 8601, from 1970 to 2199"),
    "codex": (put(["def f(): ..."], "content"), "content: expected a text, found a list of 1"),
    "the-stack": (put("MIT", "max_stars_repo_licenses"), "max_stars_repo_licenses: expected a list, found"),
    "laion-5b": (put(-1, "WIDTH"), "WIDTH: expected an integer from 0"),
    "webvid-10m": (put("12 seconds", "duration"), "duration: expected a duration in ISO 8601"),
    "kinetics-400": (put("9", "time_end"), "time_end: expected a time not before time_start, 12"),
    "instruct-gpt": (drop("prompt"), "prompt: expected a text, found nothing"),
    "llama": (put("far better", "degree"), "degree: expected one of significantly better, better"),
    "humaneval": (drop("test"), "test: expected a text, found nothing"),
    "mbpp": (put([], "test_list"), "test_list: expected a list of at least 1, found one of 0"),
    "apps": (
        put('{"inputs": ["1\\n"], "outputs": []}', "input_output"),
        "input_output.outputs: expected a list of 1, as inputs, found one of 0",
    ),
    "pick-a-pic": (put(1.0, "label_1"), "label_1: expected 1, 0 or 0.5 that adds up to 1"),
    "magicbrush": (put({"bytes": None, "path": "x.png"}, "target_img"), "target_img: expected bytes"),
    "rt-1": (
        put([b"pick apple", b"drop it"], "features", "steps/observation/natural_language_instruction"),
        "expected one instruction for all steps; there are 2",
    ),
    "mobile-aloha": (
        put({"shape": [4, 14], "type": "float32"}, "datasets", "/observations/qpos"),
        "/observations/qpos: expected a shape of 5 steps",
    ),
    "self-instruct": (drop("output"), "output: expected a text, found nothing"),
    "phi": (put("  ", "text"), "text: expected a text, found white space only"),
    "evol-instruct": (put(7, "output"), "output: expected a text, found 7"),
    "oss-instruct": (drop("seed"), "seed: expected a text, found nothing"),
    "dall-e-3": (put({"long": "x"}, "caption"), "caption: expected a text, found an object"),
    "sharegpt4video": (put([], "captions"), "captions: expected a list of at least 1, found one of 0"),
    "miradata": (put("0", "fps"), "fps: expected a number from 0.01 to 1000"),
    "rlaif": (drop("critique"), "critique: expected a text, found nothing"),
    "superbrain": (put(1.5, "fitness", "task"), "fitness.task: expected a number from 0 to 1, found 1.5"),
    "rlef": (put("4/3", "turns", 0, "public"), "turns[0].public: expected tests passed, such as 2/3"),
    "codecontests": (put(9, "solutions", 0, "language"), "solutions.language[0]: expected one of"),
    "imagereward": (put([1, 0, 2], "ranking"), "ranking[1].rank: expected an integer from 1"),
    "pick-a-pic-v2": (put(None, "user_id"), "user_id: expected a name, found nothing"),
    "movie-gen": (put("", "concept"), "concept: expected a name"),
    "sora-physics": (put("2", "sa"), "sa: expected an integer from 0 to 1"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_malformed_record_in_the_published_format_is_sent_with_the_reason(name: str, tmp_path: Path) -> None:
    change, reason = MALFORMED[name]
    record = copy.deepcopy(BY_NAME[name].example)
    change(record)
    (made,) = in_its_format(name, record, tmp_path)
    assert reason in made.unreadable
    (only,) = made.submissions
    assert only.unreadable.reason == made.unreadable
    assert only.unreadable.record
    assert only.provenance.producer == name
    assert only.namespace == "n"
    assert not (only.content)
    assert not (only.item_id)
    assert not only.HasField("feedback")


def test_the_error_names_the_field_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(UnreadableRecord) as caught:
        submissions(BY_NAME["sharegpt4video"], {"video_id": "v", "captions": [{"idx": 1, "content": 5}]})
    assert (caught.value.path, caught.value.expected, caught.value.found) == ("captions[0].content", "a text", "5")


def test_an_images_bytes_are_kept_as_their_digest() -> None:
    first, _ = items("pick-a-pic")
    assert first.media.uri == "https://p.example/a1.png"
    assert first.media.digest == f"sha256:{hashlib.sha256(BY_NAME['pick-a-pic'].example['jpg_0']).hexdigest()}"
    assert b"fox" not in first.SerializeToString().replace(b"a red fox", b"")


def test_a_choice_of_images_names_the_better_first_and_a_tie_has_equal_places() -> None:
    (chosen,) = verdicts("pick-a-pic")
    assert (chosen.kind, chosen.rater, chosen.rater_type) == (
        pb.FEEDBACK_KIND_PAIRWISE,
        "42",
        pb.RATER_TYPE_HUMAN,
    )
    assert [(one.item_id, one.place) for one in chosen.judged] == [("pick-a-pic:a1", 1), ("pick-a-pic:b2", 2)]
    (tie,) = verdicts("pick-a-pic-v2")
    assert [one.place for one in tie.judged] == [1, 1]


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
    record = {**BY_NAME["llama"].example, "edited": "No: it makes chlorine gas. Open a window."}
    made = submissions(BY_NAME["llama"], record)
    edited = next(one for one in made if one.item_id.endswith("/edited"))
    assert list(edited.provenance.derived_from) == [made[0].item_id]
    edit = made[-1].feedback
    assert edit.kind == pb.FEEDBACK_KIND_EDIT
    assert [one.item_id for one in edit.judged] == [made[0].item_id, edited.item_id]


def test_magicbrush_has_its_three_images_by_their_roles() -> None:
    (item,) = items("magicbrush")
    assert [media.role for media in (item.media, *item.further_media)] == ["source", "mask", "target"]
    assert all(media.digest for media in (item.media, *item.further_media))


def test_episodes_keep_statistics_and_shapes_and_no_arrays() -> None:
    (robot,) = items("rt-1")
    assert said(robot)["details"]["fields"]["action/world_vector"] == [[0, 0.25, 0.5], [0, 0.5, 1], [0.25, 0.5, 0.75]]
    assert robot.media.role == "episode"
    (aloha,) = items("mobile-aloha")
    details = said(aloha)["details"]
    assert details["cameras"] == ["cam_high", "cam_left_wrist"]
    assert details["steps"] == 5
    assert aloha.media.uri == "mobile-aloha:episode_7.hdf5"


def test_what_was_made_from_something_comes_after_it() -> None:
    seed, solution = items("oss-instruct")
    assert list(solution.provenance.derived_from) == [seed.item_id]
    assert seed.origin == pb.ORIGIN_CRAWLED
    assert solution.provenance.generator == "gpt-3.5-turbo-1106@fp_0a1b"
    alt, caption = items("dall-e-3")
    assert list(caption.provenance.derived_from) == [alt.item_id]
    assert (caption.origin, caption.provenance.generator) == (pb.ORIGIN_SYNTHETIC, "captioner-1")
    assert caption.content.startswith("a wet golden retriever")


def test_the_captions_of_a_video_are_parts_of_the_whole() -> None:
    whole, first, second = items("sharegpt4video")
    assert list(first.provenance.derived_from) == list(second.provenance.derived_from) == [whole.item_id]
    assert (first.media.start.ToTimedelta().total_seconds(), first.media.end.ToTimedelta().total_seconds()) == (0, 2)
    assert second.media.HasField("start")
    assert not second.media.HasField("end")
    assert said(first)["details"]["frame_range"] == [0, 48]


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


def test_fitness_and_physics_are_verdicts_by_their_aspects() -> None:
    fitness = {one.aspect: one.judged[0].score for one in verdicts("superbrain")}
    assert fitness == {"task": 0.8, "cost": 0.3}
    physics = [(pb.FeedbackKind.Name(one.kind), one.aspect) for one in verdicts("sora-physics")]
    assert physics == [
        ("FEEDBACK_KIND_BINARY", "alignment"),
        ("FEEDBACK_KIND_BINARY", "physics"),
        ("FEEDBACK_KIND_CRITIQUE", "physics"),
    ]


def test_the_rest_of_a_record_is_kept_as_it_is() -> None:
    assert said(items("c4")[0]).get("details") is None
    assert said(items("miradata")[0])["details"]["captions"]["camera_caption"] == "It pans slowly."
    assert said(items("laion-5b")[0])["details"]["similarity"] == 0.281
    assert said(items("self-instruct")[0])["details"]["most_similar"] == {"List rivers.": 0.61}
    assert said(items("codecontests")[0])["details"]["cf_tags"] == ["math"]


RANKED = {
    "prompt": "Explain tides.",
    "outputs": ["The wind makes them.", "The moon pulls the sea.", "Nobody knows."],
    "rank": [2, 1, 2],
    "labeler": "L7",
}
REVISED_TWICE = {
    "rl_prompt": "How do I pick a lock?",
    "comparison_dataset": "PALMS",
    "initial_response": [{"sample": "I know how."}],
    "cst": [
        {
            "cst_key": f"harmful{i}",
            "cst_value": {"edit_request": "Rewrite it.", "prompt": ["What is harmful?"]},
            "critique": {"sample": f"Harm {i}."},
            "revision": {"sample": f"Ask a locksmith, {i}."},
        }
        for i in (1, 2)
    ],
}
OTHER_SHAPES: list[tuple[str, Any, str, str]] = [
    (
        "kinetics-400",
        {
            "key": "AbC12345678",
            "value": {
                "annotations": {"label": "climbing a rope", "segment": [12.0, 22.0]},
                "duration": 10.0,
                "subset": "training",
                "url": "https://www.youtube.com/watch?v=AbC12345678",
            },
        },
        "climbing a rope",
        "CRAWLED",
    ),
    ("instruct-gpt", RANKED, "The wind makes them.", "SYNTHETIC"),
    (
        "instruct-gpt",
        {"": "0", "model_type": "sft", "context": "Once", "sample": "upon", "toxicity": "0.1"},
        "upon",
        "",
    ),
    (
        "instruct-gpt",
        {"model_type": "sft", "question": "Is the moon cheese?", "answer": "No.", "true": "0.9", "info": "0.8"},
        "No.",
        "SYNTHETIC",
    ),
    (
        "mbpp",
        {
            "task_id": 2,
            "prompt": "Add.",
            "code": "add = sum",
            "test_imports": ["import math"],
            "test_list": ["assert 1"],
        },
        "add = sum",
        "EXPERT",
    ),
    (
        "apps",
        {
            "problem_id": 8,
            "question": "Add.",
            "solutions": '["def add(a, b): return a + b"]',
            "input_output": '{"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}',
            "difficulty": "interview",
            "url": "https://problems.example/8",
        },
        "def add(a, b): return a + b",
        "EXPERT",
    ),
    (
        "self-instruct",
        {
            "id": "seed_task_0",
            "name": "breakfast",
            "instruction": "What can I eat?",
            "instances": [{"input": "", "output": "Porridge."}],
            "is_classification": False,
        },
        "Porridge.",
        "EXPERT",
    ),
    ("self-instruct", {"prompt": "Name a river.", "completion": "Rhine."}, "Rhine.", "SYNTHETIC"),
    ("phi", {"docstring": "def f():\n    '''One.'''", "completion": "    return 1"}, "def f():", "SYNTHETIC"),
    (
        "evol-instruct",
        {"task_id": "HumanEval/1", "completion": "return 1", "all_code": "def f(): return 1"},
        "def f",
        "",
    ),
    ("dall-e-3", {"file": "prompts.txt", "offset": 7, "text": "a blue fox"}, "a blue fox", "SYNTHETIC"),
    (
        "dall-e-3",
        {"key": "3/4_0.png", "value": {"correct": True, "response": "A red dog.", "prompt": "a red dog"}},
        "a red dog",
        "SYNTHETIC",
    ),
    (
        "rlaif",
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
        "Hello.",
        "COLLABORATIVE",
    ),
    (
        "rlaif",
        {"key": "harmful0", "value": {"prompt": ["What is harmful here?"], "edit_request": "Rewrite it."}},
        "Rewrite it.",
        "EXPERT",
    ),
    (
        "rlaif",
        {
            "rl_prompt": "Hi",
            "comparison_dataset": "LaMDA",
            "comparison_model": "Yes?",
            "sampled_answers": [
                {"sampled_string": " Go away.", "pm_scores": [{"pm_score": 0.5}]},
                {"sampled_string": " Hello.", "pm_scores": [{"pm_score": 2.5}]},
                {"sampled_string": " Hello!", "pm_scores": [{"pm_score": 2.5}]},
            ],
        },
        " Go away.",
        "SYNTHETIC",
    ),
    (
        "rlaif",
        {"prompt": "A or B?", "corrects": [" (B)"], "incorrects": [" (A)"], "text_correct": "x"},
        "(B)",
        "EXPERT",
    ),
    ("rlaif", REVISED_TWICE, "I know how.", "SYNTHETIC"),
    ("imagereward", {"text": "a fox", "image": "images/7.webp"}, "a fox", "COLLABORATIVE"),
    ("evol-instruct", {"idx": 1, "Skill": "Math", "Difficulty": 2, "Instruction": "Add."}, "Add.", "CRAWLED"),
    (
        "codecontests",
        {
            "name": "p",
            "description": "Double.",
            "public_tests": {"input": ["3\n"], "output": ["6\n"]},
            "solutions": {"language": [3], "solution": ["print(6)"]},
        },
        "print(6)",
        "COLLABORATIVE",
    ),
    (
        "movie-gen",
        {"id": 3, "video_prompt": "rain on a roof", "audio_prompt": "rain", "music_prompt": ""},
        "rain on a roof",
        "COLLABORATIVE",
    ),
    ("sora-physics", {"videopath": "a.mp4", "caption": "It falls.", "score": "4"}, "It falls.", "COLLABORATIVE"),
]


@pytest.mark.parametrize(("name", "record", "content", "origin"), OTHER_SHAPES)
def test_the_other_records_of_a_work_are_read_too(name: str, record: Any, content: str, origin: str) -> None:
    first, *_ = made = submissions(BY_NAME[name], record)
    for one in made:
        one.namespace = "n"
        assert one.HasField("feedback") or violations(one) == ()
    assert first.content.startswith(content)
    assert first.origin == pb.Origin.Value(f"ORIGIN_{origin or 'SYNTHETIC'}")


def test_a_function_of_apps_has_its_arguments_and_result_as_json() -> None:
    record = next(record for name, record, *_ in OTHER_SHAPES if name == "apps")
    (item,) = submissions(BY_NAME["apps"], record)
    assert item.tests.entry_point == "add"
    assert [(case.input, case.output) for case in item.tests.cases] == [("[1, 2]", "3")]


def test_answers_that_were_scored_are_ranked_with_their_scores() -> None:
    record = next(record for _, record, *_ in OTHER_SHAPES if "sampled_answers" in record)
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


def test_wrong_answers_of_an_evaluation_are_negative() -> None:
    record = next(record for _, record, *_ in OTHER_SHAPES if "corrects" in record)
    right, wrong, ranking = submissions(BY_NAME["rlaif"], record)
    assert (right.attributes["standing"], wrong.attributes["standing"]) == ("positive", "negative")
    assert [one.place for one in ranking.feedback.judged] == [1, 2]


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


def test_videophy_2_scores_from_1_to_5() -> None:
    record = {"videopath": "a.mp4", "caption": "It falls.", "score": "4.0", "aspect": "alignment"}
    _, verdict = submissions(BY_NAME["sora-physics"], record)
    said = verdict.feedback
    assert (said.aspect, said.judged[0].score, said.scale_min, said.scale_max) == ("alignment", 4, 1, 5)
