"""Wording: whether a text is worded as people word theirs. Noise is not, wherever an encoder puts it.

An encoder hardly notices the order of words: the shuffled words of an article lie where the article does. So two things
are read off the words: whether their order tells more than chance, and how much they repeat. Which words follow which
is told by the frozen human window, and by the books of English beside it; how much order a text of its length must
have, and how much it may repeat, by the window alone. What cannot be told is a doubt, never a pass.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.english import UNKNOWN, english
from epistream.wire.canonical import canonical_text

ORDER_MIN: Final = 4.0
"""Standard deviations above chance: from here on words stand in an order, however few they are."""

_WORDS_MIN: Final = 5
_WORDS_MAX: Final = 200
_CHARACTERS_MAX: Final = 10_000
_LENGTHS: Final = (6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 140)
"""Words: people's texts are cut to each, and a text is compared with those of the next smaller one."""
_UNORDERED_SHARE: Final = 0.05
"""So many of people's texts of a length have less order than what is asked of one."""
_TAUGHT_MIN: Final = 40
"""Words from which on an order that the window has taught is asked of what is said in another way."""
_TELLING_TEXTS: Final = 20
"""Of fewer texts no share is taken."""
_FOLDS: Final = 5
_COMMON: Final = 5
"""Words that the human window has so often stand for themselves, others for their last two letters."""
_KEYS_MAX: Final = 1500
"""The table of what follows what has so many rows and columns, for what is most frequent: 4.3 MiB."""
_SIGNS_MAX: Final = 31
_SMOOTHING: Final = 5.0
_GRID: Final = 2.0**10
"""Weights are whole numbers of 1/1,024 nat, so that their sums and products are exact, in whatever order they come."""
_EDGE: Final = ""
_PARTS: Final = re.compile(r"(\W*)((?:.*\w)?)(\W*)", re.DOTALL)
_TOKEN: Final = re.compile(r"\w+")
_SIGNS: Final = {code: " " for code in range(128) if not _TOKEN.match(chr(code))}

_FORM_BITS: Final = (2 * _SIGNS_MAX + 1).bit_length()
"""A word in one number begins with its form: the sign that follows it, and whether it has a capital;"""
_KEY_BITS: Final = _KEYS_MAX.bit_length()
"""then comes its row in the table of keys, and then"""
_KNOWN: Final = 1 << _FORM_BITS + _KEY_BITS
"""whether the human window or English has it,"""
_OPENS: Final = _KNOWN << 1
"""whether a sign stands between it and the word before,"""
_CLOSES: Final = _OPENS << 1
"""and between it and the word after it."""
_ENGLISH: Final = _CLOSES << 1
"""What a word's number in English is multiplied by: it stands above all these bits."""

_Table: TypeAlias = NDArray[np.int16]
_Codes: TypeAlias = NDArray[np.int64]
"""The words of a text in numbers, each in one, between those of its begin and its end: (n + 2,)."""


@dataclass(frozen=True, slots=True)
class Worded:
    """How a text is worded."""

    order: float
    """How many standard deviations its order tells more than chance: by the window, or if need be with English."""
    doubt: str
    """Empty where it has an order, from ORDER_MIN on. Else NO_ORDER, if it has less than 95 % of people's texts of this
    length have by English alone; or why that cannot be told: TOO_SHORT, or ANCHORS_UNORDERED where no length is long
    enough."""
    repetition: float | None
    """The share of neighbouring pairs of words that stood before in the text, [0, 1); None where there are too few."""
    repetition_rank: float | None
    """The share of people's texts that repeat themselves at least as much, (0, 1]; None likewise."""


