"""The cell of experts' text: do raters prefer what is longer, and do they agree?

From feedback of people on texts: of each two items that one rater put at different places, the better and the worse.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.signals.figure import PARTS_MAX, Figure, missing, share
from epistream.indexer.signals.window import Said, Window
from epistream.v1 import knowledge_pb2 as pb

PAIRS_MIN: Final = 200
ALARM_BEYOND: Final = 0.1
"""The alarm is raised when the interval of the long-win share excludes 1/2 by more."""

_PLACED: Final = (pb.FEEDBACK_KIND_PAIRWISE, pb.FEEDBACK_KIND_RANKING)
_ALL_PAIRS_UNTIL: Final = 9
"""Of longer rankings only neighbours count: else one ranking of 1,000 would outvote everybody."""
_STEPS: Final = 50
_SURE: Final = 1.959964
_STEEPEST: Final = 30.0


@dataclass(frozen=True, slots=True)
class Preference:
    """Two items of which a rater preferred the first."""

    rater: tuple[str, str]
    """As `Said.rater`."""
    better: str
    worse: str


def long_win_share(window: Window) -> Figure:
    """How often the longer of two texts is preferred, with Wilson's interval. Ties in length are left out.

        |pairs with len(preferred) > len(other)| / |pairs with len(preferred) ≠ len(other)|

    At least 200 pairs. The alarm is on when the interval excludes 1/2 by more than 0.1.
    Range 0 to 1. Unit: share. Source: Wilson 1927.
    """
    gaps = _gaps(window)
    decided = gaps[gaps != 0]
    if len(decided) < PAIRS_MIN:
        return _too_few(len(decided))
    found = share(int((decided > 0).sum()), len(decided), "")
    assert found.low is not None  # noqa: S101 - a share of something has an interval
    assert found.high is not None  # noqa: S101
    return replace(found, alarm=found.low > 0.5 + ALARM_BEYOND or found.high < 0.5 - ALARM_BEYOND)


def length_coefficient(window: Window) -> Figure:
    """How much length decides: b of a logistic regression, with its interval of Wald.

        P(a is preferred to b) = 1 / (1 + exp(-b (len(a) - len(b)) / sd)),   sd: of the differences

    No intercept, since which of the two is called a means nothing. At least 200 pairs; no figure where the longer one
    always or never wins, since b has no end then. Range -∞ to ∞. Unit: log odds per standard deviation.
    Source: Bradley & Terry 1952; Newton's method.
    """
    gaps = _gaps(window)
    if len(gaps) < PAIRS_MIN:
        return _too_few(len(gaps))
    deviation = float(np.sqrt(np.square(gaps).mean()))
    fitted = logistic(gaps / deviation) if deviation > 0 else None
    if fitted is None:
        return missing("the longer text always or never wins, or all are equally long", len(gaps))
    slope, error = fitted
    return Figure(value=slope, items=len(gaps), low=slope - _SURE * error, high=slope + _SURE * error)


def rater_agreement(window: Window) -> Figure:
    """How often a rater agrees with the majority of the others on the same pair, over all raters.

        mean_r |pairs on which r's vote = sign(Σ votes of others)| / |pairs on which Σ votes of others ≠ 0|

    For each rater: the share of their pairs on which at least one other judged and these had a majority; then the mean
    over raters. `parts` has the raters that agree least. Range 0 to 1. Unit: share. Source: own, leave-one-out.
    """
    by_rater = agreement(preferences(window))
    if not by_rater:
        return missing("no pair of texts was judged by two raters")
    least = sorted(by_rater.items(), key=lambda rated: (rated[1], rated[0]))[:PARTS_MAX]
    value = math.fsum(by_rater.values()) / len(by_rater)
    return Figure(value=value, items=len(by_rater), parts=tuple((name, agreed) for (_, name), agreed in least))


def preferences(window: Window) -> list[Preference]:
    """What people prefer among the texts of the window, in the order in which they said so."""
    return window.remembered("preferences", lambda: [one for said in window.said for one in _pairs(said, window)])


def logistic(gaps: NDArray[np.float64]) -> tuple[float, float] | None:
    """B and its standard error, given the better's advantage in each pair; None where b has no finite value.

    The log likelihood Σ -ln(1 + exp(-b x)) is concave; Newton's steps are Σ x(1 - p) / Σ x² p(1 - p).
    """
    if (gaps >= 0).all() or (gaps <= 0).all():
        return None
    slope = 0.0
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(slope * gaps, -_STEEPEST, _STEEPEST)))
        information = float((np.square(gaps) * chance * (1 - chance)).sum())
        step = float((gaps * (1 - chance)).sum()) / information
        slope += step
        if abs(step) < 1e-10:
            return slope, 1 / math.sqrt(information)
    return None


def agreement(preferred: Sequence[Preference]) -> Mapping[tuple[str, str], float]:
    """Of each rater the share of their pairs on which they agree with the majority of the others; see above."""
    votes: defaultdict[tuple[str, str], list[tuple[tuple[str, str], int]]] = defaultdict(list)
    for one in preferred:
        pair = (min(one.better, one.worse), max(one.better, one.worse))
        votes[pair].append((one.rater, 1 if one.better == pair[0] else -1))
    found: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for cast in votes.values():
        for rater, vote in cast:
            others = sum(other for who, other in cast if who != rater)
            if others:
                found[rater].append((others > 0) == (vote > 0))
    return {rater: sum(agreed) / len(agreed) for rater, agreed in sorted(found.items())}


def _gaps(window: Window) -> NDArray[np.float64]:
    """By how many characters the better of each pair is longer."""
    by_item = window.by_item
    return np.array(
        [
            len(window.content(by_item[one.better])) - len(window.content(by_item[one.worse]))
            for one in preferences(window)
        ],
        np.float64,
    )


def _pairs(said: Said, window: Window) -> Iterator[Preference]:
    feedback = said.feedback
    if feedback.kind not in _PLACED or feedback.rater_type != pb.RATER_TYPE_HUMAN:
        return
    ranked = sorted(
        (one for one in feedback.judged if window.is_a(one.item_id, pb.MODALITY_TEXT)),
        key=lambda one: (one.place, one.item_id),
    )
    for at, better in enumerate(ranked):
        below = ranked[at + 1 :] if len(ranked) <= _ALL_PAIRS_UNTIL else ranked[at + 1 : at + 2]
        yield from (
            Preference(said.rater, better.item_id, worse.item_id) for worse in below if better.place < worse.place
        )


def _too_few(pairs: int) -> Figure:
    return missing(f"fewer than {PAIRS_MIN} pairs of texts that people compared", pairs)
