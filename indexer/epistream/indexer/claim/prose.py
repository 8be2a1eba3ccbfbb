"""Prose to facts: a text becomes the sequence of its words, with everything taken out that is form and not claim.

    In 2010, the company's revenue wasn't above $1,000.50.
    in  =2010  company  's  revenue  was  not  above  =1000.5 $

Nothing is left out but `the` where it changes nothing, commas and full stops where they change nothing, and `that`
behind a verb of saying. All other tokens stay, in order: whatever this module does not know is a fact of its own.
"""

import re
from functools import cached_property
from typing import Final

from epistream.indexer.claim import words
from epistream.indexer.claim.facts import (
    ANY,
    CODE,
    DATE,
    FIRST,
    LOWER,
    NOUN,
    QUANTITY,
    SHOUTED,
    SHOUTED_NOUN,
    TIME,
    TITLE,
    UNCAPPED,
    UPPER,
    Facts,
)
from epistream.indexer.claim.measures import CARDINALS, CURRENCY_CODES, CURRENCY_SIGNS, DAILY, MONTHS, ORDINALS, PERIODS
from epistream.indexer.claim.order import is_moment, with_time_first
from epistream.indexer.claim.quantities import is_dash, is_numeral, read_date, read_quantity, starts_quantity
from epistream.indexer.claim.source import has_free_spaces
from epistream.indexer.claim.tokens import is_dotted, is_shouted, tokens_of

_VERSION: Final = re.compile(r"[vV](\d+(?:\.\d+)+)")
_SPACED_SYMBOL: Final = re.compile(r"\s*([,()=+\[\]])\s*")
_BREAKS: Final = frozenset([".", ";", ":"])
"""What ends a sentence or a part of one, beside dots, dashes and `!`. Which of them it is, is form."""

# Keys of symbols that are written in several ways.
_BREAK: Final = "."
_COMMA: Final = ","
_QUOTE: Final = '"'
_RANGE: Final = "\N{EN DASH}"
_ABOUT: Final = "≈"
_MINUS: Final = "-"

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

# Where the next word stands, as far as its case depends on it.
_INSIDE: Final = 0
_AT_START: Final = 1
_BEHIND_THE: Final = 2
_CASE_THERE: Final[tuple[dict[str, str], ...]] = (
    {},
    {LOWER: UNCAPPED},
    {LOWER: NOUN, SHOUTED: SHOUTED_NOUN},
)

_LATIN_END: Final = "\u02af"
"""The last of the Latin letters, but for rare ones; what is beyond begins a word of another script."""
_IN_WORDS: Final = str.maketrans("", "", "-'")
"""What may be in words, beside letters."""
_SENTENCE_MAX: Final = 32
"""How far to look for letters that stand for things, in tokens."""
_OPENING: Final = frozenset("\"'([")
_CLOSING: Final = frozenset("\"')]")
_EQUATION_MAX: Final = 8
"""How far behind an equals sign a dash may still be a minus, in facts."""
_UNIT_MAX: Final = 5
"""Longer signs of units are rare, and longer words with a capital behind a number are names or emphasis."""
_DENIED_MAX: Final = 16
"""How far behind a negation a comma may still say what is denied, in facts."""


def read_prose(text: str) -> Facts:
    """The facts of a text. Pure, never raises, and takes time in proportion to the text's length."""
    shouted = is_shouted(text)
    reader = _Reader(tokens_of(text), SHOUTED if shouted else LOWER)
    reader.read()
    keys, cases = reader.keys, "".join(reader.cases)
    if shouted:
        cases = "".join(
            SHOUTED if case == ANY and shown[:1].isalpha() else case
            for shown, case in zip(reader.shown, cases, strict=True)
        )
    while keys and keys[-1] == _BREAK:
        keys.pop()
    if text.islower() and not reader.has_identifiers and words.CODE_WORDS.isdisjoint(keys):
        cases = "".join(
            UNCAPPED if case == LOWER and key not in words.NAMESAKES else case
            for key, case in zip(keys, cases, strict=False)
        )
    return with_time_first(Facts(keys, reader.shown[: len(keys)], cases[: len(keys)]))


