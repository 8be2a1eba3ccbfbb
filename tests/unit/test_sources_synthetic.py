"""What models made, and what it was made from: the adapters of stage III."""

from pathlib import Path

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.importing import prepared
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, job_of, said
from tests.support.source_shapes import OTHER_SHAPES, shape
from tests.support.sources import json_lines


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


def test_a_parent_is_named_only_where_it_can_be_a_record_of_the_same_set() -> None:
    (alone,) = items("evol-instruct")
    assert not alone.provenance.derived_from
    assert said(alone)["details"] == {"evolved_from": "e12"}
    (numbered,) = items("evol-instruct", shape("evol-instruct", "id"))
    assert (numbered.item_id, list(numbered.provenance.derived_from)) == ("evol-instruct:e13", ["evol-instruct:e12"])


def test_the_licence_of_an_evolved_instruction_is_that_of_its_file() -> None:
    text, code = items("evol-instruct")[0], items("evol-instruct", shape("evol-instruct", "id"))[0]
    assert (text.provenance.licence, code.provenance.licence) == ("MIT", "CC-BY-NC-SA-4.0")


def test_snippets_that_differ_in_line_ends_only_are_one_seed() -> None:
    example = EXAMPLES["oss-instruct"]
    first, other = (items("oss-instruct", {**example, "seed": seed}) for seed in ("a = 1\nb = 2\n", "a = 1 \r\nb = 2"))
    assert first[0].item_id == other[0].item_id
    assert list(other[1].provenance.derived_from) == [first[0].item_id]


def test_solutions_of_two_languages_with_the_same_index_are_two_items() -> None:
    """As the published file has them: it is nine files, one after the other."""
    example = EXAMPLES["oss-instruct"]
    ids = [items("oss-instruct", {**example, "lang": language})[1].item_id for language in ("python", "TypeScript")]
    assert ids == ["oss-instruct:python/11", "oss-instruct:typescript/11"]


def test_an_instruction_without_an_output_is_what_the_model_made(tmp_path: Path) -> None:
    """As Self-Instruct publishes `machine_generated_instructions.jsonl`."""
    record = {name: value for name, value in shape("self-instruct", "request_idx").items() if name != "metadata"}
    json_lines(tmp_path / "machine_generated_instructions.jsonl", [record])
    ((made,),) = (each.submissions for each in prepared(job_of("self-instruct", tmp_path)))
    assert (made.content, made.prompt, made.origin) == (record["instruction"], "", pb.ORIGIN_SYNTHETIC)
    assert said(made)["details"] == {name: value for name, value in record.items() if name != "instruction"}


def test_instances_answer_their_instruction_and_without_any_it_stands_alone() -> None:
    record = shape("self-instruct", "raw_instances")
    (made,) = items("self-instruct", record)
    assert (made.content, made.prompt) == (record["raw_instances"], record["instruction"])
    (alone,) = items("self-instruct", {**record, "raw_instances": ""})
    assert (alone.content, alone.prompt) == (record["instruction"], "")


def test_seed_tasks_are_read_before_what_was_made_from_them(tmp_path: Path) -> None:
    json_lines(tmp_path / "all_instances_82K.jsonl", [shape("self-instruct", "seed_ids")])
    json_lines(tmp_path / "seed_tasks.jsonl", [shape("self-instruct", "instances")])
    seed, made = (one for record in prepared(job_of("self-instruct", tmp_path)) for one in record.submissions)
    assert (seed.origin, made.origin) == (pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC)
    assert list(made.provenance.derived_from) == [seed.item_id] == ["self-instruct:seed_task_0"]


def test_line_n_of_a_file_of_prompts_is_image_n(tmp_path: Path) -> None:
    (tmp_path / "drawbench.txt").write_text("a red car\n\na blue fox\n")
    job = job_of("dall-e-3", tmp_path / "drawbench.txt")
    first, second = prepared(job)
    assert [one.submissions[0].media.uri for one in (first, second)] == [
        "dall-e-3:drawbench/0.png",
        "dall-e-3:drawbench/2.png",
    ]
    assert list(prepared(job, first.position)) == [second], "also where reading goes on"


def test_what_a_model_made_names_its_model_and_only_what_came_before_it() -> None:
    """R24: else the service holds it."""
    elsewhere = {"evol-instruct:e12", "self-instruct:seed_task_0"}
    records = [(work.name, EXAMPLES[work.name]) for work in BY_NAME.values()] + [
        (each.work, each.record) for each in OTHER_SHAPES
    ]
    for name, record in records:
        known = set(elsewhere)
        for item in items(name, record):
            if item.origin == pb.ORIGIN_SYNTHETIC:
                assert item.provenance.generator, name
                assert set(item.provenance.derived_from) <= known, name
            known.add(item.item_id)
