"""What was collected from the web: the adapters of stage I."""

import io
from pathlib import Path
from typing import Any

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats.files import files_of
from epistream.clients.sources.formats.piece import CannotRead
from epistream.clients.sources.importing import prepared
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.table import BY_NAME
from tests.support.source_records import items, job_of, said
from tests.support.source_shapes import shape

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


def test_another_text_of_an_image_is_another_item_and_the_same_one_is_not() -> None:
    first, other, again = (
        items("laion-5b", {**LINK, "TEXT": text, "similarity": similarity})[0]
        for text, similarity in (("A fox", 0.3), ("Fox in the snow", 0.3), ("A fox", 0.31))
    )
    assert first.media.uri == other.media.uri
    assert first.item_id == again.item_id != other.item_id


def test_the_same_video_again_is_the_same_item() -> None:
    example = EXAMPLES["webvid-10m"]
    first, again = (items("webvid-10m", {**example, "name": name})[0] for name in ("Waves", "Waves at dusk"))
    assert first.item_id == again.item_id
    assert first.submission_id != again.submission_id


def crawled(path: Path) -> None:
    """A page as Common Crawl keeps it: a WARC file has the request, the answer and what was noted of it."""
    http = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=latin1")], protocol="HTTP/1.1")
    asked = StatusAndHeaders("GET /x HTTP/1.1", [("Host", "lakes.example")], is_http_request=True)
    with path.open("wb") as file:
        warc: Any = WARCWriter(file, gzip=True)
        warc.write_record(warc.create_warcinfo_record(path.name, {"software": "none"}))
        for kind, headers, body in (
            ("request", asked, b""),
            ("response", http, b"<p>\xfcberall 12 km</p>"),
            ("metadata", None, b"fetchTimeMs: 5"),
        ):
            warc.write_record(
                warc.create_warc_record("https://lakes.example/x", kind, io.BytesIO(body), http_headers=headers)
            )


def test_of_a_warc_file_each_record_says_to_take_the_wet_file(tmp_path: Path) -> None:
    path = tmp_path / "CC-MAIN-20240501-00000.warc.gz"
    crawled(path)
    found = list(prepared(job_of("common-crawl", path)))
    for kind, one in zip(("request", "response", "metadata"), found, strict=True):
        assert one.unreadable == (
            f"headers.WARC-Type: expected conversion, the text of a page, found {kind}, which has none. "
            "Import the WET file of the same name, .warc.wet.gz"
        )
    kept = found[1].submissions[0].unreadable.record
    assert b"WARC-Target-URI: https://lakes.example/x\r\n" in kept
    assert kept.endswith(b"\r\n\r\n<p>\xfcberall 12 km</p>")


def test_a_wat_file_is_refused_with_what_to_take_instead(tmp_path: Path) -> None:
    path = tmp_path / "CC-MAIN-20240501-00000.warc.wat.gz"
    path.touch()
    with pytest.raises(
        CannotRead, match=r"WAT files have no text: take the WET file of the same name, \.warc\.wet\.gz"
    ):
        files_of(path, BY_NAME["common-crawl"].formats)


def test_a_segment_that_ends_before_it_begins_is_told_by_its_own_field() -> None:
    entry = shape("kinetics-400", "key")
    annotations = {**entry["value"]["annotations"], "segment": [20, 10]}
    wrong = r"value\.annotations\.segment\.end: expected a time not before the start, 20, found 10"
    with pytest.raises(UnreadableRecord, match=wrong):
        items("kinetics-400", {**entry, "value": {**entry["value"], "annotations": annotations}})
