"""Real rows of published works, where the sample data is: each is taken by its work's adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb

DATA = Path(__file__).parents[3] / "shared" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    if not DATA.is_dir():
        pytest.skip(f"the sample data is not there: {DATA}")
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def mapped(work: str, record: dict[str, Any]) -> tuple[list[pb.Submission], list[pb.Feedback]]:
    made = submissions(BY_NAME[work], record)
    items = [one for one in made if not one.HasField("feedback")]
    for one in items:
        one.namespace = "n"
        assert violations(one) == ()
    return items, [one.feedback for one in made if one.HasField("feedback")]


def test_tasks_of_humaneval_and_mbpp() -> None:
    found = [row for row in rows("code_sample.jsonl") if row["variant"] == "canonical"]
    for row in found:
        if row["dataset"] == "humaneval":
            solution = row["solution"].removeprefix(row["prompt"])
            record = {**row, "canonical_solution": solution, "test": row["tests"]}
            ((item,), _) = mapped("humaneval", record)
            assert item.content == row["prompt"] + solution
            assert (item.tests.check, item.tests.entry_point) == (row["tests"], row["entry_point"])
        else:
            asserts = row["tests"].split("\nassert ")
            record = {"task_id": row["task_id"], "text": row["prompt"], "code": row["solution"], "test_list": asserts}
            ((item,), _) = mapped("mbpp", record)
            assert (item.content, item.prompt) == (row["solution"], row["prompt"])
            assert list(item.tests.asserts) == asserts
    assert len(found) == 80


def test_rows_of_self_instruct() -> None:
    found = [row for row in rows("streams_sample.jsonl") if row["source"].startswith("self-instruct/predictions")]
    for row in found:
        record = {"instruction": row["prompt"], "input": "", "response": row["text"], "model": row["generator"]}
        ((item,), _) = mapped("self-instruct", record)
        assert (item.content, item.prompt, item.provenance.generator) == (row["text"], row["prompt"], row["generator"])
    assert len(found) > 300
    seeds = [row for row in rows("streams_sample.jsonl") if row["source"] == "self-instruct/seed_tasks"]
    for row in seeds:
        instances = [{"input": "", "output": row["text"]}]
        record = {"id": row["pair_id"], "instruction": row["prompt"], "instances": instances}
        ((item,), _) = mapped("self-instruct", record)
        assert item.origin == pb.ORIGIN_EXPERT


def test_rankings_of_imagereward_are_kept_losslessly() -> None:
    found = rows("feedback_imagereward_sample.jsonl")
    for row in found:
        record = {"id": row["id"], "prompt": row["prompt"], "generations": row["media_uris"], "ranking": row["ranking"]}
        items, (ranking,) = mapped("imagereward", record)
        assert [item.media.uri for item in items] == [f"imagereward:{uri}" for uri in row["media_uris"]]
        assert [one.place for one in ranking.judged] == row["ranking"]
        assert [one.item_id for one in ranking.judged] == [item.item_id for item in items]
    assert any(len(set(row["ranking"])) < len(row["ranking"]) for row in found)


def test_captions_and_verdicts_of_dall_e_3() -> None:
    for row in rows("image_caption_sample.jsonl"):
        long, short = row["synthetic_long_caption"], row["short_caption"]
        items, _ = mapped("dall-e-3", {"alt": short, "caption": long})
        assert [item.content for item in items] == [short, long]
        for said in row["feedback"]:
            value = {"correct": said["correct"], "response": said["rationale"], "prompt": short}
            ((item,), (verdict,)) = mapped("dall-e-3", {"key": said["media_uri"], "value": value})
            assert item.content == short
            assert (verdict.judged[0].score, verdict.rationale) == (said["correct"], said["rationale"])


def test_answers_of_videophy() -> None:
    found = rows("video_physics_feedback_sample.jsonl")
    for row in found:
        sa, pc = row["feedback"]["semantic_adherence"], row["feedback"]["physical_commonsense"]
        record = {"videopath": row["media_uri"], "caption": row["text"], "sa": sa, "pc": pc}
        ((item,), verdicts) = mapped("sora-physics", record)
        assert item.content == row["text"]
        assert {one.aspect: one.judged[0].score for one in verdicts} == {"alignment": sa, "physics": pc}
    assert found
