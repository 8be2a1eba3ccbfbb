"""One suite for every index alone. The oracle is held to it like the others."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from epistream.indexer.index import (
    IndexFactory,
)
from epistream.wire.errors import InvalidInput
from tests.support.versions import filled, random_rows, unit_rows, versions


def test_the_best_come_first_and_missing_ones_are_marked(new_index: IndexFactory) -> None:
    index = new_index(2)
    index.add(unit_rows([(1, 0), (0, 1), (1, 1)]))
    scores, slots = index.nearest(unit_rows([(1, 0), (0, -1)]), 5, below=3)
    assert slots.tolist() == [[0, 2, 1, -1, -1], [0, 2, 1, -1, -1]]
    assert scores[0] == pytest.approx([1, 0.5**0.5, 0, -np.inf, -np.inf])
    assert scores[1] == pytest.approx([0, -(0.5**0.5), -1, -np.inf, -np.inf])
    assert (scores.dtype, slots.dtype) == (np.dtype(np.float32), np.dtype(np.int64))


@pytest.mark.parametrize("query_count", [1, 2, 9, 200])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.1, 0.5, 0.97, 1.0])
def test_only_allowed_slots_below_the_bound_come_back(new_index: IndexFactory, query_count: int, share: float) -> None:
    rng = np.random.default_rng(5)
    rows = unit_rows(rng.standard_normal((900, 384)))
    queries = unit_rows(rng.standard_normal((query_count, 384)))
    index = new_index(384)
    index.add(rows[:450])
    index.add(rows[450:])
    for below in (0, 1, 64, 700, 900):
        allowed = rng.random(below) < share
        scores, slots = index.nearest(queries, 12, below=below, allowed=allowed)
        expected = np.where(allowed, queries.astype(np.float64) @ rows[:below].T.astype(np.float64), -np.inf)
        order = np.argsort(-expected, axis=1, kind="stable")[:, :12]
        found = min(12, int(allowed.sum()))
        assert slots[:, :found].tolist() == order[:, :found].tolist()
        assert (slots[:, found:] == -1).all()
        assert np.isneginf(scores[:, found:]).all()
        assert np.abs(scores[:, :found] - np.take_along_axis(expected, order, 1)[:, :found]).max(initial=0) < 1e-6


def test_within_finds_every_slot_from_a_score_on(new_index: IndexFactory) -> None:
    rows = random_rows(300, 384, seed=6)
    index = new_index(384)
    index.add(rows)
    allowed = np.arange(250) % 3 > 0
    scores = rows[:250] @ rows[10]
    slots = index.within(rows[10:11], 0.05, below=250, allowed=allowed)
    assert slots.tolist() == np.flatnonzero((scores >= 0.05) & allowed).tolist()
    assert index.within(rows[10:11], 0.05, below=250).tolist() == np.flatnonzero(scores >= 0.05).tolist()
    assert index.within(rows[10:11], -2, below=0).tolist() == []


def test_rows_are_what_was_added_in_the_order_asked_for(new_index: IndexFactory) -> None:
    rows = random_rows(50, 3, seed=7)
    index = new_index(3)
    index.add(rows[:20])
    index.add(rows[20:20])
    index.add(rows[20:])
    slots = np.array([49, 0, 7, 7, 30, 6])
    taken = index.rows(slots)
    assert taken.tobytes() == rows[slots].tobytes()
    taken[:] = 0
    assert index.rows(slots).tobytes() == rows[slots].tobytes()
    assert (len(index), index.dimension, index.rows(np.array([], dtype=np.int64)).shape) == (50, 3, (0, 3))


BAD_VECTORS: dict[str, Any] = {
    "wrong dimension": unit_rows([(1, 2)]),
    "one vector, not rows": unit_rows([(1, 2, 3)])[0],
    "float64": unit_rows([(1, 2, 3)]).astype(np.float64),
    "whole numbers": np.array([[1, 0, 0]]),
    "not a number": np.array([[np.nan, 0, 1]], dtype=np.float32),
    "infinite": np.array([[np.inf, 0, 0]], dtype=np.float32),
    "zero": np.zeros((1, 3), dtype=np.float32),
    "too long": np.array([[0, 1, 0], [1, 0.01, 0]], dtype=np.float32),
    "huge": np.full((1, 3), 3e38, dtype=np.float32),
}


@pytest.mark.parametrize("bad", BAD_VECTORS.values(), ids=BAD_VECTORS)
def test_vectors_that_would_end_the_process_or_answer_nonsense_are_refused(new_index: IndexFactory, bad: Any) -> None:
    index = new_index(3)
    index.add(unit_rows([(1, 2, 3)]))
    searchable = filled(new_index, unit_rows([(1, 2, 3)]))
    attempts = (
        lambda: index.add(bad),
        lambda: index.nearest(bad, 1, below=1),
        lambda: index.within(bad, 0.0, below=1),
        lambda: index.close_pairs(bad, 0.9, 1, below=1),
        lambda: searchable.append(versions(len(bad), 2), bad),
        lambda: searchable.search(bad, 1),
    )
    for attempt in attempts:
        with pytest.raises(InvalidInput):
            attempt()
    assert (len(index), len(searchable), searchable.last_revision) == (1, 1, 1)
    assert len(searchable.search(unit_rows([(1, 2, 3)]), 5)[0]) == 1


def test_bounds_and_masks_that_do_not_fit_are_refused(new_index: IndexFactory) -> None:
    index, query = new_index(2), unit_rows([(1, 0)])
    index.add(unit_rows([(1, 0), (0, 1)]))
    bad: list[dict[str, Any]] = [
        {"k": 0, "below": 2},
        {"k": -1, "below": 2},
        {"k": 1, "below": 3},
        {"k": 1, "below": -1},
        {"k": 1, "below": 2, "allowed": np.ones(1, dtype=np.bool_)},
        {"k": 1, "below": 2, "allowed": np.ones(2, dtype=np.uint8)},
    ]
    for arguments in bad:
        with pytest.raises(InvalidInput):
            index.nearest(query, **arguments)


@pytest.mark.usefixtures("eager_switching")
def test_a_slot_under_the_length_is_whole_while_others_are_added(new_index: IndexFactory) -> None:
    rows = random_rows(20_000, 8, seed=24)
    index = new_index(8)

    def add() -> None:
        for start in range(0, 20_000, 1000):
            index.add(rows[start : start + 1000])

    def read() -> None:
        while (count := len(index)) < 20_000:
            if count:
                assert index.rows(np.array([count - 1])).tobytes() == rows[count - 1].tobytes()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work) for work in (read, add)]:
            done.result()
