"""What the pipeline, with the packaged encoder, makes of records that say nearly the same, as works publish them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.importing import prepared
from epistream.indexer import conflicts
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from tests.support.asked import engine_with_encoder, take_in
from tests.support.source_records import job_of, said
from tests.support.source_shapes import QUESTION, WHICH_HARM
from tests.support.sources import json_lines, parquet

NAMESPACE = "n"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_with_encoder(tmp_path / "data", NAMESPACE) as engine:
        yield engine


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return folder


def taken(engine: Engine, work: str, folder: Path) -> list[tuple[pb.Submission, pb.Receipt]]:
    """All that the files of a work say, in their order, each with what became of it."""
    sent = [one for record in prepared(job_of(work, folder, NAMESPACE)) for one in record.submissions]
    return list(zip(sent, take_in(engine, sent), strict=True))


def knowledge(engine: Engine, item_id: str) -> pb.Knowledge:
    return engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=item_id)).change.knowledge


def test_sound_with_music_is_kept_beside_the_sound_alone_of_the_same_video(engine: Engine, published: Path) -> None:
    """Movie Gen publishes two files with the same ids and the same prompts of videos."""
    video = {"id": 0, "video_prompt": "A woman bites into a crisp apple."}
    sound, music = (
        {"audio_prompt": "a crisp bite"},
        {"audio_prompt": "a crisp bite, and music", "music_prompt": "a piano"},
    )
    json_lines(published / "MovieGenAudioBenchSfx.jsonl", [{**video, **sound}])
    json_lines(published / "MovieGenAudioBenchSfxMusic.jsonl", [{**video, **music}])
    receipts = [receipt for _, receipt in taken(engine, "movie-gen", published)]
    assert [receipt.outcome for receipt in receipts] == [pb.OUTCOME_ADMITTED] * 2
    kept = [said(knowledge(engine, receipt.item_id)) for receipt in receipts]
    assert [one["details"] for one in kept] == [sound, music]
    assert [one["content"] for one in kept] == [video["video_prompt"]] * 2


def test_questions_of_an_evaluation_open_no_conflicts_and_the_right_answers_are_found(
    engine: Engine, published: Path
) -> None:
    """Whose options are, but for their texts, (A) and (B) everywhere."""
    turned = {**QUESTION, "prompt": "Once more:" + QUESTION["prompt"], "corrects": [" (A)"], "incorrects": [" (B)"]}
    json_lines(published / "evaluations.jsonl", [QUESTION, turned, WHICH_HARM])
    found = taken(engine, "rlaif", published)
    items = [(one, receipt) for one, receipt in found if not one.HasField("feedback")]
    assert [receipt.outcome for _, receipt in items] == [pb.OUTCOME_ADMITTED] * 3
    with engine.store.reader() as catalog:
        number = engine.namespaces.configs[NAMESPACE].number
        assert not conflicts.listed(catalog.connection, number, is_open=None, item_id="", after=0, limit=10)
    assert "Theft" in {one.content for one, _ in items}
    request = api.SearchRequest(namespace=NAMESPACE, text="Somebody steals.", limit=1)
    assert [hit.change.knowledge.content for hit in engine.knowledge.search(request).hits] == ["Theft"]


def test_of_images_that_are_known_a_further_comparison_is_kept(engine: Engine, published: Path) -> None:
    """Two users of Pick-a-Pic compared the same two images, and said otherwise."""
    first = EXAMPLES["pick-a-pic"]
    other = {"ranking_id": 18, "best_image_uid": "b2", "label_0": 0.0, "label_1": 1.0}
    second = {**first, **other, "user_id": 43, "created_at": "2023-02-04T09:10:11"}
    parquet(published / "train-00000-of-00645.parquet", [first, second])
    found = taken(engine, "pick-a-pic", published)
    outcomes = [receipt.outcome for one, receipt in found if not one.HasField("feedback")]
    assert outcomes == [pb.OUTCOME_ADMITTED] * 2 + [pb.OUTCOME_MERGED] * 2
    request = api.ListFeedbackRequest(namespace=NAMESPACE, item_id="pick-a-pic:a1")
    kept = [each.submission for each in engine.knowledge.list_feedback(request).feedback]
    assert [
        (one.feedback.rater, said(one)["details"]["ranking_id"], said(one)["details"]["best_image_uid"]) for one in kept
    ] == [
        ("42", 17, "a1"),
        ("43", 18, "b2"),
    ]
