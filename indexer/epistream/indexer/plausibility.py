"""Plausibility: whether an item could be knowledge at all, before anybody asks what it would tell.

Information gain is highest for noise, so it counts only with a plausibility. Two things are looked at:

- where the item lies: `Neighbourhood` ranks how far it is from what people wrote. Too far is out of distribution:
  something for review, never for acceptance.
- how it is worded: an encoder hardly notices the order of words, and the shuffled words of an article lie where the
  article does. `Wording` asks whether the words stand in an order that tells more than chance, and whether they repeat.

Nothing here is a list of words: both learn from the frozen human window, and a missing answer is None, never a pass.
"""

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

RANK_MIN: Final = 0.05
"""Farther out than 95 % of what people wrote is too far."""
ORDER_MIN: Final = 4.5
"""Standard deviations above chance. Of 16,000 texts in shuffled order one reaches it, of 4,000 five reach 3.5; of
people's texts of 50 words and more 90 % do with a window of 260 texts, of shorter ones few: they are for review
(measured)."""
REPETITION_MIN: Final = 0.02
"""Repeats more than 98 % of what people wrote is too much."""

_NEIGHBOUR: Final = 5
_AT_ONCE: Final = 256
_CALIBRATION_MAX: Final = 2000
"""Distances of so many of people's items are enough to rank by, to 1/2,000."""
_PERMUTATIONS: Final = 40
_WORDS_MIN: Final = 5
_WORDS_MAX: Final = 200
_COMMON: Final = 5
"""Words that the human window has so often stand for themselves, others for their last two letters."""
_SMOOTHING: Final = 5.0
_EDGE: Final = ""
_PARTS: Final = re.compile(r"(\W*)(.*?)(\W*)", re.DOTALL)

_Rows: TypeAlias = NDArray[np.float64]


class Neighbourhood:
    """The human window as a neighbourhood. Frozen; any thread."""

    def __init__(self, vectors: ArrayLike, neighbour: int = _NEIGHBOUR) -> None:
        """The window's unit vectors, (n, d); the distance to the `neighbour`-th nearest counts.

        Raises:
            ValueError: there are not more vectors than `neighbour`.
        """
        self._rows = np.ascontiguousarray(_exact(vectors))
        if self._rows.ndim != 2 or len(self._rows) <= neighbour:
            raise ValueError(f"expected more than {neighbour} vectors, found the shape {self._rows.shape}")
        self._neighbour = neighbour
        sample = self._rows[:: -(-len(self._rows) // _CALIBRATION_MAX)]
        # Each is its own nearest, so that the one after the k-th is meant.
        self._distances = np.sort(self._distance(sample, neighbour + 1))

    def rank(self, vectors: ArrayLike) -> _Rows:
        """For each row the share of people's items that lie at least as far out, (n,) float64 in (0, 1].

            p(x) = (1 + #{h: d_k(h) >= d_k(x)}) / (1 + n),   d_k: cosine distance to the k-th neighbour

        over the n of the window, or some 2,000 of them where it is larger.

        A conformal p-value (Vovk et al., Algorithmic Learning in a Random World, 2005): for items like those of the
        window it is uniform, with the mean 1/2. The figure of a row does not depend on the others.
        """
        below = np.searchsorted(self._distances, self.distance(vectors), side="left")
        return np.asarray((1.0 + len(self._distances) - below) / (1.0 + len(self._distances)), np.float64)

    def distance(self, vectors: ArrayLike) -> _Rows:
        """d_k of each row, (n,) float64 in [0, 2]: the same bits however a stream is cut."""
        return self._distance(_exact(vectors).reshape(-1, self._rows.shape[1]), self._neighbour)

    def _distance(self, rows: _Rows, neighbour: int) -> _Rows:
        """Cosine distances to the `neighbour`-th nearest."""
        found = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), _AT_ONCE):
            near = rows[start : start + _AT_ONCE] @ self._rows.T
            found[start : start + _AT_ONCE] = 1.0 - np.partition(near, -neighbour, axis=1)[:, -neighbour]
        return np.maximum(found, 0.0)


def _exact(vectors: ArrayLike) -> _Rows:
    """Unit vectors on a grid of 2**-24, on which their inner products are exact in float64, in any order of adding.

    Each product is a whole number of 2**-48, and so is each sum of them, at most 2 in all: 50 bits of the 53. Without
    it the last bits depend on how BLAS cuts a product, so on how a stream is cut. It moves a cosine by 1e-7 at most.
    """
    return np.round(np.asarray(vectors, np.float64) * 2.0**24) / 2.0**24


class _Word(NamedTuple):
    """What of a word the order of words has to do with."""

    key: str
    capital: bool
    after: str
    """The sign that follows at once, such as a comma."""


@dataclass(frozen=True, slots=True)
class Worded:
    """How a text is worded."""

    order: float | None
    """How many standard deviations its order tells more than chance; None where it has too few words to tell."""
    repetition: float | None
    """The share of people's texts that repeat themselves at least as much, (0, 1]; None likewise."""


