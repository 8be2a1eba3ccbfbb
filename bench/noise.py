"""Whom the guard holds: of people, of models and of noise, by human window.

On the sample data in ../shared/data, with the packaged encoder. For where a vector lies: AT_RANDOM beside TOO_FAR,
which GUARD_HOLD heeds, and what stands for AT_RANDOM where a window cannot tell it. For the order of words: NO_ORDER of
texts, of statements of other kinds than the window's, and of the same words shuffled.
"""

import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.report import Figure, below, report
from epistream.indexer.plausibility import RANK_MIN, Directions, Neighbourhood
from epistream.indexer.wording import Wording
from tests.support.merging import MUTATIONS
from tests.support.samples import DATA, STREAMS, rows, vectors
from tests.support.updating import STATEMENTS

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
    texts = [str(row["text"]) for row in rows(STREAMS)]
    written = [text for text, by_people in zip(texts, people, strict=True) if not by_people]
    figures: list[Figure] = []
    for items in (500, 250, 100):
        window, others = everything[order[:items]], everything[order[items:]]
        figures += held(f"{items} of all people", window, others, models, drawn)
        figures += ordered(f"{items} of all people", [texts[place] for place in order[:items]], written)
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


def ordered(name: str, window: Sequence[str], models: Sequence[str]) -> Iterator[Figure]:
    """What is held for NO_ORDER beside one human window, and what noise is not."""
    begun = time.perf_counter()
    wording = Wording(window)
    yield Figure(f"{name}: to learn the order of words", time.perf_counter() - begun, "s")
    yield Figure("words from which on all that has no order is held", wording.telling or 0, "")
    dune = [str(row["statement"]) for row in rows(STATEMENTS) if "statement" in row]
    sentences = [str(row["b"]) for row in rows(MUTATIONS)]
    draw = random.Random(_SEED)
    for kind, asked in (("what models wrote", models), ("statements", dune), ("sentences", sentences)):
        split = [text.split() for text in asked]
        yield Figure(f"{kind} ({len(split)}): NO_ORDER", _unordered(wording, split), "")
        noise = [draw.sample(words, len(words)) for words in split]
        yield Figure("their words shuffled: let through", 1 - _unordered(wording, noise), "")
    people = [str(row["text"]).split() for row in rows(STREAMS) if row["origin"] != "synthetic"]
    for length in (6, 8, 12, 16, 20, 30, 40):
        noise = [draw.sample(words[:length], length) for words in people if len(words) >= length]
        yield Figure(
            f"{length} words of people's ({len(noise)}), shuffled: let through", 1 - _unordered(wording, noise), ""
        )


def _unordered(wording: Wording, texts: Sequence[Sequence[str]]) -> float:
    return statistics.fmean(wording.read(" ".join(words)).doubt == "NO_ORDER" for words in texts)


if __name__ == "__main__":
    sys.exit(main())
