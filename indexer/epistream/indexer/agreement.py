"""How far raters are of one mind. Pure.

Krippendorff's alpha (K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011), for any number of raters and
missing values:

    alpha = 1 - D_o / D_e = 1 - (n - 1) Σ_ck o_ck δ²_ck / Σ_ck n_c n_k δ²_ck

o_ck is how often the values c and k meet in one unit, each unit's pairs in both directions divided by its number of
values less one; n_c = Σ_k o_ck; n = Σ_c n_c. The difference δ² is of the level of measurement:

    nominal   0 for equal values, else 1
    ordinal   (Σ_{g from c to k} n_g - (n_c + n_k) / 2)²
    interval  (c - k)²

1 is perfect agreement, 0 what chance would bring, below 0 disagreement that is systematic. An example, two raters and
three units: (a, a), (a, b), (b, b): o_aa = 2, o_ab = o_ba = 1, o_bb = 2; n = 6; alpha = 1 - 5 · 2 / 18 = 0.444.

Of a group of units among others, D_o is the group's own and D_e that of all: chance is what anybody might have said.
In the example the second unit alone has D_o = 2 / 2, so that its alpha is 1 - 1 / (18 / 30) = -0.667, and the others
have 1. The mean of the groups' alphas, each as often as it has values, is the alpha of all.
"""

import enum
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from epistream.v1 import knowledge_pb2 as pb

VOTES: Final = (pb.FEEDBACK_KIND_BINARY, pb.FEEDBACK_KIND_RATING)
"""What says something of one item alone, and so may be at odds with what others say."""


class Level(enum.StrEnum):
    """What may be said of two values: whether they differ, which is more, by how much."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


def alpha(units: Iterable[Sequence[float | None]], level: Level = Level.NOMINAL) -> float | None:
    """Krippendorff's alpha of the values that raters gave to each unit; None for a value that is missing.

    Of nominal values any numbers may stand for the categories. A unit with fewer than two values says nothing. Returns
    None where there is nothing to compare, or all values are the same, so that chance could not have made a difference.
    """
    found = alphas([list(units)], level)
    return found[0] if found is not None else None


def alphas(
    groups: Sequence[Sequence[Sequence[float | None]]], level: Level = Level.NOMINAL
) -> list[float | None] | None:
    """Of each group of units the alpha, against what chance would bring over all of them: 1 - D_o / D_e, at most 1.

    None for a group without a unit of two values. Returns None as `alpha` does, of all groups together.
    """
    met = [_met(units) for units in groups]
    totals: defaultdict[float, float] = defaultdict(float)
    for of_group in met:
        for (first, _), weight in of_group.items():
            totals[first] += weight
    differ = _differences(totals, level)
    expected = sum(totals[first] * totals[second] * differ[first, second] for first, second in differ)
    if not expected:
        return None
    values = sum(totals.values())
    chance = expected / (values * (values - 1))
    return [1 - _observed(of_group, differ) / chance if of_group else None for of_group in met]


def _met(units: Iterable[Sequence[float | None]]) -> Mapping[tuple[float, float], float]:
    """o: how often two values meet in a unit."""
    met: defaultdict[tuple[float, float], float] = defaultdict(float)
    for unit in units:
        values = Counter(value for value in unit if value is not None)
        count = values.total()
        for first in values if count > 1 else ():
            for second in values:
                met[first, second] += values[first] * (values[second] - (first == second)) / (count - 1)
    return met


def _observed(met: Mapping[tuple[float, float], float], differ: Mapping[tuple[float, float], float]) -> float:
    """D_o."""
    return sum(weight * differ[pair] for pair, weight in met.items()) / sum(met.values())


def _differences(totals: Mapping[float, float], level: Level) -> Mapping[tuple[float, float], float]:
    """δ² of all pairs of values."""
    values = sorted(totals)
    below, reached = {}, 0.0
    for value in values:
        below[value] = reached + totals[value] / 2  # the middle of its place in the order
        reached += totals[value]
    match level:
        case Level.NOMINAL:
            return {(c, k): float(c != k) for c in values for k in values}
        case Level.ORDINAL:
            return {(c, k): (below[c] - below[k]) ** 2 for c in values for k in values}
        case Level.INTERVAL:
            return {(c, k): (c - k) ** 2 for c in values for k in values}


def disagreement(item_id: str, feedback: Iterable[tuple[str, pb.Feedback]]) -> float | None:
    """The entropy of the votes on an item as a share of the most that it could be, H / ln K, in [0, 1].

    `feedback` is the oldest first, each with its producer: two of them may know two raters by one name. Votes are its
    scores by BINARY and RATING, the newest of each rater, apart for each kind, aspect and scale; the answer is that of
    the votes that are most at odds. K is 2 for BINARY, of a scale of whole numbers how many it has,
    of another how many there were. None where nobody voted.
    """
    return max((_entropy(votes, kinds) for votes, kinds in _votes(item_id, feedback)), default=None)


def _votes(item_id: str, feedback: Iterable[tuple[str, pb.Feedback]]) -> Iterator[tuple[list[float], int]]:
    """The votes of each kind, and how many there could be."""
    cast: defaultdict[tuple[int, str, float, float], dict[tuple[str, str], float]] = defaultdict(dict)
    for producer, one in feedback:
        if one.kind not in VOTES:
            continue
        scale = (0.0, 1.0) if one.kind == pb.FEEDBACK_KIND_BINARY else (one.scale_min, one.scale_max)
        for judged in one.judged:
            if judged.item_id == item_id:
                cast[one.kind, one.aspect, *scale][producer, one.rater] = judged.score
    for (_, _, low, high), by_rater in cast.items():
        votes = list(by_rater.values())
        whole = all(value.is_integer() for value in (high - low, low, *votes))
        yield votes, round(high - low) + 1 if whole else len(set(votes))


def _entropy(votes: Sequence[float], kinds: int) -> float:
    shares = [count / len(votes) for count in Counter(votes).values()]
    entropy = -sum(share * math.log(share) for share in shares)
    return min(entropy / math.log(max(kinds, 2)), 1.0)
