"""Wording: whether a text is worded as people word theirs. Noise is not, wherever an encoder puts it.

An encoder hardly notices the order of words: the shuffled words of an article lie where the article does. So two things
are read off the words: whether their order tells more than chance, and how much they repeat. Nothing here is a list of
words: both learn from the frozen human window, and so does from how many words on an order can be told at all. What
cannot be told is None, never a pass.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

CHARACTERS_MAX: Final = 10_000
"""What comes after is not looked at, nor is what comes after the first 200 words."""
ORDER_MIN: Final = 4.0
"""Standard deviations above chance: from here on words stand in an order."""

_WORDS_MIN: Final = 5
_WORDS_MAX: Final = 200
_TELLING_SHARE: Final = 0.95
"""So many of people's texts of a length must have an order before the lack of one says something."""
_TELLING_TEXTS: Final = 20
"""Of fewer texts no share is taken."""
_FOLDS: Final = 5
_COMMON: Final = 5
"""Words that the human window has so often stand for themselves, others for their last two letters."""
_KEYS_MAX: Final = 1500
"""The table of what follows what has so many rows and columns, for what is most frequent: 4.3 MiB."""
_SIGNS_MAX: Final = 31
_FORMS: Final = 2 * (_SIGNS_MAX + 1)
"""A sign that follows, or none of them, and a capital or none."""
_SMOOTHING: Final = 5.0
_GRID: Final = 2.0**10
"""Weights are whole numbers of 1/1,024 nat, so that their sums and products are exact, in whatever order they come."""
_EDGE: Final = ""
_PARTS: Final = re.compile(r"(\W*)((?:.*\w)?)(\W*)", re.DOTALL)
_TOKEN: Final = re.compile(r"\w+")
_SIGNS: Final = {code: " " for code in range(128) if not _TOKEN.match(chr(code))}

_Table: TypeAlias = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Worded:
    """How a text is worded."""

    order: float | None
    """How many standard deviations its order tells more than chance; None where that cannot be told."""
    untold: str
    """Why that is: TOO_SHORT, or ANCHORS_UNORDERED where no text of people is long enough. Empty where there is one."""
    repetition: float | None
    """The share of neighbouring pairs of words that stood before in the text, [0, 1); None where there are too few."""
    repetition_rank: float | None
    """The share of people's texts that repeat themselves at least as much, (0, 1]; None likewise."""


class Wording:
    """How people's texts are worded. Frozen; any thread.

    Attributes:
        telling: from how many words on the order of a text is looked at: of people's texts of this length and more,
            95 % have one, read by what others in the window taught. None where no length is enough, as for lists of
            names, or where the window is too small to teach it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the human window. 0.3 s for 500 of them."""
        split = [_words(text) for text in texts]
        self._order = _Order(split)
        self.telling: Final = _telling(split)
        self._shares = sorted(share for text in texts if (share := _repetition(text)) is not None)

    def read(self, text: str) -> Worded:
        """How `text` is worded: 5 µs for a short text, 50 µs for 40 words whose order is looked at."""
        words, order, untold = _words(text), None, ""
        if self.telling is None:
            untold = "ANCHORS_UNORDERED"
        elif len(words) < self.telling:
            untold = "TOO_SHORT"
        else:
            order = self._order.told(words)
        share, rank = _repetition(text), None
        if share is not None and self._shares:
            as_much = len(self._shares) - bisect_left(self._shares, share)
            rank = (1 + as_much) / (1 + len(self._shares))
        return Worded(order, untold, share, rank)


class _Word(NamedTuple):
    """What of a word the order of words has to do with."""

    key: str
    after: str
    """The sign that follows at once, such as a comma."""
    capital: bool