class Wording:
    """How people's texts are worded. Frozen; any thread.

    Attributes:
        telling: from how many words on 95 % of people's texts have an order of ORDER_MIN, by English or by what others
            in the window taught. None where no length is enough, as for lists of names.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the human window. 2 s for 500 of them, the first time."""
        begun = [beginning(text) for text in texts]
        split = [text.split() for text in begun]
        self._order = _Order(split)
        self._asked = _asked(split)
        longest = self._asked[-1] if self._asked else None
        self.telling: Final = longest.length if longest is not None and longest.least == ORDER_MIN else None
        self._shares = sorted(share for text in begun if (share := _repetition(text)) is not None)

    def read(self, text: str) -> Worded:
        """How `text` is worded: 0.15 ms for 40 words, and half as long where the window tells their order."""
        text = beginning(text)
        codes = self._order.codes(text.split())
        order = self._order.told(codes, by_english=False)
        if order < ORDER_MIN:  # English takes as long again, and where the window tells an order adds nothing
            order = self._order.told(codes)
        share, rank = _repetition(text), None
        if share is not None and self._shares:
            as_much = len(self._shares) - bisect_left(self._shares, share)
            rank = (1 + as_much) / (1 + len(self._shares))
        return Worded(order, self._doubt(order, codes), share, rank)

    def _doubt(self, order: float, codes: _Codes) -> str:
        """Of a short text only words count that are known and stand beside each other: not those of a list, say."""
        if order >= ORDER_MIN:
            return ""
        if self.telling is not None and len(codes) - 2 >= self.telling:
            return "NO_ORDER"
        neighbours = _neighbours(codes) if len(codes) - 2 >= _WORDS_MIN else 0
        place = bisect_right(self._asked, neighbours, key=attrgetter("neighbours")) - 1
        if place >= 0 and order < self._asked[place].least:
            return "NO_ORDER"
        return "ANCHORS_UNORDERED" if self.telling is None else "TOO_SHORT"


class _Asked(NamedTuple):
    """How much order is asked of a text."""

    length: int
    """Words that these are cut to,"""
    neighbours: int
    """of which so many stand next to another, where both are known, in three quarters of them;"""
    least: float
    """the order that 95 % of them have by English alone, or ORDER_MIN."""


class _Word(NamedTuple):
    """What of a word the order of words has to do with."""

    core: str
    """In small letters, without the signs around it."""
    key: str
    before: str
    """The sign that comes at once before it, such as a bracket."""
    after: str
    """The sign that follows at once, such as a comma."""
    capital: bool


