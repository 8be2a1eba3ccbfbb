"""Records of the works as they are published: a valid and a malformed one of each.

The valid one is the work's example. All are invented.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

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
    "common-crawl": (put("response", "headers", "WARC-Type"), "headers.WARC-Type: expected conversion, the text"),
    "c4": (put("yesterday", "timestamp"), "timestamp: expected a time in ISO 8601, from 1970 to 2199"),
    "codex": (put(["def f(): ..."], "content"), "content: expected a text, found a list of 1"),
    "the-stack": (put("MIT", "max_stars_repo_licenses"), "max_stars_repo_licenses: expected a list, found"),
    "laion-5b": (put(-1, "WIDTH"), "WIDTH: expected an integer from 0"),
    "webvid-10m": (
        put("12 seconds", "duration"),
        "duration: expected seconds, a time such as 00:01:02.5, or a duration in ISO 8601",
    ),
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
