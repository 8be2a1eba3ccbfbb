"""WARC files; WET files are those with extracted text. The place in the file is the number of records before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epistream.clients.sources.formats.piece import RECORD_BYTES_MAX, Piece, needed, reading

_ABOUT_THE_FILE: Final = "warcinfo"


def warc_records(path: Path, start: int) -> Iterator[Piece]:
    """The records as `{"headers": {…}, "text": …}`, but for those about the file itself."""
    iterator, errors = needed("warcio.archiveiterator", "WET"), needed("warcio.exceptions", "WET")
    with reading(path, errors.ArchiveLoadFailed, ValueError), path.open("rb") as file:
        for number, record in enumerate(iterator.ArchiveIterator(file, no_record_parse=True), 1):
            if number <= start or record.rec_type == _ABOUT_THE_FILE:
                continue
            body = record.content_stream().read(RECORD_BYTES_MAX)
            headers = {name: value for name, value in record.rec_headers.headers}  # noqa: C416 -- of pairs of any kind
            yield Piece({"headers": headers, "text": body.decode(errors="surrogateescape")}, number)
