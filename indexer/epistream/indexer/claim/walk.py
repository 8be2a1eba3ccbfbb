"""The state of a reader of prose: the tokens of a text, the facts read so far, and where the next word stands."""

from bisect import bisect
from collections.abc import Iterable
from typing import Final

from epistream.indexer.claim import words
from epistream.indexer.claim.facts import LOWER, NOUN, QUANTITY, SHOUTED, SHOUTED_NOUN, UNCAPPED

# Keys of symbols that are written in several ways.
BREAK: Final = "."
COMMA: Final = ","
QUOTE: Final = '"'
RANGE: Final = "\N{EN DASH}"
ABOUT: Final = "≈"
MINUS: Final = "-"

# Where the next word stands, as far as its case depends on it.
INSIDE: Final = 0
AT_START: Final = 1
BEHIND_THE: Final = 2
_CASE_THERE: Final[tuple[dict[str, str], ...]] = (
    {},
    {LOWER: UNCAPPED},
    {LOWER: NOUN, SHOUTED: SHOUTED_NOUN},
)

_LANGUAGE_MAX: Final = 256
"""How many tokens tell the language of a text."""
_SENTENCE_ENDS: Final = frozenset([".", ";", ":", "?", "!"])

_LATIN_END: Final = "\u02af"
"""The last of the Latin letters, but for rare ones; what is beyond begins a word of another script."""


class Walk:
    """Goes over the tokens of a text once, from left to right, and collects facts.

    It has no cached properties: they would have each of its attributes looked up in a dictionary.
    """

    def __init__(self, tokens: list[str], lower: str) -> None:
        self.tokens = tokens
        self.lower = lower
        """How words in small letters are written."""
        self.keys: list[str] = []
        self.shown: list[str] = []
        self.cases: list[str] = []
        self.at = 0
        self.place = AT_START
        self.has_identifiers = False
        """Whether names of a program were met, so that case counts."""
        self.vocabulary = frozenset(tokens)
        """Every token once."""
        self.is_foreign = not words.OTHER_LANGUAGES.isdisjoint(self.vocabulary) and _is_foreign(tokens)
        """Whether the text is rather in another language than in English."""
        self.is_literal = not words.LITERAL.isdisjoint(self.vocabulary)
        """Whether what stands in quotation marks is meant as it is written."""
        self._has_decimal_commas: bool | None = None
        self._looked_at = 0
        self._is_denied = False
        self._sentence_ends: list[int] = []
        self._sentence: tuple[int, frozenset[str]] = 0, frozenset()

    def add(self, key: str, case: str, count: int = 1) -> None:
        """Collect a fact that was read from the next `count` tokens."""
        if self.place:
            case = _CASE_THERE[self.place].get(case, case)
            self.place = INSIDE
        end = self.at + count
        self.keys.append(key)
        self.shown.append(self.tokens[self.at] if count == 1 else " ".join(self.tokens[self.at : end]))
        self.cases.append(case)
        self.at = end

    def next(self) -> str:
        """The token behind the current one; empty at the end."""
        return self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else ""

    def last(self) -> str:
        """The key of the fact that was collected last; empty before the first."""
        return self.keys[-1] if self.keys else ""

    def is_denied(self) -> bool:
        """Whether something was denied since the last break."""
        keys = self.keys[self._looked_at :]
        self._looked_at = len(self.keys)
        if BREAK in keys:
            self._is_denied = False
            keys = keys[len(keys) - keys[::-1].index(BREAK) :]
        self._is_denied = self._is_denied or not words.DENIALS.isdisjoint(keys)
        return self._is_denied

    def sentence(self) -> frozenset[str]:
        """The tokens between the breaks before and behind the current one."""
        self._sentence_ends = self._sentence_ends or self._breaks()
        behind = bisect(self._sentence_ends, self.at)
        if behind != self._sentence[0]:
            tokens = self.tokens[self._sentence_ends[behind - 1] : self._sentence_ends[behind]]
            self._sentence = behind, frozenset(tokens)
        return self._sentence[1]

    def _breaks(self) -> list[int]:
        """Where the breaks are, the beginning and the end of the text among them."""
        tokens = self.tokens
        marks = (at for at, mark in enumerate(tokens) if mark in _SENTENCE_ENDS and at > 0)
        breaks = [at for at in marks if tokens[at] != BREAK or not self._is_abbreviated(at)]
        return [0, *breaks, len(tokens)]

    def _is_abbreviated(self, stop_at: int) -> bool:
        """Whether a full stop stands behind an initial or an abbreviation."""
        before = self.tokens[stop_at - 1]
        return (len(before) == 1 and before.isalpha()) or before.lower() in words.ABBREVIATIONS

    def _may_be_decimal(self) -> bool:
        """Whether the text may be in another language than English, in which a comma begins the fraction."""
        if self._has_decimal_commas is None:
            others = sum(
                token.lower() in words.OTHER_LANGUAGES or (token[0] > _LATIN_END and token[0].isalpha())
                for token in self.tokens
            )
            self._has_decimal_commas = others >= _english(token.lower() for token in self.tokens)
        return self._has_decimal_commas

    def is_unclear(self, numeral: str) -> bool:
        """Whether a number may be two and a half or 2500: `2,500` is, `2,500,000` and `2,500.5` are not."""
        return numeral.count(",") == 1 and "." not in numeral and self._may_be_decimal()


def _english(lowered: Iterable[str]) -> int:
    """How many words say that a text is in English; those that other languages have, too, together as much as one."""
    sure, shared = 0, set[str]()
    for word in lowered:
        sure += word in words.ENGLISH
        if word in words.SHARED:
            shared.add(word)
    return sure + (len(shared) > 1 and not any(shared <= others for others in words.OTHERS_SHARE))


def _is_foreign(tokens: list[str]) -> bool:
    """Whether more of the common words at the beginning of a text are of other languages than of English."""
    beginning = tokens[:_LANGUAGE_MAX]
    others = sum(map(words.OTHER_LANGUAGES.__contains__, beginning))
    return others > sum(map(words.ENGLISH.__contains__, beginning))


def is_bare(key: str) -> bool:
    """Whether a key is a number without a unit."""
    return key[:1] == QUANTITY and " " not in key
