"""Prose to facts: a text becomes the sequence of its words, with everything taken out that is form and not claim.

    In 2010, the company's revenue wasn't above $1,000.50.
    in  =2010  company  's  revenue  was  not  above  =1000.5 $

Nothing is left out but `the` where it changes nothing, commas and full stops where they change nothing, and `that`
behind a verb of saying. All other tokens stay, in order: whatever this module does not know is a fact of its own.
"""

import re
from typing import Final

from epistream.indexer.claim import words
from epistream.indexer.claim.facts import (
    ANY,
    CODE,
    FIRST,
    LOWER,
    QUANTITY,
    SHOUTED,
    TIME,
    TITLE,
    UNCAPPED,
    UPPER,
    Facts,
)
from epistream.indexer.claim.marks import read_mark
from epistream.indexer.claim.measures import (
    CARDINALS,
    CURRENCY_CODES,
    CURRENCY_SIGNS,
    DAILY,
    MONTHS,
    ORDINALS,
    PERIODS,
    UNITS_IN_TITLES,
)
from epistream.indexer.claim.order import is_moment, with_time_first
from epistream.indexer.claim.quantities import is_numeral, read_date, read_quantity, starts_quantity
from epistream.indexer.claim.source import has_free_spaces
from epistream.indexer.claim.tokens import is_dotted, is_shouted, tokens_of
from epistream.indexer.claim.walk import ABOUT, AT_START, BEHIND_THE, BREAK, INSIDE, RANGE, Walk, is_bare

_VERSION: Final = re.compile(r"[vV](\d+(?:\.\d+)+)")
_SPACED_SYMBOL: Final = re.compile(r"\s*([,()=+\[\]])\s*")

_SPECIAL: Final = frozenset(
    [
        *("the", "a", "an", "per", "that", "cannot"),
        *words.EQUAL,
        *words.PHRASES,
        *words.BOUNDS,
        *words.APPROXIMATE,
        *words.ABOUT,
        *CARDINALS,
        *ORDINALS,
        *DAILY,
        *(month for month in MONTHS if month.islower()),
    ]
)
"""The words in small letters that are not simply themselves."""

_BEHIND_AN: Final = frozenset("aeiouhyAEIOUFHLMNRSXYáàâäåæéèêëíìîïóòôöøúùûüÁÉÍÓÖØÚ18\"'")
"""What a word begins with that `an` may stand before."""
_PAIR_OPENS: Final = frozenset("([{")
_PAIR_CLOSES: Final = frozenset(")]}")
_RANGE_MIN: Final = 2
_PREFERRING: Final = (["prefer"], ["prefers"], ["preferred"])
"""What takes `to` with it: `they prefer 5 to 10 mg`."""
_ENDS: Final = frozenset(".,;:!?)")
_NOUN_PHRASE_MAX: Final = 3
"""How far to look for the noun that `the` belongs to, in tokens."""
_OBJECT_MAX: Final = 8
"""How far before `has to` may stand what is had, in facts."""
_SENTENCE_MAX: Final = 32
"""How far to look for letters that stand for things, in tokens."""
_UNIT_MAX: Final = 5
"""Longer signs of units are rare, and longer words with a capital behind a number are names or emphasis."""


def read_prose(text: str) -> Facts:
    """The facts of a text. Pure, never raises, and takes time in proportion to the text's length."""
    shouted = is_shouted(text)
    reader = _Reader(tokens_of(text), SHOUTED if shouted else LOWER)
    reader.read()
    keys, cases = reader.keys, "".join(reader.cases)
    if shouted:
        cases = "".join(
            SHOUTED if case == ANY and shown.lstrip(":;!")[:1].isalpha() else case
            for shown, case in zip(reader.shown, cases, strict=True)
        )
    while keys and keys[-1] == BREAK:
        keys.pop()
    if text.islower() and not reader.has_identifiers and words.CODE_WORDS.isdisjoint(keys):
        cases = "".join(
            UNCAPPED if case == LOWER and key not in words.NAMESAKES else case
            for key, case in zip(keys, cases, strict=False)
        )
    return with_time_first(Facts(keys, reader.shown[: len(keys)], cases[: len(keys)]))


