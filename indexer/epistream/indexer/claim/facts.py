"""What the readers of prose and of source code hand on: facts, in order."""

from typing import Final, NamedTuple


class Facts(NamedTuple):
    """The facts of a content, in order: three sequences of the same length."""

    keys: list[str]
    """What each fact says, in canonical form. Equal keys are equal facts, but for their case."""
    shown: list[str]
    """Each as it was written, for people."""
    cases: str
    """How each is written: one of the letters below for each."""


ANY: Final = "."
"""The key says all: it keeps its capitals, or there are none."""
LOWER: Final = "l"
"""In small letters."""
TITLE: Final = "T"
"""With a capital inside a sentence, so a name."""
UPPER: Final = "U"
"""In capitals, so an abbreviation."""
FIRST: Final = "f"
"""With the capital that begins a sentence, so perhaps a name."""
UNCAPPED: Final = "u"
"""In small letters at the beginning of a sentence, or in a text without capitals, so perhaps a name."""
NOUN: Final = "n"
"""In small letters behind a `the` that was left out, so no name, and not things in general."""
SHOUTED: Final = "s"
"""In a text all in capitals, so anything."""
SHOUTED_NOUN: Final = "S"
"""The same behind a `THE` that was left out."""

COMPATIBLE: Final = frozenset(
    pair
    for one, others in (
        (FIRST, LOWER + TITLE + UNCAPPED),
        (NOUN, LOWER),
        (UNCAPPED, LOWER + TITLE),
        (SHOUTED, ANY + LOWER + TITLE + UPPER + FIRST + UNCAPPED),
        (SHOUTED_NOUN, ANY + LOWER + TITLE + UPPER + NOUN),
    )
    for other in others
    for pair in (one + other, other + one)
)
"""The different ways of writing that may still be the same word. `Dogs bark` and `The dogs bark` (FIRST, NOUN) are not
among them, nor are `a baker` and `Baker` (LOWER, TITLE)."""

QUANTITY: Final = "="
"""What the key of a number begins with."""
DATE: Final = "@"
"""What the key of a date begins with."""
TIME: Final = "~"
"""What the key of a time of day begins with."""
CODE: Final = "`"
"""What the key of code within prose begins with."""
LINE: Final = "⏎"
"""What the key of the beginning of a line of source code begins with; the line's indentation follows."""
