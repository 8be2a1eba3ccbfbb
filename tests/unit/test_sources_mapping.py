"""Mapping files: fields by their paths, constants, templates."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from epistream.clients.sources import mapping
from epistream.clients.sources.formats.files import files_of
from epistream.clients.sources.importing import Job, prepared
from epistream.clients.sources.mapping import load, parse
from epistream.clients.sources.record import UnreadableRecord, digest
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.templates import WrongMapping
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_mappings import CLIP
from tests.support.sources_reference import examples

NOTE = {"note": {"text": "The limit is 5 mg."}, "ward": "north", "number": 7, "written": "2026-01-02", "nurse": "Ada"}
LEAST = {"work": "w", "origin": "expert", "modality": "text", "content": "{text}"}


def test_the_mapping_of_the_documents_maps(tmp_path: Path) -> None:
    path = tmp_path / "notes.yaml"
    path.write_text(examples(mapping)[0])
    work = load(path)
    (made,) = submissions(work, NOTE)
    made.namespace = "n"
    assert violations(made) == ()
    assert made.item_id == "clinic-notes:north-7"
    assert made.content == "The limit is 5 mg."
    assert made.origin == pb.ORIGIN_EXPERT
    assert made.provenance.producer == "clinic-notes"
    assert made.provenance.licence == "CC-BY-4.0"
    assert made.provenance.time.ToJsonString() == "2026-01-02T00:00:00Z"
    assert dict(made.attributes) == {"ward": "north", "source_work": "clinic-notes", "standing": "positive"}
    assert MessageToDict(made.details) == {"nurse": "Ada"}


def test_everything_that_a_mapping_can_say() -> None:
    work = parse(
        {
            **LEAST,
            "modality": "image",
            "stage": "III",
            "content": "{{{caption}}} of {shots.1.camera}",
            "prompt": "{asked}",
            "source": "https://a.example/{id}",
            "generator": "{by}",
            "producer": "{by}-import",
            "derived_from": ["{parent}", "{absent}"],
            "media": [
                {"uri": "{shots.0.file}", "role": "source", "media_type": "image/png"},
                {"uri": "{shots.1.file}"},
            ],
            "attributes": {"seen": "{seen}", "absent": "{absent}"},
        },
        "x.yaml",
    )
    record = {
        "id": 3,
        "caption": "a cup",
        "asked": "What is it?",
        "by": "m1",
        "parent": "p",
        "seen": True,
        "shots": [{"file": "a b.png"}, {"file": "https://i.example/2.png", "camera": "left"}],
    }
    (made,) = submissions(work, record, "https://base.example/")
    made.namespace = "n"
    assert violations(made) == ()
    assert made.content == "{a cup} of left"
    assert made.media.uri == "https://base.example/a%20b.png"
    assert made.further_media[0].uri == "https://i.example/2.png"
    assert dict(made.attributes) == {"seen": "true", "stage": "III", "source_work": "w", "standing": "positive"}
    assert list(made.provenance.derived_from) == ["w:p"]
    assert (made.provenance.generator, made.provenance.producer) == ("m1", "m1-import")
    assert not made.HasField("details")


def test_code_has_its_tests() -> None:
    said = {**LEAST, "modality": "CODE", "tests": {"language": "python", "asserts": "{tests}", "setup": "import math"}}
    (made,) = submissions(
        parse(said, "x"), {"text": "def f(): return 1", "tests": "assert f() == 1\n\nassert f() != 2"}
    )
    assert list(made.tests.asserts) == ["assert f() == 1", "assert f() != 2"]
    assert made.tests.setup == "import math"


def test_media_are_parts_of_recordings_with_their_digests() -> None:
    said = {**LEAST, "modality": "VIDEO", **yaml.safe_load(examples(mapping)[1])}
    work = parse(said, "x.yaml")
    (made,) = submissions(work, CLIP)
    made.namespace = "n"
    assert violations(made) == ()
    assert MessageToDict(made.media) == {
        "uri": "w:a.mp4",
        "digest": f"sha256:{'ab' * 32}",
        "start": "62.500s",
        "end": "65s",
    }
    assert MessageToDict(made.details) == {"clip": {"fps": 30}}, "what no template names"
    (alike,) = submissions(work, {**CLIP, "clip": {**CLIP["clip"], "sha256": b"the bytes", "from": None, "to": "PT1M"}})
    assert alike.media.digest == f"sha256:{hashlib.sha256(b'the bytes').hexdigest()}"
    assert not alike.media.HasField("start")
    assert alike.media.end.seconds == 60


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("sha256", "d41d8cd98f00b204e9800998ecf8427e", "media[0].digest: expected 64 hexadecimal digits of SHA-256"),
        ("from", "soon", "media[0].start: expected seconds, a time such as 00:01:02.5, or a duration in ISO 8601"),
        ("to", 100_000, "media[0].end.seconds: expected a number from 0 to 86400"),
        ("to", 5, "expected a part that ends after it begins"),
        ("file", None, "media[0].uri: expected an address"),
    ],
)
def test_media_that_are_none_are_told_by_their_place(field: str, value: Any, told: str) -> None:
    work = parse({**LEAST, "modality": "VIDEO", **yaml.safe_load(examples(mapping)[1])}, "x.yaml")
    with pytest.raises(UnreadableRecord) as caught:
        submissions(work, {**CLIP, "clip": {**CLIP["clip"], field: value}})
    assert told in caught.value.message


def test_each_of_several_fields_is_an_item() -> None:
    work = parse({**LEAST, "prompt": "{asked}", **yaml.safe_load(examples(mapping)[2])}, "x.yaml")
    chosen, rejected = submissions(work, {"chosen": "Yes.", "rejected": "No.", "asked": "Is it?", "n": 1})
    assert (chosen.content, rejected.content) == ("Yes.", "No.")
    assert [one.attributes["standing"] for one in (chosen, rejected)] == ["positive", "negative"]
    assert [one.item_id.rpartition("/")[2] for one in (chosen, rejected)] == ["0", "1"]
    assert [one.prompt for one in (chosen, rejected)] == ["Is it?", "Is it?"]
    assert MessageToDict(chosen.details) == {"n": 1}
    (alone,) = submissions(work, {"chosen": None, "rejected": "No."})
    assert (alone.content, alone.attributes["standing"]) == ("No.", "negative")


def test_a_record_of_which_each_item_repeats_much_does_not_become_more_than_it_may() -> None:
    said = parse({**LEAST, "content": "{each}", "each": "answers", "id": "{each}"}, "x")
    record = {"answers": [f"Answer {number}." for number in range(2_000)], "said of all": "x" * 50_000}
    assert len(submissions(said, {**record, "answers": record["answers"][:1_000]})) == 1_000

    with pytest.raises(UnreadableRecord, match="submissions of at most 67108864 bytes together"):
        submissions(said, record)


def test_each_entry_of_a_list_is_an_item_and_keeps_what_else_it_says() -> None:
    said = {**LEAST, "content": "{each.text}", "each": "page.answers", "id": "{page.id}-{each.by}"}
    record = {"page": {"id": 7, "answers": [{"text": "A", "by": "x", "n": 1}, {"text": "B", "by": "y"}], "seen": True}}
    first, second = submissions(parse(said, "x"), record)
    assert [one.item_id for one in (first, second)] == ["w:7-x", "w:7-y"], "an id that names the entry has no number"
    assert MessageToDict(first.details) == {"page": {"seen": True}, "each": {"n": 1}}
    assert MessageToDict(second.details) == {"page": {"seen": True}}
    for answers, told in (
        ([], "page.answers: expected a list of one or more, found one of none"),
        ("A", "expected a list"),
    ):
        with pytest.raises(UnreadableRecord, match=told):
            submissions(parse(said, "x"), {"page": {"id": 7, "answers": answers}})
    with pytest.raises(UnreadableRecord, match=r"content: expected the fields that it names: each\.text"):
        submissions(parse(said, "x"), {"page": {"id": 7, "answers": [{"by": "x"}]}})


def test_another_mapping_is_another_import() -> None:
    one, other = (Job(work=parse({**LEAST, **more}, "x"), files=(), namespace="n") for more in ({}, {"source": "a"}))
    assert one.identity != other.identity


def test_words_that_yaml_takes_for_something_else_are_words(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    said = 'each: [a, b]\ncontent: "{each}"\nstanding:\n  "{won}": {yes: [positive, negative], 7: [negative, positive],'
    path.write_text(f"work: w\norigin: EXPERT\nmodality: TEXT\n{said} none: [negative, negative]}}\n")
    work = load(path)
    for won, standing in ((True, ["positive", "negative"]), (7, ["negative", "positive"]), ("none", 2 * ["negative"])):
        made = submissions(work, {"a": "A.", "b": "B.", "won": won})
        assert [one.attributes["standing"] for one in made] == standing
    path.write_text(path.read_text().replace("7:", "8:"))
    assert load(path).mapping != work.mapping


def test_what_an_import_is_known_by_stays() -> None:
    numbers = {**LEAST, "standing": {"{n}": {10: "positive", 9: "negative"}}}
    for said in (LEAST, numbers):
        assert parse(said, "x").mapping == digest(said), "a state of an earlier version is still its own"


def test_a_record_without_its_content_or_id_is_refused() -> None:
    work = parse({**LEAST, "id": "{key}"}, "x")
    for record, field in (({"key": 1}, "content"), ({"text": "a"}, "id"), ({"key": 1, "text": ["a"]}, "text")):
        with pytest.raises(UnreadableRecord) as caught:
            submissions(work, record)
        assert caught.value.path == field
    with pytest.raises(UnreadableRecord, match="content: expected the fields that it names: text"):
        submissions(work, {"key": 1, "txt": "a"})


def test_the_format_is_that_of_the_files_name_unless_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "facts.dat.csv"
    path.write_text("text,n\nfive,5\nsix,6\n")
    for more in ({}, {"format": "csv"}):
        work = parse({**LEAST, **more}, "x")
        job = Job(work=work, files=tuple(files_of(path, work.formats)), namespace="n")
        assert [one.submissions[0].content for one in prepared(job)] == ["five", "six"]


WRONG: list[tuple[Any, str]] = [
    (["work"], "expected names and what they mean, found a list of 1"),
    ({**LEAST, "colour": "red"}, "nothing is called 'colour'"),
    ({k: v for k, v in LEAST.items() if k != "origin"}, "origin: required"),
    ({**LEAST, "origin": "people"}, "origin: expected one of CRAWLED, EXPERT, SYNTHETIC, COLLABORATIVE"),
    ({**LEAST, "origin": "SYNTHETIC"}, "generator: required with the origin SYNTHETIC"),
    ({**LEAST, "work": "My Notes"}, "work: expected 1 to 60"),
    ({**LEAST, "content": ["{text}"]}, "content: expected a text, found a list of 1"),
    ({**LEAST, "content": "{text"}, "content: expected a text with fields"),
    ({**LEAST, "content": "{text!r}"}, "content: expected fields such as"),
    ({**LEAST, "content": "{text:>9}"}, "content: expected fields such as"),
    ({**LEAST, "format": "XML"}, "format: expected one of json lines, json"),
    ({**LEAST, "media": {"uri": "x"}}, "media: expected a list"),
    ({**LEAST, "media": [{"url": "x"}]}, "nothing is called 'url'"),
    ({**LEAST, "attributes": {7: "x"}}, "attributes: expected names"),
    ({**LEAST, "each": "{answers}"}, "each: expected the path of a field, such as answers, without braces"),
    ({**LEAST, "each": []}, "each: expected the path of a list, or a list of fields, found a list of 0"),
    ({k: v for k, v in LEAST.items() if k != "content"}, "content: required, unless there is `feedback`"),
]


@pytest.mark.parametrize(("said", "message"), WRONG)
def test_a_mapping_that_is_wrong_is_told_where(said: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(said))
    with pytest.raises(WrongMapping) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_a_mapping_makes_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("work: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(WrongMapping, match="is not YAML"):
        load(path)
