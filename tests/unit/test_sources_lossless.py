"""Nothing that a record says is lost: every value, and every field that nobody expects, is in what becomes of it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from tests.support.source_records import said
from tests.support.source_shapes import OTHER_SHAPES

RECORDS: Final = [*EXAMPLES.items(), *((each.work, each.record) for each in OTHER_SHAPES)]
SAID_OTHERWISE: Final = {
    ("common-crawl", "headers.WARC-Type"): "every item is a conversion",
    ("common-crawl", "headers.WARC-Record-ID"): "without its angle brackets",
    ("the-stack", "lang"): "in lower case",
    ("the-stack", "max_stars_repo_stars_event_min_datetime"): "a time",
    ("laion-5b", "LICENSE"): "a question mark is none",
    ("webvid-10m", "duration"): "an end",
    ("kinetics-400", "value.annotations.segment[0]"): "a start",
    ("kinetics-400", "value.annotations.segment[1]"): "an end",
    ("evol-instruct", "file"): "a licence",
    ("evol-instruct", "conversations[0].from"): "a prompt",
    ("llama", "degree"): "in the paper's words",
    ("llama", "safety"): "in the paper's words",
    ("pick-a-pic", "label_1"): "a place",
    ("pick-a-pic-v2", "label_0"): "a place",
    ("pick-a-pic-v2", "label_1"): "a place",
    ("sharegpt4video", "captions[2].idx"): "the whole",
    ("rlaif", "chosen"): "a prompt and an answer",
    ("rlaif", "rejected"): "a prompt and an answer",
    ("dall-e-3", "value.correct"): "a score",
    ("rt-1", "features.steps/observation/image[0]"): "the episode has it",
    ("rt-1", "features.steps/observation/image[1]"): "the episode has it",
    ("codecontests", "language"): "in lower case",
    ("codecontests", "passed"): "a score",
    ("rlaif", "comparison_dataset"): "the model of an answer that is not there",
}
"""Values that are there in another form, and those that stay where they are."""
CLOSED: Final = {
    ("magicbrush", "source_img"): "bytes and path",
    ("magicbrush", "mask_img"): "bytes and path",
    ("magicbrush", "target_img"): "bytes and path",
    ("rt-1", "features"): "the episode has them",
    ("superbrain", "fitness"): "every field is an aim",
    ("codecontests", "public_tests"): "the message has two fields",
    ("codecontests", "private_tests"): "the message has two fields",
    ("codecontests", "generated_tests"): "the message has two fields",
    ("codecontests", "solutions"): "the message has two fields",
    ("codecontests", "incorrect_solutions"): "the message has two fields",
}
"""Objects that have no further fields."""


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in a record, by its path: also in the JSON of its texts."""
    if isinstance(value, str) and value[:1] in "[{" and value[1:]:
        value = json.loads(value)
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from leaves(each, f"{path}[{i}]")
    elif value not in (None, ""):
        yield path, value


def is_said(value: Any, where: list[Any]) -> bool:
    texts, others = [one for one in where if isinstance(one, str)], [one for one in where if not isinstance(one, str)]
    if isinstance(value, bytes):
        text = value.decode(errors="replace")
        return any(hashlib.sha256(value).hexdigest() in one or one == text for one in texts)
    if isinstance(value, bool):
        return value in [one for one in others if isinstance(one, bool)]
    if isinstance(value, str):
        number = float(value) if value.replace(".", "", 1).isdecimal() else None
        return any(value.strip() in one for one in texts) or (number is not None and number in others)
    return value in others or any(str(value) in one for one in texts)


def all_that_becomes(work: str, record: Any) -> list[Any]:
    """The values of all submissions, but for their ids, which are digests."""
    made = [said(one) for one in submissions(BY_NAME[work], record)]
    return [value for one in made for path, value in leaves(one) if path != "submission_id"]


@pytest.mark.parametrize(("work", "record"), RECORDS)
def test_every_value_of_a_record_is_in_what_becomes_of_it(work: str, record: Any) -> None:
    kept = all_that_becomes(work, record)
    lost = [path for path, value in leaves(record) if not is_said(value, kept)]
    assert [path for path in lost if (work, path) not in SAID_OTHERWISE] == []


def with_marks(work: str, value: Any, marks: dict[str, str], path: str = "") -> Any:
    """The record with one more field in each of its objects, each called otherwise."""
    if isinstance(value, list):
        return [with_marks(work, each, marks, path) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: with_marks(work, each, marks, f"{path}.{key}" if path else key) for key, each in value.items()}
    if (work, path) not in CLOSED:
        name = f"unheard_of_{len(marks)}"
        marks[name] = f"mark {len(marks)}."
        made[name] = marks[name]
    return made


@pytest.mark.parametrize(("work", "record"), RECORDS)
def test_every_field_that_nobody_expects_is_kept(work: str, record: Any) -> None:
    marks: dict[str, str] = {}
    kept = all_that_becomes(work, with_marks(work, record, marks))
    assert marks or (work, "") in CLOSED
    assert [name for name, mark in marks.items() if mark not in kept] == []


def test_what_else_the_tests_of_apps_say_is_kept() -> None:
    record = {**EXAMPLES["apps"], "input_output": '{"inputs": ["1"], "outputs": ["2"], "checker": "exact"}'}
    assert "exact" in all_that_becomes("apps", record)


def test_each_preference_model_ranks_the_answers() -> None:
    scores = [[0.5, 3], [2.5, 1], [2.5]]
    answers = [
        {"sampled_string": f"Answer {i}.", "pm_scores": [{"pm_score": score} for score in each]}
        for i, each in enumerate(scores)
    ]
    made = submissions(BY_NAME["rlaif"], {"rl_prompt": "Hi", "sampled_answers": answers})
    ranked = [(one.feedback.rater, [(each.place, each.score) for each in one.feedback.judged]) for one in made[3:]]
    assert ranked == [
        ("preference-model", [(2, 0.5), (1, 2.5), (1, 2.5)]),
        ("preference-model-1", [(1, 3), (2, 1)]),
    ]
    (alone,) = submissions(BY_NAME["rlaif"], {"rl_prompt": "Hi", "sampled_answers": answers[:1]})
    assert said(alone)["details"]["pm_scores"] == [{"pm_score": 0.5}, {"pm_score": 3}]
