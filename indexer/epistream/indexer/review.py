"""review: in which order people should look at what waits. Pure.

    value = U^a · D^b · IG^c · ageing            a, b, c = 1, 1/2, 1

- U, uncertainty: raters disagree, a conflict is open, or its verification says little: the largest of the vote entropy
  H / ln K, 1, and 1 - 2 |p - 1/2|; UNKNOWN where there is none of these.
- D, density: the mean cosine to what else waits. Who decides a typical one learns what to say of others. (After the
  information density of Settles & Craven, EMNLP 2008.) Near copies are dense by each other, hence only its root.
- IG, what it tells beyond the reviews that come before it, nats: `gain.greedy`. So of five near copies one comes first,
  and the other four when there is time for them.
- ageing = 1 / (1 - age / DUE_SECONDS). What is older than that is due: it comes first, the oldest first; but what is in
  answers meanwhile, which raters dispute, behind all that is held and due. Any number of disputes may be old at once:
  a store that is renewed finds them in all the feedback that it ever had.

Before what is not due comes what raters dispute: a person's word is worth most there. What is due has its place,
whoever's it is; of any ten in a row of the whole list that end behind it, at most three are of one producer, while
there are others with fewer that are as urgent: in dispute too, or neither. Ties are broken by the id, so the same queue
has the same order.

Uncertainty alone would pick duplicates and noise, density alone what is commonplace.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.ahead import Expectation
from epistream.indexer.gain import greedy
from epistream.indexer.model import Vector
from epistream.indexer.posterior import Posterior
from epistream.v1 import knowledge_pb2 as pb

AGE_SECONDS_MAX: Final = 7 * 24 * 3600.0
"""By then a review is decided, where as many are decided as come."""
DUE_SECONDS: Final = AGE_SECONDS_MAX / 2
"""From this age on a review comes before all that are younger: the other half is for those that come due together."""
UNKNOWN: Final = 0.5
"""The uncertainty of what nobody has said anything of."""
LEAST: Final = 0.05
"""Of uncertainty and of density: what is certain or alone comes last, but it comes."""
PRIOR: Final = 0.1
"""λ of the gain. The second of two equal vectors then gains 0.27 of what the first did, with λ = 1 it would 0.59."""
_SURE: Final = {"verified": 1.0, "fail": 0.0}
_CANNOT_TELL: Final = 0.5
ROW: Final = 10
PRODUCER_IN_ROW_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the order asks of a review."""

    review_id: int
    producer: str
    age_seconds: float
    vector: Vector | None = None
    """None where it has none, or none yet."""
    disagreement: float | None = None
    """Of its raters, in [0, 1]; None where nobody voted."""
    contested: bool = False
    """Whether it is a party of an open conflict."""
    verified: float | None = None
    """The probability that it is right, as a verification found; None where there was none."""
    in_answers: bool = False
    """Whether it is in answers while it waits, and only disputed."""

    @property
    def disputed(self) -> bool:
        """Whether raters are not of one mind."""
        return bool(self.disagreement)

    def with_vector(self, vector: Vector | None) -> Self:
        """The same with its vector."""
        return replace(self, vector=vector)


