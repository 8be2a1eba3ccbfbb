"""A whole file of JSON: an array of records, or an object with a record under each name.

The place in the file is the number of records before it. Of an object, `{"key": …, "value": …}` is a record.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from epistream.clients.sources.formats.piece import RECORD_BYTES_MAX, CannotRead, Piece, needed, opened, reading
from epistream.clients.sources.record import Json, shown

DEPTH_MAX: Final = 1000
"""Objects and arrays in each other that a record may have: about as many as Python's own reader of JSON takes."""
_DEEPER: Final = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def json_documents(path: Path, start: int) -> Iterator[Piece]:
    """The records, read as a stream. A text in an array is `{"text": …}`, as the lines of a file of text are.

    A record that is too large or too deep is a piece with an error. A syntax error ends the file, since nobody knows
    where the next one begins; so does a single text that is too large.
    """
    ijson = needed("ijson", "JSON")
    with reading(path, ijson.JSONError, ValueError), opened(path) as (file, read):
        for number, (value, wrong) in enumerate(_values(ijson, path, file), 1):
            if number > start:
                yield Piece({"text": value} if isinstance(value, str) else value, number, wrong, read=read())


def _values(ijson: Json, path: Path, file: BinaryIO) -> Iterator[tuple[Json, str]]:
    """Each record, or what is wrong with it."""
    first = _first(file)
    if first not in (b"[", b"{"):
        found = shown(first.decode(errors="replace")) if first else "nothing"
        raise CannotRead(f"{path} cannot be read: expected a JSON array or object, found {found}")
    source = _Source(file)
    events = ijson.basic_parse(source, use_float=True)
    next(events)  # the array's or object's beginning
    key, depth = "", 0
    for event, value in events:
        source.told = source.taken
        if depth == 0 and event == "map_key":
            key = value
        if depth == 0 and event in ("map_key", "end_map", "end_array"):
            continue
        if depth == 0:
            builder, wrong, begun = ijson.ObjectBuilder(), "", source.taken
        depth += _DEEPER.get(event, 0)
        if not wrong:
            builder.event(event, value)
            if wrong := _too_much(depth, source.taken - begun):
                builder = ijson.ObjectBuilder()  # lets go of what there is of it
        if depth == 0:
            record = {"key": key, "value": builder.value} if first == b"{" else builder.value
            yield (None if wrong else record), wrong


def _too_much(depth: int, size: int) -> str:
    """What is wrong with a record of which there are so many bytes by now, and so many objects and arrays around."""
    if depth > DEPTH_MAX:
        return "expected JSON, found too many objects and arrays in each other"
    return f"expected a record of at most {RECORD_BYTES_MAX} bytes" if size > RECORD_BYTES_MAX else ""


@dataclass
class _Source:
    """What a file says, as long as the parser makes something of it."""

    file: BinaryIO
    taken: int = 0
    told: int = 0
    """How many bytes were taken when the parser last told something."""

    def read(self, size: int) -> bytes:
        """The next bytes. Raises ValueError where it has kept more of one text than a record may have."""
        if self.taken - self.told > RECORD_BYTES_MAX:
            raise ValueError(f"expected a record of at most {RECORD_BYTES_MAX} bytes after {self.told}")
        part = self.file.read(size)
        self.taken += len(part)
        return part


def _first(file: BinaryIO) -> bytes:
    """The first byte that is no white space; the file is at its beginning again."""
    while (byte := file.read(1)).isspace():
        pass
    file.seek(0)
    return byte
