"""Diversity from a spectrum: of how many kinds are the items of a window?

With unit rows z_i, K = ZZ'/n has eigenvalues l_i that add up to 1. Of them

    VS_q = exp(H_q(l)),  H_q = ln(Σ l_i^q) / (1 - q), Shannon's for q = 1     the Vendi score of order q
    RKE  = VS_2 = 1 / Σ l_i² = 1 / ‖S‖_F²
    VS_∞ = 1 / max l_i

(Friedman & Dieng, TMLR 2023; Pasarkar & Dieng, AISTATS 2024; Jalali et al., NeurIPS 2023). The eigenvalues of
S = Z'Z/n, d by d, are the same apart from zeros, so a window of any n costs O(n d² + d³). Low orders see rare kinds,
which vanish first in a collapse; high orders see one kind that dominates. VS_∞ <= RKE <= VS_1 <= min(n, d). An example:
three copies of one item and one of another at a right angle have l = (3/4, 1/4), VS_1 = 1.75, RKE = 1.6, VS_∞ = 1.33.

The effective rank of Roy & Vetterli (2007) takes the singular values, not their squares: another number, named apart.

A figure alone says nothing: it grows with n and depends on the encoder. It is compared with as many items of a frozen
human window, whose mean is taken off everything first, since embeddings lie in a narrow cone and every ratio would be
near one. Short texts have fewer kinds than long ones, whoever wrote them, so where the lengths of texts are known it is
compared with texts of such lengths: see `same_lengths`.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epistream.indexer.plausibility import Neighbourhood

ORDERS: Final = (0.5, 1.0, 2.0, math.inf)
ITEMS_MIN: Final = 32
"""Fewer are not compared: the figures of so few are near n, whatever they are."""
ANSWERS_MIN: Final = 0.8
"""From this share of a window on that answers people's prompts the answers stand for all of it. A fifth that says one
thing leaves 0.66 of 100 kinds, half of it 0.2."""

_SPLITS: Final = 12
_SUPPORT_ITEMS: Final = 256
_BLOCK: Final = 512
_SURE: Final = 1.96
"""Standard errors on each side of an interval that holds the true figure 95 times in 100."""
_Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Diversity:
    """The figures of one window."""

    items: int
    """n."""
    vendi_half: float
    """VS_0.5."""
    vendi: float
    """VS_1."""
    rke: float
    """VS_2."""
    vendi_inf: float
    """VS_∞."""
    effective_rank: float
    """exp of Shannon's entropy of the normalised singular values s_i / Σ s (Roy & Vetterli)."""

    @property
    def scores(self) -> tuple[float, float, float, float]:
        """VS_q in the order of ORDERS."""
        return self.vendi_half, self.vendi, self.rke, self.vendi_inf


def diversity(rows: ArrayLike) -> Diversity:
    """The figures of unit rows, (n, d). A row of zeros counts as an item without a direction."""
    matrix = np.asarray(rows, np.float64)
    return _figures(_eigenvalues(matrix), len(matrix), min(matrix.shape))


class HumanWindow:
    """What a frozen set of people's items looks like. Frozen, and named by its content; any thread.

    What a draw of so many of its items amounts to is remembered: the first comparison of 10,000 items takes a second, a
    later one with as many half of it.
    """

    def __init__(self, vectors: ArrayLike, pair_ids: Sequence[str] = (), lengths: Sequence[int] = ()) -> None:
        """Unit vectors (n, d) of one encoder; `pair_ids`: of each the prompt that it answers, "" for none.

        `lengths`: of each how long its text is; without them nothing is compared by length.
        """
        self.vectors: Final = np.ascontiguousarray(vectors, np.float32)
        self.pair_ids: Final = tuple(pair_ids) or ("",) * len(self.vectors)
        self.lengths: Final = np.asarray(lengths, np.int64)
        if self.vectors.ndim != 2 or not len(self.vectors) or len(self.pair_ids) != len(self.vectors):
            raise ValueError(f"expected a row for each pair id, found {self.vectors.shape} and {len(self.pair_ids)}")
        if len(self.lengths) not in (0, len(self.vectors)):
            raise ValueError(f"expected a length for each of {len(self.vectors)} rows, found {len(self.lengths)}")
        self.mean: Final[_Rows] = self.vectors.astype(np.float64).mean(axis=0)
        self.version: Final = hashlib.sha256(self.vectors.astype("<f4").tobytes()).hexdigest()[:16]
        self._spreads: dict[int, _Spread] = {}

    def centred(self, vectors: ArrayLike) -> _Rows:
        """Rows less the window's mean, at length one again, float64. A row that is the mean has no direction: zeros."""
        rows = np.asarray(vectors, np.float64) - self.mean
        lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        centred: _Rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
        return centred

    def spread(self, places: int | tuple[int, ...]) -> "_Spread":
        """The figures of these places of the window, or of so many that are drawn once and for all."""
        if isinstance(places, tuple):
            return _spread(self.centred(self.vectors[list(places)]))
        if places not in self._spreads:
            self._spreads[places] = _spread(self.centred(self.vectors[self._drawn[:places]]))
        return self._spreads[places]

    def same_lengths(self, lengths: Sequence[int]) -> tuple[tuple[int, ...], NDArray[np.intp]] | None:
        """Places of the window and of these texts, oldest first, as the function of this name has them.

        Of the window those come first that are drawn first, so that they depend on it and on the lengths alone.
        """
        if not len(self.lengths) or not len(lengths):
            return None
        found = same_lengths(self.lengths[self._drawn[::-1]], lengths)
        if found is None:
            return None
        people, own = found
        return tuple(np.sort(self._drawn[::-1][people]).tolist()), own

    @cached_property
    def _drawn(self) -> NDArray[np.intp]:
        return drawn(len(self.vectors), 0)

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """How far out an item lies. For windows of at least ITEMS_MIN."""
        return Neighbourhood(self.vectors)

    def support(self, vectors: NDArray[np.float32]) -> float:
        """How much rows lie where people's items do: the mean rank of the newest 256, 1/2 for items of the same kind.

        Less says that they are about something else. For windows of at least ITEMS_MIN.
        """
        return float(self.neighbourhood.rank(vectors[-_SUPPORT_ITEMS:]).mean())


