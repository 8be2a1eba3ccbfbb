"""What a signal says: a value with what it is of, or the reason why there is none. Never a default that passes."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

PARTS_MAX: Final = 10
"""How many parts a figure names: the largest, or of items the newest."""
_SURE: Final = 1.959964
"""Standard errors on each side of an interval that holds the true figure 95 times in 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One signal's figure."""

    value: float | None
    items: int = 0
    """Of how many items, pairs or judgements it is."""
    missing: str = ""
    """Why there is no value, for people; empty where there is one."""
    low: float | None = None
    """The lower end of its interval (95 %), where it has one."""
    high: float | None = None
    """The upper end."""
    alarm: bool = False
    """Whether the figure is one that somebody should look at."""
    parts: tuple[tuple[str, float], ...] = ()
    """What it is made of, the largest first: style words, verdicts, missing labels, each with its share. Or the items
    that are meant, the newest first."""
    producer: str = ""
    """Whose items it is of; empty for everybody's."""


def missing(reason: str, items: int = 0, producer: str = "") -> Figure:
    """No figure, and why."""
    return Figure(value=None, missing=reason, items=items, producer=producer)


def mean(values: Sequence[float], reason: str, producer: str = "") -> Figure:
    """Their mean; without any there is none, for this reason."""
    if not values:
        return missing(reason, producer=producer)
    return Figure(value=math.fsum(values) / len(values), items=len(values), producer=producer)


def share(hits: int, items: int, reason: str, producer: str = "") -> Figure:
    """Hits / items, with Wilson's interval; of nothing there is none, for this reason."""
    if not items:
        return missing(reason, producer=producer)
    low, high = wilson(hits, items)
    return Figure(value=hits / items, items=items, low=low, high=high, producer=producer)


def wilson(hits: int, items: int) -> tuple[float, float]:
    """The interval of a share, 95 %, in [0, 1] (Wilson, J. American Statistical Association 22:209, 1927)."""
    found, spread = hits / items, _SURE**2 / items
    middle = (found + spread / 2) / (1 + spread)
    margin = _SURE / (1 + spread) * math.sqrt(found * (1 - found) / items + spread / (4 * items))
    return max(0.0, middle - margin), min(1.0, middle + margin)


def p95(values: Sequence[float], reason: str) -> Figure:
    """What 95 % of them do not exceed."""
    if not values:
        return missing(reason)
    return Figure(value=float(np.quantile(np.array(values, np.float64), 0.95)), items=len(values))


def entropy(votes: Iterable[Hashable]) -> float:
    """Shannon's entropy of how often each is there, nats; 0 for none and for all the same."""
    counts = list(Counter(votes).values())
    total = sum(counts)
    return max(0.0, -math.fsum(n / total * math.log(n / total) for n in counts)) if total else 0.0


def largest(counts: "Counter[str]", total: int) -> tuple[tuple[str, float], ...]:
    """The PARTS_MAX most frequent as shares of a total; of equal ones the first by name."""
    order = sorted(counts.items(), key=lambda part: (-part[1], part[0]))
    return tuple((name, count / total) for name, count in order[:PARTS_MAX])


def newest(items: Sequence[str], total: int) -> tuple[tuple[str, float], ...]:
    """The PARTS_MAX newest of items that are concerned, oldest first, each with its share of a total."""
    return tuple((item_id, 1 / total) for item_id in reversed(items[-PARTS_MAX:]))
