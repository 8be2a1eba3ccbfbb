"""`epistream import` and `epistream sources` without a service; how far an import is; and docs/sources.md."""

import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson

from epistream.clients.cli.jsonl import Defaults, parse
from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats.files import Position, files_of
from epistream.clients.sources.formats.piece import CannotRead
from epistream.clients.sources.importing import Job, State, prepared, state_path
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME, WORKS
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import submission_topic
from tests.support.cli import epistream
from tests.support.source_records import job_of, malformed, written_as
from tests.support.sources import PUBLISHED, json_lines
from tests.support.sources_reference import BEGIN, DOCUMENT, reference

C4, PAGE = BY_NAME["c4"], EXAMPLES["c4"]


def c4_file(folder: Path) -> Path:
    path = folder / "c4.jsonl"
    json_lines(path, [EXAMPLES["c4"], {**PAGE, "text": 5}, {**PAGE, "text": "Pears keep for a week."}])
    return path


def a_job(path: Path, producer: str = "") -> Job:
    return Job(work=C4, files=tuple(files_of(path, C4.formats)), namespace="web", producer=producer)


def test_the_page_of_sources_is_that_of_the_code() -> None:
    assert DOCUMENT.read_text().partition(BEGIN)[2] == "\n" + reference(), (
        "run python -m tests.support.sources_reference"
    )


def test_a_dry_run_prints_what_would_be_sent_and_keeps_nothing(tmp_path: Path) -> None:
    path = c4_file(tmp_path)
    done = epistream("import", "c4", str(path), "-n", "web", "--dry-run")
    first, wrong, last = done.messages(pb.Submission)
    assert (first.namespace, first.content, last.content) == ("web", PAGE["text"], "Pears keep for a week.")
    assert wrong.unreadable.reason == "text: expected a text, found 5"
    assert json.loads(wrong.unreadable.record) == {**PAGE, "text": 5}
    assert done.code == 2
    assert "c4.jsonl, before" in done.err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_dry_run_prints_can_be_sent_to_kafka(name: str, tmp_path: Path) -> None:
    """`epistream import … --dry-run | epistream produce -` sends what an import sends, whatever it is."""
    record, _ = malformed(name)
    file, _ = PUBLISHED[name]
    paths = [written_as(f"{i}-{file}", name, each, tmp_path) for i, each in enumerate((EXAMPLES[name], record))]
    sent = [one for path in paths for each in prepared(job_of(name, path)) for one in each.submissions]
    defaults = Defaults(attributes={"by": "me"})
    for submission in sent:
        read = parse(MessageToJson(submission, preserving_proto_field_name=True).encode(), defaults)
        read.ClearField("submitted_time")
        if submission.content:
            assert read.attributes.pop("by") == "me"
        assert read == submission
        assert submission_topic(read.origin)


def test_a_limit_counts_records(tmp_path: Path) -> None:
    done = epistream("import", "c4", str(c4_file(tmp_path)), "--dry-run", "--limit", "1")
    assert len(done.messages(pb.Submission)) == 1
    assert done.code == 0


def test_options_fill_in_what_a_record_lacks(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    json_lines(path, [{"id": "1", "prompt": "a fox", "generations": ["a.webp", "b.webp"], "ranking": [1, 2]}])
    done = epistream(
        "import",
        "imagereward",
        str(path),
        "--dry-run",
        "-p",
        "lab",
        "--media-base",
        "https://m.example/",
        "--set",
        "rater=r7",
    )
    first, _, ranking = done.messages(pb.Submission)
    assert first.provenance.producer == "lab"
    assert first.media.uri == "https://m.example/a.webp"
    assert ranking.feedback.rater == "r7"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("n.csv", "text,ward\nPears keep.,\nPlums keep.,w2\n"),
        ("n.jsonl", '{"text": "Pears keep.", "ward": null}\n{"text": "Plums keep.", "ward": "w2"}\n'),
        ("n.jsonl", '{"text": "Pears keep."}\n{"text": "Plums keep.", "ward": "w2"}\n'),
    ],
    ids=["empty", "null", "not there"],
)
def test_options_fill_in_what_is_empty_or_null(name: str, content: str, tmp_path: Path) -> None:
    mapping, path = tmp_path / "m.yaml", tmp_path / name
    mapping.write_text(
        'work: notes\norigin: EXPERT\nmodality: TEXT\ncontent: "{text}"\nattributes:\n  ward: "{ward}"\n'
    )
    path.write_text(content)
    done = epistream("import", "--mapping", str(mapping), str(path), "--dry-run", "--set", "ward=w1")
    assert [one.attributes["ward"] for one in done.messages(pb.Submission)] == ["w1", "w2"]