@dataclass(frozen=True, slots=True)
class Comparison:
    """A producer's window against as many human items. The tuples are in the order of ORDERS."""

    items: int
    """n, on both sides."""
    matched: bool
    """Whether both sides answer the same prompts. Where not, varied prompts make any producer look diverse."""
    same_lengths: bool
    """Whether both sides have as many texts in each quartile of the producer's lengths."""
    human_version: str
    produced: Diversity
    human: Diversity
    ratio: tuple[float, ...]
    """VS_q of the producer over VS_q of people."""
    low: tuple[float, ...]
    """The lower end of the ratio's interval, from split halves."""
    high: tuple[float, ...]
    """Its upper end."""
    support: float
    """How much the producer's items lie where people's do, about 1/2 for the same kind of text: see HumanWindow."""


@dataclass(frozen=True, slots=True)
class Missing:
    """No comparison, and why."""

    reason: str
    """BELOW_MINIMUM; NO_ANCHORS where there are not enough items of people yet."""
    items: int
    """How many there are."""


def compare(
    human: HumanWindow, vectors: ArrayLike, pair_ids: Sequence[str] = (), lengths: Sequence[int] = ()
) -> Comparison | Missing:
    """Compare items, oldest first, (n, d) unit vectors of the window's encoder, with as many of the human window.

    Where at least ITEMS_MIN prompts are answered on both sides, and ANSWERS_MIN of the items answer such, one answer of
    each prompt is compared, of several one that is drawn; else texts of the same lengths, where these are known and the
    window has enough of such; else the newest items with a draw from the window. Takes about a second for 10,000 items
    of 384 dimensions.

    The interval: the logarithm of VS_q of random halves of a sample varies as that of the whole sample does (the
    delete-half jackknife, Shao & Wu, Annals of Statistics 17:1176, 1989), on both sides. The halves are drawn from n
    alone, so that the same windows have the same interval.
    """
    rows = np.asarray(vectors, np.float32)
    pairs = _pairs(human.pair_ids, pair_ids)
    matched = bool(pairs)
    alike = None if matched else human.same_lengths(lengths)
    if matched:
        rows = rows[[theirs for _, theirs in pairs]]
        people = human.spread(tuple(ours for ours, _ in pairs))
    elif alike is not None:
        rows = rows[alike[1]]
        people = human.spread(alike[0])
    else:
        items = min(len(rows), len(human.vectors))
        if items < ITEMS_MIN:
            return Missing("BELOW_MINIMUM", items)
        rows = rows[-items:]
        people = human.spread(items)
    own = _spread(human.centred(rows))
    ratio = np.array(own.diversity.scores) / np.array(people.diversity.scores)
    margin = np.exp(_SURE * np.sqrt(np.square(own.errors) + np.square(people.errors)))
    return Comparison(
        items=len(rows),
        matched=matched,
        same_lengths=alike is not None,
        human_version=human.version,
        produced=own.diversity,
        human=people.diversity,
        ratio=tuple(ratio.tolist()),
        low=tuple((ratio / margin).tolist()),
        high=tuple((ratio * margin).tolist()),
        support=human.support(rows),
    )