class _Reader:
    """Walks over the tokens once, from left to right, and collects facts."""

    def __init__(self, tokens: list[str], lower: str) -> None:
        self.tokens = tokens
        self.lower = lower
        """How words in small letters are written."""
        self.equal = words.EQUAL if words.SPELLED.isdisjoint(tokens) else {}
        """The words that have another form. None have where the text is about how they are spelled."""
        self.keys: list[str] = []
        self.shown: list[str] = []
        self.cases: list[str] = []
        self.at = 0
        self.place = _AT_START
        self.has_identifiers = False
        """Whether names of a program were met, so that case counts."""

    def read(self) -> None:
        while self.at < len(self.tokens):
            piece = self.tokens[self.at]
            if not piece.isalpha():
                self._mixed(piece)
            elif not piece.islower():
                self._capital(piece)
            elif piece in _SPECIAL:
                self._special(piece)
            elif self.place != _INSIDE:
                self._add(piece, self.lower)
            else:  # most words: as `_add`, without the call
                self.keys.append(piece)
                self.shown.append(piece)
                self.cases.append(self.lower)
                self.at += 1

    def _mixed(self, piece: str) -> None:
        """Anything that is not a word of letters."""
        if is_numeral(piece):
            self._number(piece)
        elif piece[0].isalpha() or piece[0] == "_" or (piece[0] == "'" and len(piece) > 1):
            self._compound(piece)
        elif piece[0] in "`/~.-" and piece.strip("-.") and len(piece) > 1:
            self._code(piece)
        else:
            self._symbol(piece)

    def _add(self, key: str, case: str, count: int = 1) -> None:
        """Collect a fact that was read from the next `count` tokens."""
        if self.place:
            case = _CASE_THERE[self.place].get(case, case)
            self.place = _INSIDE
        end = self.at + count
        self.keys.append(key)
        self.shown.append(self.tokens[self.at] if count == 1 else " ".join(self.tokens[self.at : end]))
        self.cases.append(case)
        self.at = end

    def _next(self) -> str:
        return self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else ""

    def _last(self) -> str:
        return self.keys[-1] if self.keys else ""

    # Words in small letters -------------------------------------------------------------------------------------------

    def _special(self, word: str, case: str | None = None) -> None:
        """A word that is not simply itself. `word` is the current token in small letters."""
        case = case or self.lower
        if word == "the":
            self._the()
        elif word == "that" and self._last() in words.REPORTING and self._next() in words.SUBJECTS:
            self.at += 1
        elif word == "cannot" and self._next() not in words.ONLY:
            self._apostrophe(word)
        elif word in ("a", "an", "per") and self._next() in PERIODS:
            self._add("per", ANY)
        elif word in DAILY and self._last() in words.TIMES:
            self._add("per", ANY, 0)
            self._add(DAILY[word], self.lower)
        elif self._phrase(word, case) or self._bound(word):
            return
        elif word in CARDINALS or word in ORDINALS or word in MONTHS:
            self._number(word)
        else:
            self._add(self.equal.get(word, word), case)

    def _the(self) -> None:
        """`the` goes, unless it tells certain things from things in general: `the laws`, `the children`, `the few`.

        Nor does it go where the noun is half of a preposition without it: `in case of fire`, `in the case of fire`.
        """
        follows, last = self._next().lower(), self._last()
        is_plural = follows.isalpha() and follows.endswith("s") and not follows.endswith(("ss", "us", "is"))
        is_telling = is_plural or follows in words.IRREGULAR_PLURALS or follows in words.THE_STAYS_BEFORE
        is_telling = (
            is_telling or last in words.THE_STAYS_AFTER or (last in words.OF_PREPOSITIONS and self._is_of(follows))
        )
        if is_telling and self.place != _AT_START:
            self._add("the", ANY)
        else:
            self.place = _BEHIND_THE
            self.at += 1

    def _is_of(self, noun: str) -> bool:
        """Whether `of` follows the noun behind the current token: `the case of`, but not `the third of May`."""
        is_noun = noun.isalpha() and noun not in ORDINALS
        return is_noun and self.tokens[self.at + 2 : self.at + 3] == ["of"]

    def _phrase(self, word: str, case: str) -> bool:
        """`for example`, `in order to`: several words that say the same as others."""
        for rest, canonical in words.PHRASES.get(word, {}).items():
            if self._follow(rest):
                self._add(canonical, case, 1 + len(rest))
                return True
        return False

    def _bound(self, word: str) -> bool:
        """`at least five`, `about 5 mg`: words that say the same as others, but only before a number."""
        for rest, canonical in words.BOUNDS.get(word, {}).items():
            if self._follow(rest) and starts_quantity(self.tokens, self.at + 1 + len(rest)):
                self._add(canonical, ANY, 1 + len(rest))
                return True
        if word in words.APPROXIMATE or word in words.ABOUT:
            is_before_number = starts_quantity(self.tokens, self.at + 1)
            reading = read_quantity(self.tokens, self.at + 1) if is_before_number else None
            if reading and (word in words.APPROXIMATE or " " in reading.key or reading.key[0] == TIME):
                self._add(_ABOUT, ANY)
                return True
        return False

    def _follow(self, rest: tuple[str, ...]) -> bool:
        return tuple(self.tokens[self.at + 1 : self.at + 1 + len(rest)]) == rest

    # Words with capitals ----------------------------------------------------------------------------------------------

    def _capital(self, piece: str) -> None:
        """A word of letters with a capital somewhere."""
        is_money = piece in CURRENCY_CODES and starts_quantity(self.tokens, self.at + 1)
        if piece in MONTHS or (is_money and not self._is_unclear(self._next())):
            self._number(piece)
        elif piece == "A" and self.place == _AT_START and self._is_article():
            self._special("a")
        elif len(piece) == 1 or self._may_be_unit(piece):
            self._add(piece, ANY)
        elif self._is_homograph(piece):
            is_unclear = self.lower == SHOUTED and self._next() not in CURRENCY_SIGNS  # `GIVE IT TO US`, `US$5`
            self._add(piece, SHOUTED if is_unclear else ANY)
        elif piece.isupper():
            self._upper(piece)
        elif piece[1:].islower():
            self._title(piece.lower())
        else:
            self.has_identifiers = True
            self._add(piece, ANY)

    def _may_be_unit(self, piece: str) -> bool:
        """Whether a short word behind a number may be the sign of a unit that we do not know: `Mmol` is not `mmol`."""
        is_behind_number = self.at > 0 and is_numeral(self.tokens[self.at - 1])
        return is_behind_number and len(piece) <= _UNIT_MAX and piece.lower() not in words.COMMON_NOUNS

    def _is_article(self) -> bool:
        """Whether `A` at the beginning of a sentence is the article, as it is not in `A calls B`."""
        ahead = self.tokens[self.at + 1 : self.at + _SENTENCE_MAX]
        has_letters = any(len(other) == 1 and "B" <= other <= "Z" and other != "I" for other in ahead)
        return len(self._next()) > 1 and self._next().isalpha() and not has_letters

    def _is_homograph(self, piece: str) -> bool:
        """Whether a word is another one without its capital. `Can` at the beginning of a sentence is the verb."""
        if piece not in words.HOMOGRAPH_FORMS:
            return False
        return self.place != _AT_START or piece.isupper() or piece.lower() not in words.FUNCTION_WORDS

    def _upper(self, letters: str, count: int = 1) -> None:
        """A word in capitals, or an abbreviation that was written with full stops."""
        word = letters.lower()
        if word in words.EMPHASIS:
            self._special(word)
        elif letters in words.HOMOGRAPH_FORMS:
            self._add(letters, ANY, count)
        else:
            self._add(word, UPPER, count)

    def _title(self, word: str) -> None:
        """A word with a capital at its beginning only; `word` is the token in small letters."""
        is_common = word in words.FUNCTION_WORDS or word in words.COMMON_NOUNS
        is_start = self.place == _AT_START
        case = self.lower if is_common else FIRST
        if word == "the" and not is_start:
            self._the()
        elif not (is_start or is_common):
            self._add(word, TITLE)
        elif word in _SPECIAL:
            self._special(word, case)
        else:
            self._add(word, case)

    # Words with a hyphen, an apostrophe, a full stop, a digit … inside ------------------------------------------------

    def _compound(self, piece: str) -> None:
        word = piece.lower() if self.place == _AT_START else piece
        if word in CARDINALS or word in ORDINALS:
            self._number(word)
        elif "'" in piece:
            self._apostrophe(piece)
        elif is_dotted(piece):
            self._dotted(piece)
        elif version := _VERSION.fullmatch(piece):
            self._add(QUANTITY + version[1], ANY)
        elif piece[-1] == ")":
            self._code(piece)
        elif piece.replace("-", "").isalpha():
            self._hyphenated(piece)
        else:
            self.has_identifiers = True
            self._add(piece, ANY)

    def _apostrophe(self, piece: str) -> None:
        """Contractions, the end of a possessive, and names (`O'Brien`)."""
        word = piece.lower()
        expanded = self._is_or_has() if word == "'s" else words.CONTRACTIONS.get(word, ())
        if not expanded:
            self._add(word if piece.islower() or self.place == _AT_START else piece, ANY)
            return
        for part in expanded[:-1]:
            self._add("I" if part == "i" else part, self.lower, 0)
            self.shown[-1] = piece
        self._add(expanded[-1], self.lower)

    def _is_or_has(self) -> tuple[str, ...]:
        """What `'s` stands for: the possessive, or `is`, `has`, `us`. `it's increased` may be either, so it stays."""
        last, follows = self._last(), self._next()
        if last == "let":
            return ("us",)
        if last not in words.IS_CONTRACTED_AFTER:
            return ("'s",)
        if follows in words.HAS_BEFORE:
            return ("has",)
        return ("'s",) if follows.endswith(("ed", "en")) or follows in words.PARTICIPLES else ("is",)

    def _dotted(self, piece: str) -> None:
        """`U.S.`, `e.g.`, `J.K.`: an abbreviation with full stops."""
        count = 2 if self._next() == "." else 1
        letters = piece.replace(".", "")
        if piece in words.DOTTED:
            self._add(words.DOTTED[piece], self.lower, count)
        elif letters.isupper():
            self._upper(letters, count)
        else:
            self._add(piece, ANY, count)

    def _hyphenated(self, piece: str) -> None:
        word = piece.lower()
        word = self.equal.get(word, word)
        if piece[1] == "-" and word[0] not in "ex":
            self._add(piece, ANY)  # `D-glucose` is not `d-glucose`, though `E-mail` and `X-rays` begin a sentence
        elif piece.islower():
            self._add(word, self.lower)
        elif piece[1:].islower() or piece.istitle():
            self._add(word, FIRST if self.place == _AT_START else TITLE)
        elif piece.isupper():
            self._add(word, UPPER)
        else:
            self._add(piece, ANY)

    # Numbers and code -------------------------------------------------------------------------------------------------

    def _number(self, piece: str) -> None:
        """A number, date, time or amount. `piece` is the current token, in small letters if it begins a sentence."""
        self.tokens[self.at] = piece
        if piece in CARDINALS and self._last() == "no":
            self._add(piece, self.lower)
            return
        if self._is_unclear(piece):
            self._add(QUANTITY + piece, ANY)
            return
        reading = read_date(self.tokens, self.at)
        if reading is None and piece not in MONTHS:
            reading = read_quantity(self.tokens, self.at)
        if reading is None:
            self._add(piece if piece in words.HOMOGRAPH_FORMS else piece.lower(), ANY)
            return
        if " " in reading.key and self._last() == "to" and len(self.keys) > 1 and self._is_bare(self.keys[-2]):
            self.keys[-1], self.cases[-1] = _RANGE, ANY  # `5 to 10 mg` is `5-10 mg`
        self._add(reading.key, ANY, reading.end - self.at)

    def _is_unclear(self, numeral: str) -> bool:
        """Whether a number may be two and a half or 2500: `2,500` is, `2,500,000` and `2,500.5` are not."""
        return numeral.count(",") == 1 and "." not in numeral and self._may_be_decimal_comma

    @cached_property
    def _may_be_decimal_comma(self) -> bool:
        """Whether the text may be in another language than English, in which a comma begins the fraction."""
        others = sum(
            token.lower() in words.OTHER_LANGUAGES or (token[0] > _LATIN_END and token[0].isalpha())
            for token in self.tokens
        )
        return others >= sum(token.lower() in words.ENGLISH for token in self.tokens)

    @staticmethod
    def _is_bare(key: str) -> bool:
        return key[:1] == QUANTITY and " " not in key

    def _code(self, piece: str) -> None:
        self.has_identifiers = True
        code = piece.strip("`") if piece[0] == "`" else piece.rstrip(".")  # `cd ..`
        has_text = '"' in code or "'" in code
        is_free = not has_text and (piece[-1] == ")" or has_free_spaces(code))
        self._add(CODE + (_SPACED_SYMBOL.sub(r"\1", code) if is_free else code), ANY)

    # Symbols ----------------------------------------------------------------------------------------------------------

    def _is_money(self, piece: str) -> bool:
        """Whether a sign of a currency is here and the number behind it has one reading."""
        return piece in CURRENCY_SIGNS and not self._is_unclear(self._next())

    def _is_mentioned(self) -> bool:
        """Whether a mark stands alone in quotation marks or brackets, and so for itself: `the separator is ";"`."""
        before = self.tokens[self.at - 1] if self.at else ""
        return before in _OPENING and self._next() in _CLOSING

    def _symbol(self, piece: str) -> None:
        if self._is_mentioned():
            self._add(piece.strip(), ANY)
        elif piece == _COMMA:
            self._comma()
        elif is_dash(piece):
            self._dash(piece)
        elif piece == "\N{MINUS SIGN}":
            self._add(_MINUS, ANY)
        elif piece in _BREAKS or (piece != ".." and not piece.strip(".")):  # `cd ..`
            self._break(piece)
        elif not piece.strip("?!"):
            self._mark(piece)
        elif piece in (_QUOTE, "'"):
            self._quote(piece)
        elif self._is_money(piece) and (reading := read_quantity(self.tokens, self.at)):
            self._add(reading.key, ANY, reading.end - self.at)
        else:
            is_about = piece == "~" and starts_quantity(self.tokens, self.at + 1)  # `X ~ N(0, 1)` says something else
            self._add(_ABOUT if is_about else piece.strip(), ANY)
            self.place = _AT_START if piece == "(" else _INSIDE

    def _dash(self, piece: str) -> None:
        """A range between numbers; the end of a part of a sentence, if it is long or stands alone; else a hyphen.

        Before a number, between the terms of a formula and in an equation it may be a minus, so there it stays.
        """
        last, follows = self._last(), self._next()
        is_before_quantity = starts_quantity(self.tokens, self.at + 1)
        is_decrement = piece == "--" and len(last) == 1 and last.isalpha()
        is_two_signs = piece == "--" and last.startswith(QUANTITY + "-")  # `-5--2`
        if is_decrement or is_two_signs:
            self._add(piece, ANY)
        elif (is_before_quantity or follows in MONTHS) and last[:1] in (QUANTITY, DATE, TIME):
            self._add(_RANGE, ANY)
        elif len(piece) == 1 and piece != "\N{EM DASH}":
            self._add(piece, ANY)
        elif is_before_quantity or self._is_equation() or (_is_term(last, ")]|") and _is_term(follows, "([|")):
            self._add(_MINUS, ANY)
        else:
            self._break(piece)

    def _is_equation(self) -> bool:
        """Whether an equals sign stands shortly before: `profit = revenue - cost`."""
        return "=" in self.keys[-_EQUATION_MAX:]

    def _comma(self) -> None:
        last, follows = self._last(), self._next()
        word = follows.lower()
        is_free = not last or not follows or last in (_QUOTE, _BREAK, _COMMA) or follows[0] in '0123456789").;'
        is_free = is_free or is_moment(last) or follows in MONTHS
        is_free = is_free or last in words.COMMA_IS_FREE_AFTER or word in words.COMMA_IS_FREE_BEFORE
        is_free = is_free or word in words.COMMA_IS_FREE_BEFORE_PHRASE
        if is_free and (word in ("and", "or") or word in words.COMMA_IS_FREE_BEFORE_PHRASE):
            is_free = words.DENIALS.isdisjoint(self.keys[-_DENIED_MAX:])
        if is_free and last not in words.COMMA_COUNTS_AFTER:
            self.at += 1
        else:
            self._add(_COMMA, ANY)

    def _break(self, piece: str) -> None:
        """The end of a sentence or of a part of it. A full stop after an abbreviation is none."""
        last = self._last()
        is_number_sign = last == "no" and is_numeral(self._next())
        if piece == "." and (is_number_sign or last in words.ABBREVIATIONS or (len(last) == 1 and last.isalpha())):
            if is_number_sign:
                self.keys[-1] = "number"
            self.at += 1
            return
        if not last or last == _BREAK:
            self.at += 1
        elif piece != "." and (self._is_formula(last) or (piece == "..." and self._is_bare(last))):  # `0.333...`
            self._add(piece.strip(), ANY)
        else:
            self._add(_BREAK, ANY)
        self.place = _AT_START

    def _is_formula(self, last: str) -> bool:
        """Whether what stands here joins two letters, or two numbers: `a - b` is not `a : b`, nor `0..9` `0...9`."""
        follows = self._next()
        has_letters = len(last) == 1 and last.isalpha() and len(follows) == 1 and follows.isalpha()
        return has_letters or (self._is_bare(last) and is_numeral(follows))

    def _mark(self, piece: str) -> None:
        """`?` makes a question of a statement; `!` only ends it behind a word. That of `n!`, `(n - 1)!`, `!x` stays."""
        last = self._last()
        if "?" in piece:
            self._add("?", ANY)
            self.place = _AT_START
        elif _is_word(last) or last == _QUOTE or (last[:1] in (QUANTITY, DATE, TIME) and not self._is_bare(last)):
            self._break(piece)
        else:
            self._add(piece, ANY)

    def _quote(self, piece: str) -> None:
        """Quotation marks stay. Which they are is form, and so is whether a full stop stands before or after them.

        Behind a number, a letter or a bracket they may be feet and inches, minutes and seconds, or derivatives.
        """
        last = self._last()
        if last == _BREAK:
            self.keys[-1] = self.shown[-1] = _QUOTE
            self._add(_BREAK, ANY)
        else:
            self._add(piece if _is_term(last, ")]") else _QUOTE, ANY)
        self.place = _AT_START


def _is_word(key: str) -> bool:
    """Whether a key is a word of several letters."""
    return len(key) > 1 and key.translate(_IN_WORDS).isalpha()


def _is_term(key: str, brackets: str) -> bool:
    """Whether a key or token may be the term of a formula: a letter, a number, a call, one in brackets."""
    if len(key) == 1:
        return key.isalnum() or key in brackets
    return key[:1] in (QUANTITY, CODE) or (key[:1].isalnum() and not _is_word(key))
