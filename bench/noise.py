"""Whom the guard holds for where a vector lies: of people, of models and of vectors drawn at random, by human window.

On the sample data in ../shared/data, with the packaged encoder. AT_RANDOM beside TOO_FAR, which GUARD_HOLD heeds, and
what stands for AT_RANDOM where a window cannot tell it. How texts are worded is not asked here.
"""

import sys
import time
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.report import Figure, below, report
from epistream.indexer.plausibility import RANK_MIN, Directions, Neighbourhood
from tests.support.samples import DATA, STREAMS, rows, vectors

RANDOM: Final = 2000
_SEED: Final = 1
_WIKIPEDIA: Final = "crawl:wikipedia"

_Rows = NDArray[np.float64]


def main() -> int:
    if not DATA.is_dir():
        sys.exit(f"the sample data is not there: {DATA}")
    everything = vectors(STREAMS).astype(np.float64)
    people = np.array([row["origin"] != "synthetic" for row in rows(STREAMS)])
    wikipedia = np.array([row["producer"] == _WIKIPEDIA for row in rows(STREAMS)])
    draw = np.random.default_rng(_SEED)
    drawn = draw.standard_normal((RANDOM, everything.shape[1]))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    order = draw.permutation(np.flatnonzero(people))
    models = everything[~people]
    figures: list[Figure] = []
    for items in (500, 250, 100):
        window, others = everything[order[:items]], everything[order[items:]]
        figures += held(f"{items} of all people", window, others, models, drawn)
    figures += held("Wikipedia alone", everything[wikipedia], everything[people & ~wikipedia], models, drawn)
    return report("noise", figures)


def held(name: str, window: _Rows, others: _Rows, models: _Rows, drawn: _Rows) -> Iterator[Figure]:
    """What of each kind is held beside one human window."""
    begun = time.perf_counter()
    directions = Directions(window)
    yield Figure(f"{name} ({len(window)}): to learn the directions", time.perf_counter() - begun, "s")
    yield Figure("own items that lie at random by the directions of the others", 1 - directions.alike_share, "")
    yield Figure("whether they tell", float(directions.tell), "")
    neighbourhood = Neighbourhood(window)
    for kind, asked in (("other people", others), ("models", models)):
        yield Figure(f"{kind} ({len(asked)}): AT_RANDOM", float(directions.at_random(asked).mean()), "")
        yield Figure(f"{kind}: TOO_FAR", float((neighbourhood.rank(asked) < RANK_MIN).mean()), "")
    passed = int((~directions.at_random(drawn)).sum())
    yield below(f"of {RANDOM} drawn at random: not AT_RANDOM", passed, "vectors", 1)
    yield Figure("not TOO_FAR", int((neighbourhood.rank(drawn) >= RANK_MIN).sum()), "vectors")


if __name__ == "__main__":
    sys.exit(main())
