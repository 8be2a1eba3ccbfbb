"""What Searchable asks of an index, and the checks that every index makes before it goes to work."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.wire.errors import InvalidInput

Vectors: TypeAlias = NDArray[np.float32]
"""Shape (n, dimension), float32, each row of length one."""
Scores: TypeAlias = NDArray[np.float32]
Slots: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

LENGTH_TOLERANCE: Final = 1e-5
"""How far from one the length of a vector may be. Scaling in float32 errs by less than 1e-6 up to 4,096 dimensions."""


class Pairs(NamedTuple):
    """Queries and slots that are close."""

    queries: Slots
    """Numbers of queries."""
    slots: Slots
    """For each of them a slot."""
    crowded: Slots
    """The numbers of the queries that have too many, in ascending order; none of their pairs is here."""


class Index(Protocol):
    """Vectors by slot 0, 1, 2 …, append only.

    One thread adds. Any number of threads search meanwhile, without locks: a slot below `len(index)` never changes.
    Scores are inner products in float32, so they err by rounding (cosine.py says how much) and may differ in the last
    bits from call to call; the caller scores again what it returns. Nothing here blocks on I/O.
    """

    @property
    def dimension(self) -> int:
        """The number of values of a vector."""

    def __len__(self) -> int:
        """The number of vectors."""

    def add(self, vectors: Vectors) -> None:
        """Give the vectors the next slots.

        Raises:
            InvalidInput: wrong shape or type, or a row that is not finite or not of length one; nothing was added.
        """

    def nearest(self, queries: Vectors, k: int, *, below: int, allowed: Mask | None = None) -> tuple[Scores, Slots]:
        """Look for the k best slots of each query among the slots under `below` that are `allowed`.

        Args:
            queries: shape (q, dimension).
            k: how many; may be more than there are.
            below: the first slot that is out of question, at most `len(index)`.
            allowed: shape (below,); None allows all.

        Returns:
            Scores and slots, each of shape (q, k), best first. Where there are fewer than k: score -inf, slot -1.

        Raises:
            InvalidInput: queries that `add` would refuse as vectors, k under 1, or a mask or bound that does not fit.
        """

    def within(self, query: Vectors, at_least: float, *, below: int, allowed: Mask | None = None) -> Slots:
        """All slots whose score with one query, of shape (1, dimension), is `at_least` this much, in ascending order.

        `below`, `allowed` and what is raised are as in `nearest`.
        """

    def close_pairs(
        self, queries: Vectors, at_least: float, most: int, *, since: int = 0, below: int, allowed: Mask | None = None
    ) -> Pairs:
        """The pairs of a query and a slot whose score is `at_least` this much, and perhaps others, in no order.

        Made for many queries and scores near one. A query with more than `most` slots that may be so close is crowded.
        Slots under `since`, at most `below`, are passed over.

        `queries`, `below`, `allowed` and what is raised are as in `nearest`.
        """

    def rows(self, slots: Slots) -> Vectors:
        """A copy of the vectors of these slots, each from 0 to `len(index)` - 1; shape (n, dimension)."""


IndexFactory: TypeAlias = Callable[[int], Index]
"""Makes an empty index of a dimension."""


def check_vectors(vectors: Vectors, dimension: int) -> None:
    """Raise InvalidInput unless these are float32 rows of this dimension, finite and of length one.

    A library in C would abort the whole process, or answer nonsense, for some of what is refused here.
    """
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise InvalidInput.at(
            "vectors", f"expected float32 of shape (n, {dimension}), found {vectors.dtype} of shape {vectors.shape}"
        )
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= LENGTH_TOLERANCE))  # so that NaN is wrong too
    if len(wrong):
        raise InvalidInput.at(
            f"vectors[{wrong[0]}]", f"expected a finite vector of length one, found length {lengths[wrong[0]]:g}"
        )


def check_scope(below: int, allowed: Mask | None, size: int) -> None:
    """Raise InvalidInput unless `below` is within the index and the mask has one value for each slot under it."""
    if not 0 <= below <= size:
        raise InvalidInput.at("below", f"expected 0 to {size}, the number of vectors, found {below}")
    if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (below,)):
        raise InvalidInput.at("allowed", f"expected bool of shape ({below},), found {allowed.dtype} {allowed.shape}")


def check_k(k: int) -> None:
    """Raise InvalidInput unless k is at least 1."""
    if k < 1:
        raise InvalidInput.at("k", f"expected at least 1, found {k}")
