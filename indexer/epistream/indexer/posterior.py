"""What is known, as a Gaussian over directions: what one more vector would tell, and what is known when it is told.

A Bayesian linear model over embeddings: prior precision λI, noise of variance one. With the accepted unit vectors x_t
and their weights w_t,

    A = λI + Σ w_t x_t x_t'                   the precision, d by d
    IG(x) = ½ ln(1 + w x'A⁻¹x)                nats: by how much one observation of x lowers the entropy

which is Bayesian D-optimality (Chaloner & Verdinelli, Statistical Science 10:273, 1995). By the matrix determinant
lemma the gains of a sequence add up to ½ (ln det A_n - ln det A_0), at most d/2 · ln(1 + n / (dλ)) for unit vectors
(Abbasi-Yadkori et al., NeurIPS 2011, lemma 11). An example, λ = 1: the first of its direction has q = x'A⁻¹x = 1 and
gains ½ ln 2 = 0.347; the same again q = 1/2 and 0.203; after m copies q = 1/(1 + m).

The state is part of a state machine: the same observations in the same order make the same bits, in any process on the
same kind of machine, however they were cut into batches and whatever was asked in between. What that asks for:
everything in float64; observations taken in at fixed counts; what BLAS does in one form, but for the number of vectors
that it pulls through A⁻¹ at once, on which no bit of it depends (`_GRAIN`); and one BLAS thread
(`OPENBLAS_NUM_THREADS=1`, which the service sets).

Observations are taken in 32 at a time, and what is asked about is looked at many at once (`_look_at`): the whole of
A⁻¹ then passes through the cache once for all of them, not once for each.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, lapack

from epistream.indexer.sealed import seal, unseal
from epistream.wire.errors import Broken

BLOCK: Final = 32
"""Observations taken in at once."""
REBUILD_EVERY: Final = 4096
"""Observations. A rebuild takes 12 ms at d = 384, which is 3 µs for each; A A⁻¹ is off by 3e-15 by then (measured)."""
DRIFT_MAX: Final = 1e-6
"""‖A A⁻¹ - I‖_max from which on the inverse is not trusted."""

_STATE: Final = 3
_AHEAD_MAX: Final = 2 * BLOCK
"""Looked at together, at most: as many as are taken in, and as many again that are only asked about."""
_SPARE: Final = 8
"""So many more than are taken in are looked at, since some of what is expected is not accepted."""
_GRAIN: Final = 8
"""The kernels of BLAS take up to so many numbers at once and make the rest otherwise. Of a product whose sizes are all
multiples of it each column has the same bits, however many there are and wherever it stands: so there are zeros behind
each vector, and columns of zeros behind the last (`tests/unit/test_posterior_bits.py`)."""
_KNOWN_MAX: Final = 4 * _AHEAD_MAX
"""Vectors that are kept as A⁻¹ has them. More are only where nothing of what is asked about is accepted."""

_NOT_FINITE: Final = "a vector's numbers must be finite"

_Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Vectors that are likely to be asked about or observed soon, in this order."""

    keys: Sequence[bytes]
    """Their bytes."""
    places: Mapping[bytes, int]
    """By key, the first of each."""
    vectors: NDArray[np.floating]
    """(n, d), float32 or float64."""
    observed: NDArray[np.int64]
    """Of the first n, how many are likely to be observed, and not only asked about, for each n from 0 on: (n + 1,)."""

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Self:
        """The rows of an array, (n, d), all of which are likely to be observed.

        Raises ValueError: one is not finite.
        """
        vectors = _finite(_floating(vectors).copy())
        keys = [vector.tobytes() for vector in vectors]
        firsts = {key: place for place, key in reversed(list(enumerate(keys)))}
        return cls(keys, firsts, vectors, np.arange(len(vectors) + 1))

    def only(self, observed: Sequence[bool]) -> "Expectation":
        """The same, of which those are likely to be observed."""
        return replace(self, observed=np.append(0, np.cumsum(observed)))

    def after(self, key: bytes, count: int, most: int) -> slice:
        """What comes after a vector, until so many of it are likely to be observed; at most `most`."""
        start = self.places.get(key, len(self.keys)) + 1
        if start > len(self.keys):
            return slice(0, 0)
        end = int(np.searchsorted(self.observed, self.observed[start] + count))
        return slice(start, min(end, start + most, len(self.keys)))


