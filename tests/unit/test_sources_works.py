"""R32: each of the 31 works with a valid and a malformed record in its published format, and what becomes of both."""

import copy
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.importing import Prepared, prepared
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME, WORKS
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_outcomes import kept, outcomes
from tests.support.source_records import items, job_of, malformed, said, verdicts, written
from tests.support.source_shapes import CONTEST_ROW, OTHER_SHAPES
from tests.support.sources import CONTEST_COLUMNS, ON_THE_HUB

NAMES = [work.name for work in WORKS]


def in_its_format(name: str, record: Any, folder: Path) -> list[Prepared]:
    """What becomes of a record that is written as the work publishes it, and read again."""
    return list(prepared(job_of(name, written(name, record, folder))))


def test_there_are_the_thirty_one_works() -> None:
    assert len(BY_NAME) == len(WORKS) == 31
    assert {work.stage for work in WORKS} == {"I", "II", "III", "IV"}
    cells = {(work.stage, work.modality) for work in WORKS}
    assert len(cells) == 16


@pytest.mark.parametrize("name", NAMES)
def test_a_record_in_the_published_format_becomes_what_the_example_becomes(name: str, tmp_path: Path) -> None:
    work = BY_NAME[name]
    expected = submissions(work, EXAMPLES[work.name])
    (record,) = in_its_format(name, EXAMPLES[work.name], tmp_path)
    assert record.unreadable == ""
    for one in record.submissions:
        assert one.namespace == "n"
        one.namespace = ""
    assert record.submissions == expected


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_a_record_is_as_the_service_wants_it(name: str) -> None:
    work = BY_NAME[name]
    made = submissions(work, EXAMPLES[work.name])
    known: set[str] = set()
    for one in made:
        one.namespace = "n"
        assert violations(one) == ()
        assert one.provenance.producer
        assert one.submission_id
        if one.HasField("feedback"):
            assert {judged.item_id for judged in one.feedback.judged} <= known
            continue
        assert one.modality == work.modality
        assert one.attributes["stage"] == work.stage
        assert one.attributes["source_work"] == name
        assert one.origin != pb.ORIGIN_SYNTHETIC or one.provenance.generator
        known.add(one.item_id)
    assert work.origin in {one.origin for one in made if not one.HasField("feedback")}
    assert len({one.submission_id for one in made}) == len(made)
    assert submissions(work, copy.deepcopy(EXAMPLES[work.name])) == submissions(work, EXAMPLES[work.name])


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
        licence="MIT",
    ),
    "oss-instruct": of(
        "SYNTHETIC",
        "```python\ndef by_length(words):\n    return sorted(words, key=len)\n```",
        prompt="Sort a list of words by length.",
        generator="gpt-3.5-turbo-1106@fp_0a1b",
    ),
    "dall-e-3": of(
        "SYNTHETIC",
        "a wet golden retriever shakes itself beside a lake at sunset",
        generator="captioner-1",
        media={"uri": "https://i.example/dog.png"},
    ),
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
    "rlaif": of(
        "COLLABORATIVE",
        "Talk to him, or to somebody who can mediate.",
        prompt="How do I get even with a colleague?",
        generator="helpful-rlhf",
    ),
    "superbrain": of("COLLABORATIVE", "Check units first.", producer="u7+m2", generator="m2"),
    "rlef": of(
        "COLLABORATIVE",
        "def last(a):\n    return a[-1]",
        prompt="Return the last element.",
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
def test_the_main_item_says_what_the_record_says(name: str) -> None:
    whole = said(next(one for one in items(name) if one.origin == BY_NAME[name].origin))
    flat = {**whole, **whole["provenance"]}
    assert {key: flat.get(key) for key in MAIN[name]} == MAIN[name]


# What raters say of each: the kind, the aspect, the rater and what kind of judge that is, and places or scores.
VERDICTS: dict[str, list[tuple[str, str, str, str, list[float]]]] = {
    "llama": [("PAIRWISE", "", "annotator", "HUMAN", [1, 2])],
    "pick-a-pic": [("PAIRWISE", "", "42", "HUMAN", [1, 2])],
    "rlaif": [("CRITIQUE", "harmful0", "helpful-rlhf", "AI", [])],
    "superbrain": [("RATING", "task", "fitness", "EXECUTOR", [0.8]), ("RATING", "cost", "fitness", "EXECUTOR", [0.3])],
    "rlef": [
        ("RATING", "public tests", "sandbox", "EXECUTOR", [2 / 3]),
        ("RATING", "public tests", "sandbox", "EXECUTOR", [1]),
        ("RATING", "private tests", "sandbox", "EXECUTOR", [0.9]),
    ],
    "codecontests": [
        ("BINARY", "all tests", "judge", "EXECUTOR", [1]),
        ("BINARY", "all tests", "judge", "EXECUTOR", [0]),
    ],
    "imagereward": [("RANKING", "", "expert", "HUMAN", [2, 1, 2])],
    "pick-a-pic-v2": [("PAIRWISE", "", "42", "HUMAN", [1, 1])],
    "sora-physics": [
        ("BINARY", "alignment", "annotators", "HUMAN", [1]),
        ("BINARY", "physics", "annotators", "HUMAN", [0]),
        ("CRITIQUE", "physics", "annotators", "HUMAN", []),
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_verdicts_say_what_the_raters_say(name: str) -> None:
    found = [
        (
            pb.FeedbackKind.Name(one.kind).removeprefix("FEEDBACK_KIND_"),
            one.aspect,
            one.rater,
            pb.RaterType.Name(one.rater_type).removeprefix("RATER_TYPE_"),
            [each.place or each.score for each in one.judged if each.HasField("place") or each.HasField("score")],
        )
        for one in verdicts(name)
    ]
    assert found == VERDICTS.get(name, [])


@pytest.mark.parametrize("name", NAMES)
def test_a_malformed_record_in_the_published_format_is_sent_with_the_reason(name: str, tmp_path: Path) -> None:
    record, reason = malformed(name)
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


def from_the_hub(name: str, folder: Path, *rows: Any) -> list[Prepared]:
    """What becomes of rows of a file as it is on the Hub."""
    file, write = ON_THE_HUB[name]
    write(folder / file, rows)
    return list(prepared(job_of(name, folder / file)))


BESIDE: Final = {
    **CONTEST_ROW,
    "name": "p00001 Sums",
    "source": 6,
    "private_tests": {"input": [], "output": []},
    "incorrect_solutions": {"language": [], "solution": []},
    "solutions": {"language": [1, 4], "solution": ["print input()", "class Main {}"]},
    "cf_contest_id": 0,
    "cf_index": "",
    "cf_tags": [],
    "is_description_translated": True,
    "untranslated_description": "Удвойте число.",
    "time_limit": None,
}
"""Another row: of another site, without what only Codeforces has, and without wrong solutions and a limit of time."""


def test_contest_problems_in_parquet_become_what_they_become_as_messages(tmp_path: Path) -> None:
    """All but what the message leaves out, which is in the details."""
    assert CONTEST_ROW.keys() == set(CONTEST_COLUMNS.names)
    (row,) = from_the_hub("codecontests", tmp_path, CONTEST_ROW)
    (message,) = in_its_format("codecontests", EXAMPLES["codecontests"], tmp_path)
    assert (row.unreadable, message.unreadable) == ("", "")
    details = [said(one)["details"] for one in row.submissions if not one.HasField("feedback")]
    for each in details:
        assert each["time_limit"] == {"seconds": 2, "nanos": 500000000}
        assert (each["cf_points"], each["memory_limit_bytes"]) == (500, 256000000)
    assert len(details) == 2
    for one in (*row.submissions, *message.submissions):
        one.ClearField("details")
        one.ClearField("submission_id")
    assert row.submissions == message.submissions


def test_each_row_of_contest_problems_in_parquet_is_read(tmp_path: Path) -> None:
    first, second, third = from_the_hub("codecontests", tmp_path, CONTEST_ROW, BESIDE, CONTEST_ROW)
    assert first.submissions == third.submissions
    made = [one for one in second.submissions if not one.HasField("feedback")]
    assert [one.item_id for one in made] == [f"codecontests:aizu/p00001 Sums/{i}" for i in range(2)]
    assert [(one.content, one.tests.language) for one in made] == [
        ("print input()", "python2"),
        ("class Main {}", "java"),
    ]
    assert [(case.input, case.output) for case in made[0].tests.cases] == [("3\n", "6\n"), ("-1\n", "-2\n")]
    assert said(made[0])["details"]["tests_by_kind"] == {"public": 1, "private": 0, "generated": 1}
    assert said(made[0])["details"]["untranslated_description"] == "Удвойте число."
    for one in (*first.submissions, *second.submissions):
        assert violations(one) == ()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": None}, "name: expected a name, found nothing"),
        ({"solutions": {"language": [9], "solution": ["x"]}}, "solutions.language[0]: expected one of"),
        (
            {"solutions": {"language": [3], "solution": ["x", "y"]}},
            "solutions.language: expected a list of 2, as solution, found one of 1",
        ),
        ({"solutions": None, "incorrect_solutions": None}, "solutions: expected at least 1 solution, right or wrong"),
        (
            {"public_tests": {"input": ["1\n", "2\n"], "output": ["2\n"]}},
            "public_tests.outputs: expected a list of 2, as inputs, found one of 1",
        ),
        ({"source": -1}, "source: expected an integer from 0"),
    ],
)
def test_a_malformed_row_of_contest_problems_in_parquet_is_sent_with_the_reason(
    wrong: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    made, after = from_the_hub("codecontests", tmp_path, {**CONTEST_ROW, **wrong}, BESIDE)
    assert reason in made.unreadable
    (only,) = made.submissions
    assert only.unreadable.reason == made.unreadable
    assert only.unreadable.record
    assert after.unreadable == ""


def test_the_error_names_the_field_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(UnreadableRecord) as caught:
        submissions(BY_NAME["sharegpt4video"], {"video_id": "v", "captions": [{"idx": 1, "content": 5}]})
    assert (caught.value.path, caught.value.expected, caught.value.found) == ("captions[0].content", "a text", "5")


def test_the_rest_of_a_record_is_kept_as_it_is() -> None:
    assert said(items("c4")[0]).get("details") is None
    assert said(items("miradata")[0])["details"]["captions"]["camera_caption"] == "It pans slowly."
    assert said(items("laion-5b")[0])["details"]["similarity"] == 0.281
    assert said(items("superbrain")[0])["details"] == {"parent": "p2"}
    assert said(items("codecontests")[0])["details"]["cf_tags"] == ["math"]


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_each_shape_of_a_record_is_as_it_was_in_every_field(name: str) -> None:
    assert outcomes(name) == kept(name), "run python -m tests.support.source_outcomes and read the difference"


@pytest.mark.parametrize(("name", "record", "content", "origin"), OTHER_SHAPES)
def test_the_other_records_of_a_work_are_read_too(name: str, record: Any, content: str, origin: str) -> None:
    first, *_ = made = submissions(BY_NAME[name], record)
    for one in made:
        one.namespace = "n"
        assert violations(one) == ()
    assert first.content.startswith(content)
    assert first.origin == pb.Origin.Value(f"ORIGIN_{origin}")
