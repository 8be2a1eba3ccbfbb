"""Plausibility: whether an item could be knowledge at all, before anybody asks what it would tell.

Information gain is highest for noise, so it counts only with a plausibility. Two things are looked at: where the item
lies, which `Neighbourhood` ranks among what people wrote, since too far is out of distribution, something for review
and never for acceptance; and how it is worded (`wording.Wording`). Both learn from the frozen human window.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epistream.indexer.wording import ORDER_MIN, Worded

RANK_MIN: Final = 0.05
"""Farther out than 95 % of what people wrote is too far."""
REPETITION_MIN: Final = 0.4
"""Two in five of its pairs of words stood before,"""
REPETITION_RANK_MIN: Final = 0.02
"""and it repeats more than 98 % of what people wrote: that is too much."""
NOISE: Final = frozenset({"TOO_FAR", "REPEATS", "NO_ORDER"})
"""The doubts that say that something is no knowledge; the others say that it cannot be told."""

_NEIGHBOUR: Final = 5
_AT_ONCE: Final = 256
_CALIBRATION_MAX: Final = 2000
"""Distances of so many of people's items are enough to rank by, to 1/2,000."""

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


def doubts(rank: float | None, worded: Worded | None) -> tuple[str, ...]:
    """Why an item may not be accepted on its figures alone, worst first; empty: nothing speaks against it.

    Args:
        rank: from `Neighbourhood.rank`; None where the item has no vector.
        worded: from `Wording.read`; None where the content is no text.
    """
    found = []
    if rank is None:
        found.append("NO_VECTOR")
    elif rank < RANK_MIN:
        found.append("TOO_FAR")
    if worded is None:
        return (*found, "NO_TEXT")
    share, repeats = worded.repetition or 0.0, worded.repetition_rank
    if share >= REPETITION_MIN and repeats is not None and repeats < REPETITION_RANK_MIN:
        found.append("REPEATS")
    if worded.order is None:
        found.append(worded.untold)
    elif worded.order < ORDER_MIN:
        found.append("NO_ORDER")
    return tuple(found)


def worth(rank: float, relative_gain: float) -> float:
    """Plausibility times gain, in [0, 1]: what a gate may compare with its bar once there are no doubts."""
    return rank * relative_gain
