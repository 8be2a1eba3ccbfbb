"""Files with one record a line: JSON Lines, and plain text. They may be compressed with gzip.

The place in the file is the byte where the next line begins, in the decompressed file.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from epistream.clients.sources.formats.piece import Piece, opened, reading

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
KEPT_BYTES_MAX: Final = 512 * 1024
"""Of a line that is longer than that, this much is kept to be looked at."""
_MARK: Final = b"\xef\xbb\xbf"
"""What some editors put at the beginning of a file in UTF-8."""


def json_lines(path: Path, start: int) -> Iterator[Piece]:
    """One JSON value a line. A line that is none is a piece with an error, and the next is read."""
    for line, after, read in _lines(path, start):
        if not line.isspace():
            yield replace(_parsed(line, after), read=read)


def text_lines(path: Path, start: int) -> Iterator[Piece]:
    """One text a line, as `{"line": …, "text": …}`, without its end. Lines are counted from 0, blank ones too."""
    for number, (line, after, read) in enumerate(_lines(path, 0)):
        if after > start and not line.isspace():
            text = line.decode(errors="surrogateescape").rstrip("\r\n")
            yield Piece({"line": number, "text": text}, after, raw=line, read=read)


def _lines(path: Path, start: int) -> Iterator[tuple[bytes, int, int]]:
    """The lines, where the next begins, and how many of the bytes on disk were read."""
    with reading(path), opened(path) as (file, read):
        file.seek(start)
        after = start
        while line := file.readline(LINE_BYTES_MAX):
            after += len(line)
            if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                after += _to_line_end(file)
            yield line.removeprefix(_MARK) if after - len(line) == 0 else line, after, read()


def _to_line_end(file: BinaryIO) -> int:
    """Reads on to the end of a line; how many bytes that were."""
    skipped = 0
    while more := file.readline(LINE_BYTES_MAX):
        skipped += len(more)
        if more.endswith(b"\n"):
            break
    return skipped


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
