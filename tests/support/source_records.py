"""Records of the works as they are published: a valid and a malformed one of each, and the other shapes that some have.

The valid one is the work's example. All are invented.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats.files import files_of
from epistream.clients.sources.importing import Job
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sources import PUBLISHED

ADDED_BY_HAND: Final = {"mobile-aloha": {"task": "wipe the wine off the table"}}
"""Fields that a work's format does not have."""


def written(name: str, record: Any, folder: Path) -> Path:
    """The file with a record in the format that the work `name` publishes."""
    file, _ = PUBLISHED[name]
    return written_as(file, name, record, folder)


def written_as(file: str, name: str, record: Any, folder: Path) -> Path:
    """The same, in a file of another name."""
    _, write = PUBLISHED[name]
    write(folder / file, [record])
    return folder / file


def job_of(name: str, path: Path, namespace: str = "n") -> Job:
    """The import of what a work publishes."""
    work = BY_NAME[name]
    files = tuple(files_of(path, work.formats, work.first))
    return Job(work=work, files=files, namespace=namespace, extra=ADDED_BY_HAND.get(name, {}))


def said(message: Message) -> dict[str, Any]:
    """A message as JSON says it, by the names of the proto."""
    return MessageToDict(message, preserving_proto_field_name=True)


def items(name: str, record: Any = None) -> list[pb.Submission]:
    """The items of a record of a work, of its example where none is given."""
    work = BY_NAME[name]
    made = submissions(work, EXAMPLES[work.name] if record is None else record)
    return [one for one in made if not one.HasField("feedback")]


def verdicts(name: str, record: Any = None) -> list[pb.Feedback]:
    """What raters say in a record of a work, of its example where none is given."""
    work = BY_NAME[name]
    made = submissions(work, EXAMPLES[work.name] if record is None else record)
    return [one.feedback for one in made if one.HasField("feedback")]


def malformed(name: str) -> tuple[Any, str]:
    """A record of a work with a mistake in it, and what has to be said of it."""
    change, reason = MALFORMED[name]
    record = copy.deepcopy(EXAMPLES[name])
    change(record)
    return record, reason


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


MALFORMED: Final[dict[str, tuple[Callable[[Any], None], str]]] = {
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


RANKED: Final = {
    "prompt": "Explain tides.",
    "outputs": ["The wind makes them.", "The moon pulls the sea.", "Nobody knows."],
    "rank": [2, 1, 2],
    "labeler": "L7",
}
REVISED_TWICE: Final = {
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


class Shape(NamedTuple):
    """Another shape that records of a work have."""

    work: str
    record: Any
    content: str
    """How the first item's content begins."""
    origin: str
    """Of the first item."""


def shape(work: str, field: str) -> Any:
    """The record of the other shape of a work that has this field."""
    return next(each.record for each in OTHER_SHAPES if each.work == work and field in each.record)


OTHER_SHAPES: Final = [
    Shape(
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
    Shape("instruct-gpt", RANKED, "The wind makes them.", "SYNTHETIC"),
    Shape(
        "instruct-gpt",
        {"": "0", "model_type": "sft", "context": "Once", "sample": "upon", "toxicity": "0.1"},
        "upon",
        "SYNTHETIC",
    ),
    Shape(
        "instruct-gpt",
        {"model_type": "sft", "question": "Is the moon cheese?", "answer": "No.", "true": "0.9", "info": "0.8"},
        "No.",
        "SYNTHETIC",
    ),
    Shape(
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
    Shape(
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
    Shape(
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
    Shape("self-instruct", {"prompt": "Name a river.", "completion": "Rhine."}, "Rhine.", "SYNTHETIC"),
    Shape("phi", {"docstring": "def f():\n    '''One.'''", "completion": "    return 1"}, "def f():", "SYNTHETIC"),
    Shape(
        "evol-instruct",
        {"task_id": "HumanEval/1", "completion": "return 1", "all_code": "def f(): return 1"},
        "def f",
        "SYNTHETIC",
    ),
    Shape(
        "evol-instruct",
        {
            "file": "EvolInstruct-Code-80k.json",
            "id": "e13",
            "instruction": "Add in C.",
            "output": "int add(int a, int b);",
            "evolved_from": "e12",
        },
        "int add",
        "SYNTHETIC",
    ),
    Shape(
        "self-instruct",
        {"instruction": "Name a lake.", "input": "", "output": "Baikal.", "seed_ids": ["seed_task_0"]},
        "Baikal.",
        "SYNTHETIC",
    ),
    Shape("dall-e-3", {"file": "prompts.txt", "line": 7, "text": "a blue fox"}, "a blue fox", "SYNTHETIC"),
    Shape(
        "dall-e-3",
        {"key": "3/4_0.png", "value": {"correct": True, "response": "A red dog.", "prompt": "a red dog"}},
        "a red dog",
        "SYNTHETIC",
    ),
    Shape(
        "rlaif",
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
        "Hello.",
        "COLLABORATIVE",
    ),
    Shape(
        "rlaif",
        {"key": "harmful0", "value": {"prompt": ["What is harmful here?"], "edit_request": "Rewrite it."}},
        "Rewrite it.",
        "EXPERT",
    ),
    Shape(
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
    Shape(
        "rlaif",
        {"prompt": "A or B?", "corrects": [" (B)"], "incorrects": [" (A)"], "text_correct": "x"},
        "(B)",
        "EXPERT",
    ),
    Shape("rlaif", REVISED_TWICE, "I know how.", "SYNTHETIC"),
    Shape(
        "imagereward",
        {
            "image_path": "images/train_1/8.webp",
            "prompt_id": "000904-0035",
            "prompt": "a fox in the snow",
            "classification": "Animals",
            "image_amount_in_total": 9,
            "rank": 5,
            "overall_rating": 4,
            "image_text_alignment_rating": 3,
            "fidelity_rating": 5,
        },
        "a fox in the snow",
        "COLLABORATIVE",
    ),
    Shape("imagereward", {"text": "a fox", "image": "images/7.webp"}, "a fox", "COLLABORATIVE"),
    Shape("evol-instruct", {"idx": 1, "Skill": "Math", "Difficulty": 2, "Instruction": "Add."}, "Add.", "CRAWLED"),
    Shape(
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
    Shape(
        "movie-gen",
        {"id": 3, "video_prompt": "rain on a roof", "audio_prompt": "rain", "music_prompt": ""},
        "rain on a roof",
        "COLLABORATIVE",
    ),
    Shape("sora-physics", {"videopath": "a.mp4", "caption": "It falls.", "score": "4"}, "It falls.", "COLLABORATIVE"),
]
