"""The exact similarity of two vectors, and how far an index's score may be from it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.index.base import LENGTH_TOLERANCE

ROUNDING_FLOAT32: Final = 2.0**-24
"""The unit roundoff of float32."""
CHUNK_VALUES: Final = 1 << 20
"""How many values are widened to float64 at a time: 8 MiB."""


def cosines(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of one vector, shape (d,), and each of the rows, shape (n, d), in float64; none may be zero.

    The same pair gives the same bits whatever stands beside it: products of float32 are exact in float64, and NumPy
    sums each contiguous row by itself, in an order that depends on d alone. BLAS promises neither. Equal vectors give
    exactly 1.
    """
    wide_query = query.astype(np.float64)
    squares_query = np.square(wide_query).sum()
    result = np.empty(len(rows), dtype=np.float64)
    step = max(1, CHUNK_VALUES // len(query))
    for start in range(0, len(rows), step):
        wide = rows[start : start + step].astype(np.float64, order="C")
        products = (wide * wide_query).sum(axis=1)
        # One root of the product of the squares, not a product of two roots: the root of a square is exact.
        result[start : start + step] = products / np.sqrt(np.square(wide).sum(axis=1) * squares_query)
    return np.clip(result, -1.0, 1.0, out=result)


def pair_cosines(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of each query, shape (n, d), and the row in the same place, shape (n, d): to the bit as `cosines`."""
    result = np.empty(len(rows), dtype=np.float64)
    step = max(1, CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        one = queries[start : start + step].astype(np.float64, order="C")
        other = rows[start : start + step].astype(np.float64, order="C")
        squares = np.square(other).sum(axis=1) * np.square(one).sum(axis=1)
        result[start : start + step] = (other * one).sum(axis=1) / np.sqrt(squares)
    return np.clip(result, -1.0, 1.0, out=result)


def score_margin(dimension: int) -> float:
    """The most that a float32 inner product of two vectors of length one can differ from their exact cosine.

    Summing n products in any order errs by at most n u / (1 - n u) times the sum of their sizes, u the unit roundoff
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); for vectors of length one that sum
    is at most one. The lengths add LENGTH_TOLERANCE each. Twice that covers the denominator, the product of the
    lengths and the rounding of the bound itself.
    """
    return 2 * (dimension * ROUNDING_FLOAT32 + 2 * LENGTH_TOLERANCE)