def same_lengths(people: ArrayLike, own: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """The places of as many texts of people as of a producer in each quartile of the producer's lengths, ascending.

    Both are given by their lengths, what is preferred last: of each quartile those are taken that stand last, as many
    as both sides have. What is shorter than all of the producer's, or longer, is in none. None where these are fewer
    than ITEMS_MIN, or in one of the quartiles than half of what would be compared of it without: then the lengths have
    too little in common, and what a producer says at lengths that people hardly have would not be looked at.
    """
    sides = [np.asarray(side, np.float64) for side in (people, own)]
    items = min(map(len, sides))
    if items < ITEMS_MIN:
        return None
    shortest, *bounds, longest = np.quantile(sides[1], (0.0, 0.25, 0.5, 0.75, 1.0))
    quartiles = [np.where((side < shortest) | (side > longest), -1, np.searchsorted(bounds, side)) for side in sides]
    found = []
    for quartile in range(len(bounds) + 1):
        of_quartile = [np.flatnonzero(side == quartile) for side in quartiles]
        taken = min(map(len, of_quartile))
        if taken < len(of_quartile[1]) * items / len(sides[1]) / 2:
            return None
        found.append([places[len(places) - taken :] for places in of_quartile])
    theirs, ours = (np.sort(np.concatenate(side)) for side in zip(*found, strict=True))
    return None if len(ours) < ITEMS_MIN else (theirs, ours)


def near_self(vectors: ArrayLike, threshold: float) -> float:
    """Which share of unit vectors, oldest first, (n, d), has an earlier one with at least this cosine, 0 to 1."""
    rows = np.asarray(vectors, np.float64)
    near = 0
    for start in range(0, len(rows), _BLOCK):  # of 10,000 all at once would be 1.6 GB
        cosines = rows[start : start + _BLOCK] @ rows[: start + _BLOCK].T
        near += int(np.count_nonzero(np.tril(cosines, start - 1).max(axis=1, initial=0.0) >= threshold))
    return near / len(rows) if len(rows) else 0.0


def slope(ratios: Sequence[float]) -> float | None:
    """The change of a ratio from window to window, by least squares; None for fewer than three windows."""
    if len(ratios) < 3:
        return None
    middle, mean = (len(ratios) - 1) / 2, math.fsum(ratios) / len(ratios)
    along = math.fsum((place - middle) * (ratio - mean) for place, ratio in enumerate(ratios))
    return along / math.fsum((place - middle) ** 2 for place in range(len(ratios)))


def drawn(items: int, seed: int) -> NDArray[np.intp]:
    """A random order of 0 … items - 1, the same for ever: SplitMix64, since what NumPy draws may change with NumPy."""
    with np.errstate(over="ignore"):
        mixed = np.arange(1, items + 1, dtype=np.uint64) + np.uint64(seed << 32)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


@dataclass(frozen=True, slots=True)
class _Spread:
    """A sample's figures, and how much they would vary from sample to sample."""

    diversity: Diversity
    errors: _Rows
    """Standard errors of ln VS_q in the order of ORDERS."""


def _spread(rows: _Rows) -> _Spread:
    half = len(rows) // 2
    # Of halves of fewer items than dimensions the products are among those of all items: they are made once.
    products = rows @ rows.T if half < rows.shape[1] else None
    logs: list[_Rows] = []
    for split in range(1, _SPLITS + 1):
        order = drawn(len(rows), split)
        for part in (order[:half], order[half : 2 * half]):
            found = _spectrum(products[np.ix_(part, part)]) if products is not None else _eigenvalues(rows[part])
            logs.append(np.log(_figures(found, half, min(half, rows.shape[1])).scores))
    return _Spread(diversity(rows), np.std(logs, axis=0))


def _eigenvalues(rows: _Rows) -> _Rows:
    wide = len(rows) < rows.shape[1]
    return _spectrum(rows @ rows.T if wide else rows.T @ rows)


def _spectrum(products: _Rows) -> _Rows:
    found: _Rows = np.linalg.eigvalsh(products).astype(np.float64, copy=False)
    return found


def _figures(eigenvalues: _Rows, items: int, kinds_max: int) -> Diversity:
    """The figures of a spectrum, of any scale. The order of the orders holds exactly: rounding is cut off."""
    found = np.maximum(eigenvalues, 0.0)
    total = float(found.sum())
    if not items or total <= 0:
        return Diversity(items, 1.0, 1.0, 1.0, 1.0, 1.0)
    shares = found[found > total * 1e-14] / total
    roots = np.sqrt(shares)
    singular = roots / roots.sum()
    inf = max(1.0 / float(shares.max()), 1.0)
    rke = max(1.0 / float(np.square(shares).sum()), inf)
    shannon = max(math.exp(-float((shares * np.log(shares)).sum())), rke)
    half = max(float(roots.sum()) ** 2, shannon)
    rank = math.exp(-float((singular * np.log(singular)).sum()))
    half, shannon, rke, inf = (min(score, float(kinds_max)) for score in (half, shannon, rke, inf))
    return Diversity(items, half, shannon, rke, inf, rank)


def _pairs(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """The places of both sides' answers to the same prompts, by prompt: people's first, of the others' one drawn.

    None where there are too few: who answered some prompts well would hide with them what else it says, and who
    answered them well in the end what it said before.
    """
    first: dict[str, int] = {}
    for place, pair_id in enumerate(ours):
        first.setdefault(pair_id, place)
    answers = [place for place in drawn(len(theirs), 0).tolist() if theirs[place] and theirs[place] in first]
    chosen = {theirs[place]: place for place in answers}
    if len(chosen) < ITEMS_MIN or len(answers) < ANSWERS_MIN * len(theirs):
        return []
    return [(first[pair_id], chosen[pair_id]) for pair_id in sorted(chosen)]
