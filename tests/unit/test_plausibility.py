"""Plausibility: people's texts are likely, noise is not, and what cannot be told is not passed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.plausibility import (
    RANK_MIN,
    REPETITION_MIN,
    REPETITION_RANK_MIN,
    Directions,
    Neighbourhood,
    doubts,
)
from epistream.indexer.wording import ORDER_MIN, Worded
from tests.support.fuzzing import examples

TOLD = Worded(order=ORDER_MIN, doubt="", repetition=0.1, repetition_rank=0.001)


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


def in_half_of_the_directions(seed: int, count: int) -> NDArray[np.float32]:
    """Unit vectors of 64 dimensions, of whose length nearly all is in the first 32, no two of a kind."""
    scale = np.r_[np.ones(32), np.full(32, 0.1)]
    found = np.random.default_rng(seed).standard_normal((count, 64)) * scale
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=6))
@examples(50)
def test_what_lies_at_random_is_the_same_however_a_stream_is_cut(seed: int, cuts: list[int]) -> None:
    directions = Directions(in_half_of_the_directions(1, 300))
    asked = np.concatenate([unit(seed, sum(cuts) // 2, 64), in_half_of_the_directions(seed, -(-sum(cuts) // 2))])

    parts = [directions.at_random(part) for part in np.split(asked, np.cumsum(cuts)[:-1])]

    assert np.concatenate(parts).tolist() == directions.at_random(asked).tolist()


def test_what_is_new_lies_in_the_directions_of_an_encoder_and_noise_does_not() -> None:
    window = in_half_of_the_directions(1, 300)
    window = window[window[:, 0] > 0]  # what is on the other side is new
    directions, new = Directions(window), in_half_of_the_directions(2, 1000)
    new = new[new[:, 0] < -0.2]

    assert directions.tell
    assert directions.at_random(unit(3, 1000, 64)).all()
    assert not directions.at_random(new).any()
    assert (Neighbourhood(window).rank(new) < RANK_MIN).any(), "far out is another question"


@pytest.mark.parametrize("window", [unit(1, 500, 64), unit(1, 20, 3), in_half_of_the_directions(1, 9)])
def test_where_people_lie_at_random_themselves_directions_do_not_tell(window: NDArray[np.float32]) -> None:
    assert not Directions(window).tell


@pytest.mark.parametrize(
    ("rank", "at_random", "found"),
    [
        (0.01, None, ("AT_RANDOM",)),
        (0.01, False, ("TOO_FAR",)),
        (0.01, True, ("AT_RANDOM",)),
        (0.5, True, ("AT_RANDOM",)),
        (RANK_MIN, None, ()),
    ],
)
def test_where_directions_do_not_tell_what_is_too_far_lies_at_random(
    rank: float, at_random: bool | None, found: tuple[str, ...]
) -> None:
    assert doubts(rank, TOLD, at_random=at_random) == found


@pytest.mark.parametrize(
    ("rank", "worded", "found"),
    [
        (None, TOLD, ("NO_VECTOR",)),
        (0.5, None, ("NO_TEXT",)),
        (0.5, replace(TOLD, doubt="TOO_SHORT"), ("TOO_SHORT",)),
        (0.01, replace(TOLD, doubt="TOO_SHORT", repetition=0.9), ("TOO_FAR", "REPEATS", "TOO_SHORT")),
        (RANK_MIN, TOLD, ()),
        (0.5, replace(TOLD, doubt="NO_ORDER"), ("NO_ORDER",)),
        (0.5, replace(TOLD, repetition=REPETITION_MIN), ("REPEATS",)),
        (0.5, replace(TOLD, repetition=REPETITION_MIN, repetition_rank=REPETITION_RANK_MIN), ()),
    ],
)
def test_what_is_too_little_or_cannot_be_told_is_a_doubt(
    rank: float | None, worded: Worded | None, found: tuple[str, ...]
) -> None:
    assert doubts(rank, worded, at_random=False) == found
