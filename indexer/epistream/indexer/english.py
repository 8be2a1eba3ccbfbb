"""English: which words follow which, as the books of a language have it and no window of some hundred texts can teach.

The counts are those that SymSpell brings for its own purpose: of the 242,342 most frequent pairs of neighbouring words
and of 82,834 words, from Google's Books Ngrams. Words of another language are not among them, or seldom follow each
other here: of them nothing is told.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = 0
"""The number of a word that is in no pair."""

_TOLD_MAX: Final = 12.0
"""Nats; names such as "hong kong" would tell up to 18."""
_PAIRS: Final = "frequency_bigramdictionary_en_243_342.txt"
_WORDS: Final = "frequency_dictionary_en_82_765.txt"


class English:
    """The numbers of words, and what their neighbourhood tells. Frozen; any thread."""

    def __init__(self, grid: float) -> None:
        """Read the counts: 0.4 s, 4 MiB.

        Args:
            grid: what is told is in whole numbers of 1/grid nat.
        """
        seen = {word: int(n) for word, n in _lines(_WORDS)}
        pairs = [(a, b, int(n)) for a, b, n in _lines(_PAIRS)]
        words = sorted({word for a, b, _ in pairs for word in (a, b)})
        self._numbers = {word: number for number, word in enumerate(words, UNKNOWN + 1)}
        self._size = len(words) + 1
        keys = np.array([self._key(a, b) for a, b, _ in pairs])
        counts = np.array([n for _, _, n in pairs], np.float64)
        by_chance = np.array([float(seen[a]) * seen[b] for a, b, _ in pairs]) / sum(seen.values())
        order = np.argsort(keys)
        self._keys = keys[order]
        told = np.minimum(np.log1p(counts / by_chance), _TOLD_MAX)
        self._told = np.round(told * grid).astype(np.int16)[order]

    def number(self, word: str) -> int:
        """The number of a word in small letters, or UNKNOWN."""
        return self._numbers.get(word, UNKNOWN)

    def told(self, numbers: NDArray[np.int64]) -> NDArray[np.int16]:
        """What it tells that one word follows another, for each two of n words: (n, n), whole numbers on the grid.

        ln(1 + n(a,b) N / n(a) n(b)), at most 12 nats; 0 for a pair that is too rare to be counted.
        """
        words, at = np.unique(numbers, return_inverse=True)
        # In the order of the table, in which they are found four times as fast.
        keys = words[:, None] * self._size + words
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        told = np.where(self._keys[places] == keys, self._told[places], np.int16(0))
        return told[at[:, None], at]

    def _key(self, a: str, b: str) -> int:
        return self._numbers[a] * self._size + self._numbers[b]


@cache
def english(grid: float) -> English:
    """The one of this process."""
    return English(grid)


def _lines(name: str) -> Iterator[list[str]]:
    with files("symspellpy").joinpath(name).open(encoding="utf-8-sig") as lines:
        yield from (line.split() for line in lines)
