"""A whole file of JSON: an array of records, or an object with a record under each name.

The place in the file is the number of records before it. Of an object, `{"key": …, "value": …}` is a record.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from epistream.clients.sources.formats.piece import CannotRead, Piece, needed, opened, reading
from epistream.clients.sources.record import Json, shown


def json_documents(path: Path, start: int) -> Iterator[Piece]:
    """The records, read as a stream. A text in an array is `{"text": …}`, as the lines of a file of text are.

    A syntax error ends the file, since nobody knows where the next one begins.
    """
    ijson = needed("ijson", "JSON")
    with reading(path, ijson.JSONError, ValueError), opened(path) as (file, read):
        for number, value in enumerate(itertools.islice(_values(ijson, path, file), start, None), start + 1):
            yield Piece({"text": value} if isinstance(value, str) else value, number, read=read())


def _values(ijson: Json, path: Path, file: BinaryIO) -> Iterator[Json]:
    first = _first(file)
    if first == b"[":
        return iter(ijson.items(file, "item", use_float=True))
    if first == b"{":
        return ({"key": key, "value": value} for key, value in ijson.kvitems(file, "", use_float=True))
    found = shown(first.decode(errors="replace")) if first else "nothing"
    raise CannotRead(f"{path} cannot be read: expected a JSON array or object, found {found}")


def _first(file: BinaryIO) -> bytes:
    """The first byte that is no white space; the file is at its beginning again."""
    while (byte := file.read(1)).isspace():
        pass
    file.seek(0)
    return byte