class _Observation(NamedTuple):
    """Of x, with the weight w."""

    key: bytes
    """The bytes of the vector."""
    row: _Rows
    """x, with zeros behind it: (D,)."""
    weight: float


class _Pulled(NamedTuple):
    """A vector as A⁻¹ has it."""

    row: _Rows
    """x, (D,)."""
    pulled: _Rows
    """A⁻¹x, (D,)."""


class _Waiting:
    """The observations U = [√w x …] that A⁻¹ does not have yet.

    By Woodbury x'(A + UU')⁻¹x = x'A⁻¹x - c'c with Lc = U'A⁻¹x and LL' = I + U'A⁻¹U. L is made row by row, and only when
    somebody asks.
    """

    def __init__(self, width: int) -> None:
        self.observations: list[_Observation] = []
        self._observed: _Rows = np.zeros((BLOCK, width))
        """U', as far as it is in L, and then zeros."""
        self._factor: _Rows = np.eye(BLOCK, order="F")
        """L, and then the identity."""
        self._factored = 0
        """How many are in both."""

    def branch(self) -> "_Waiting":
        """What goes on from here by itself."""
        other = copy.copy(self)
        other.observations = list(self.observations)
        other._observed, other._factor = self._observed.copy(), self._factor.copy(order="F")  # noqa: SLF001 - one of its kind
        return other

    def fresh(self) -> list[_Observation]:
        """Those that are not in L yet."""
        return self.observations[self._factored :]

    def take(self, one: _Observation, known: _Pulled) -> None:
        """Have the first of them in L."""
        left, taken = self._left(known)
        root, number = math.sqrt(one.weight), self._factored
        self._observed[number], self._factor[number] = root * one.row, root * taken
        self._factor[number, number] = math.sqrt(1.0 + one.weight * max(left, 0.0))
        self._factored += 1

    def left(self, known: _Pulled) -> float:
        """x'(A + UU')⁻¹x, with all that is in L."""
        return self._left(known)[0]

    def _left(self, known: _Pulled) -> tuple[float, _Rows]:
        """And c, (BLOCK,): 0 from the first on that is not in L."""
        shared = blas.dgemv(1.0, self._observed.T, known.pulled, trans=1)
        taken: _Rows = blas.dtrsv(self._factor, shared, lower=1, overwrite_x=1)
        return blas.ddot(known.row, known.pulled) - blas.ddot(taken, taken), taken