def test_options_fill_in_what_a_row_of_several_lacks(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    rows = [{"prompt_id": "p", "image_path": f"{i}.webp", "rank": i, "overall_rating": 5} for i in (1, 2)]
    json_lines(path, [{**rows[0], "prompt": "a hen", "rater": None}, {**rows[1], "rater": "r2"}])
    done = epistream("import", "imagereward", str(path), "--dry-run", "--set", "prompt=a fox", "--set", "rater=r7")
    made = done.messages(pb.Submission)
    assert {one.content for one in made if one.content} == {"a hen", "a fox"}
    assert {one.feedback.rater for one in made if one.HasField("feedback")} == {"r7", "r2"}


def test_a_mapping_file_stands_for_a_source(tmp_path: Path) -> None:
    mapping = tmp_path / "m.yaml"
    mapping.write_text('work: notes\norigin: EXPERT\nmodality: TEXT\ncontent: "{text}"\n')
    done = epistream("import", "--mapping", str(mapping), str(c4_file(tmp_path)), "--dry-run")
    assert [one.item_id.partition(":")[0] for one in done.messages(pb.Submission)] == ["notes"] * 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["c4"], "expected SOURCE and PATH, found 1"),
        (["c5", "c4.jsonl"], "No work is called 'c5'. There are: common-crawl, c4"),
        (["c4", "gone.jsonl"], "there is no such file"),
        (["c4", "gone"], "there is no such file"),
        (["c4", __file__], "expected JSON Lines"),
        (["--mapping", "m.yaml", "c4", "c4.jsonl"], "expected PATH alone with --mapping"),
        (["--mapping", "gone.yaml", "c4.jsonl"], "gone.yaml cannot be read"),
    ],
)
def test_what_cannot_be_imported_is_told(arguments: list[str], told: str) -> None:
    done = epistream("import", *arguments, "--dry-run")
    assert done.code == 2
    assert told in " ".join(done.err.replace("│", " ").split())


def test_an_import_needs_a_namespace(tmp_path: Path) -> None:
    done = epistream("import", "c4", str(c4_file(tmp_path)))
    assert done.code == 2
    assert "a namespace is needed" in done.err


def test_the_sources_are_listed_and_described() -> None:
    listed = epistream("sources", "list")
    assert listed.code == 0
    assert all(work.name in listed.out for work in WORKS)
    assert len(listed.out.splitlines()) == len(WORKS) + 2, "a line for each"
    described = epistream("sources", "describe", "codex").out
    assert "I, crawl" in described
    assert "159 GB of Python files. The shape is the paper's" in described
    assert epistream("sources", "describe", "codec").code == 2


@pytest.mark.parametrize("name", BY_NAME)
def test_an_example_is_a_record_and_what_becomes_of_it(name: str) -> None:
    done = epistream("sources", "example", name)
    assert done.code == 0, done.err
    record, *made = done.out.splitlines()
    assert json.loads(record).keys() == EXAMPLES[name].keys()
    assert [json.loads(line)["submission_id"] for line in made] == [
        one.submission_id for one in submissions(BY_NAME[name], EXAMPLES[name])
    ]


def test_the_same_record_that_cannot_be_read_is_the_same_submission_only_at_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("oops\noops\n")
    job = a_job(path)
    first, second = prepared(job)
    assert first.submissions[0].submission_id != second.submissions[0].submission_id
    assert [one.submissions for one in prepared(job)] == [first.submissions, second.submissions]
    assert first.submissions[0].unreadable.record == b"oops\n"
    assert first.unreadable.startswith("expected JSON")


def test_a_state_is_kept_whole_and_read_again(tmp_path: Path) -> None:
    job = a_job(c4_file(tmp_path))
    place = state_path(tmp_path / "c4.jsonl", C4)
    assert place == tmp_path / "c4.jsonl.c4.import-state"
    assert State.load(place, job) is None
    state = State(job.identity, Position("c4.jsonl", 12), 3)
    state.save(place)
    assert State.load(place, job) == state
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c4.jsonl", "c4.jsonl.c4.import-state"]


def test_a_state_of_another_import_is_refused(tmp_path: Path) -> None:
    path = c4_file(tmp_path)
    place = tmp_path / "state"
    State(a_job(path).identity, Position("c4.jsonl", 12), 3).save(place)
    with pytest.raises(CannotRead, match="another source, namespace or options"):
        State.load(place, a_job(path, producer="me"))
    for content in ("", "[]", "{}", '{"version": 1, "import": "x", "file": "f", "offset": "y", "records": 1}'):
        place.write_text(content)
        with pytest.raises(CannotRead, match="is no state of an import"):
            State.load(place, a_job(path))


def test_a_state_that_cannot_be_written_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="--state"):
        State("x", Position("f", 0), 1).save(tmp_path / "gone" / "state")
