"""What is worked out ahead for a posterior: many vectors at once, in the order in which they are likely to come.

A vector is asked about, or observed, one at a time, and each answer depends on all observations before it. But what
comes next is mostly known: the rest of a batch. So some forty vectors are pulled through A⁻¹ by one product (`Look`),
and what each of them would tell after every observation until then is read off one factorization (`Plan`). Where it
comes otherwise, only the plan is made anew.

Nothing here decides a bit of any figure. Each number of a product is made by itself, wherever it stands and whatever
stands beside it, as long as BLAS gets the shapes of `_GRAIN` and `PLACES`; and the first rows of a triangular factor,
of its inverse and of what is solved by it do not depend on the rows behind (`tests/unit/test_posterior_bits.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, lapack

BLOCK: Final = 32
"""Observations taken into A⁻¹ at once."""

PLACES: Final = 2 * BLOCK
"""Vectors that are looked at together: as many as are taken in, and as many again that are only asked about."""

_NEXT_MAX: Final = 2 * PLACES
"""Of what is expected so many are looked through: some of them are looked at already, or the same."""

_GRAIN: Final = 8
"""The kernels of BLAS take up to so many numbers at once and make the rest otherwise, and take other ways where there
are few. So vectors have zeros behind them up to a multiple of it, as many of them are pulled through A⁻¹ at once, and
what is multiplied with all PLACES is so many each time."""

_Rows: TypeAlias = NDArray[np.float64]


class Keyed(NamedTuple):
    """A vector, and what it is known by."""

    key: bytes
    """Its numbers in float32, or else in float64, of which there are more bytes."""
    row: NDArray[np.floating]
    """(d,), read-only."""

    @classmethod
    def of(cls, vector: "ArrayLike | Keyed") -> "Keyed":
        """Of an array of any shape, which is copied."""
        if isinstance(vector, Keyed):
            return vector
        row = floating(np.asarray(vector))
        key = row.tobytes()
        return cls(key, np.frombuffer(key, row.dtype).reshape(row.shape))

    @classmethod
    def read(cls, numbers: bytes) -> "Keyed":
        """Of float32, little-endian; nothing is copied."""
        return cls(numbers, np.frombuffer(numbers, "<f4"))


@dataclass(frozen=True, slots=True)
class Expectation:
    """Vectors that are likely to be asked about or observed soon, in this order."""

    vectors: Sequence[Keyed]
    places: Mapping[bytes, int]
    """By key, the first of each."""
    weights: Sequence[float]
    """With which each is likely to be observed; 0 where it is only asked about."""

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Self:
        """The rows of an array, (n, d), all of which are likely to be observed, with the weight one.

        Raises ValueError: one is not finite.
        """
        rows = finite(floating(vectors).copy())
        rows.setflags(write=False)
        made = [Keyed(row.tobytes(), row) for row in rows]
        firsts = {one.key: place for place, one in reversed(list(enumerate(made)))}
        return cls(made, firsts, (1.0,) * len(made))

    def weighing(self, weights: Sequence[float]) -> "Expectation":
        """The same with other weights, one for each. Raises ValueError: there are more or fewer."""
        if len(weights) != len(self.vectors):
            raise ValueError(f"expected {len(self.vectors)} weights, found {len(weights)}")
        return replace(self, weights=weights)

    def since(self, key: bytes) -> Iterator[tuple[Keyed, float]]:
        """A vector and what comes next after it, with their weights. Nothing where it is not expected."""
        first = self.places.get(key, len(self.vectors))
        for place in range(first, min(first + _NEXT_MAX, len(self.vectors))):
            yield self.vectors[place], self.weights[place]


@dataclass(frozen=True, slots=True)
class Look:
    """Some vectors as one A⁻¹ has them, at most PLACES; behind each, and behind the last of them, there are zeros.

    Where there are none, the arrays are empty.
    """

    places: Mapping[bytes, int]
    """By key."""
    rows: _Rows
    """x: (PLACES, D)."""
    pulled: _Rows
    """A⁻¹x: (PLACES, D)."""
    across: _Rows
    """Of x_i'A⁻¹x_j, which the vector that comes later has as x_j: (PLACES, PLACES). It is not symmetric to the bit."""

    @classmethod
    def none(cls, width: int) -> Self:
        """No vector is looked at."""
        nothing = np.empty((0, width))
        return cls({}, nothing, nothing, np.empty((0, 0)))

    def extended(self, keys: Sequence[bytes], rows: _Rows, pulled: _Rows) -> "Look":
        """With others, (n, D), of which it has none yet, and for which there is room."""
        had, end = len(self.places), len(self.places) + len(keys)
        more = _whole_look({**self.places, **dict(zip(keys, range(had, end), strict=True))}, rows.shape[1])
        more.rows[:had], more.pulled[:had] = self.rows[:had], self.pulled[:had]
        more.across[:had, :had] = self.across[:had, :had]
        more.rows[had:end], more.pulled[had:end] = rows, pulled
        for start in range(had // _GRAIN * _GRAIN, end, _GRAIN):
            some = slice(start, start + _GRAIN)
            more.across[:, some] = blas.dgemm(1.0, more.pulled[some].T, more.rows.T, trans_a=1).T
            if had:
                more.across[some, :] = blas.dgemm(1.0, more.rows[some].T, more.pulled.T, trans_a=1)
        return more

    def only(self, keys: Iterable[bytes]) -> "Look":
        """Of what it has those alone."""
        left = [key for key in keys if key in self.places]
        at, count = [self.places[key] for key in left], len(left)
        made = _whole_look({key: place for place, key in enumerate(left)}, self.rows.shape[1])
        made.rows[:count], made.pulled[:count] = self.rows[at], self.pulled[at]
        made.across[:count, :count] = self.across[np.ix_(at, at)]
        return made


@dataclass(frozen=True, slots=True)
class Plan:
    """What vectors tell while others are observed, one after the other: U = [√w x …], at most BLOCK of them.

    By Woodbury x'(A + UU')⁻¹x = x'A⁻¹x - c'c with Lc = U'A⁻¹x and LL' = I + U'A⁻¹U; of the first k observations alone
    it is the same with the first k rows of L, and so of c.
    """

    order: Sequence[int]
    """The places in the look of what was observed and then is likely to be."""
    weights: Sequence[float]
    """Theirs."""
    alone: _Rows
    """x'A⁻¹x of each vector in the look: (PLACES,)."""
    taken: _Rows
    """c of each vector in the look: (PLACES, BLOCK)."""
    factor: _Rows
    """L, and behind the last observation the identity: (BLOCK, BLOCK)."""
    inverse: _Rows
    """L⁻¹: (BLOCK, BLOCK)."""

    @classmethod
    def of(cls, look: Look, order: Sequence[int], weights: Sequence[float]) -> "Plan | None":
        """What the vectors in a look tell while those in `order` are observed, with `weights`.

        None where there is no L: A⁻¹ is damaged, or these are out of all proportion.
        """
        roots, at = np.zeros(BLOCK), np.zeros(BLOCK, np.int64)
        roots[: len(order)], at[: len(order)] = weights, order
        np.sqrt(roots, out=roots)
        shared = look.across.take(at, axis=0)
        shared *= roots[:, None]
        gram = shared.take(at, axis=1)
        gram *= roots
        gram[_DIAGONAL] += 1.0
        factor, failed = lapack.dpotrf(gram.T, lower=1, overwrite_a=1)
        if failed:
            return None
        inverse, _ = lapack.dtrtri(factor, lower=1)
        taken = blas.dgemm(1.0, inverse, shared.T, trans_b=1).T
        return cls(order, weights, look.across.diagonal(), taken, factor, inverse)

    def foresaw(self, number: int, place: int | None, weight: float) -> bool:
        """Whether the observation after the first so many is the one with that place and weight."""
        return number < len(self.order) and self.order[number] == place and self.weights[number] == weight

    def left(self, place: int, count: int) -> float:
        """x'(A + UU')⁻¹x of a vector, after the first so many observations."""
        taken = self.taken[place, :count]
        return float(self.alone[place]) - float(taken.dot(taken))

    def growth(self, count: int) -> float:
        """By how much the first so many observations let ln det A grow: ln det(I + U'A⁻¹U)."""
        return 2 * float(np.log(self.factor.diagonal()[:count]).sum())

    def steps(self, look: Look, count: int) -> tuple[_Rows, _Rows]:
        """Of the first so many observations U and Z, (D, BLOCK), with zeros behind: (A + UU')⁻¹ = A⁻¹ - ZZ'.

        With V = A⁻¹U it is Z = V L⁻ᵀ.
        """
        roots, at = np.zeros((BLOCK, 1)), np.zeros(BLOCK, np.int64)
        roots[:count, 0], at[:count] = self.weights[:count], self.order[:count]
        np.sqrt(roots, out=roots)
        observed, across = look.rows.take(at, axis=0), look.pulled.take(at, axis=0)
        observed *= roots
        across *= roots
        inverse = self.inverse
        if count < len(self.order):
            inverse = inverse.copy(order="F")
            inverse[count:] = 0.0
        return observed.T, blas.dgemm(1.0, across.T, inverse, trans_b=1)


_DIAGONAL: Final = np.diag_indices(BLOCK)


def _whole_look(places: Mapping[bytes, int], width: int) -> Look:
    """One of PLACES vectors, all zeros yet."""
    return Look(places, np.zeros((PLACES, width)), np.zeros((PLACES, width)), np.zeros((PLACES, PLACES)))


def floating(vectors: NDArray[Any]) -> NDArray[np.floating]:
    """As they are where they are float32, and else in float64."""
    return vectors if vectors.dtype == np.float32 else vectors.astype(np.float64)


def finite(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """The rows of an array again. Raises ValueError: one is not finite, or so long that its square is not."""
    if not np.isfinite(np.einsum("...j,...j->...", vectors, vectors)).all():
        wide = vectors.astype(np.float64)  # where the square of a float32 is none
        if not np.isfinite(np.einsum("...j,...j->...", wide, wide)).all():
            raise ValueError("a vector's numbers must be finite")
    return vectors


def whole(count: int) -> int:
    """How many numbers, or vectors, BLAS is given for so many."""
    return -(-count // _GRAIN) * _GRAIN
