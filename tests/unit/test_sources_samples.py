"""Real rows of published works, where the sample data is: each is taken by its work's adapter."""

from typing import Any

from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import needs_samples
from tests.support.source_samples import SAMPLES

pytestmark = needs_samples


def mapped(name: str) -> list[tuple[dict[str, Any], list[pb.Submission], list[pb.Feedback]]]:
    """Each record of a sample with its items and its verdicts."""
    work, _, records = SAMPLES[name]
    found = []
    for record in records():
        made = submissions(BY_NAME[work], record)
        items = [one for one in made if not one.HasField("feedback")]
        for one in made:
            one.namespace = "n"
            assert violations(one) == ()
        found.append((record, items, [one.feedback for one in made if one.HasField("feedback")]))
    return found


def test_tasks_of_humaneval() -> None:
    found = mapped("humaneval")
    for record, (item,), _ in found:
        assert item.content == record["prompt"] + record["canonical_solution"]
        assert (item.tests.check, item.tests.entry_point) == (record["test"], record["entry_point"])
    assert len(found) == 20


def test_tasks_of_mbpp() -> None:
    found = mapped("mbpp")
    for record, (item,), _ in found:
        assert (item.content, item.prompt) == (record["code"], record["text"])
        assert list(item.tests.asserts) == record["test_list"]
    assert len(found) == 60


def test_rows_of_self_instruct() -> None:
    models = set()
    for record, (item,), _ in mapped("self-instruct"):
        assert item.prompt == record["instruction"]
        if "instances" in record:
            assert (item.content, item.origin) == (record["instances"][0]["output"], pb.ORIGIN_EXPERT)
        else:
            assert (item.content, item.origin) == (record["response"], pb.ORIGIN_SYNTHETIC)
            models.add(item.provenance.generator)
    assert len(models) == 6


def test_rankings_of_imagereward_are_kept_losslessly() -> None:
    """R29, up to what is submitted: tests/service/test_sources.py reads them from the service again."""
    ranked = [each for each in mapped("imagereward") if "ranking" in each[0]]
    for record, items, (ranking,) in ranked:
        assert [item.media.uri for item in items] == [f"imagereward:{uri}" for uri in record["generations"]]
        assert [one.place for one in ranking.judged] == record["ranking"]
        assert [one.item_id for one in ranking.judged] == [item.item_id for item in items]
    assert any(len(set(record["ranking"])) < len(record["ranking"]) for record, *_ in ranked)


def test_captions_and_verdicts_of_dall_e_3() -> None:
    for record, items, _ in mapped("recaptions"):
        assert [item.content for item in items] == [record["alt"], record["caption"]]
    for record, (item,), (verdict,) in mapped("drawbench"):
        assert item.content == record["value"]["prompt"]
        assert (verdict.judged[0].score, verdict.rationale) == (record["value"]["correct"], record["value"]["response"])


def test_answers_of_videophy() -> None:
    found = mapped("videophy")
    for record, (item,), verdicts in found:
        assert item.content == record["caption"]
        assert {one.aspect: one.judged[0].score for one in verdicts} == {
            "alignment": record["sa"],
            "physics": record["pc"],
        }
    assert found
