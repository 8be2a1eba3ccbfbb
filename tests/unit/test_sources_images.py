"""What people think of images that models made."""

import hashlib

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.record import UnreadableRecord
from epistream.v1 import knowledge_pb2 as pb
from tests.support.source_records import items, said, verdicts
from tests.support.source_shapes import shape


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
