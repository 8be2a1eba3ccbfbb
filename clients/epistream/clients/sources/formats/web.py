"""WARC files; WET files are those with extracted text. The place in the file is the number of records before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from epistream.clients.sources.formats.piece import RECORD_BYTES_MAX, Piece, needed, reading

_ABOUT_THE_FILE: Final = "warcinfo"
_WITHOUT_TEXT: Final = frozenset({"request", "response", "revisit", "metadata"})
"""What WARC files have of a page, and WAT files (`metadata`): HTTP messages and JSON."""


def warc_records(path: Path, start: int) -> Iterator[Piece]:
    """The records as `{"headers": {…}, "text": …}`, but for those about the file itself.

    A page as the web sent it is a piece with an error: nothing here makes text of HTML.
    """
    iterator, errors = needed("warcio.archiveiterator", "WET"), needed("warcio.exceptions", "WET")
    with reading(path, errors.ArchiveLoadFailed, ValueError), path.open("rb") as file:
        for number, record in enumerate(iterator.ArchiveIterator(file, no_record_parse=True), 1):
            if number > start and record.rec_type != _ABOUT_THE_FILE:
                yield _piece(record, record.content_stream().read(RECORD_BYTES_MAX), number, file.tell())


def _piece(record: Any, body: bytes, number: int, read: int) -> Piece:
    if record.rec_type in _WITHOUT_TEXT:
        wrong = (
            f"headers.WARC-Type: expected conversion, the text of a page, found {record.rec_type}, which has none. "
            "Import the WET file of the same name, .warc.wet.gz"
        )
        return Piece(None, number, wrong, record.rec_headers.to_str().encode() + b"\r\n" + body, read)
    headers = {name: value for name, value in record.rec_headers.headers}  # noqa: C416 -- of pairs of any kind
    return Piece({"headers": headers, "text": body.decode(errors="surrogateescape")}, number, read=read)
