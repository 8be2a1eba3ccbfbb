"""Whom the guard holds: of people, of models and of noise, by human window.

On the sample data in ../shared/data, with the packaged encoder. For where a vector lies: AT_RANDOM beside TOO_FAR,
which GUARD_HOLD heeds, what stands for AT_RANDOM where a window cannot tell it, and the gain, which is highest for
noise. For the order of words: NO_ORDER of texts, of statements of other kinds than the window's, and of the same words
shuffled; of these GUARD_HOLD lets less through, and it holds short texts that have an order. And whom of models the
default guard holds, by all that it asks.
"""

import random
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.report import Figure, below, equal, report
from epistream.indexer.plausibility import NOISE, RANK_MIN, Directions, Neighbourhood, doubts
from epistream.indexer.posterior import Posterior
from epistream.indexer.wording import Wording
from tests.support.merging import MUTATIONS
from tests.support.samples import STREAMS, require_samples, rows, vectors
from tests.support.updating import STATEMENTS

RANDOM: Final = 2000
_SEED: Final = 1
_WHOLE: Final = 500
"""The default of `anchor_items`."""
_LENGTHS_OF_R21: Final = (8, 20, 40)
"""Of so many shuffled words R21 asks that none are let through, with the default of `anchor_items`."""
_WIKIPEDIA: Final = "crawl:wikipedia"

_Rows = NDArray[np.float64]


def main() -> int:
    require_samples()
    everything = vectors(STREAMS).astype(np.float64)
    people = np.array([row["origin"] != "synthetic" for row in rows(STREAMS)])
    wikipedia = np.array([row["producer"] == _WIKIPEDIA for row in rows(STREAMS)])
    draw = np.random.default_rng(_SEED)
    drawn = draw.standard_normal((RANDOM, everything.shape[1]))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    order = draw.permutation(np.flatnonzero(people))
    models = everything[~people]
    makers = [str(row["producer"]) for row in rows(STREAMS) if row["origin"] == "synthetic"]
    texts = [str(row["text"]) for row in rows(STREAMS)]
    written = [text for text, by_people in zip(texts, people, strict=True) if not by_people]
    figures: list[Figure] = []
    for items in (_WHOLE, 250, 100):
        window, others = everything[order[:items]], everything[order[items:]]
        figures += held(f"{items} of all people", window, others, models, drawn)
        said = [texts[place] for place in order[:items]]
        figures += ordered(f"{items} of all people", said, written, of_r21=_LENGTHS_OF_R21 if items == _WHOLE else ())
        if items == _WHOLE:
            figures += mistaken(window, said, models, written, makers)
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
    known = Posterior(window.shape[1])
    for row in window:
        known.observe(row)
    for kind, asked in (("drawn at random", drawn), ("other people", others)):
        yield Figure(f"{kind}: gain, relative, mean", float(known.score(asked).mean()), "")


def mistaken(
    window: _Rows, said: Sequence[str], models: _Rows, written: Sequence[str], makers: Sequence[str]
) -> Iterator[Figure]:
    """How many texts of models the default guard holds beside the default human window, by mistake or not."""
    neighbourhood, directions, wording = Neighbourhood(window), Directions(window), Wording(said)
    at_random = directions.at_random(models) if directions.tell else [None] * len(models)
    found = [
        NOISE.intersection(doubts(rank, wording.read(text), at_random=None if lies is None else bool(lies)))
        for rank, text, lies in zip(neighbourhood.rank(models), written, at_random, strict=True)
    ]
    for maker in ("", *dict.fromkeys(makers)):
        of = [one for one, by in zip(found, makers, strict=True) if maker in {"", by}]
        yield Figure(f"of what {maker or 'models'} wrote: held by default", sum(map(bool, of)), f"of {len(of)}")
        if not maker:
            yield from (Figure(f"of it {doubt}", sum(doubt in one for one in of), "") for doubt in sorted(NOISE))


def ordered(name: str, window: Sequence[str], models: Sequence[str], *, of_r21: Collection[int]) -> Iterator[Figure]:
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
        first = [words[:length] for words in people if len(words) >= length]
        noise = [draw.sample(words, length) for words in first]
        told = f"{length} words of people's ({len(noise)}), shuffled: let through"
        share = 1 - _unordered(wording, noise)
        yield equal(f"R21 {told}", share, "", 0) if length in of_r21 else Figure(told, share, "")
        yield Figure("let through by GUARD_HOLD", 1 - _untold(wording, noise), "")
        yield Figure("as they stand: held by GUARD_HOLD for their order", _untold(wording, first), "")


def _unordered(wording: Wording, texts: Sequence[Sequence[str]]) -> float:
    return statistics.fmean(wording.read(" ".join(words)).doubt == "NO_ORDER" for words in texts)


def _untold(wording: Wording, texts: Sequence[Sequence[str]]) -> float:
    """The share whose order is doubted, or cannot be told."""
    return statistics.fmean(bool(wording.read(" ".join(words)).doubt) for words in texts)


if __name__ == "__main__":
    sys.exit(main())