class _Order:
    """Which words follow which, and whether those of a text stand as they do."""

    def __init__(self, split: Sequence[Sequence[str]]) -> None:
        self._common = {key for key, n in Counter(_core(w) for words in split for w in words).items() if n >= _COMMON}
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
        self._forms = np.tile(signs_by_capital.repeat(2, axis=0), _FORMS // 2)
        self._codes = {word: self._code(parts) for word, parts in known.items()}
        self._begin, self._end = self._code(_BEGIN), self._code(_END)

    def told(self, words: Sequence[str]) -> float:
        """A permutation test: T = Σ ln p(b | a) / p(b) over neighbours, against all orders of the same words.

        (T - mean) / deviation, with both over all orders in equal parts: exactly, by sums over the table of all pairs.
        The same bits wherever it is computed.
        """
        if len(words) < _WORDS_MIN:
            return 0.0
        codes = self._codes
        inner = [codes[word] if word in codes else self._code(self._parts(word)) for word in words]
        keys, forms = np.divmod(np.array([self._begin, *inner, self._end]), _FORMS)
        return _above_chance(_of_all_pairs(self._keys, keys) + _of_all_pairs(self._forms, forms))

    def _parts(self, word: str) -> _Word:
        parts = _PARTS.fullmatch(word)
        assert parts is not None  # noqa: S101 - the pattern fits everything
        core = parts[2].lower()
        key = "#" if core.isdigit() else core if core in self._common else f"~{core[-2:]}"
        return _Word(key, parts[3][:1], parts[2][:1].isupper())

    def _code(self, word: _Word) -> int:
        """The three in one number: a word that is not in the tables has row 0 of them, which says nothing."""
        return self._rows.get(word.key, 0) * _FORMS + self._places.get(word.after, 0) * 2 + word.capital


_BEGIN: Final = _Word("^", _EDGE, capital=False)
_END: Final = _Word("$", _EDGE, capital=False)


def _of_all_pairs(table: _Table, codes: NDArray[np.int64]) -> _Table:
    """What the table has for each one after each, (n, n): in half the time of both indices at once, or less."""
    return table.take(codes, axis=0).take(codes, axis=1)


def _above_chance(weights: _Table) -> float:
    """How many standard deviations T = Σ w(i, i+1) lies above its mean over all orders of the inner places.

    Args:
        weights: (n + 2, n + 2), n >= 4; the first and the last place stay where they are.

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


def _telling(split: Sequence[Sequence[str]]) -> int | None:
    """From how many words on people's texts have an order, each read by what the other four fifths of them taught."""
    read = []
    for fold in range(_FOLDS):
        order = _Order([words for place, words in enumerate(split) if place % _FOLDS != fold])
        read += [(len(words), order.told(words) >= ORDER_MIN) for words in split[fold::_FOLDS]]
    found, count, ordered = None, 0, 0
    for length, alike in groupby(sorted(read, reverse=True), key=itemgetter(0)):
        have = [has for _, has in alike]
        count, ordered = count + len(have), ordered + sum(have)
        if count >= _TELLING_TEXTS and length >= _WORDS_MIN and ordered >= _TELLING_SHARE * count:
            found = length
    return found


def _words(text: str) -> list[str]:
    return _split(text[:CHARACTERS_MAX])


def _split(text: str) -> list[str]:
    return text.split(None, _WORDS_MAX)[:_WORDS_MAX]


def _core(word: str) -> str:
    parts = _PARTS.fullmatch(word)
    return parts[2].lower() if parts is not None else ""


def _repetition(text: str) -> float | None:
    """The share of neighbouring pairs of words that stood before in the text; None for fewer than two pairs.

    Words alone, or with the signs at them, for what is signs alone: whichever repeats more.
    """
    lowered = text[:CHARACTERS_MAX].lower()
    shares = [
        1.0 - len(set(pairwise(words))) / (len(words) - 1)
        for words in (_tokens(lowered), _split(lowered))
        if len(words) > 2
    ]
    return max(shares, default=None)


def _tokens(text: str) -> list[str]:
    """The words alone. Those of ASCII are found in half the time that the pattern takes."""
    return _split(text.translate(_SIGNS)) if text.isascii() else _TOKEN.findall(text)[:_WORDS_MAX]


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
