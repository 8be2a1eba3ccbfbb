"""The index in use: FAISS's exact scan by inner product, over rows that we keep ourselves.

IndexFlatIP does the same scan over a vector of its own, which is copied each time it grows and may not be searched
meanwhile; FAISS's `knn_inner_product`, on which it is built, takes any memory. Measured at 100,000 rows of 384: equal.
Scanning is right up to about 100,000 rows. Lists or graphs for more than that would be another Index beside this one.

FAISS releases Python's lock while it works, so readers run beside each other and beside the writer.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import faiss
import numpy as np

from epistream.indexer.index.base import Index, Mask, Pairs, Scores, Slots, Vectors, check_k, check_scope, check_vectors
from epistream.indexer.index.blocks import Blocks
from epistream.indexer.index.bound import head_for, heads, shortened

BLAS_VALUES_MIN: Final = 3072
"""From how many values in all the queries BLAS is faster than a scan a query: 8 queries of 384 (measured). FAISS's own
bound of 128,000 makes batches of 256 ten times slower (faiss issue 4925)."""
GATHER_SHARE_MAX: Final = 0.02
"""Up to this share of allowed rows, copying them is faster for one query than a bitmap over all (measured)."""

BOUNDS_MAX: Final = 1 << 20
"""How many bounds are computed at a time: 4 MB stay in the cache."""
BOUND_ROWS_MAX: Final = 2048
"""How many rows have their bounds computed at a time: they stay in a core's own cache while BLAS goes over them."""

# For the whole process. Since FAISS 1.15 it is a bound on queries times dimension, before that one on queries.
faiss.cvar.distance_compute_blas_threshold = BLAS_VALUES_MIN
_CORES: Final[int] = faiss.omp_get_max_threads()


class _Part(NamedTuple):
    """Rows to scan, and where they stand."""

    rows: Vectors
    slots: Slots
    """The slot of each row."""
    bitmap: Mask | None
    """Which of the rows are allowed; None for all."""


