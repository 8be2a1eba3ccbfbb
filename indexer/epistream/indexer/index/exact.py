"""The oracle: an index that looks at every row, one query after the other. Small and obviously right, not fast."""

import numpy as np

from epistream.indexer.index.base import Index, Mask, Pairs, Scores, Slots, Vectors, check_k, check_scope, check_vectors


class ExactIndex:
    """An Index in plain NumPy. Adding copies what is there: use it for tests and for small namespaces only."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._rows = np.empty((0, dimension), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, vectors: Vectors) -> None:
        """As Index says."""
        check_vectors(vectors, self.dimension)
        self._rows = np.concatenate([self._rows, vectors])

    def nearest(self, queries: Vectors, k: int, *, below: int, allowed: Mask | None = None) -> tuple[Scores, Slots]:
        """As Index says."""
        check_vectors(queries, self.dimension)
        check_k(k)
        check_scope(below, allowed, len(self))
        best_scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        best_slots = np.full((len(queries), k), -1, dtype=np.int64)
        for number, query in enumerate(queries):
            scores = self._scores(query, below, allowed)
            best = np.argsort(-scores, kind="stable")[:k]
            best = best[scores[best] > -np.inf]
            best_scores[number, : len(best)] = scores[best]
            best_slots[number, : len(best)] = best
        return best_scores, best_slots

    def within(self, query: Vectors, at_least: float, *, below: int, allowed: Mask | None = None) -> Slots:
        """As Index says."""
        check_vectors(query, self.dimension)
        check_scope(below, allowed, len(self))
        return np.flatnonzero(self._scores(query[0], below, allowed) >= at_least)

    def close_pairs(
        self, queries: Vectors, at_least: float, most: int, *, since: int = 0, below: int, allowed: Mask | None = None
    ) -> Pairs:
        """As Index says."""
        check_vectors(queries, self.dimension)
        check_scope(below, allowed, len(self))
        near = [since + np.flatnonzero(self._scores(query, below, allowed)[since:] >= at_least) for query in queries]
        crowded = [number for number, slots in enumerate(near) if len(slots) > most]
        kept = [(number, slot) for number, slots in enumerate(near) if len(slots) <= most for slot in slots]
        pairs = np.array(kept, dtype=np.int64).reshape(-1, 2)
        return Pairs(pairs[:, 0], pairs[:, 1], np.array(crowded, dtype=np.int64))

    def rows(self, slots: Slots) -> Vectors:
        """As Index says."""
        return self._rows[slots]

    def _scores(self, query: Vectors, below: int, allowed: Mask | None) -> Scores:
        """The scores of all slots under `below`, shape (below,); -inf for those that are not allowed."""
        scores = self._rows[:below] @ query
        return scores if allowed is None else np.where(allowed, scores, np.float32(-np.inf))


_: type[Index] = ExactIndex