class _Reader(Walk):
    """Reads words and numbers; the marks between them are read by `marks`."""

    def __init__(self, tokens: list[str], lower: str) -> None:
        super().__init__(tokens, lower)
        self.equal = words.EQUAL if words.SPELLED.isdisjoint(self.vocabulary) and not self.is_foreign else {}
        """The words that have another form. None have where the text is about how they are spelled, nor in a text that
        is not in English."""

    def read(self) -> None:
        while self.at < len(self.tokens):
            piece = self.tokens[self.at]
            if not piece.isalpha():
                self._mixed(piece)
            elif not piece.islower():
                self._capital(piece)
            elif piece in _SPECIAL:
                self._special(piece)
            elif self.place != INSIDE:
                self.add(piece, self.lower)
            else:  # most words: as `add`, without the call
                self.keys.append(piece)
                self.shown.append(piece)
                self.cases.append(self.lower)
                self.at += 1

    def _mixed(self, piece: str) -> None:
        """Anything that is not a word of letters."""
        if piece in (",", "."):  # most of them
            read_mark(self, piece)
        elif is_numeral(piece):
            self._number(piece)
        elif piece[0].isalpha() or piece[0] == "_" or (piece[0] == "'" and len(piece) > 1):
            self._compound(piece)
        elif piece[0] in "`/~.-" and piece.strip("-.") and len(piece) > 1:
            self._code(piece)
        else:
            read_mark(self, piece)

    # Words in small letters -------------------------------------------------------------------------------------------

    def _special(self, word: str, case: str | None = None) -> None:
        """A word that is not simply itself. `word` is the current token in small letters."""
        case = case or self.lower
        if word == "the":
            self._the()
        elif word == "that" and self.last() in words.REPORTING and self.next() in words.SUBJECTS:
            self.at += 1
        elif word == "cannot" and self.next() not in words.ONLY:
            self._apostrophe(word)
        elif word in ("a", "an", "per") and self.next() in PERIODS:
            self.add("per", ANY)
        elif word in DAILY and self.last() in words.TIMES:
            self.add("per", ANY, 0)
            self.add(DAILY[word], self.lower)
        elif self._phrase(word, case) or self._bound(word):
            return
        elif word in CARDINALS or word in ORDINALS or word in MONTHS:
            self._number(word)
        elif word == "an" and self.next()[:1] not in _BEHIND_AN:
            self.add(word, case)
        else:
            self.add(self.equal.get(word, word), case)

    def _the(self) -> None:
        """`the` goes, unless it tells certain things from things in general: `the laws`, `the children`, `the few`.

        Nor does it go where the noun is half of a preposition without it: `in case of fire`, `in the case of fire`.
        """
        if self.place != AT_START and self._is_telling():
            self.add("the", ANY if self.place == INSIDE else self.lower)
        else:
            self.place = BEHIND_THE
            self.at += 1

    def _is_telling(self) -> bool:
        """Whether the current `the`, which begins no sentence, says something, or is no article at all."""
        follows, last = self.next().lower(), self.last()
        return (
            follows in words.THE_STAYS_BEFORE
            or last in words.THE_STAYS_AFTER
            or self._is_before_plural()
            or (last in words.OF_PREPOSITIONS and self._is_of(follows))
            or follows in ("", "the")
            or follows in _ENDS
            or self.is_foreign
        )

    def _is_before_plural(self) -> bool:
        """Whether `the` is that of a noun that means something else without it: a plural, `water`, `office`."""
        for at, token in enumerate(self.tokens[self.at + 1 : self.at + 1 + _NOUN_PHRASE_MAX]):
            noun = token.lower()
            if noun in words.IRREGULAR_PLURALS or noun in words.THE_STAYS_WITHOUT_PLURAL:
                return True
            if is_numeral(noun):
                continue
            if noun in words.FUNCTION_WORDS or not noun.isalpha():
                return False
            is_plural = noun[-1] == "s" and noun[-2:] != "ss" and noun not in words.SINGULARS_IN_S
            if is_plural and (at == 0 or noun not in words.TIME_NOUNS):
                return True
        return False

    def _is_of(self, noun: str) -> bool:
        """Whether `of` follows the noun behind the current token: `the case of`, but not `the third of May`."""
        is_noun = noun.isalpha() and noun not in ORDINALS
        return is_noun and self.tokens[self.at + 2 : self.at + 3] == ["of"]

    def _phrase(self, word: str, case: str) -> bool:
        """`for example`, `in order to`: several words that say the same as others."""
        for rest, canonical in words.PHRASES.get(word, {}).items():
            if self._follow(rest) and not (canonical == "must" and self._has_object_before()):
                self.add(canonical, case, 1 + len(rest))
                return True
        return False

    def _has_object_before(self) -> bool:
        """Whether what `have` may be said of stands before: `what he has to offer`."""
        return not words.OBJECTS_BEFORE.isdisjoint(self.keys[-_OBJECT_MAX:])

    def _bound(self, word: str) -> bool:
        """`at least five`, `about 5 mg`: words that say the same as others, but only before a number.

        Behind a number they compare it, or say by how much: `3 more than 2`.
        """
        if word in words.BOUNDS and (self.last()[:1] != QUANTITY or is_moment(self.last())):
            for rest, canonical in words.BOUNDS[word].items():
                if self._follow(rest) and starts_quantity(self.tokens, self.at + 1 + len(rest)):
                    self.add(canonical, ANY, 1 + len(rest))
                    return True
        if word in words.APPROXIMATE or word in words.ABOUT:
            is_before_number = starts_quantity(self.tokens, self.at + 1)
            reading = read_quantity(self.tokens, self.at + 1) if is_before_number else None
            if reading and (word in words.APPROXIMATE or " " in reading.key or reading.key[0] == TIME):
                self.add(ABOUT, ANY)
                return True
        return False

    def _follow(self, rest: tuple[str, ...]) -> bool:
        return tuple(self.tokens[self.at + 1 : self.at + 1 + len(rest)]) == rest

    # Words with capitals ----------------------------------------------------------------------------------------------

    def _capital(self, piece: str) -> None:
        """A word of letters with a capital somewhere."""
        is_money = piece in CURRENCY_CODES and starts_quantity(self.tokens, self.at + 1)
        if piece in MONTHS or (is_money and not self.is_unclear(self.next())):
            self._number(piece)
        elif piece == "A" and self.place == AT_START and self._is_article():
            self._special("a")
        elif len(piece) == 1 or self._may_be_unit(piece):
            self.add(piece, ANY)
        elif self._is_homograph(piece):
            is_unclear = self.lower == SHOUTED and self.next() not in CURRENCY_SIGNS  # `GIVE IT TO US`, `US$5`
            self.add(piece, SHOUTED if is_unclear else ANY)
        elif piece.isupper():
            self._upper(piece)
        elif piece[1:].islower():
            self._title(piece.lower())
        else:
            self.has_identifiers = True
            self.add(piece, ANY)

    def _may_be_unit(self, piece: str) -> bool:
        """Whether a short word behind a number may be the sign of a unit that we do not know: `Mmol` is not `mmol`."""
        is_behind_number = self.at > 0 and is_numeral(self.tokens[self.at - 1])
        return is_behind_number and len(piece) <= _UNIT_MAX and piece.lower() not in words.COMMON_NOUNS

    def _is_article(self) -> bool:
        """Whether `A` at the beginning of a sentence is the article, as it is not in `A calls B`."""
        ahead = self.tokens[self.at + 1 : self.at + _SENTENCE_MAX]
        has_letters = any(len(other) == 1 and "B" <= other <= "Z" and other != "I" for other in ahead)
        return len(self.next()) > 1 and self.next().isalpha() and not has_letters

    def _is_homograph(self, piece: str) -> bool:
        """Whether a word is another one without its capital. `Can` at the beginning of a sentence is the verb."""
        if piece not in words.HOMOGRAPH_FORMS:
            return False
        return self.place != AT_START or piece.isupper() or piece.lower() not in words.FUNCTION_WORDS

    def _upper(self, letters: str, count: int = 1) -> None:
        """A word in capitals, or an abbreviation that was written with full stops."""
        word = letters.lower()
        if word in words.EMPHASIS:
            self._special(word)
        elif letters in words.HOMOGRAPH_FORMS:
            self.add(letters, ANY, count)
        else:
            self.add(word, UPPER, count)

    def _title(self, word: str) -> None:
        """A word with a capital at its beginning only; `word` is the token in small letters."""
        is_common = word in words.FUNCTION_WORDS or word in words.COMMON_NOUNS
        is_start = self.place == AT_START
        case = self.lower if is_common else FIRST
        if word == "the" and not is_start:
            self._the()
        elif not is_start and word in words.PRONOUNS:
            self.add(word, TITLE)  # `She prayed to Him`
        elif not (is_start or is_common):
            self.add(word, TITLE)
        elif word in _SPECIAL:
            self._special(word, case)
        else:
            self.add(word, case)

    # Words with a hyphen, an apostrophe, a full stop, a digit … inside ------------------------------------------------

    def _compound(self, piece: str) -> None:
        word = piece.lower() if self.place == AT_START else piece
        if word in CARDINALS or word in ORDINALS:
            self._number(word)
        elif "://" in piece:
            self.add(piece, ANY)
        elif "'" in piece:
            self._apostrophe(piece)
        elif is_dotted(piece):
            self._dotted(piece)
        elif version := _VERSION.fullmatch(piece):
            self.add(QUANTITY + version[1], ANY)
        elif piece[-1] == ")":
            self._code(piece)
        elif piece.replace("-", "").isalpha():
            self._hyphenated(piece)
        else:
            self.has_identifiers = True
            self.add(piece, ANY)

    def _apostrophe(self, piece: str) -> None:
        """Contractions, the end of a possessive, and names (`O'Brien`)."""
        word = piece.lower()
        expanded = self._is_or_has() if word == "'s" else words.CONTRACTIONS.get(word, ())
        if not expanded:
            self.add(word if piece.islower() or self.place == AT_START else piece, ANY)
            return
        for part in expanded[:-1]:
            self.add("I" if part == "i" else part, self.lower, 0)
            self.shown[-1] = piece
        self.add(expanded[-1], self.lower)

    def _is_or_has(self) -> tuple[str, ...]:
        """What `'s` stands for: the possessive, or `is`, `has`, `us`. `it's increased` may be either, so it stays."""
        last, follows = self.last(), self.next()
        if last == "let":
            return ("us",)
        if last not in words.IS_CONTRACTED_AFTER:
            return ("'s",)
        if follows in words.HAS_BEFORE:
            return ("has",)
        return ("'s",) if follows.endswith(("ed", "en")) or follows in words.PARTICIPLES else ("is",)

    def _dotted(self, piece: str) -> None:
        """`U.S.`, `e.g.`, `J.K.`: an abbreviation with full stops."""
        count = 2 if self.next() == "." else 1
        letters = piece.replace(".", "")
        if piece in words.DOTTED:
            self.add(words.DOTTED[piece], self.lower, count)
        elif letters.isupper() and count > 1:
            self._upper(letters, count)
        else:
            self.add(piece, ANY, count)

    def _hyphenated(self, piece: str) -> None:
        word = piece.lower()
        word = self.equal.get(word, word)
        if piece[1] == "-" and word[0] not in "ex":
            self.add(piece, ANY)  # `D-glucose` is not `d-glucose`, though `E-mail` and `X-rays` begin a sentence
        elif piece.islower():
            self.add(word, self.lower)
        elif piece[1:].islower() or piece.istitle():
            self.add(word, FIRST if self.place == AT_START else TITLE)
        elif piece.isupper():
            self.add(word, UPPER)
        else:
            self.add(piece, ANY)

    # Numbers and code -------------------------------------------------------------------------------------------------

    def _number(self, piece: str) -> None:
        """A number, date, time or amount. `piece` is the current token, in small letters if it begins a sentence."""
        self.tokens[self.at] = piece
        if piece in CARDINALS and self.last() == "no":
            self.add(piece, self.lower)
            return
        if self.is_unclear(piece) or self._is_pair(piece):
            self.add(QUANTITY + piece, ANY)
            return
        reading = read_date(self.tokens, self.at)
        if reading is None and piece not in MONTHS:
            reading = read_quantity(self.tokens, self.at)
        if reading is None:
            self.add(piece if piece in words.HOMOGRAPH_FORMS else piece.lower(), ANY)
            return
        if " " in reading.key and self.last() == "to" and self._is_range(reading.key):
            self.keys[-1], self.cases[-1] = RANGE, ANY  # `5 to 10 mg` is `5-10 mg`
        self.add(reading.key, self._unit_case(reading.end), reading.end - self.at)

    def _unit_case(self, end: int) -> str:
        """How an amount is written whose unit may have a capital, as in `60 Minutes`."""
        unit = self.tokens[end - 1]
        if unit.lower() not in UNITS_IN_TITLES:
            return ANY
        return self.lower if self.lower == SHOUTED else ANY if unit.islower() else TITLE

    def _is_pair(self, numeral: str) -> bool:
        """Whether brackets make two of a number with a comma: `{1,200}`, `(1,200)`."""
        is_opened = "," in numeral and self.at > 0 and self.tokens[self.at - 1] in _PAIR_OPENS
        return is_opened and self.next() in _PAIR_CLOSES

    def _is_range(self, end: str) -> bool:
        """Whether the number before `to` is one that a range to `end` begins with."""
        if len(self.keys) < _RANGE_MIN or not is_bare(self.keys[-2]) or self.keys[-3:-2] in _PREFERRING:
            return False
        start, stop = (key[1:].partition(" ")[0] for key in (self.keys[-2], end))
        try:
            return float(start) <= float(stop)
        except ValueError:
            return True

    def _code(self, piece: str) -> None:
        self.has_identifiers = True
        code = piece.strip("`") if piece[0] == "`" else piece.rstrip(".")  # `cd ..`
        has_text = '"' in code or "'" in code
        is_free = not has_text and (piece[-1] == ")" or has_free_spaces(code))
        self.add(CODE + (_SPACED_SYMBOL.sub(r"\1", code) if is_free else code), ANY)
