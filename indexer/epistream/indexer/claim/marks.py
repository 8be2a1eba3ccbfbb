"""Marks in prose to facts: which commas, stops, dashes and quotation marks are form, and which say something."""

from typing import Final

from epistream.indexer.claim import words
from epistream.indexer.claim.facts import ANY, CODE, DATE, QUANTITY, TIME
from epistream.indexer.claim.measures import CURRENCY_SIGNS, MONTHS, WEEKDAYS
from epistream.indexer.claim.order import is_moment
from epistream.indexer.claim.quantities import is_dash, is_numeral, read_date, read_quantity, starts_quantity
from epistream.indexer.claim.walk import ABOUT, AT_START, BREAK, COMMA, INSIDE, MINUS, QUOTE, RANGE, Walk, is_bare

_BREAKS: Final = frozenset([".", ";", ":"])
"""What ends a sentence or a part of one, beside dots, dashes and `!`. Which of them it is, is form."""
_IN_WORDS: Final = str.maketrans("", "", "-'")
"""What may be in words, beside letters."""
_OPENING: Final = frozenset("\"'([")
_CLOSING: Final = frozenset("\"')]")
_EQUATION_MAX: Final = 8
"""How far behind an equals sign a dash may still be a minus, in facts."""
_LITERAL_MAX: Final = 64
"""How long what is meant as it is written may be, in tokens."""
_JOINTS: Final = frozenset(["and", "or"])
_PERIOD_NAMES: Final = frozenset(form for name in (*WEEKDAYS, *MONTHS) for form in (name, name.lower()))
"""What a dash between makes a range of, as it is written and as a key."""


def read_mark(walk: Walk, piece: str) -> None:
    """Read a mark, which is the current token."""
    if _is_mentioned(walk):
        walk.add(piece.strip(), ANY)
    elif piece == COMMA:
        _comma(walk)
    elif is_dash(piece):
        _dash(walk, piece)
    elif piece == "\N{MINUS SIGN}":
        walk.add(MINUS, ANY)
    elif piece in _BREAKS or (piece != ".." and not piece.strip(".")):  # `cd ..`
        _break(walk, piece)
    elif not piece.strip("?!"):
        _mark(walk, piece)
    elif piece in (QUOTE, "'"):
        _quote(walk, piece)
    elif _is_money(walk, piece) and (reading := read_quantity(walk.tokens, walk.at)):
        walk.add(reading.key, ANY, reading.end - walk.at)
    else:
        is_about = piece == "~" and starts_quantity(walk.tokens, walk.at + 1)  # `X ~ N(0, 1)` says something else
        walk.add(ABOUT if is_about else piece.strip(), ANY)
        walk.place = AT_START if piece == "(" or piece[1:] in _BREAKS else INSIDE


def _is_money(walk: Walk, piece: str) -> bool:
    """Whether a sign of a currency is here and the number behind it has one reading."""
    return piece in CURRENCY_SIGNS and not walk.is_unclear(walk.next())


def _is_mentioned(walk: Walk) -> bool:
    """Whether a mark stands alone in quotation marks or brackets, and so for itself: `the separator is ";"`."""
    return walk.at > 0 and walk.tokens[walk.at - 1] in _OPENING and walk.next() in _CLOSING


def _dash(walk: Walk, piece: str) -> None:
    """A range between numbers; the end of a part of a sentence, if it is long or stands alone; else a hyphen.

    Before a number, between the terms of a formula and in an equation it may be a minus, so there it stays.
    """
    last, follows = walk.last(), walk.next()
    is_before_quantity = starts_quantity(walk.tokens, walk.at + 1)
    is_decrement = piece == "--" and len(last) == 1 and last.isalpha()
    is_two_signs = piece == "--" and last.startswith(QUANTITY + "-")  # `-5--2`
    if is_decrement or is_two_signs:
        walk.add(piece, ANY)
    elif _is_range(walk, piece):
        walk.add(RANGE, ANY)
    elif len(piece) == 1 and piece != "\N{EM DASH}":
        walk.add(piece, ANY)
    elif is_before_quantity or _is_equation(walk) or (_is_term(last, ")]|") and _is_term(follows, "([|")):
        walk.add(MINUS, ANY)
    else:
        _break(walk, piece)


def _is_range(walk: Walk, piece: str) -> bool:
    """Whether a dash stands between two numbers or dates, or spaced between the names of days or months."""
    last, follows = walk.last(), walk.next()
    is_before_date = follows in MONTHS or starts_quantity(walk.tokens, walk.at + 1)
    has_names = piece[0].isspace() and last in _PERIOD_NAMES and follows in _PERIOD_NAMES
    return has_names or (is_before_date and last[:1] in (QUANTITY, DATE, TIME))