class _Order:
    """Which words follow which, and whether those of a text stand as they do."""

    def __init__(self, split: Sequence[Sequence[str]]) -> None:
        self._english = english(_GRID)
        self._cores = Counter(_core(word) for words in split for word in words)
        known = {word: self._parts(word) for words in split for word in words}
        chains = [[_BEGIN, *(known[word] for word in words), _END] for words in split]
        keys = Counter(word.key for chain in chains for word in chain)
        signs = Counter(word.after for chain in chains for word in chain)
        self._rows, self._places = _numbered(keys, _KEYS_MAX), _numbered(signs, _SIGNS_MAX)
        capitals = {"False": 0, "True": 1}
        self._keys = _links(
            ((a.key, b.key) for chain in chains for a, b in pairwise(chain)), self._rows, self._rows, _SMOOTHING
        )
        signs_by_capital = _links(
            ((a.after, str(b.capital)) for chain in chains for a, b in pairwise(chain)), self._places, capitals, 1.0
        )
        self._forms = np.tile(signs_by_capital.repeat(2, axis=0), _SIGNS_MAX + 1)
        self._codes = {word: self._code(parts) for word, parts in known.items()}
        self._begin, self._end = self._code(_BEGIN), self._code(_END)

    def codes(self, words: Sequence[str]) -> _Codes:
        """What `told` reads."""
        codes = self._codes
        inner = [codes[word] if word in codes else self._code(self._parts(word)) for word in words]
        return np.array([self._begin, *inner, self._end], np.int64)

    def told(self, codes: _Codes, *, by_window: bool = True, by_english: bool = True) -> float:
        """A permutation test: T = Σ ln p(b | a) / p(b) over neighbours, against all orders of the same words.

        (T - mean) / deviation, with both over all orders in equal parts: exactly, by sums over the table of all pairs.
        The same bits wherever it is computed.
        """
        if len(codes) - 2 < _WORDS_MIN:
            return 0.0
        weights = np.zeros((len(codes), len(codes)), np.int32)
        if by_window:
            keys, forms = codes >> _FORM_BITS & (1 << _KEY_BITS) - 1, codes & (1 << _FORM_BITS) - 1
            np.add(_of_all_pairs(self._keys, keys), _of_all_pairs(self._forms, forms), out=weights, dtype=np.int32)
        if by_english:
            apart = (codes[:, None] & _CLOSES | codes & _OPENS) > 0
            weights += np.where(apart, 0, self._english.told(codes // _ENGLISH))
        return _above_chance(weights)

    def _parts(self, word: str) -> _Word:
        parts = _PARTS.fullmatch(word)
        assert parts is not None  # noqa: S101 - the pattern fits everything
        core = parts[2].lower()
        key = "#" if core.isdigit() else core if self._cores[core] >= _COMMON else f"~{core[-2:]}"
        return _Word(core, key, parts[1][-1:], parts[3][:1], parts[2][:1].isupper())

    def _code(self, word: _Word) -> int:
        """A word that is not in the tables has row 0 of them, which says nothing."""
        number = self._english.number(word.core)
        known = _KNOWN if word.core and (number != UNKNOWN or word.core in self._cores) else 0
        signs = (_OPENS if word.before else 0) | (_CLOSES if word.after else 0)
        form = self._places.get(word.after, 0) * 2 + word.capital
        return number * _ENGLISH | signs | known | self._rows.get(word.key, 0) << _FORM_BITS | form


_BEGIN: Final = _Word("", "^", _EDGE, _EDGE, capital=False)
_END: Final = _Word("", "$", _EDGE, _EDGE, capital=False)


def _neighbours(codes: _Codes) -> int:
    """How many words stand next to another with no sign between them, where both are known."""
    before, after = codes & (_KNOWN | _CLOSES) == _KNOWN, codes & (_KNOWN | _OPENS) == _KNOWN
    return int(np.count_nonzero(before[:-1] & after[1:]))


def _of_all_pairs(table: _Table, codes: NDArray[np.int64]) -> _Table:
    """What the table has for each one after each, (n, n): in half the time of both indices at once, or less."""
    return table.take(codes, axis=0).take(codes, axis=1)


def _above_chance(weights: NDArray[np.int32]) -> float:
    """How many standard deviations T = Σ w(i, i+1) lies above its mean over all orders of the inner places.

    Args:
        weights: whole numbers, (n + 2, n + 2), n >= 4; the first and the last place stay where they are.

    With M the inner part less its diagonal, r and c its sums of rows and columns and S that of all: of two neighbouring
    places a pair has the mean S / n(n-1), and the mean of a product follows from how many words the two pairs share
    (two, one or none), as in the moments of a quadratic assignment (Mantel, Cancer Research 27:209, 1967).
    """
    n = len(weights) - 2
    inner, known = weights[1:-1, 1:-1].astype(np.float64), np.ones((5, n))
    inner.reshape(-1)[:: n + 1] = 0.0
    known[1], known[2] = inner.dot(known[0]), known[0].dot(inner)
    known[3], known[4] = weights[0, 1:-1], weights[1:-1, -1]
    # Of each two of 1, r, c, the first and the last the sum of their products, which float64 has exactly up to 2**53.
    of_1, of_r, of_c, of_first, of_last = known.dot(known.T).astype(np.int64).tolist()
    _, total, _, begins, ends = of_1
    squares, mutual = int(np.vdot(inner, inner)), int(np.vdot(inner, inner.T))
    across, out, into = of_r[2], of_r[1], of_c[2]
    two, three = n * (n - 1), n * (n - 1) * (n - 2)
    # Of neighbouring pairs with none, one and two words in common.
    apart = total * total - out - into - 2 * across + squares + mutual
    products = (n - 2) * (n - 3) * apart / (three * (n - 3)) + 2 * (n - 2) * (across - mutual) / three
    products += (n - 1) * squares / two
    products += (of_first[3] + of_last[4]) / n
    # Of the ends with each other, and with neighbours of which they are one, or none.
    products += 2 * (begins * ends - of_first[4]) / two
    products += 2 * (of_first[1] + of_last[2]) / two
    beside = (begins + ends) * total - of_first[1] - of_first[2] - of_last[1] - of_last[2]
    products += 2 * (n - 2) * beside / three
    mean = (total + begins + ends) / n
    variance = products - mean * mean
    return (int(weights.trace(1)) - mean) / math.sqrt(variance) if variance > 1e-9 * products else 0.0


def _asked(split: Sequence[Sequence[str]]) -> list[_Asked]:
    """By length, up to the first for which it is ORDER_MIN. Texts are cut to it, so that all that are as long count.

    What the window taught counts only in long texts and where it makes an order certain, read by what the other four
    fifths of it taught: what is said in another way than people's need not have it.
    """
    taught = [_Order([words for place, words in enumerate(split) if place % _FOLDS != fold]) for fold in range(_FOLDS)]
    asked: list[_Asked] = []
    for length in _LENGTHS:
        cut = [(taught[place % _FOLDS], words[:length]) for place, words in enumerate(split) if len(words) >= length]
        if len(cut) >= _TELLING_TEXTS:
            read = [(others, others.codes(words)) for others, words in cut]
            many = sorted(_neighbours(codes) for _, codes in read)[len(read) // 4]
            by_english = _reached([others.told(codes, by_window=False) for others, codes in read])
            certain = by_english >= ORDER_MIN
            if not certain and length >= _TAUGHT_MIN:
                certain = _reached([others.told(codes, by_english=False) for others, codes in read]) >= ORDER_MIN
            if certain or not asked or many > asked[-1].neighbours:
                asked.append(_Asked(length, many, ORDER_MIN if certain else by_english))
            if certain:
                break
    return asked


def _reached(told: Sequence[float]) -> float:
    """What all but so few reach."""
    return sorted(told)[int(_UNORDERED_SHARE * len(told))]


def beginning(text: str) -> str:
    """What of a text is looked at, in canonical form: the first 200 words, and of them the first 10,000 characters.

    White space that is added does not push out what is said.
    """
    return canonical_text(" ".join(text.split(None, _WORDS_MAX)[:_WORDS_MAX])[:_CHARACTERS_MAX])


def _core(word: str) -> str:
    parts = _PARTS.fullmatch(word)
    return parts[2].lower() if parts is not None else ""


def _repetition(text: str) -> float | None:
    """The share of neighbouring pairs of words that stood before in the text; None for fewer than two pairs.

    Words alone, or with the signs at them, for what is signs alone: whichever repeats more.
    """
    lowered = text.lower()
    shares = [
        1.0 - len(set(pairwise(words))) / (len(words) - 1)
        for words in (_tokens(lowered), lowered.split())
        if len(words) > 2
    ]
    return max(shares, default=None)


def _tokens(text: str) -> list[str]:
    """The words alone. Those of ASCII are found in half the time that the pattern takes."""
    return (text.translate(_SIGNS).split() if text.isascii() else _TOKEN.findall(text))[:_WORDS_MAX]


def _numbered(seen: Counter[str], most: int) -> dict[str, int]:
    """The most frequent ones, numbered from 1 on."""
    by_number = sorted(seen, key=lambda one: (-seen[one], one))[:most]
    return {one: number for number, one in enumerate(by_number, 1)}


def _links(
    pairs: Iterable[tuple[str, str]],
    rows: dict[str, int],
    columns: dict[str, int],
    smoothing: float,
) -> _Table:
    """For each pair that was seen: how much more it tells than an unseen one, in nats on the grid.

    ln p(b|a)/p(b) with p(b|a) = (n(a,b) + s p(b)) / (n(a) + s). For an unseen pair that is ln s/(n(a) + s), which
    depends on a only and is the same in each order of the words: what is left is ln(1 + n(a,b) / (s p(b))).
    """
    seen = Counter(pairs)
    total = sum(seen.values())
    followers: Counter[str] = Counter()
    for (_, second), n in seen.items():
        followers[second] += n
    table = np.zeros((max(rows.values(), default=0) + 1, max(columns.values(), default=0) + 1), np.int16)
    for (a, b), n in seen.items():
        if a in rows and b in columns:
            told = math.log1p(n * total / (smoothing * followers[b]))
            table[rows[a], columns[b]] = round(told * _GRID)
    return table