class FaissIndex:
    """An Index by FAISS.

    Args:
        dimension: the number of values of a vector.
        block_rows: how many rows are kept and scanned together; chosen by size when not given.
    """

    def __init__(self, dimension: int, block_rows: int | None = None) -> None:
        self.dimension = dimension
        self._blocks = Blocks(dimension, block_rows)
        self._shortened = {head: Blocks(head + 1, block_rows) for head in heads(dimension)}

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, vectors: Vectors) -> None:
        """As Index says."""
        check_vectors(vectors, self.dimension)
        # At the same slots, whatever an addition before, that failed in between, has left there.
        for head, blocks in self._shortened.items():
            blocks.add(shortened(vectors, head), at=len(self._blocks))
        self._blocks.add(vectors)  # last: it says how many there are

    def nearest(self, queries: Vectors, k: int, *, below: int, allowed: Mask | None = None) -> tuple[Scores, Slots]:
        """As Index says."""
        check_vectors(queries, self.dimension)
        check_k(k)
        check_scope(below, allowed, len(self))
        queries = np.ascontiguousarray(queries)
        batch = queries.size >= BLAS_VALUES_MIN
        # A second thread only adds a barrier to a single scan, which one core already reads at the memory's speed.
        # The setting belongs to the calling thread.
        faiss.omp_set_num_threads(_CORES if batch else min(_CORES, max(1, len(queries))))
        best = _nothing(len(queries), k)
        for part in self._parts(below, allowed, batch=batch):
            best = _better(best, _scan(queries, part, k))
        return best

    def within(self, query: Vectors, at_least: float, *, below: int, allowed: Mask | None = None) -> Slots:
        """As Index says."""
        check_vectors(query, self.dimension)
        check_scope(below, allowed, len(self))
        found = [start + np.flatnonzero(rows @ query[0] >= at_least) for start, rows in self._blocks.scan(below)]
        slots = np.concatenate([np.empty(0, dtype=np.int64), *found])
        return slots if allowed is None else slots[allowed[slots]]

    def close_pairs(
        self, queries: Vectors, at_least: float, most: int, *, since: int = 0, below: int, allowed: Mask | None = None
    ) -> Pairs:
        """As Index says: the pairs whose bound is high enough (bound.py)."""
        check_vectors(queries, self.dimension)
        check_scope(below, allowed, len(self))
        # In this order BLAS reads the rows as they stand: for a few queries four times as fast as the other way round.
        head = head_for(self.dimension, at_least)
        asked, counts = np.ascontiguousarray(shortened(queries, head).T), np.zeros(len(queries), dtype=np.int64)
        pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        rows_max = max(1, min(BOUND_ROWS_MAX, BOUNDS_MAX // max(1, len(queries))))
        for start, rows in self._shortened[head].scan(below, rows_max, since=since):
            bounds = rows @ asked
            offsets, numbers = np.divmod(np.flatnonzero(bounds >= at_least), len(queries))
            slots = start + offsets
            wanted = counts[numbers] <= most  # what is crowded already is not collected any more
            if allowed is not None:
                wanted &= allowed[slots]
            pairs.append((numbers[wanted], slots[wanted]))
            counts += np.bincount(pairs[-1][0], minlength=len(queries))
        numbers, slots = (np.concatenate(part) for part in zip(*pairs, strict=True))
        fits = counts[numbers] <= most
        return Pairs(numbers[fits], slots[fits], np.flatnonzero(counts > most))

    def rows(self, slots: Slots) -> Vectors:
        """As Index says."""
        return self._blocks.take(slots)

    def _parts(self, below: int, allowed: Mask | None, *, batch: bool) -> Iterator[_Part]:
        """What to scan, in the way that is fastest.

        FAISS does not take the way over BLAS when it is given a bitmap. For a batch, copying the allowed rows (about a
        tenth of the scan's time) is therefore better than a bitmap at any share; for few queries only at a small one.
        """
        if allowed is None:
            for start, rows in self._blocks.scan(below):
                yield _Part(rows, np.arange(start, start + len(rows)), None)
            return
        slots = np.flatnonzero(allowed)
        if batch or len(slots) <= GATHER_SHARE_MAX * below:
            for start in range(0, len(slots), self._blocks.block_rows):
                chosen = slots[start : start + self._blocks.block_rows]
                yield _Part(self._blocks.take(chosen), chosen, None)
            return
        for start, rows in self._blocks.scan(below):
            bitmap = allowed[start : start + len(rows)]
            if bitmap.any():
                yield _Part(rows, np.arange(start, start + len(rows)), bitmap)


def _scan(queries: Vectors, part: _Part, k: int) -> tuple[Scores, Slots]:
    """The k best of a part for each query, as Index.nearest returns them. Holds no Python lock while it works."""
    scores, offsets = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
    bits = None if part.bitmap is None else np.packbits(part.bitmap, bitorder="little")
    # The selector borrows `bits`.
    selector = None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    faiss.knn_inner_product(
        faiss.swig_ptr(queries),
        faiss.swig_ptr(part.rows),
        queries.shape[1],
        len(queries),
        len(part.rows),
        k,
        faiss.swig_ptr(scores),
        faiss.swig_ptr(offsets),
        selector,
    )
    found = offsets >= 0
    return np.where(found, scores, np.float32(-np.inf)), np.where(found, part.slots[offsets], -1)


def _nothing(query_count: int, k: int) -> tuple[Scores, Slots]:
    return np.full((query_count, k), -np.inf, dtype=np.float32), np.full((query_count, k), -1, dtype=np.int64)


def _better(one: tuple[Scores, Slots], other: tuple[Scores, Slots]) -> tuple[Scores, Slots]:
    """The best of both, as many as each has."""
    scores, slots = np.concatenate([one[0], other[0]], axis=1), np.concatenate([one[1], other[1]], axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : one[0].shape[1]]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(slots, best, axis=1)


_: type[Index] = FaissIndex
