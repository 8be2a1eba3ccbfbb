"""Which heads of a batch are near: to the last bit what looking at each of them says, however many there are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.index import cosines
from epistream.indexer.near import NearInBatch

LIMIT = 3
AT_LEAST = 0.6


def around(seed: int, count: int, spread: float) -> NDArray[np.float32]:
    """Vectors of length one about one direction; some of them equal."""
    draw = np.random.default_rng(seed)
    vectors = np.eye(1, 16) + spread * draw.standard_normal((count, 16))
    vectors[draw.random(count) < 0.3] = vectors[0]
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.integers(1, 5), max_size=3),
    st.sampled_from([0.0, 1e-5, 0.05, 0.5]),
)
def test_the_nearest_heads_and_their_like_are_among_what_is_found(
    seed: int, own: int, joins: list[int], spread: float
) -> None:
    vectors, draw = around(seed, own + sum(joins), spread), np.random.default_rng(seed)
    near, rows = NearInBatch(vectors[:own], AT_LEAST), own
    for count in joins:
        near.join(vectors[rows : rows + count])
        rows += count
    heads = set(np.flatnonzero(draw.random(rows) < 0.7).tolist())
    for row in range(rows):
        near.mark(row, is_head=True)
        near.mark(row, is_head=row in heads)

    for row in range(rows):
        exact = dict(enumerate(cosines(vectors[row], vectors[:rows]).tolist()))
        others = sorted((one for one in heads if one != row and exact[one] >= AT_LEAST), key=lambda one: -exact[one])
        found = near.heads(row, LIMIT)
        assert all(similarity == exact[one] and one in heads and one != row for one, similarity in found)
        least = exact[others[:LIMIT][-1]] if others else 1.0
        assert {one for one, _ in found} >= {one for one in others if exact[one] >= least}


def test_of_many_that_are_near_few_are_looked_at_closely() -> None:
    """Otherwise a call of a thousand readings takes seconds, and everybody's commit waits."""
    vectors = np.eye(1, 64) + 0.05 * np.random.default_rng(9).standard_normal((500, 64))
    near = NearInBatch((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), AT_LEAST)
    for row in range(len(near)):
        near.mark(row, is_head=True)

    assert all(8 <= len(near.heads(row, 8)) < 16 for row in range(len(near)))
