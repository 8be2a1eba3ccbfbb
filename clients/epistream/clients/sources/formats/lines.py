"""Files with one record a line: JSON Lines, and plain text. They may be compressed with gzip.

The place in the file is the byte where the next line begins, in the decompressed file.
"""

import codecs
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from epistream.clients.sources.formats.piece import Piece, opened, reading

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
KEPT_BYTES_MAX: Final = 512 * 1024
"""Of a line that is longer than that, this much is kept to be looked at."""


class _Line(NamedTuple):
    text: bytes
    begin: int
    after: int
    """Where the next one begins."""
    whole: bool
    """Whether it has an end."""
    read: int
    """How many of the bytes on disk were read."""


def json_lines(path: Path, start: int) -> Iterator[Piece]:
    """One JSON value a line. A line that is none is a piece with an error, and the next is read."""
    for line in _lines(path, start):
        if not line.text.isspace():
            where = line.after if line.whole else line.begin
            yield replace(_parsed(line.text, where), read=line.read, whole=line.whole)


def text_lines(path: Path, start: int) -> Iterator[Piece]:
    """One text a line, as `{"line": …, "text": …}`, without its end. Lines are counted from 0, blank ones too."""
    for number, line in enumerate(_lines(path, 0)):
        if line.after > start and not line.text.isspace():
            text = line.text.decode(errors="surrogateescape").rstrip("\r\n")
            yield Piece({"line": number, "text": text}, line.after, raw=line.text, read=line.read)


def _lines(path: Path, start: int) -> Iterator[_Line]:
    with reading(path), opened(path) as (file, read):
        file.seek(start)
        after = start
        while text := file.readline(LINE_BYTES_MAX):
            begin, after = after, after + len(text)
            whole = text.endswith(b"\n")
            if len(text) == LINE_BYTES_MAX and not whole:
                skipped, whole = _to_line_end(file)
                after += skipped
            yield _Line(text if begin else text.removeprefix(codecs.BOM_UTF8), begin, after, whole, read())
            if not whole:  # what has come since is for the next import, which begins with the whole line
                return


def _to_line_end(file: BinaryIO) -> tuple[int, bool]:
    """Reads on to the end of a line; how many bytes that were, and whether there is an end."""
    skipped = 0
    while more := file.readline(LINE_BYTES_MAX):
        skipped += len(more)
        if more.endswith(b"\n"):
            return skipped, True
    return skipped, False


def _parsed(line: bytes, after: int) -> Piece:
    if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
        return Piece(None, after, f"expected a line of at most {LINE_BYTES_MAX} bytes", line[:KEPT_BYTES_MAX])
    try:
        return Piece(json.loads(line.decode()), after, raw=line)
    except UnicodeDecodeError as error:
        wrong = f"expected UTF-8, found byte 0x{line[error.start]:02x} at {error.start}"
    except json.JSONDecodeError as error:
        wrong = f"expected JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        wrong = "expected JSON, found too many objects and arrays in each other"
    except ValueError:  # an integer of thousands of digits
        wrong = "expected JSON, found a number that is too long"
    return Piece(None, after, wrong, line[:KEPT_BYTES_MAX])