class Wording:
    """How people's texts are worded: which words follow which, and how much they repeat. Frozen; any thread."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the human window."""
        split = [text.split()[:_WORDS_MAX] for text in texts]
        self._common = {key for key, n in Counter(_core(w) for words in split for w in words).items() if n >= _COMMON}
        chains = [self._chain(words) for words in split]
        self._keys = _links(((a.key, b.key) for chain in chains for a, b in pairwise(chain)), _SMOOTHING)
        self._signs = _links(((a.after, str(b.capital)) for chain in chains for a, b in pairwise(chain)), 1.0)
        shares = [share for words in split if (share := _repetition(words)) is not None]
        self._shares = np.sort(np.array(shares, np.float64))

    def read(self, text: str) -> Worded:
        """How `text` is worded. 1 to 2 ms; the same text has the same figures."""
        words = text.split()[:_WORDS_MAX]
        if len(words) < _WORDS_MIN or not len(self._shares):
            return Worded(None, None)
        share = _repetition(words) or 0.0
        as_much = len(self._shares) - int(np.searchsorted(self._shares, share, side="left"))
        return Worded(self._order(words, text), (1 + as_much) / (1 + len(self._shares)))

    def _order(self, words: Sequence[str], text: str) -> float:
        """A permutation test: T = Σ ln p(b | a) / p(b) over neighbours, against random orders of the same words."""
        chain = self._chain(words)
        inner = chain[1:-1]
        # Random by the text alone; what `random` guarantees to stay the same is random().
        draw = random.Random(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()).random  # noqa: S311
        chances = []
        for _ in range(_PERMUTATIONS):
            keyed = sorted(range(len(inner)), key=[draw() for _ in inner].__getitem__)
            chances.append(self._told([chain[0], *(inner[place] for place in keyed), chain[-1]]))
        mean = math.fsum(chances) / len(chances)
        deviation = math.sqrt(math.fsum((chance - mean) ** 2 for chance in chances) / len(chances))
        return (self._told(chain) - mean) / deviation if deviation > 1e-9 else 0.0

    def _told(self, chain: Sequence[_Word]) -> float:
        keys, signs = self._keys, self._signs
        return sum(
            keys.get((a.key, b.key), 0.0) + signs.get((a.after, str(b.capital)), 0.0) for a, b in pairwise(chain)
        )

    def _chain(self, words: Sequence[str]) -> list[_Word]:
        return [_Word("^", capital=False, after=_EDGE), *map(self._word, words), _Word("$", capital=False, after=_EDGE)]

    def _word(self, word: str) -> _Word:
        core = _core(word)
        key = "#" if core.isdigit() else core if core in self._common else f"~{core[-2:]}"
        parts = _PARTS.fullmatch(word)
        assert parts is not None  # noqa: S101 - the pattern fits everything
        return _Word(key, parts[2][:1].isupper(), parts[3][:1])


def doubts(rank: float | None, worded: Worded | None) -> tuple[str, ...]:
    """Why an item may not be accepted on its figures alone, worst first; empty: nothing speaks against it.

    Args:
        rank: from `Neighbourhood.rank`; None where the item has no vector.
        worded: from `Wording.read`; None where the content is no text: only what was verified otherwise passes then.
    """
    found = []
    if rank is None:
        found.append("NO_VECTOR")
    elif rank < RANK_MIN:
        found.append("TOO_FAR")
    if worded is None:
        found.append("NO_TEXT")
    elif worded.order is None or worded.repetition is None:
        found.append("TOO_SHORT")
    else:
        found.extend(["REPEATS"] if worded.repetition < REPETITION_MIN else [])
        found.extend(["NO_ORDER"] if worded.order < ORDER_MIN else [])
    return tuple(found)


def worth(rank: float, relative_gain: float) -> float:
    """Plausibility times gain, in [0, 1]: what a gate may compare with its bar once there are no doubts."""
    return rank * relative_gain


def _core(word: str) -> str:
    parts = _PARTS.fullmatch(word)
    return parts[2].lower() if parts is not None else ""


def _repetition(words: Sequence[str]) -> float | None:
    """The share of neighbouring pairs of words that stood before in the text."""
    pairs = list(pairwise(word.lower() for word in words))
    return 1.0 - len(set(pairs)) / len(pairs) if pairs else None


def _links(pairs: Iterable[tuple[str, str]], smoothing: float) -> dict[tuple[str, str], float]:
    """For each pair that was seen: how much more it tells than an unseen one, in nats.

    ln p(b|a)/p(b) with p(b|a) = (n(a,b) + s p(b)) / (n(a) + s). For an unseen pair that is ln s/(n(a) + s), which
    depends on a only and is the same in each order of the words: what is left is ln(1 + n(a,b) / (s p(b))).
    """
    seen = Counter(pairs)
    total = sum(seen.values())
    followers: Counter[str] = Counter()
    for (_, second), n in seen.items():
        followers[second] += n
    return {(a, b): math.log1p(n * total / (smoothing * followers[b])) for (a, b), n in seen.items()}