@dataclass(frozen=True, slots=True)
class Priority:
    """Why a review stands where it stands."""

    value: float
    uncertainty: float
    density: float
    gain: float
    ageing: float
    due: bool = False
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A review in its place."""

    review_id: int
    producer: str
    priority: Priority


def verification(item_id: str, feedback: Iterable[pb.Feedback]) -> float | None:
    """The probability that an item is right, as who last ran its tests says; None where nobody did.

    `feedback` is the oldest first. 1 for `verified`, 0 for `fail`; ½ for a verdict that cannot tell, such as `vacuous`
    or `timeout` (docs/execution.md). Of who gives no such word the score counts.
    """
    found = None
    for one in feedback:
        ran = one.rater_type == pb.RATER_TYPE_EXECUTOR and one.kind == pb.FEEDBACK_KIND_BINARY
        scores = [judged.score for judged in one.judged if judged.item_id == item_id] if ran else []
        if scores:
            found = _SURE.get(one.degree, _CANNOT_TELL) if one.degree else scores[-1]
    return found


def uncertainty(one: Waiting) -> float:
    """U, in [LEAST, 1]."""
    known = [] if one.disagreement is None else [one.disagreement]
    if one.contested:
        known.append(1.0)
    if one.verified is not None:
        known.append(1 - 2 * abs(one.verified - 0.5))
    return max(LEAST, max(known, default=UNKNOWN))


def turn(one: Waiting) -> tuple[int, float, int]:
    """What the order would be of each alone, the lowest first: what is due, then what is disputed, then U · ageing."""
    if one.age_seconds >= DUE_SECONDS:
        return int(one.in_answers), -one.age_seconds, one.review_id
    return 2 if one.disputed else 3, -uncertainty(one) * _ageing(one), one.review_id


def rank(waiting: Sequence[Waiting], dimension: int) -> list[Ranked]:
    """All of them, the most urgent first. `dimension` is that of their vectors. O(n² · dimension)."""
    waiting = sorted(waiting, key=lambda one: one.review_id)
    densities = _densities(waiting)
    due = sorted((one for one in waiting if one.age_seconds >= DUE_SECONDS), key=turn)
    others = [one for one in waiting if one.age_seconds < DUE_SECONDS]
    posterior = Posterior(dimension, prior=PRIOR)
    if vectors := [one.vector for one in due if one.vector is not None]:
        posterior.expect(Expectation.of(np.stack(vectors)))
    ranked = []
    for one in due:
        gained = posterior.gain(one.vector) if one.vector is not None else _most_gain()
        ranked.append(_ranked(one, densities[one.review_id], gained, math.inf))
        _observe(one, posterior)
    for disputed in (True, False):
        band = [one for one in others if one.disputed == disputed]
        _spread(_chosen(band, densities, posterior), ranked)
    return ranked


def _chosen(band: Sequence[Waiting], densities: dict[int, float], posterior: Posterior) -> list[Ranked]:
    """A band in the order of its values; `posterior` has observed it then."""
    with_vector = [one for one in band if one.vector is not None]
    worth = [_worth(one, densities[one.review_id]) for one in with_vector]
    rows = np.stack([one.vector for one in with_vector if one.vector is not None]) if with_vector else np.empty((0, 1))
    chosen = []
    for row, gained in greedy(posterior, rows, len(with_vector), worth=worth) if with_vector else ():
        one = with_vector[row]
        chosen.append(_ranked(one, densities[one.review_id], gained, _ageing(one)))
    for one in with_vector:
        _observe(one, posterior)
    without = [_ranked(one, 1.0, _most_gain(), _ageing(one)) for one in band if one.vector is None]
    # Values fall along the choice, since gains only shrink: so both merge by their values.
    return sorted([*chosen, *without], key=lambda one: -one.priority.value)


def _spread(band: Sequence[Ranked], ranked: list[Ranked]) -> None:
    """Put a band behind what is ranked, in its order, with at most PRODUCER_IN_ROW_MAX of one producer in each ROW.

    Rows are any ROW in a row, also over the end of the band before; it is more where the band has no others.
    """
    left = list(band)
    while left:
        row = Counter(one.producer for one in ranked[1 - ROW :])
        free = (at for at, one in enumerate(left) if row[one.producer] < PRODUCER_IN_ROW_MAX)
        ranked.append(left.pop(next(free, 0)))


def _ranked(one: Waiting, density: float, gained: float, ageing: float) -> Ranked:
    value = uncertainty(one) * math.sqrt(density) * gained * ageing
    due = math.isinf(ageing)
    priority = Priority(value, uncertainty(one), density, gained, ageing, due, one.disputed)
    return Ranked(one.review_id, one.producer, priority)


def _observe(one: Waiting, posterior: Posterior) -> None:
    if one.vector is not None:
        posterior.observe(one.vector)


def _worth(one: Waiting, density: float) -> float:
    return uncertainty(one) * math.sqrt(density) * _ageing(one)


def _ageing(one: Waiting) -> float:
    return 1 / (1 - max(0.0, one.age_seconds) / DUE_SECONDS)


def _most_gain() -> float:
    """That of a first unit vector, nats."""
    return 0.5 * math.log1p(1 / PRIOR)


def _densities(waiting: Sequence[Waiting]) -> dict[int, float]:
    """D of each, in [LEAST, 1]; 1 without a vector, and where nothing else has one."""
    vectors = [one.vector for one in waiting if one.vector is not None]
    found = dict.fromkeys((one.review_id for one in waiting), 1.0)
    if len(vectors) > 1:
        rows: NDArray[np.float64] = np.stack(vectors).astype(np.float64)
        means = (rows @ rows.sum(axis=0) - 1) / (len(vectors) - 1)
        with_vector = (one.review_id for one in waiting if one.vector is not None)
        found |= dict(zip(with_vector, np.clip(means, LEAST, 1.0).tolist(), strict=True))
    return found
