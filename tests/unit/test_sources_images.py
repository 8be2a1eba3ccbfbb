"""What people think of images that models made."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats.piece import CannotRead
from epistream.clients.sources.importing import prepared
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, job_of, said, verdicts
from tests.support.source_shapes import RATED, RATED_TOGETHER, shape
from tests.support.sources import parquet


def test_an_images_bytes_are_kept_as_their_digest() -> None:
    first, _ = items("pick-a-pic")
    assert first.media.uri == "https://p.example/a1.png"
    assert first.media.digest == f"sha256:{hashlib.sha256(EXAMPLES['pick-a-pic']['jpg_0']).hexdigest()}"
    assert b"fox" not in first.SerializeToString().replace(b"a red fox", b"")


def test_a_choice_of_images_names_the_better_first_and_a_tie_has_equal_places() -> None:
    (chosen,) = verdicts("pick-a-pic")
    assert (chosen.kind, chosen.rater, chosen.rater_type) == (
        pb.FEEDBACK_KIND_PAIRWISE,
        "42",
        pb.RATER_TYPE_HUMAN,
    )
    assert [(one.item_id, one.place) for one in chosen.judged] == [("pick-a-pic:a1", 1), ("pick-a-pic:b2", 2)]
    (tie,) = verdicts("pick-a-pic-v2")
    assert [one.place for one in tie.judged] == [1, 1]


def test_what_is_said_of_a_comparison_stands_at_the_choice_and_at_the_images_where_nobody_chose() -> None:
    example = EXAMPLES["pick-a-pic"]
    about = {"are_different": True, "best_image_uid": "a1", "ranking_id": 17, "num_example_per_prompt": 3}
    *images, choice = map(said, submissions(BY_NAME["pick-a-pic"], example))
    assert [one.get("details") for one in (*images, choice)] == [None, None, about]
    unlabelled = submissions(BY_NAME["pick-a-pic"], {**example, "has_label": False})
    assert [said(one)["details"] for one in unlabelled] == [{**about, "label_0": 1, "label_1": 0}] * 2


def test_an_image_of_imagerewarddb_has_an_experts_ratings_and_keeps_its_place() -> None:
    record = shape("imagereward", "prompt_id")
    (image,) = items("imagereward", record)
    assert image.media.uri == "imagereward:images/train_1/8.webp"
    assert image.item_id == "imagereward:000904-0035/images/train_1/8.webp"
    assert said(image)["details"] == {
        "prompt_id": "000904-0035",
        "classification": "Animals",
        "image_amount_in_total": 9,
        "rank": 5,
    }
    ratings = verdicts("imagereward", record)
    assert [(one.aspect, one.judged[0].score, one.scale_min, one.scale_max) for one in ratings] == [
        ("", 4, 1, 7),
        ("alignment", 3, 1, 7),
        ("fidelity", 5, 1, 7),
    ]
    with pytest.raises(UnreadableRecord, match="fidelity_rating: expected a number from 1 to 7, found 8"):
        items("imagereward", {**record, "fidelity_rating": 8})


def test_images_of_one_prompt_that_stand_together_are_ranked_with_their_ties(tmp_path: Path) -> None:
    """R29: ImageRewardDB has a row for each image, and its place among those of its prompt."""
    alone = {**RATED, "prompt_id": "000904-0036", "image_path": "images/train_1/11.webp"}
    records = [*RATED_TOGETHER["rows"], alone, {**alone, "prompt_id": None}]
    parquet(tmp_path / "metadata-train.parquet", records)
    job = job_of("imagereward", tmp_path)
    together, single, wrong = prepared(job)
    assert list(prepared(job, together.position)) == [single, wrong], "reading can go on after a prompt"
    images = [one for one in together.submissions if not one.HasField("feedback")]
    *ratings, ranking = [one.feedback for one in together.submissions if one.HasField("feedback")]
    assert ranking.kind == pb.FEEDBACK_KIND_RANKING
    assert [(one.item_id, one.place) for one in ranking.judged] == [
        (image.item_id, place) for image, place in zip(images, (5, 1, 5), strict=True)
    ]
    assert all("rank" not in said(image)["details"] for image in images)
    assert len(ratings) == 9
    assert [one.kind for one in (each.feedback for each in single.submissions[1:])] == [pb.FEEDBACK_KIND_RATING] * 3
    assert said(single.submissions[0])["details"]["rank"] == 5, "of one alone there is no order"
    assert "prompt_id: expected a name" in wrong.unreadable


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"fidelity_rating": 8}, "fidelity_rating: expected a number from 1 to 7, found 8"),
        ({"rank": 0}, "rank: expected an integer from 1 on, found 0"),
        ({"image_path": "a" * 1999}, "the record: expected addresses of at most 2000 characters, found 2011"),
    ],
)
def test_of_a_prompt_only_the_row_that_is_wrong_becomes_a_dead_letter(
    tmp_path: Path, wrong: dict[str, Any], why: str
) -> None:
    first, second, third = RATED_TOGETHER["rows"]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (first, {**second, **wrong}, third)))

    (made,) = prepared(job_of("imagereward", path))

    *whole, told = made.submissions
    (ranking,) = [one.feedback for one in whole if one.feedback.kind == pb.FEEDBACK_KIND_RANKING]
    assert [one.item_id.rpartition("/")[2] for one in ranking.judged] == ["8.webp", "10.webp"]
    assert len(whole) == 2 + 6 + 1
    assert (told.unreadable.reason, made.unreadable) == (why, why)
    assert json.loads(told.unreadable.record) == {**second, **wrong}


def test_where_every_row_of_a_prompt_is_wrong_each_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({**row, "prompt": " "}) + "\n" for row in RATED_TOGETHER["rows"]))

    (made,) = prepared(job_of("imagereward", path))

    assert [one.unreadable.reason for one in made.submissions] == [
        "prompt: expected a text, found white space only"
    ] * 3


def test_a_group_that_a_damage_follows_is_imported_before_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in RATED_TOGETHER["rows"]))
    path.write_bytes(whole[:-8])
    found = prepared(job_of("imagereward", path))
    assert len(next(found).submissions) == 3 + 9 + 1
    with pytest.raises(CannotRead, match=r"x\.jsonl\.gz cannot be read"):
        next(found)
