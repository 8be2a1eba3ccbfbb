"""Plausibility: whether an item could be knowledge at all, before anybody asks what it would tell.

Information gain is highest for noise, so it counts only with a plausibility. Three things are looked at: how far out
the item lies, which `Neighbourhood` ranks among what people wrote; whether it lies in the directions that their items
have at all, or as a vector drawn at random does (`Directions`): what is new is far out, but not there; and how it is
worded (`wording.Wording`). All learn from the frozen human window.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv

from epistream.indexer.wording import Worded

RANK_MIN: Final = 0.05
"""Farther out than 95 % of what people wrote is too far."""
REPETITION_MIN: Final = 0.4
"""Two in five of its pairs of words stood before,"""
REPETITION_RANK_MIN: Final = 0.02
"""and it repeats more than 98 % of what people wrote: that is too much."""
NOISE: Final = frozenset({"AT_RANDOM", "REPEATS", "NO_ORDER"})
"""The doubts that say that something is no knowledge; the others: it cannot be told, or is far out."""
RANDOM_SHARE: Final = 1e-5
"""So many vectors drawn at random may pass for one that is not."""

_NEIGHBOUR: Final = 5
_AT_ONCE: Final = 256
_CALIBRATION_MAX: Final = 2000
"""Distances of so many of people's items are enough to rank by, to 1/2,000."""

_FOLDS: Final = 5
_TOLD_SHARE: Final = 0.95
"""So many of people's own items must not look as if drawn at random: as many as are not too far, by its definition."""

_Rows: TypeAlias = NDArray[np.float64]


class Directions:
    """The directions that people's items have: of each row the share of its length that lies in the leading ones.

        e(x) = ‖V'x‖²,   V: the k right singular vectors of the window with the largest singular values

    For a unit vector drawn at random e is Beta(k/2, (d - k)/2), whatever V is. An encoder's vectors fill its space
    unevenly, so that text about something new has e well above that (measured, see docs/gate.md). Frozen; any thread.

    Attributes:
        alike_share: the share of people's own items that do not lie at random, each read by the directions of what
            other folds of the window have.
        tell: whether they tell what is drawn at random from people's items: that share is 95 % or more. It is not where
            the window is small, or its dimension.
    """

    def __init__(self, vectors: ArrayLike) -> None:
        """The window's unit vectors, (n, d). 0.2 s for 500 of 384 dimensions."""
        rows = _exact(vectors)
        self._leading = _leading(rows)
        self._least = _least(*self._leading.shape)
        alike = 0
        for fold in range(_FOLDS):
            leading = _leading(np.delete(rows, np.s_[fold::_FOLDS], axis=0))
            alike += int((_share(rows[fold::_FOLDS], leading) >= _least(*leading.shape)).sum())
        self.alike_share: Final = alike / len(rows)
        self.tell: Final = self.alike_share >= _TOLD_SHARE

    def at_random(self, vectors: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row lies as one drawn at random does, (n,): the same however a stream is cut."""
        return np.asarray(_share(_exact(vectors).reshape(-1, len(self._leading)), self._leading) < self._least)


def _leading(rows: _Rows) -> _Rows:
    """V, (d, k): a third as many directions as there are rows, at most half of all."""
    count = max(1, min(len(rows) // 3, rows.shape[1] // 2))
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    return _exact(directions[:count].T)


def _least(dimension: int, directions: int) -> float:
    """The e(x) that RANDOM_SHARE of all vectors drawn at random reach; 1 where they all lie in these directions."""
    rest = dimension - directions
    return float(betainccinv(directions / 2, rest / 2, RANDOM_SHARE)) if rest else 1.0


def _share(rows: _Rows, leading: _Rows) -> _Rows:
    """Of each row e(x), (n,). Both come from `_exact`, and so do the products' squares: no order of adding shows."""
    return np.asarray(np.square(_exact(rows @ leading)).sum(axis=1), np.float64)


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


def doubts(rank: float | None, worded: Worded | None, *, at_random: bool | None) -> tuple[str, ...]:
    """Why an item may not be accepted on its figures alone, worst first; empty: nothing speaks against it.

    Args:
        rank: from `Neighbourhood.rank`; None where the item has no vector.
        at_random: from `Directions.at_random`; None where they do not tell. Then what is too far is taken for it.
        worded: from `Wording.read`; None where the content is no text.
    """
    found = []
    if rank is None:
        found.append("NO_VECTOR")
    elif at_random or (at_random is None and rank < RANK_MIN):
        found.append("AT_RANDOM")
    elif rank < RANK_MIN:
        found.append("TOO_FAR")
    if worded is None:
        return (*found, "NO_TEXT")
    share, repeats = worded.repetition or 0.0, worded.repetition_rank
    if share >= REPETITION_MIN and repeats is not None and repeats < REPETITION_RANK_MIN:
        found.append("REPEATS")
    if worded.doubt:
        found.append(worded.doubt)
    return tuple(found)


def worth(rank: float, relative_gain: float) -> float:
    """Plausibility times gain, in [0, 1]: what a gate may compare with its bar once there are no doubts."""
    return rank * relative_gain
