"""Information gain: how much an item would tell, given everything that was accepted before it.

A Bayesian linear model over embeddings: prior precision λI, noise of variance one. With the accepted unit vectors x_t
and their weights w_t,

    A = λI + Σ w_t x_t x_t'                   the precision, d by d
    IG(x) = ½ ln(1 + w x'A⁻¹x)                nats: by how much one observation of x lowers the entropy

which is Bayesian D-optimality (Chaloner & Verdinelli, Statistical Science 10:273, 1995). By the matrix determinant
lemma the gains of a sequence add up to ½ (ln det A_n - ln det A_0), at most d/2 · ln(1 + n / (dλ)) for unit vectors
(Abbasi-Yadkori et al., NeurIPS 2011, lemma 11). An example, λ = 1: the first of its direction has q = x'A⁻¹x = 1 and
gains ½ ln 2 = 0.347; the same again q = 1/2 and 0.203; after m copies q = 1/(1 + m).

Gain alone rewards noise: random vectors gain the most. Whoever decides multiplies it by `plausibility`.

The state is part of a state machine: the same observations in the same order make the same bits, in any process on the
same kind of machine, however they were cut into batches. What that asks for: everything in float64, each step by the
same BLAS routine, at fixed counts, and one BLAS thread (`OPENBLAS_NUM_THREADS=1`, which the service sets).

Observations are taken in 32 at a time, which costs a third of taking them in one by one: the whole of A⁻¹ then passes
through the cache once for all of them. What is asked in between is put right for those that wait.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, cho_factor, cho_solve, lapack

from epistream.indexer.sealed import seal, unseal
from epistream.wire.errors import Broken

BLOCK: Final = 32
"""Observations taken in at once. At d = 384: 16 µs each; 22 µs in 16s, 18 µs in 64s, 53 µs one by one (measured)."""
REBUILD_EVERY: Final = 4096
"""Observations. A rebuild takes 12 ms at d = 384, which is 3 µs for each; A A⁻¹ is off by 3e-15 by then (measured)."""
DRIFT_MAX: Final = 1e-6
"""‖A A⁻¹ - I‖_max from which on the inverse is not trusted."""
SYNTHETIC_WEIGHT: Final = 0.25
"""How much a synthetic item moves what is known: four of them close a direction as far as one from people does."""

_STATE: Final = 2
_Rows: TypeAlias = NDArray[np.float64]
_Pull: TypeAlias = Callable[[_Rows], _Rows]


class _Waiting:
    """Observations that are not taken in yet, U = [u …], and what they take from A⁻¹: (A + UU')⁻¹ = A⁻¹ - ZZ'.

    A column for each, by Sherman-Morrison: with p = (A⁻¹ - ZZ')u of those before it, z = p / √(1 + u'p), and the
    determinant grows by 1 + u'p. They are made in order, and only when somebody asks.
    """

    def __init__(self, dimension: int) -> None:
        self.rows: _Rows = np.empty((dimension, BLOCK), np.float64, order="F")
        self.count = 0
        self._pulled: list[_Rows | None] = []
        """A⁻¹u of each, where it came with it."""
        self._steps: _Rows = np.empty((dimension, BLOCK), np.float64, order="F")
        self._growth: list[float] = []
        """Of the determinant, by each that Z has a column of."""

    def add(self, row: _Rows, pulled: _Rows | None = None) -> None:
        """One more; with A⁻¹u, where that is known."""
        self.rows[:, self.count] = row
        self._pulled.append(pulled)
        self.count += 1

    def clear(self) -> None:
        """They have been taken in."""
        self.count = 0
        self._pulled.clear()
        self._growth.clear()

    def steps(self, pull: _Pull) -> _Rows:
        """Z, (d, count); `pull` makes A⁻¹x of any x."""
        for at in range(len(self._growth), self.count):
            row, pulled, before = self.rows[:, at], self._pulled[at], self._steps[:, :at]
            step = (pull(row) if pulled is None else pulled) - before @ (before.T @ row)
            growth = max(1.0 + float(row @ step), 1.0)  # less only where A⁻¹ is damaged
            self._steps[:, at] = step / math.sqrt(growth)
            self._growth.append(growth)
        return self._steps[:, : self.count]

    def log_growth(self, pull: _Pull) -> float:
        """By how much the logarithm of the determinant grows."""
        self.steps(pull)
        return math.fsum(map(math.log, self._growth))


class Posterior:
    """What is known, as a Gaussian over directions: A, A⁻¹ and ln det A. One thread at a time.

    Of both matrices the lower triangle is kept, in Fortran's order, as BLAS reads and writes it. They are made when the
    first block is taken in: 2 d² · 8 bytes.
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
        self._precision: _Rows | None = None
        self._covariance: _Rows | None = None
        self._shared = False
        """Whether a branch has the same matrices, so that they may not be changed in place."""
        self._waiting = _Waiting(dimension)
        self._asked: tuple[_Rows, _Rows] | None = None
        """The x that was asked about last, and A⁻¹x without what waits: often it is what is taken in next."""
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
        """The sum of all gains, nats."""
        return 0.5 * (self.logdet - self._dimension * math.log(self._prior))

    @property
    def logdet(self) -> float:
        """The logarithm of det A."""
        return self._logdet + self._waiting.log_growth(self._pull)

    @property
    def drift(self) -> float:
        """‖A A⁻¹ - I‖_max as it was found before the newest rebuild; 0 before the first."""
        return self._drift

    def gain(self, vector: ArrayLike, weight: float = 1.0) -> float:
        """IG(x), nats, >= 0, of an observation with this weight. Changes nothing."""
        return 0.5 * math.log1p(weight * self._spread(_row(vector)))

    def score(self, vectors: ArrayLike) -> _Rows:
        """The relative gain of each row, (n,) float64 in [0, 1]: ln(1 + x'A⁻¹x) / ln(1 + 1/λ). Changes nothing.

        1 is a unit vector in a direction of which nothing is known, 0 one that tells nothing. Each row is looked at by
        itself, so that its figure does not depend on the others: 20 µs each at d = 384.
        """
        rows = np.asarray(vectors, np.float64).reshape(-1, self._dimension)
        ceiling = math.log1p(1 / self._prior)
        return np.array([min(math.log1p(self._spread(row)) / ceiling, 1.0) for row in rows], np.float64)

    def observe(self, vector: ArrayLike, weight: float = 1.0) -> None:
        """Take in an accepted vector: A becomes A + w x x'. O(d²), whatever was before.

        Raises:
            ValueError: the vector has another dimension or is not finite, or the weight is not in (0, 1].
            Broken: A⁻¹ was off by more than DRIFT_MAX, or A cannot be inverted to it any more. What was told since the
                rebuild before is not to be trusted, and the state is lost: make it anew.
        """
        if not 0 < weight <= 1:
            raise ValueError(f"a weight lies in (0, 1], found {weight}")
        row, root = self._checked(_row(vector)), math.sqrt(weight)
        self._waiting.add(root * row, self._pulled_before(row, root))
        self._count += 1
        due = self._count % self._rebuild_every == 0
        if due or self._waiting.count == BLOCK:
            self._take_in()
        if due:
            self._rebuild()

    def branch(self) -> Self:
        """What goes on from here by itself, and leaves this one as it is.

        Costs microseconds: the matrices are shared until one of the two changes them.
        """
        self._shared = True
        other = copy.copy(self)
        other._waiting = copy.deepcopy(self._waiting)  # noqa: SLF001 - one of its kind
        return other

    def pull(self, vectors: ArrayLike) -> _Rows:
        """A⁻¹x of each row, (n, d) float64."""
        rows = np.asarray(vectors, np.float64).reshape(-1, self._dimension)
        steps = self._waiting.steps(self._pull)
        pulled = [self._pull(self._checked(row)) - steps @ (steps.T @ row) for row in rows]
        return np.array(pulled, np.float64).reshape(rows.shape)

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
        waiting = np.ascontiguousarray(self._waiting.rows[:, : self._waiting.count].T)
        arrays = {"waiting": waiting}
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
            if not _residual(made._precision, made._covariance) < DRIFT_MAX:
                raise Broken("the saved state of gain is none: make it anew from the journal", reason="CORRUPT")
        for row in arrays["waiting"]:
            made._waiting.add(row)
        return made

    def _checked(self, row: _Rows) -> _Rows:
        if row.shape != (self._dimension,):
            raise ValueError(f"expected a vector of {self._dimension} dimensions, found the shape {row.shape}")
        if not math.isfinite(float(row @ row)):
            raise ValueError("a vector's numbers must be finite")
        return row

    def _spread(self, row: _Rows) -> float:
        """The q = x'A⁻¹x, which rounding may not make negative."""
        pulled = self._pull(self._checked(row))
        self._asked = row.copy(), pulled
        across = self._waiting.steps(self._pull).T @ row
        return max(float(row @ pulled) - float(across @ across), 0.0)

    def _pulled_before(self, row: _Rows, root: float) -> _Rows | None:
        """A⁻¹u of u = root · x, without what waits; None unless x was asked about last.

        Where root is a power of two it is to the bit what BLAS makes of u: elsewhere who asks would be seen.
        """
        if self._asked is None or math.frexp(root)[0] != 0.5 or not np.array_equal(self._asked[0], row):
            return None
        return root * self._asked[1]

    def _pull(self, row: _Rows) -> _Rows:
        """A⁻¹x, without what waits."""
        if self._covariance is None:
            return row / self._prior
        pulled: _Rows = blas.dsymv(1.0, self._covariance, row, lower=1)
        return pulled

    def _matrices(self) -> tuple[_Rows, _Rows]:
        """A and A⁻¹, to be changed in place."""
        precision, covariance = self._precision, self._covariance
        if precision is None or covariance is None:
            one = np.eye(self._dimension)
            return np.asfortranarray(one * self._prior), np.asfortranarray(one / self._prior)
        if self._shared:
            return precision.copy(order="F"), covariance.copy(order="F")
        return precision, covariance

    def _take_in(self) -> None:
        """Take in what waits: A + UU', and with V = A⁻¹U and I + U'V = LL' the inverse is A⁻¹ - (V L⁻ᵀ)(V L⁻ᵀ)'."""
        waiting = self._waiting
        rows = waiting.rows[:, : waiting.count]
        precision, covariance = self._matrices()
        self._shared, self._asked = False, None
        pulled = blas.dsymm(1.0, covariance, rows, lower=1)
        gram = blas.dgemm(1.0, rows, pulled, trans_a=1)
        gram[np.diag_indices(waiting.count)] += 1.0
        factor, failed = lapack.dpotrf(gram, lower=1)
        if failed:
            raise Broken(f"after {self._count} observations the precision cannot be inverted to {DRIFT_MAX:g}")
        steps = blas.dtrsm(1.0, factor, pulled, side=1, lower=1, trans_a=1)
        self._covariance = blas.dsyrk(-1.0, steps, beta=1.0, c=covariance, lower=1, overwrite_c=1)
        self._precision = blas.dsyrk(1.0, rows, beta=1.0, c=precision, lower=1, overwrite_c=1)
        self._logdet += 2 * float(np.log(np.diagonal(factor)).sum())
        waiting.clear()

    def _rebuild(self) -> None:
        """Make A⁻¹ and ln det A anew from A = LL', and look how far they had drifted."""
        self._asked = None
        precision, covariance = self._matrices()
        self._drift = _residual(precision, covariance)
        # One of the two is damaged, and nothing tells which: neither makes the other good.
        if not self._drift < DRIFT_MAX:
            text = f"after {self._count} observations the inverse was off by {self._drift:.3g}, more than {DRIFT_MAX:g}"
            raise Broken(f"{text}: start the service anew, which makes it from the journal")
        factor, failed = lapack.dpotrf(precision, lower=1)
        if not failed:
            self._logdet = 2 * float(np.log(np.diagonal(factor)).sum())
            inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
            self._covariance = covariance = np.asfortranarray(inverse)
        if failed or not _residual(precision, covariance) < DRIFT_MAX:
            raise Broken(f"after {self._count} observations the precision cannot be inverted to {DRIFT_MAX:g}")


class Gains:
    """The two posteriors side by side: all that was accepted, and of it what people said or execution verified.

    A synthetic item moves the first one only, and by less (`synthetic_weight`), so that a flood of them does not use up
    directions in which people would still be worth hearing. Until the first of them the two are one.
    """

    def __init__(self, dimension: int, *, prior: float = 1.0, synthetic_weight: float = SYNTHETIC_WEIGHT) -> None:
        """Nothing is known yet. See `Posterior`."""
        self._human = Posterior(dimension, prior=prior)
        self._known = self._human
        self._synthetic_weight = synthetic_weight

    @property
    def known(self) -> Posterior:
        """Of everything that was accepted."""
        return self._known

    @property
    def human(self) -> Posterior:
        """Of what people said and what execution verified."""
        return self._human

    @property
    def drift(self) -> float:
        """The larger one of both: see `Posterior.drift`."""
        return max(self._known.drift, self._human.drift)

    def score(self, vectors: ArrayLike) -> tuple[_Rows, _Rows]:
        """The relative gains of each row beyond all that is known and beyond what people said. Changes nothing."""
        known = self._known.score(vectors)
        return known, (self._human.score(vectors) if self._human is not self._known else known)

    def observe(self, vector: ArrayLike, *, anchored: bool) -> None:
        """Take in an accepted vector; `anchored`: it is from people, or verified by execution (`standing.anchored`).

        Raises:
            ValueError, Broken: see `Posterior.observe`. Nothing is taken in of a vector that is wrong.
        """
        if anchored:
            if self._human is not self._known:
                self._human.observe(vector)
            self._known.observe(vector)
            return
        if self._known is self._human:
            self._known = self._human.branch()
        self._known.observe(vector, self._synthetic_weight)

    def branch(self) -> Self:
        """What goes on from here by itself, and leaves this one as it is. See `Posterior.branch`."""
        other = copy.copy(self)
        other._human = human = self._human.branch()  # noqa: SLF001 - one of its kind
        other._known = human if self._known is self._human else self._known.branch()  # noqa: SLF001
        return other

    def to_bytes(self) -> bytes:
        """The state of both."""
        parts = {"human": self._human.to_bytes()}
        if self._known is not self._human:
            parts["known"] = self._known.to_bytes()
        arrays = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
        return seal("gains", _STATE, {"synthetic_weight": self._synthetic_weight}, arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """What `to_bytes` made.

        Raises:
            Broken: it is damaged (CORRUPT), or another version's.
        """
        figures, arrays = unseal("gains", _STATE, state)
        made = cls(1, synthetic_weight=figures["synthetic_weight"])
        made._human = Posterior.from_bytes(arrays["human"].tobytes())
        known = arrays.get("known")
        made._known = Posterior.from_bytes(known.tobytes()) if known is not None else made._human
        return made


def greedy(
    posterior: Posterior, vectors: ArrayLike, count: int, *, worth: ArrayLike | None = None
) -> list[tuple[int, float]]:
    """Choose `count` rows that tell the most together: (row, gain in nats), in the order of choice, ties by row.

    Each step takes the row with the largest gain beyond those taken before; with `worth`, one number > 0 for each row,
    the one with the largest product of both. The gain of a set is monotone and submodular, so that without `worth` the
    sum is at least 1 - 1/e of the best possible (Nemhauser, Wolsey & Fisher, Mathematical Programming 14:265, 1978).
    O(n d) a step; `posterior` is not changed.

    Near copies in a batch show why one looks at the whole: alone each gains as much as the first.
    """
    rows = np.asarray(vectors, np.float64).reshape(-1, posterior.dimension)
    pulled = posterior.pull(rows)
    left = np.maximum((rows * pulled).sum(axis=1), 0.0)
    open_rows = np.ones(len(rows), bool)
    worths = np.ones(len(rows)) if worth is None else np.asarray(worth, np.float64)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(count, len(rows))):
        best = int(np.argmax(np.where(open_rows, worths * np.log1p(left), -1.0)))
        spread = float(left[best])
        chosen.append((best, 0.5 * math.log1p(spread)))
        open_rows[best] = False
        shrink = 1 / (1 + spread)
        direction = pulled[best].copy()
        across = rows @ direction
        pulled -= shrink * across[:, None] * direction
        left = np.maximum(left - shrink * np.square(across), 0.0)
    return chosen


def left_out(vectors: ArrayLike, prior: float = 1.0) -> _Rows:
    """What each row tells beyond all the other rows, nats, (n,) float64: no order decides which of two copies is first.

        IG(x_i) = ½ ln(1 + x_i'A₋ᵢ⁻¹x_i) = -½ ln(1 - q_i),   q_i = x_i'A⁻¹x_i,   A = λI + Σ x x' with x_i in it

    by Sherman-Morrison, since A₋ᵢ = A - x_i x_i'. O(n d² + d³): 0.1 s for 10,000 rows of 384 dimensions.
    """
    rows = np.asarray(vectors, np.float64)
    inverse = cho_solve(cho_factor(prior * np.eye(rows.shape[1]) + rows.T @ rows), np.eye(rows.shape[1]))
    spread = np.einsum("ij,ij->i", rows @ inverse, rows)
    found: _Rows = -0.5 * np.log1p(-np.minimum(spread, 1.0 - 1e-15))
    return found


def _row(vector: ArrayLike) -> _Rows:
    return np.ascontiguousarray(vector, np.float64)


def _residual(precision: _Rows, covariance: _Rows) -> float:
    product = _whole(precision) @ _whole(covariance)
    return float(np.abs(product - np.eye(len(product))).max())


def _whole(lower: NDArray[Any]) -> _Rows:
    """The symmetric matrix of which the lower triangle is given."""
    triangle = np.tril(lower)
    whole: _Rows = triangle + np.tril(triangle, -1).T
    return whole
