"""Information gain: how much an item would tell, given everything that was accepted before it.

What is known is a `Posterior`; two of them stand side by side. Gain alone rewards noise: random vectors gain the most.
Whoever decides multiplies it by `plausibility`.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from epistream.indexer.ahead import Expectation, Keyed
from epistream.indexer.posterior import Posterior
from epistream.indexer.sealed import seal, unseal

SYNTHETIC_WEIGHT: Final = 0.25
"""How much a synthetic item moves what is known: four of them close a direction as far as one from people does."""

_STATE: Final = 2
_Rows: TypeAlias = NDArray[np.float64]


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

    def expect(self, vectors: NDArray[Any], anchored: Sequence[bool]) -> None:
        """Say which vectors, (n, d), are likely to be scored and observed next, in this order. Changes no figure.

        `anchored`: of each, as `observe` has it. It makes all that follows much quicker: see `Posterior.expect`.
        """
        expected = Expectation.of(vectors)
        self._known.expect(expected.weighing([1.0 if one else self._synthetic_weight for one in anchored]))
        if self._human is not self._known:
            self._human.expect(expected.weighing([1.0 if one else 0.0 for one in anchored]))

    def rest(self) -> None:
        """Forget what was expected: nothing more comes for now. Changes no figure."""
        self._known.rest()
        self._human.rest()

    def score(self, vector: ArrayLike | Keyed) -> tuple[float, float]:
        """The relative gains of a vector, (d,), beyond all that is known and beyond what people said. Changes nothing.

        Each in [0, 1]: see `Posterior.score`.
        """
        one = Keyed.of(vector)
        known = self._known.relative(one)
        return known, (self._human.relative(one) if self._human is not self._known else known)

    def observe(self, vector: ArrayLike | Keyed, *, anchored: bool) -> None:
        """Take in an accepted vector; `anchored`: it is from people, or verified by execution (`standing.anchored`).

        Raises:
            ValueError, Broken: see `Posterior.observe`. Nothing is taken in of a vector that is wrong.
        """
        vector = Keyed.of(vector)
        if anchored:
            if self._human is not self._known:
                self._human.observe(vector)
            self._known.observe(vector)
            return
        known = self._known if self._known is not self._human else self._human.branch()
        known.observe(vector, self._synthetic_weight)
        self._known = known

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
