"""The rules of texts: names on one line, prose of any length; and how a wrong value is shown. Pure."""

import itertools
import json
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation
from epistream.wire.limits import CONTROL

COMBINING_MARKS_MAX: Final = 30
"""In a row. Unicode's stream-safe text allows 30 (UAX #15, section 13). Putting text into NFC takes time that grows
with the square of the longest run: 40,000 marks in a row took 2.4 seconds."""
SHORT_CHARACTERS: Final = 4096
"""Text up to this length is put into NFC in 13 ms whatever is in it, so its marks need not be counted."""
SHOWN_CHARACTERS: Final = 60
"""How much of a wrong value is quoted."""


def shown(value: object) -> str:
    """A value as a person may see it in a message: as JSON, and short."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = f"{value[:SHOWN_CHARACTERS]}…"
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return text if isinstance(value, str) or len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def line(field: str, text: str, characters_max: int) -> Iterator[FieldViolation]:
    """The rules of a name or address, which may be empty: short, and on one line."""
    if len(text) > characters_max:
        yield FieldViolation(field, f"at most {characters_max} characters, found {len(text)}")
    elif (found := CONTROL.search(text)) is not None:
        yield FieldViolation(
            field,
            f"no control characters or line ends are allowed, found U+{ord(found[0]):04X} at character {found.start()}",
        )


def prose(field: str, text: str, bytes_max: int) -> Iterator[FieldViolation]:
    """The rules of a text of any length, which may be empty."""
    if "\0" in text:
        yield FieldViolation(field, f"the NUL character is not allowed, found at character {text.index(chr(0))}")
    if 4 * len(text) > bytes_max and len(text.encode()) > bytes_max:
        yield FieldViolation(field, f"at most {bytes_max} bytes of UTF-8, found {len(text.encode())}")
    elif len(text) > SHORT_CHARACTERS and not text.isascii() and _most_marks(text) > COMBINING_MARKS_MAX:
        found = _most_marks(text)
        yield FieldViolation(field, f"at most {COMBINING_MARKS_MAX} combining marks in a row, found {found}")


def unset(submission: pb.Submission, fields: Iterable[str], what: str) -> Iterator[FieldViolation]:
    """Those of the fields that are set, though `what` has none."""
    given = {field.name for field, _ in submission.ListFields()}
    for field in fields:
        if field in given:
            yield FieldViolation(field, f"must be unset for {what}")


def _most_marks(text: str) -> int:
    """The length of the longest run of combining marks."""
    runs = itertools.groupby(text, lambda character: unicodedata.combining(character) > 0)
    return max((sum(1 for _ in run) for marks, run in runs if marks), default=0)
