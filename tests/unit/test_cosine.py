import math

import numpy as np
import pytest

from epistream.indexer.index.cosine import cosines, score_margin
from tests.support.versions import random_rows, unit_rows


@pytest.mark.parametrize("dimension", [1, 2, 7, 8, 129, 384, 1536])
def test_a_pair_has_the_same_cosine_to_the_last_bit_whatever_stands_beside_it(dimension: int) -> None:
    rows = random_rows(300, dimension, seed=dimension)
    together = cosines(rows[0], rows)
    for count in (1, 2, 3, 17, 128, 300):
        for start in (0, 1, 300 - count):
            part = cosines(rows[0], rows[start : start + count])
            assert part.tobytes() == together[start : start + count].tobytes()
    assert cosines(rows[0], rows[::3]).tobytes() == together[::3].tobytes()
    assert cosines(rows[0], np.asfortranarray(rows)).tobytes() == together.tobytes()


@pytest.mark.parametrize("dimension", [1, 3, 384, 1536])
def test_the_cosine_is_right_to_the_last_digits(dimension: int) -> None:
    rows = random_rows(50, dimension, seed=1)
    query = rows[3]
    for row, found in zip(rows, cosines(query, rows), strict=True):
        products = [float(a) * float(b) for a, b in zip(query, row, strict=True)]
        lengths = math.hypot(*map(float, query)) * math.hypot(*map(float, row))
        assert found == pytest.approx(math.fsum(products) / lengths, abs=1e-14)


@pytest.mark.parametrize("dimension", [1, 5, 384])
def test_equal_vectors_have_cosine_one_and_opposite_ones_minus_one(dimension: int) -> None:
    rows = random_rows(200, dimension, seed=2)
    for row in rows:
        assert cosines(row, np.stack([row, -row])).tolist() == [1.0, -1.0]


@pytest.mark.parametrize("dimension", [1, 2, 384, 4096])
def test_a_float32_score_is_never_farther_from_the_cosine_than_the_margin_says(dimension: int) -> None:
    rows = random_rows(400, dimension, seed=3)
    near = unit_rows(rows[:1] + 0.01 * rows.astype(np.float64))
    for others in (rows, near):
        one_by_one = np.zeros(len(others), dtype=np.float32)
        for column in range(dimension):  # the order of summing that errs the most
            one_by_one += others[:, column] * rows[0, column]
        assert np.abs(one_by_one - cosines(rows[0], others)).max() < score_margin(dimension)
