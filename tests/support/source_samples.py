"""Real records of published works, from the sample data, in the shape that each work publishes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tests.support.samples import DATA, rows


def _human_eval() -> Iterator[dict[str, Any]]:
    """The samples have the prompt before the solution, and the call of `check` after the tests."""
    for row in _programs("humaneval"):
        yield {
            "task_id": row["task_id"],
            "prompt": row["prompt"],
            "canonical_solution": row["solution"].removeprefix(row["prompt"]),
            "test": row["tests"].rstrip().rpartition("\n")[0],
            "entry_point": row["entry_point"],
        }


def _mbpp() -> Iterator[dict[str, Any]]:
    for row in _programs("mbpp"):
        lines = row["tests"].splitlines()
        yield {"task_id": row["task_id"], "text": row["prompt"], "code": row["solution"], "test_list": lines}


def _programs(dataset: str) -> Iterator[dict[str, Any]]:
    for row in rows(DATA / "code_sample.jsonl"):
        if row["dataset"] == dataset and row["variant"] == "canonical":
            yield row


def _self_instruct() -> Iterator[dict[str, Any]]:
    """Seed tasks of people, and predictions of six models."""
    for row in rows(DATA / "streams_sample.jsonl"):
        if row["source"] == "self-instruct/seed_tasks":
            instances = [{"input": "", "output": row["text"]}]
            yield {"id": row["id"], "instruction": row["prompt"], "instances": instances}
        elif row["source"] == "self-instruct/predictions":
            model = row["generator"]
            yield {"instruction": row["prompt"], "input": "", "response": row["text"], "model": model}


def _image_reward() -> Iterator[dict[str, Any]]:
    """Rankings of experts, and prompts of people with an image."""
    for row in rows(DATA / "feedback_imagereward_sample.jsonl"):
        ranked = {"generations": row["media_uris"], "ranking": row["ranking"]}
        yield {"id": row["id"], "prompt": row["prompt"], **ranked}
    for row in rows(DATA / "image_text_streams_sample.jsonl"):
        if row["source"] == "imagereward_refl":
            yield {"text": row["text"], "image": row["media_uri"]}


def _recaptions() -> Iterator[dict[str, Any]]:
    for row in rows(DATA / "image_caption_sample.jsonl"):
        yield {"alt": row["short_caption"], "caption": row["synthetic_long_caption"]}


def _draw_bench() -> Iterator[dict[str, Any]]:
    for row in rows(DATA / "image_caption_sample.jsonl"):
        for said in row["feedback"]:
            value = {"correct": said["correct"], "response": said["rationale"], "prompt": row["short_caption"]}
            yield {"key": said["media_uri"], "value": value}


def _video_phy() -> Iterator[dict[str, Any]]:
    for row in rows(DATA / "video_physics_feedback_sample.jsonl"):
        answers = row["feedback"]
        sa, pc = answers["semantic_adherence"], answers["physical_commonsense"]
        yield {"videopath": row["media_uri"], "caption": row["text"], "sa": sa, "pc": pc}


SAMPLES: Final[Mapping[str, tuple[str, str, Callable[[], Iterator[dict[str, Any]]]]]] = {
    "humaneval": ("humaneval", "HumanEval.jsonl.gz", _human_eval),
    "mbpp": ("mbpp", "mbpp.jsonl", _mbpp),
    "self-instruct": ("self-instruct", "predictions.jsonl", _self_instruct),
    "imagereward": ("imagereward", "test.json", _image_reward),
    "recaptions": ("dall-e-3", "captions.jsonl", _recaptions),
    "drawbench": ("dall-e-3", "drawbench_results.json", _draw_bench),
    "videophy": ("sora-physics", "videophy_test.csv", _video_phy),
}
"""What there is a sample of: the work, a file as it publishes it, and the records."""
