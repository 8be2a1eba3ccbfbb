"""Plausibility: people's texts are likely, noise is not, and what cannot be told is not passed."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.gain import Posterior
from epistream.indexer.plausibility import ORDER_MIN, RANK_MIN, Neighbourhood, Wording, doubts, worth
from epistream.indexer.spectrum import drawn
from tests.support.fuzzing import examples
from tests.support.samples import STREAMS, encoder, needs_samples, rows, vectors

PLAIN = [
    "The lake is twelve kilometres long, and the river that leaves it runs to the north.",
    "In the winter the lake is frozen, and the people of the village walk to the other side.",
    "The village was founded by the monks of the abbey in the year of the great flood.",
    "The river was moved in the year that the mill was built, to the west of the village.",
] * 5


def unit(seed: int, count: int, dimension: int) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=6))
@examples(50)
def test_a_distance_is_the_same_bits_however_a_stream_is_cut(seed: int, cuts: list[int]) -> None:
    neighbourhood = Neighbourhood(unit(1, 100, 384))
    asked = unit(seed, sum(cuts), 384)

    parts = [neighbourhood.distance(part) for part in np.split(asked, np.cumsum(cuts)[:-1])]

    assert np.concatenate(parts).tobytes() == neighbourhood.distance(asked).tobytes()


def test_a_rank_is_the_share_of_people_that_lie_as_far_out() -> None:
    window = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    neighbourhood = Neighbourhood(window, neighbour=1)  # distances to the nearest other: 0.2, 0.04, 0.04, 0.2

    asked = np.array([[0.8, 0.6], [0.97, 0.2431049], [-1, 0]])  # 0, 0.03 and 1 away from the nearest

    assert neighbourhood.rank(asked) == pytest.approx([1, 1, 1 / 5])
    assert neighbourhood.rank([[0.99503719, -0.09950372]]) == pytest.approx([1])
    assert neighbourhood.rank([[0.9, -0.4358899]]) == pytest.approx([3 / 5])


def test_ranks_of_the_same_kind_are_spread_evenly() -> None:
    ranks = Neighbourhood(unit(1, 400, 16)).rank(unit(2, 1000, 16))

    assert 0.45 < ranks.mean() < 0.55
    assert (ranks < 0.1).mean() < 0.15


def test_a_neighbourhood_needs_neighbours() -> None:
    with pytest.raises(ValueError, match="more than 5"):
        Neighbourhood(unit(1, 5, 4))


def test_an_order_tells_more_than_chance_and_a_repetition_less_than_people() -> None:
    wording = Wording(PLAIN)

    told = wording.read(PLAIN[1])
    assert told.order is not None
    assert told.order > ORDER_MIN
    assert wording.read("lake " * 40).order == 0
    assert (wording.read("lake " * 40).repetition or 1) < 0.1
    assert told == wording.read(PLAIN[1])


def test_what_cannot_be_told_is_a_doubt() -> None:
    wording = Wording(PLAIN)

    assert wording.read("The lake is long.").order is None
    assert Wording([]).read(PLAIN[0]).repetition is None
    assert doubts(None, wording.read("The lake is long.")) == ("NO_VECTOR", "TOO_SHORT")
    assert doubts(0.5, None) == ("NO_TEXT",)
    assert doubts(RANK_MIN, wording.read(PLAIN[1])) == ()
    assert doubts(0.01, wording.read("lake " * 40))[0] == "TOO_FAR"


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    worded = Wording(PLAIN).read(text)

    assert worded.order is None or np.isfinite(worded.order)
    assert worded.repetition is None or 0 < worded.repetition <= 1


def noise(texts: list[str]) -> dict[str, list[str]]:
    """200 of each kind, from the words of people."""
    draw = random.Random(5)
    words = [word for text in texts for word in text.split()]
    long = [text for text in texts if len(text.split()) >= 8]
    return {
        "shuffled": [
            " ".join(draw.sample(chosen.split(), len(chosen.split()))) for chosen in draw.choices(long, k=200)
        ],
        "mixed": [" ".join(draw.choices(words, k=draw.randint(8, 60))) for _ in range(200)],
        "repeated": [" ".join([draw.choice(words)] * draw.randint(5, 60)) for _ in range(200)],
        "repeated in turn": [" ".join(draw.sample(words, 3) * draw.randint(5, 30)) for _ in range(200)],
    }


@needs_samples
@pytest.mark.slow
def test_r21_noise_is_never_accepted_though_it_gains_the_most() -> None:
    places = [place for place, row in enumerate(rows(STREAMS)) if row["origin"] != "synthetic"]
    order = drawn(len(places), 1)
    window, fresh = [places[i] for i in order[:260]], [places[i] for i in order[260:]]
    texts = [str(row["text"]) for row in rows(STREAMS)]
    neighbourhood, wording = Neighbourhood(vectors(STREAMS)[window]), Wording([texts[place] for place in window])
    posterior = Posterior(384)
    for place in window:
        posterior.observe(vectors(STREAMS)[place])

    random_vectors = unit(9, 200, 384)
    assert all(rank < RANK_MIN for rank in neighbourhood.rank(random_vectors))
    human_gain = posterior.score(vectors(STREAMS)[fresh]).mean()
    assert posterior.score(random_vectors).mean() > human_gain

    for kind, made in noise([texts[place] for place in places]).items():
        encoded = encoder().encode(made)
        ranks = neighbourhood.rank(encoded)
        passed = [text for text, rank in zip(made, ranks, strict=True) if not doubts(float(rank), wording.read(text))]
        assert not passed, kind
        assert kind == "shuffled" or posterior.score(encoded).mean() > human_gain

    ranks = neighbourhood.rank(vectors(STREAMS)[fresh])
    long = [(rank, texts[place]) for rank, place in zip(ranks, fresh, strict=True) if len(texts[place].split()) >= 50]
    passed = [text for rank, text in long if not doubts(float(rank), wording.read(text))]
    assert len(passed) >= 0.8 * len(long)
    assert worth(1.0, float(human_gain)) < worth(1.0, float(posterior.score(random_vectors).mean()))