def _is_equation(walk: Walk) -> bool:
    """Whether an equals sign stands shortly before: `profit = revenue - cost`."""
    return "=" in walk.keys[-_EQUATION_MAX:]


def _comma(walk: Walk) -> None:
    """A comma goes where it changes nothing.

    Behind a denial it may say what is denied, between `and` and `or` what belongs together, and behind `him` that
    what follows is he: `they elected him, a liar`.
    """
    last, follows = walk.last(), walk.next()
    word = follows.lower()
    is_free = not last or not follows or last in (QUOTE, BREAK) or follows[0] in '".;'
    is_free = is_free or last in words.COMMA_IS_FREE_AFTER or word in words.COMMA_IS_FREE_BEFORE
    is_free = is_free or word in words.COMMA_IS_FREE_BEFORE_PHRASE or is_moment(last)
    if not is_free and (follows in MONTHS or follows[0].isdigit()):
        is_free = read_date(walk.tokens, walk.at + 1) is not None
    if is_free and (word in _JOINTS or word in words.COMMA_IS_FREE_BEFORE_PHRASE):
        is_free = not walk.is_denied()
    if is_free and word in _JOINTS:
        is_free = not walk.sentence() >= _JOINTS
    if is_free and word in ("a", "an"):
        is_free = last not in words.OBJECTS
    if is_free and last not in words.COMMA_COUNTS_AFTER:
        walk.at += 1
    else:
        walk.add(COMMA, ANY)


def _break(walk: Walk, piece: str) -> None:
    """The end of a sentence or of a part of it. A full stop after an abbreviation is none."""
    last = walk.last()
    is_number_sign = last == "no" and is_numeral(walk.next()) and walk.keys[-2:-1] != ["?"]
    is_initial = len(last) == 1 and last.isupper()
    if piece == "." and (is_number_sign or is_initial or last in words.ABBREVIATIONS):
        if is_number_sign:
            walk.keys[-1] = "number"
        walk.at += 1
        return
    is_open_list = piece == "..." and walk.at > 0 and walk.tokens[walk.at - 1] == ","  # `red, green, ...`
    if last == BREAK or (not last and piece not in (";", ":")):
        walk.at += 1
    elif is_open_list or (piece != "." and (_is_formula(walk, last) or (piece == "..." and is_bare(last)))):  # `0.3...`
        walk.add(piece.strip(), ANY)
    else:
        walk.add(BREAK, ANY)
    walk.place = AT_START


def _is_formula(walk: Walk, last: str) -> bool:
    """Whether what stands here joins two letters, or two numbers: `a - b` is not `a : b`, nor `0..9` `0...9`."""
    follows = walk.next()
    has_letters = len(last) == 1 and last.isalpha() and len(follows) == 1 and follows.isalpha()
    return has_letters or (is_bare(last) and is_numeral(follows))


def _mark(walk: Walk, piece: str) -> None:
    """`?` makes a question of a statement; `!` only ends it behind a word. That of `n!`, `(n - 1)!`, `sort!;` stays."""
    last = walk.last()
    if "?" in piece:
        walk.add(piece, ANY)
        walk.place = AT_START
    elif walk.next() in _BREAKS or walk.next() == COMMA:
        walk.add(piece, ANY)
    elif _is_word(last) or last == QUOTE or (last[:1] in (QUANTITY, DATE, TIME) and not is_bare(last)):
        _break(walk, piece)
    else:
        walk.add(piece, ANY)


def _quote(walk: Walk, piece: str) -> None:
    """Quotation marks stay. Which they are is form, and so is whether a full stop stands before or after them.

    Behind a number, a letter or a bracket they may be feet and inches, minutes and seconds, or derivatives.
    """
    last = walk.last()
    if last == BREAK:
        walk.keys[-1] = walk.shown[-1] = QUOTE
        walk.add(BREAK, ANY)
    else:
        walk.add(piece if _is_term(last, ")]") else QUOTE, ANY)
        if walk.is_literal:
            _literal(walk, piece)
    walk.place = AT_START


def _literal(walk: Walk, mark: str) -> None:
    """What stands in quotation marks, the last one included, as it is written: `the password is "twenty five"`."""
    inside = walk.tokens[walk.at : walk.at + _LITERAL_MAX]
    if mark in inside:
        for token in inside[: inside.index(mark)]:
            walk.add(token, ANY)
        walk.add(QUOTE, ANY)


def _is_word(key: str) -> bool:
    """Whether a key is a word of several letters."""
    return len(key) > 1 and key.translate(_IN_WORDS).isalpha()


def _is_term(key: str, brackets: str) -> bool:
    """Whether a key or token may be the term of a formula: a letter, a number, a call, one in brackets."""
    if len(key) == 1:
        return key.isalnum() or key in brackets
    return key[:1] in (QUANTITY, CODE) or (key[:1].isalnum() and not _is_word(key))
