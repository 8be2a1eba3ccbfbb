"""Which heads that a batch itself has made are near to a vector of the batch."""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.index import cosines, score_margin

_Value = TypeVar("_Value", bound=np.generic)


class NearInBatch:
    """The vectors of a batch in rows, and which of them are heads now.

    What comes with the batch is scored against all of it at once. What joins it later was decided before, and there may
    be any number: it is scored against what came with the batch, and against its like only when it is its turn.
    """

    def __init__(self, vectors: NDArray[np.float32], at_least: float) -> None:
        """Of the batch: shape (n, d), each of length one. `at_least`: the lowest similarity that is asked for."""
        self._own: Final = len(vectors)
        self._at_least: Final = at_least
        self._vectors, self._count = vectors, len(vectors)
        self._scores = vectors @ vectors.T
        np.fill_diagonal(self._scores, -np.inf)  # none is near itself
        self._joined = np.empty((0, self._own), np.float32)
        self._is_head = np.zeros(self._own, np.bool_)

    def __len__(self) -> int:
        """How many rows there are."""
        return self._count

    def join(self, vectors: NDArray[np.float32]) -> None:
        """Add rows, of what was decided before; shape (m, d)."""
        if not self._count:
            self._vectors = np.empty((0, vectors.shape[1]), np.float32)
        joined = self._count - self._own
        self._joined = _extended(self._joined, joined, vectors @ self._vectors[: self._own].T)
        self._vectors = _extended(self._vectors, self._count, vectors)
        self._is_head = _extended(self._is_head, self._count, np.zeros(len(vectors), np.bool_))
        self._count += len(vectors)

    def vectors(self, rows: list[int]) -> NDArray[np.float32]:
        """Those of some rows."""
        return self._vectors[rows]

    def mark(self, row: int, *, is_head: bool) -> None:
        """Say whether what a row says is now the newest version of its item, and in answers."""
        self._is_head[row] = is_head

    def heads(self, row: int, limit: int) -> list[tuple[int, float]]:
        """The rows of heads with at least the lowest similarity, or a hair less, and their exact cosines to a row.

        The `limit` nearest ones are among them, and whatever is as near as the last of these; in no order.
        """
        rows, scores = self._scored(row)
        if len(rows) > limit:
            # A score may err by the margin, and so may that of the last one that is wanted.
            least = np.partition(scores, -limit)[-limit] - 2 * score_margin(self._vectors.shape[1])
            rows = rows[scores >= least]
        if not len(rows):
            return []
        return list(zip(rows.tolist(), cosines(self._vectors[row], self._vectors[rows]).tolist(), strict=True))

    def _scored(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows of heads that are near, and their scores."""
        own, joined = self._own, self._count - self._own
        beside_own = self._scores[row] if row < own else self._joined[row - own]
        mine = np.flatnonzero(self._is_head[:own] & (beside_own >= self._at_least))
        theirs = np.flatnonzero(self._is_head[own : self._count])
        if not len(theirs):
            return mine, beside_own[mine]
        if row < own:
            beside = self._joined[:joined, row][theirs]
        else:
            theirs = theirs[theirs != row - own]
            beside = self._vectors[own + theirs] @ self._vectors[row]
        near = beside >= self._at_least
        return np.append(mine, own + theirs[near]), np.append(beside_own[mine], beside[near])


def _extended(array: NDArray[_Value], count: int, more: NDArray[_Value]) -> NDArray[_Value]:
    """The first `count` of an array and more, with room for as many again."""
    needed = count + len(more)
    if needed > len(array):
        larger = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
        larger[:count] = array[:count]
        array = larger
    array[count:needed] = more
    return array
