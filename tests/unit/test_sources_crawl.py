"""What was collected from the web: the adapters of stage I."""

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.record import UnreadableRecord
from tests.support.source_records import items, said

LINK = EXAMPLES["laion-5b"]


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_a_link_to_an_image_of_unknown_size_is_taken(unknown: float | None) -> None:
    (link,) = items("laion-5b", {**LINK, "WIDTH": unknown, "HEIGHT": 480.0})
    assert said(link)["details"]["height"] == 480
    assert said(link)["details"].get("width") is None


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UnreadableRecord, match="HEIGHT: expected an integer from 0"):
        items("laion-5b", {**LINK, "HEIGHT": 0.5})


def test_a_licence_that_nobody_knows_is_that_of_the_links() -> None:
    assert items("laion-5b")[0].provenance.licence == "CC-BY-4.0"
    assert items("laion-5b", {**LINK, "LICENSE": "CC-BY-2.0"})[0].provenance.licence == "CC-BY-2.0"


def test_the_same_video_again_is_the_same_item() -> None:
    example = EXAMPLES["webvid-10m"]
    first, again = (items("webvid-10m", {**example, "name": name})[0] for name in ("Waves", "Waves at dusk"))
    assert first.item_id == again.item_id
    assert first.submission_id != again.submission_id