class Posterior:
    """A, A⁻¹ and ln det A. One thread at a time.

    Of both matrices the lower triangle is kept, in Fortran's order, as BLAS reads and writes it. They are made when the
    first block is taken in: 2 D² · 8 bytes, with D the next multiple of _GRAIN from d on; behind d they stay λI.
    """

    def __init__(self, dimension: int, *, prior: float = 1.0, rebuild_every: int = REBUILD_EVERY) -> None:
        """Nothing is known yet.

        Args:
            dimension: d, of the vectors.
            prior: λ > 0, the precision before anything is known. Gains of unit vectors are at most ½ ln(1 + 1/λ).
            rebuild_every: after how many observations A⁻¹ is made anew from A.
        """
        if dimension < 1 or rebuild_every < 1 or not 0 < prior < math.inf:
            raise ValueError(f"dimension {dimension}, prior {prior}, rebuild_every {rebuild_every}: all must be > 0")
        self._dimension, self._prior, self._rebuild_every = dimension, prior, rebuild_every
        self._width = _whole(dimension)
        self._precision: _Rows | None = None
        self._covariance: _Rows | None = None
        self._shared = False
        """Whether a branch has the same matrices, so that they may not be changed in place."""
        self._waiting = _Waiting(self._width)
        self._known: dict[bytes, _Pulled] = {}
        """Some vectors, by their bytes."""
        self._expected: list[Expectation] = []
        self._count, self._drift = 0, 0.0
        self._logdet = dimension * math.log(prior)

    @property
    def dimension(self) -> int:
        """How many numbers a vector has: d."""
        return self._dimension

    @property
    def count(self) -> int:
        """How many were observed."""
        return self._count

    @property
    def gained(self) -> float:
        """The sum of all gains, nats. Raises Broken: see `logdet`."""
        return 0.5 * (self.logdet - self._dimension * math.log(self._prior))

    @property
    def logdet(self) -> float:
        """The logarithm of det A. Raises Broken: A⁻¹ is damaged."""
        return self._logdet + self._steps()[2]

    @property
    def drift(self) -> float:
        """‖A A⁻¹ - I‖_max as it was found before the newest rebuild; 0 before the first."""
        return self._drift

    def expect(self, expected: Expectation) -> None:
        """Say what else is likely to be asked about or observed, until `rest`. Changes no figure, but is quicker.

        Raises ValueError: these have another dimension.
        """
        shape = expected.vectors.shape
        if len(shape) != 2 or shape[1] != self._dimension:
            raise ValueError(f"expected vectors of {self._dimension} dimensions, found the shape {shape}")
        self._expected.append(expected)

    def rest(self) -> None:
        """Forget what was expected, and what was worked out for it. Changes no figure."""
        self._expected, self._known = [], {}

    def gain(self, vector: ArrayLike, weight: float = 1.0) -> float:
        """IG(x), nats, >= 0, of an observation with this weight. Changes nothing. Raises ValueError as `observe`."""
        return 0.5 * math.log1p(weight * self._spread(vector))

    def score(self, vectors: ArrayLike) -> _Rows:
        """The relative gain of each row, (n,) float64 in [0, 1]: ln(1 + x'A⁻¹x) / ln(1 + 1/λ). Changes nothing.

        1 is a unit vector in a direction of which nothing is known, 0 one that tells nothing. The figure of a row does
        not depend on the others. Raises ValueError as `observe`.
        """
        rows, looking = np.asarray(vectors), self.branch()
        looking.expect(Expectation.of(rows))
        return np.array([looking.relative(row) for row in rows], np.float64)

    def relative(self, vector: ArrayLike) -> float:
        """The relative gain of one vector, (d,): see `score`. Raises ValueError as `observe`."""
        return min(math.log1p(self._spread(vector)) / math.log1p(1 / self._prior), 1.0)

    def observe(self, vector: ArrayLike, weight: float = 1.0) -> None:
        """Take in an accepted vector: A becomes A + w x x'. O(d²), whatever was before.

        Raises:
            ValueError: the vector has another dimension or is not finite, or the weight is not in (0, 1].
            Broken: A⁻¹ was off by more than DRIFT_MAX, or A cannot be inverted to it any more. What was told since the
                rebuild before is not to be trusted, and the state is lost: make it anew.
        """
        if not 0 < weight <= 1:
            raise ValueError(f"a weight lies in (0, 1], found {weight}")
        key, row = self._checked(vector)
        self._waiting.observations.append(_Observation(key, self._wide(row), weight))
        self._count += 1
        due = self._count % self._rebuild_every == 0
        if due or len(self._waiting.observations) == BLOCK:
            self._take_in()
        if due:
            self._rebuild()

    def branch(self) -> Self:
        """What goes on from here by itself, and leaves this one as it is.

        Costs microseconds: the matrices are shared until one of the two changes them.
        """
        self._shared = True
        other = copy.copy(self)
        other._waiting = self._waiting.branch()  # noqa: SLF001 - one of its kind
        other._expected, other._known = list(self._expected), dict(self._known)  # noqa: SLF001
        return other

    def pull(self, vectors: ArrayLike) -> _Rows:
        """A⁻¹x of each row, (n, d) float64; its last bits may depend on the other rows.

        Raises:
            ValueError: as `observe`.
            Broken: A⁻¹ is damaged.
        """
        vectors = _finite(_floating(np.asarray(vectors)))
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            raise ValueError(f"expected vectors of {self._dimension} dimensions, found the shape {vectors.shape}")
        rows = np.zeros((len(vectors), self._width))
        rows[:, : self._dimension] = vectors
        _, steps, _ = self._steps()
        pulled: _Rows = self._pull(rows) - (rows @ steps) @ steps.T
        return pulled[:, : self._dimension]

    def to_bytes(self) -> bytes:
        """The state: d² · 8 bytes and a little. `from_bytes` goes on from it bit for bit."""
        lower = np.tril_indices(self._dimension)
        figures = {
            "dimension": self._dimension,
            "prior": self._prior,
            "rebuild_every": self._rebuild_every,
            "count": self._count,
            "drift": self._drift,
            "logdet": self._logdet,
        }
        weights = np.array([one.weight for one in self._waiting.observations], np.float64)
        arrays = {"waiting": self._rows()[:, : self._dimension], "weights": weights}
        if self._precision is not None and self._covariance is not None:
            arrays |= {"precision": self._precision[lower], "covariance": self._covariance[lower]}
        return seal("gain", _STATE, figures, arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """What `to_bytes` made.

        Raises:
            Broken: it is damaged (CORRUPT), be it by who wrote it, or another version's.
        """
        figures, arrays = unseal("gain", _STATE, state)
        made = cls(figures["dimension"], prior=figures["prior"], rebuild_every=figures["rebuild_every"])
        made._count, made._drift, made._logdet = figures["count"], figures["drift"], figures["logdet"]
        lower = np.tril_indices(made._dimension)
        if "precision" in arrays:
            made._precision, made._covariance = made._matrices()
            made._precision[lower], made._covariance[lower] = arrays["precision"], arrays["covariance"]
            # What was damaged in memory was sealed as it was.
            if not made._residual(made._precision, made._covariance) < DRIFT_MAX:
                raise _no_state()
        weights = arrays["weights"].tolist()
        if not len(weights) == len(arrays["waiting"]) < BLOCK or not all(0 < weight <= 1 for weight in weights):
            raise _no_state()
        for row, weight in zip(arrays["waiting"], weights, strict=True):
            try:
                key, checked = made._checked(row)
            except ValueError as error:
                raise _no_state() from error
            made._waiting.observations.append(_Observation(key, made._wide(checked), weight))
        return made

    def _checked(self, vector: ArrayLike) -> tuple[bytes, NDArray[np.floating]]:
        """A vector and its key: the bytes of what it is in float32, or else in float64, of which there are more."""
        row = _floating(np.asarray(vector))
        if row.shape != (self._dimension,):
            raise ValueError(f"expected a vector of {self._dimension} dimensions, found the shape {row.shape}")
        key = row.tobytes()
        if key not in self._known and not any(key in expected.places for expected in self._expected):
            _finite(row)  # others were finite when they came
        return key, row

    def _wide(self, row: NDArray[np.floating]) -> _Rows:
        """A row with zeros behind it, (D,): nobody else's."""
        wide = np.zeros(self._width)
        wide[: self._dimension] = row
        return wide

    def _rows(self) -> _Rows:
        """The x of what waits, (k, D)."""
        rows = [one.row for one in self._waiting.observations]
        return np.array(rows, np.float64).reshape(-1, self._width)

    def _spread(self, vector: ArrayLike) -> float:
        """The q = x'A⁻¹x, which rounding may not make negative."""
        (key, row), waiting = self._checked(vector), self._waiting
        if len(self._known) > _KNOWN_MAX:
            self._known = {}
        fresh = waiting.fresh()
        missing = {one.key: one.row for one in fresh if one.key not in self._known}
        if key not in self._known:
            missing[key] = self._wide(row)
        if missing:
            self._look_at(missing, key)
        for one in fresh:
            waiting.take(one, self._known[one.key])
        return max(waiting.left(self._known[key]), 0.0)

    def _look_at(self, missing: Mapping[bytes, _Rows], asked: bytes) -> None:
        """Pull what is missing, and what is expected after that which is asked about."""
        keys, ahead = list(missing), list[NDArray[np.floating]]()
        for expected in self._expected:
            if asked in expected.places:
                wanted = BLOCK + _SPARE - len(self._waiting.observations) - 1
                more = expected.after(asked, wanted, _AHEAD_MAX - len(keys))
                keys += expected.keys[more]
                ahead.append(expected.vectors[more])
        rows = np.zeros((_whole(len(keys)), self._width))
        rows[: len(missing)] = list(missing.values())
        if ahead:
            rows[len(missing) : len(keys), : self._dimension] = np.concatenate(ahead)
        self._known |= zip(keys, map(_Pulled, rows, self._pull(rows)), strict=False)

    def _pull(self, rows: _Rows) -> _Rows:
        """A⁻¹x of each row without what waits, (n, D): the same bits whatever other rows there are."""
        if self._covariance is None:
            return rows / self._prior
        more = np.zeros((_whole(len(rows)) - len(rows), self._width))
        whole = np.concatenate((rows, more)) if len(more) else rows
        pulled: _Rows = blas.dsymm(1.0, self._covariance, whole.T, lower=1).T
        return pulled[: len(rows)]

    def _matrices(self) -> tuple[_Rows, _Rows]:
        """A and A⁻¹, to be changed in place."""
        precision, covariance = self._precision, self._covariance
        if precision is None or covariance is None:
            one = np.eye(self._width)
            return np.asfortranarray(one * self._prior), np.asfortranarray(one / self._prior)
        if self._shared:
            return precision.copy(order="F"), covariance.copy(order="F")
        return precision, covariance

    def _steps(self) -> tuple[_Rows, _Rows, float]:
        """Of what waits U and Z, (D, k), and by how much ln det A grows: (A + UU')⁻¹ = A⁻¹ - ZZ'.

        With V = A⁻¹U and I + U'V = LL' it is Z = V L⁻ᵀ, and det(A + UU') = det A det LL'.
        """
        waiting = self._waiting.observations
        if not waiting:
            none = np.empty((self._width, 0), np.float64, order="F")
            return none, none, 0.0
        rows = self._rows()
        known = [self._known[one.key].pulled for one in waiting if one.key in self._known]
        pulled = np.array(known) if len(known) == len(waiting) else self._pull(rows)
        roots = np.sqrt([[one.weight] for one in waiting])
        observed, across = (rows * roots).T, (pulled * roots).T
        gram = blas.dgemm(1.0, observed, across, trans_a=1)
        gram[np.diag_indices(len(rows))] += 1.0
        factor, failed = lapack.dpotrf(gram, lower=1)
        if failed:
            raise self._singular()
        inverse, _ = lapack.dtrtri(factor, lower=1)
        steps = blas.dgemm(1.0, across, inverse, trans_b=1)  # 22 µs at d = 384, where dtrsm takes 31
        return observed, steps, 2 * float(np.log(np.diagonal(factor)).sum())

    def _take_in(self) -> None:
        """Take in what waits: A + UU', and A⁻¹ - ZZ'."""
        observed, steps, growth = self._steps()
        precision, covariance = self._matrices()
        self._shared = False
        self._covariance = blas.dsyrk(-1.0, steps, beta=1.0, c=covariance, lower=1, overwrite_c=1)
        self._precision = blas.dsyrk(1.0, observed, beta=1.0, c=precision, lower=1, overwrite_c=1)
        self._logdet += growth
        self._waiting, self._known = _Waiting(self._width), {}

    def _rebuild(self) -> None:
        """Make A⁻¹ and ln det A anew from A = LL', and look how far they had drifted."""
        precision, covariance = self._matrices()
        self._drift = self._residual(precision, covariance)
        # One of the two is damaged, and nothing tells which: neither makes the other good.
        if not self._drift < DRIFT_MAX:
            text = f"after {self._count} observations the inverse was off by {self._drift:.3g}, more than {DRIFT_MAX:g}"
            raise Broken(f"{text}: start the service anew, which makes it from the journal")
        factor, failed = lapack.dpotrf(precision, lower=1)
        if not failed:
            self._logdet = 2 * float(np.log(np.diagonal(factor)[: self._dimension]).sum())
            inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
            self._covariance = covariance = np.asfortranarray(inverse)
        if failed or not self._residual(precision, covariance) < DRIFT_MAX:
            raise self._singular()

    def _singular(self) -> Broken:
        return Broken(f"after {self._count} observations the precision cannot be inverted to {DRIFT_MAX:g}")

    def _residual(self, precision: _Rows, covariance: _Rows) -> float:
        """‖A A⁻¹ - I‖_max."""
        own = np.s_[: self._dimension, : self._dimension]
        product = _symmetric(precision[own]) @ _symmetric(covariance[own])
        return float(np.abs(product - np.eye(self._dimension)).max())


def _floating(vectors: NDArray[Any]) -> NDArray[np.floating]:
    """As they are where they are float32, and else in float64."""
    return vectors if vectors.dtype == np.float32 else vectors.astype(np.float64)


def _finite(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """The rows of an array again. Raises ValueError: one is not finite, or so long that its square is not."""
    wide = vectors.astype(np.float64, copy=False)
    if not np.isfinite(np.einsum("...j,...j->...", wide, wide)).all():
        raise ValueError(_NOT_FINITE)
    return vectors


def _whole(count: int) -> int:
    """The next multiple of _GRAIN."""
    return -(-count // _GRAIN) * _GRAIN


def _no_state() -> Broken:
    return Broken("the saved state of gain is none: make it anew from the journal", reason="CORRUPT")


def _symmetric(lower: NDArray[Any]) -> _Rows:
    """The symmetric matrix of which the lower triangle is given."""
    triangle = np.tril(lower)
    whole: _Rows = triangle + np.tril(triangle, -1).T
    return whole
