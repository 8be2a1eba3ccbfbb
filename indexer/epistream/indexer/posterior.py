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
everything in float64; observations taken in at fixed counts, 32 at a time; what BLAS does in forms of which no bit
depends on what else is looked at (`ahead`); and one BLAS thread (`OPENBLAS_NUM_THREADS=1`, which the service sets).
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas, lapack

from epistream.indexer.ahead import BLOCK, PLACES, Expectation, Keyed, Look, Plan, finite, floating, whole
from epistream.indexer.sealed import seal, unseal
from epistream.wire.errors import Broken

REBUILD_EVERY: Final = 16_384
"""Observations. A rebuild takes 12 ms at d = 384, 0.7 µs for each; A A⁻¹ is off by 4e-15 by then (measured)."""
DRIFT_MAX: Final = 1e-6
"""‖A A⁻¹ - I‖_max from which on the inverse is not trusted."""

_STATE: Final = 4
_SPARE: Final = 8
"""So many more than are taken in are looked at, since some of what is expected is not accepted."""

_Rows: TypeAlias = NDArray[np.float64]


class _Observation(NamedTuple):
    vector: Keyed
    weight: float


class Posterior:
    """A, A⁻¹ and ln det A. One thread at a time.

    Of both matrices the lower triangle is kept, in Fortran's order, as BLAS reads and writes it. They are made when the
    first block is taken in: 2 D² · 8 bytes, with D a little over d (`ahead.whole`); behind d they stay λI. Observations
    wait until there is a block of them; everything that is asked until then is of A and them.
    """

    def __init__(self, dimension: int, *, prior: float = 1.0, rebuild_every: int = REBUILD_EVERY) -> None:
        """Nothing is known yet.

        Args:
            dimension: d, of the vectors.
            prior: λ > 0, the precision before anything is known. Gains of unit vectors are at most ½ ln(1 + 1/λ). Where
                it is small, rounding counts: with 1e-6 and 16,384 copies of one vector the drift is 7e-6, too much.
            rebuild_every: after how many observations A⁻¹ is made anew from A.
        """
        if dimension < 1 or rebuild_every < 1 or not 0 < prior < math.inf:
            raise ValueError(f"dimension {dimension}, prior {prior}, rebuild_every {rebuild_every}: all must be > 0")
        self._dimension, self._prior, self._rebuild_every = dimension, prior, rebuild_every
        self._width = whole(dimension)
        self._precision: _Rows | None = None
        self._covariance: _Rows | None = None
        self._shared = False
        """Whether a branch has the same matrices, so that they may not be changed in place."""
        self._waiting: list[_Observation] = []
        """What A and A⁻¹ do not have yet."""
        self._expected: list[Expectation] = []
        self._look = Look.none(self._width)
        self._plan: Plan | None = None
        """Of all that waits, and of what is likely to. None where that came otherwise, or nobody asked."""
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
        for one in expected.vectors[:1]:  # they are rows of one array
            self._require_shape(one.row.shape, (self._dimension,))
        self._expected.append(expected)

    def rest(self) -> None:
        """Forget what was expected. Changes no figure."""
        self._expected = []

    def gain(self, vector: ArrayLike | Keyed, weight: float = 1.0) -> float:
        """IG(x), nats, >= 0, of an observation with this weight. Changes nothing. Raises ValueError as `observe`."""
        return 0.5 * math.log1p(weight * self._left(vector))

    def score(self, vectors: ArrayLike) -> _Rows:
        """The relative gain of each row, (n,) float64 in [0, 1]: ln(1 + x'A⁻¹x) / ln(1 + 1/λ). Changes nothing.

        1 is a unit vector in a direction of which nothing is known, 0 one that tells nothing. The figure of a row does
        not depend on the others. Raises ValueError as `observe`.
        """
        rows, looking = np.asarray(vectors), self.branch()
        looking.expect(Expectation.of(rows).weighing([0.0] * len(rows)))
        return np.array([looking.relative(row) for row in rows], np.float64)

    def relative(self, vector: ArrayLike | Keyed) -> float:
        """The relative gain of one vector, (d,): see `score`. Raises ValueError as `observe`."""
        return min(math.log1p(self._left(vector)) / math.log1p(1 / self._prior), 1.0)

    def observe(self, vector: ArrayLike | Keyed, weight: float = 1.0) -> None:
        """Take in an accepted vector: A becomes A + w x x'. O(d²), whatever was before.

        Raises:
            ValueError: the vector has another dimension or is not finite, or the weight is not in (0, 1].
            Broken: A⁻¹ was off by more than DRIFT_MAX, or A cannot be inverted to it any more. What was told since the
                rebuild before is not to be trusted, and the state is lost: make it anew.
        """
        if not 0 < weight <= 1:
            raise ValueError(f"a weight lies in (0, 1], found {weight}")
        one = self._checked(vector)
        plan, place = self._plan, self._look.places.get(one.key)
        if plan is not None and not plan.foresaw(len(self._waiting), place, weight):
            self._plan = None
        self._waiting.append(_Observation(one, weight))
        self._count += 1
        due = self._count % self._rebuild_every == 0
        if due or len(self._waiting) == BLOCK:
            self._take_in()
        if due:
            self._rebuild()

    def branch(self) -> Self:
        """What goes on from here by itself, and leaves this one as it is.

        Costs microseconds: the matrices are shared until one of the two changes them.
        """
        self._shared = True
        other = copy.copy(self)
        other._waiting, other._expected = list(self._waiting), list(self._expected)  # noqa: SLF001 - one of its kind
        return other

    def pull(self, vectors: ArrayLike) -> _Rows:
        """A⁻¹x of each row, (n, d) float64; its last bits may depend on the other rows.

        Raises:
            ValueError: as `observe`.
            Broken: A⁻¹ is damaged.
        """
        narrow = finite(floating(np.asarray(vectors)))
        self._require_shape(narrow.shape, (len(narrow), self._dimension))
        rows = self._wide(narrow)
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
        rows = [one.vector.row.astype(np.float64) for one in self._waiting]
        arrays = {
            "waiting": np.array(rows, np.float64).reshape(-1, self._dimension),
            "weights": np.array([one.weight for one in self._waiting], np.float64),
        }
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
                made._waiting.append(_Observation(made._checked(row), weight))
            except ValueError as error:
                raise _no_state() from error
        return made

    def _checked(self, vector: ArrayLike | Keyed) -> Keyed:
        one = Keyed.of(vector)
        self._require_shape(one.row.shape, (self._dimension,))
        if one.key not in self._look.places and not any(one.key in expected.places for expected in self._expected):
            finite(one.row)  # others were finite when they came
        return one

    def _require_shape(self, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise ValueError(f"expected a vector of {self._dimension} dimensions, found the shape {found}")

    def _wide(self, rows: ArrayLike) -> _Rows:
        """Rows, (n, d), with zeros behind each: (n, D), nobody else's."""
        narrow = np.asarray(rows).reshape(-1, self._dimension)
        wide = np.zeros((len(narrow), self._width))
        wide[:, : self._dimension] = narrow
        return wide

    def _left(self, vector: ArrayLike | Keyed) -> float:
        """The q = x'A⁻¹x, which rounding may not make negative. Raises Broken: A⁻¹ is damaged."""
        one = self._checked(vector)
        plan, place = self._plan, self._look.places.get(one.key)
        if plan is None or place is None:
            plan = self._plan = self._planned(one)
            place = self._look.places[one.key]
        return max(plan.left(place, len(self._waiting)), 0.0)

    def _planned(self, asked: Keyed | None = None) -> Plan:
        """Of what waits; with `asked` that one is looked at, too, and what is expected from there on counts.

        Raises Broken: A⁻¹ is damaged.
        """
        wanted = {one.vector.key: one.vector for one in self._waiting}
        if asked is not None:
            wanted[asked.key] = asked
        if not wanted.keys() <= self._look.places.keys():
            self._look_at(wanted, asked)
        order, places = [(one.vector.key, one.weight) for one in self._waiting], self._look.places
        for one, weight in self._since(asked):
            if len(order) == BLOCK or one.key not in places:
                break
            if weight:
                order.append((one.key, weight))
        # What is likely may be out of all proportion, and what waits is not.
        for likely in (order, order[: len(self._waiting)]):
            plan = Plan.of(self._look, [places[key] for key, _ in likely], [weight for _, weight in likely])
            if plan is not None:
                return plan
        raise self._singular()

    def _look_at(self, wanted: Mapping[bytes, Keyed], asked: Keyed | None) -> None:
        """Pull what is wanted and not looked at yet, and what is expected after that which is asked about."""
        look = self._look
        if len(look.places.keys() | wanted.keys()) > PLACES:
            look = look.only(wanted)
        missing = {key: one.row for key, one in wanted.items() if key not in look.places}
        if asked is not None and asked.key in missing:
            likely, room = BLOCK + _SPARE - len(self._waiting), PLACES - len(look.places)
            for one, weight in self._since(asked):
                if not likely or len(missing) == room:
                    break
                likely -= weight > 0
                if one.key not in look.places:
                    missing[one.key] = one.row
        rows = self._wide(list(missing.values()))
        self._look, self._plan = look.extended(list(missing), rows, self._pull(rows)), None

    def _since(self, asked: Keyed | None) -> Iterator[tuple[Keyed, float]]:
        """What is expected of a vector on, be it only asked about."""
        if asked is None:
            return iter(())
        return next((one.since(asked.key) for one in self._expected if asked.key in one.places), iter(()))

    def _pull(self, rows: _Rows) -> _Rows:
        """A⁻¹x of each row without what waits, (n, D): the same bits whatever other rows there are."""
        if self._covariance is None:
            return rows / self._prior
        more = np.zeros((whole(len(rows)) - len(rows), self._width))
        grained = np.concatenate((rows, more)) if len(more) else rows
        pulled: _Rows = blas.dsymm(1.0, self._covariance, grained.T, lower=1).T
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
        """Of what waits U and Z, (D, BLOCK), and by how much ln det A grows: (A + UU')⁻¹ = A⁻¹ - ZZ'."""
        count = len(self._waiting)
        if not count:
            none = np.zeros((self._width, BLOCK), order="F")
            return none, none, 0.0
        plan = self._plan or self._planned()
        return *plan.steps(self._look, count), plan.growth(count)

    def _take_in(self) -> None:
        """Take in what waits: A + UU', and A⁻¹ - ZZ'."""
        observed, steps, growth = self._steps()
        precision, covariance = self._matrices()
        self._shared = False
        self._covariance = blas.dsyrk(-1.0, steps, beta=1.0, c=covariance, lower=1, overwrite_c=1)
        self._precision = blas.dsyrk(1.0, observed, beta=1.0, c=precision, lower=1, overwrite_c=1)
        self._logdet += growth
        self._waiting, self._look, self._plan = [], Look.none(self._width), None

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


def _no_state() -> Broken:
    return Broken("the saved state of gain is none: make it anew from the journal", reason="CORRUPT")


def _symmetric(lower: NDArray[Any]) -> _Rows:
    """The symmetric matrix of which the lower triangle is given."""
    triangle = np.tril(lower)
    both: _Rows = triangle + np.tril(triangle, -1).T
    return both
