"""English: what its books say of neighbouring words, and that they say nothing of others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.english import UNKNOWN, English, english

GRID = 1024.0


def told(*words: str) -> list[list[int]]:
    found: list[list[int]] = known().told(np.array([known().number(word) for word in words])).tolist()
    return found


def known() -> English:
    return english(GRID)


def test_a_pair_tells_the_more_the_less_it_is_a_chance() -> None:
    [[_, often], [reverse, _]] = told("of", "the")
    [[_, together], _] = told("amino", "acid")

    assert 0 < reverse < often < together == 12 * GRID


def test_of_what_no_book_has_nothing_is_told() -> None:
    assert known().number("qwrtz") == known().number("") == known().number("The") == UNKNOWN
    assert told("qwrtz", "qwrtz", "amino") == [[0, 0, 0]] * 3
    assert known().told(np.array([], np.int64)).shape == (0, 0)


@given(st.lists(st.sampled_from(["of", "the", "in", "a", "nice", "house", "qwrtz"]), max_size=9))
def test_each_pair_tells_the_same_whatever_stands_beside_it(words: list[str]) -> None:
    for i, row in enumerate(told(*words) if words else []):
        assert row == [told(words[i], second)[0][1] for second in words]
