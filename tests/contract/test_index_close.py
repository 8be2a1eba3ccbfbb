"""Looking only for what is close, at once or partly beforehand: no pair is missed, and no answer changes."""

from typing import Any

import numpy as np
import pytest

from epistream.indexer.index import ExactIndex, IndexFactory
from epistream.indexer.index import searchable as searchables
from epistream.indexer.index.base import Pairs
from epistream.indexer.index.bound import head_for, heads
from epistream.indexer.index.cosine import score_margin
from epistream.wire.errors import Broken
from tests.support.versions import filled, random_rows, unit_rows, versions


@pytest.mark.parametrize("dimension", [3, 40, 384])
@pytest.mark.parametrize("at_least", [0.3, 0.9, 0.999])
def test_close_misses_no_pair_from_a_score_on(new_index: IndexFactory, dimension: int, at_least: float) -> None:
    rng = np.random.default_rng(9)
    centres = rng.standard_normal((20, dimension))
    noise = rng.standard_normal((600, dimension)) * rng.choice([0.001, 0.1, 0.4], (600, 1))
    rows = unit_rows(centres[rng.integers(20, size=600)] + noise)
    rows *= rng.choice([1 - 9e-6, 1, 1 + 9e-6], (600, 1)).astype(np.float32)  # as long as a row may be
    index = new_index(dimension)
    index.add(rows)
    for below, allowed in ((600, None), (590, rng.random(590) < 0.5), (0, None)):
        pairs = index.close_pairs(rows[::7], at_least, 600, below=below, allowed=allowed)
        near = rows[::7].astype(np.float64) @ rows[:below].T.astype(np.float64) >= at_least + 1e-6
        wanted = near if allowed is None else near & allowed
        found = np.zeros_like(near)
        found[pairs.queries, pairs.slots] = True
        assert (found | ~wanted).all()
        assert len(pairs.queries) == found.sum(), "a pair came twice"
        assert len(pairs.crowded) == 0
        assert allowed is None or allowed[pairs.slots].all()


def test_close_looks_only_at_slots_from_one_on(new_index: IndexFactory) -> None:
    rows = random_rows(700, 8, seed=13)
    index = new_index(8)
    index.add(rows)
    whole = index.close_pairs(rows[:50], 0.9, 700, below=600)
    for since in (0, 1, 255, 256, 599, 600):
        part = index.close_pairs(rows[:50], 0.9, 700, since=since, below=600)
        expected = {pair for pair in zip(whole.queries.tolist(), whole.slots.tolist(), strict=True) if pair[1] >= since}
        assert set(zip(part.queries.tolist(), part.slots.tolist(), strict=True)) == expected


def test_looking_ahead_spares_the_search_what_was_there_before(new_index: IndexFactory) -> None:
    vectors = random_rows(600, 16, seed=14)
    searchable = filled(new_index, vectors[:500])
    queries = unit_rows(vectors[490:510] + 0.01)
    nearby = searchable.nearby(queries, 0.9)
    assert {one.below for one in nearby} == {500}
    searchable.append(versions(100, 501), vectors[500:])
    seen: list[tuple[int, int]] = []
    close_pairs = searchable.index.close_pairs

    def watched(*arguments: Any, since: int = 0, below: int, **others: Any) -> Pairs:
        seen.append((since, below))
        return close_pairs(*arguments, since=since, below=below, **others)

    searchable.index.close_pairs = watched  # type: ignore[method-assign]
    found = searchable.search(queries, 8, at_least=0.9, nearby=nearby)
    assert seen == [(500, 600)]
    assert found == searchable.search(queries, 8, at_least=0.9)
    assert all(found), "each has its own vector"


def test_what_was_close_and_has_ended_since_is_not_found(new_index: IndexFactory) -> None:
    vectors = np.repeat(unit_rows([(1, 2, 3, 4)]), 5, axis=0)
    searchable = filled(new_index, vectors)
    nearby = searchable.nearby(vectors[:1], 0.9)
    assert nearby[0].slots == (0, 1, 2, 3, 4)
    searchable.append(versions(1, 6), vectors[:1], [(2, 6), (4, 6)])
    (found,) = searchable.search(vectors[:1], 9, at_least=0.9, nearby=nearby)
    assert [near.revision for near in found] == [1, 3, 5, 6]


def test_queries_that_were_looked_at_at_different_times_can_be_asked_together(new_index: IndexFactory) -> None:
    vectors = np.repeat(unit_rows([(1, 2, 3, 4)]), 9, axis=0)
    searchable = filled(new_index, vectors[:2])
    early = searchable.nearby(vectors[:1], 0.9)
    searchable.append(versions(3, 3), vectors[2:5])
    late = searchable.nearby(vectors[:1], 0.9)
    searchable.append(versions(4, 6), vectors[5:])
    for nearby in ([*early, *late], [*late, *early]):
        found = searchable.search(vectors[:2], 20, at_least=0.9, nearby=nearby)
        assert [[near.revision for near in one] for one in found] == [list(range(1, 10))] * 2


@pytest.mark.parametrize("most", [1, 3])
def test_what_is_too_much_to_be_named_is_found_all_the_same(
    new_index: IndexFactory, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(searchables, "CLOSE_MOST", most)
    crowd, alone = unit_rows([(1, 2, 3, 4)]), unit_rows([(-4, 3, 2, -1)])
    searchable = filled(new_index, np.concatenate([crowd, crowd, alone, crowd, crowd]))
    queries = np.concatenate([alone, crowd, alone])
    nearby = searchable.nearby(queries, 0.9)
    assert [one.slots for one in nearby] == [(2,), None, (2,)]
    searchable.append(versions(2, 6), np.concatenate([crowd, alone]))
    found = searchable.search(queries, 3, at_least=0.9, nearby=nearby)
    assert [[near.revision for near in one] for one in found] == [[3, 7], [1, 2, 4], [3, 7]]


def test_looking_ahead_for_more_queries_than_go_at_a_time(
    new_index: IndexFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchables, "QUERIES_MAX", 7)
    monkeypatch.setattr(searchables, "CLOSE_MOST", 2)
    axes = unit_rows(np.eye(31))
    vectors = np.concatenate([axes[:30], np.repeat(axes[30:], 4, axis=0)])
    searchable = filled(new_index, vectors)
    nearby = searchable.nearby(vectors, 0.9)
    assert [one.slots for one in nearby] == [*((slot,) for slot in range(30)), *[None] * 4]
    searchable.append(versions(34, 35), vectors)
    found = searchable.search(vectors, 20, at_least=0.9, nearby=nearby)
    assert [[near.revision for near in one] for one in found[:30]] == [[slot + 1, slot + 35] for slot in range(30)]
    assert [[near.revision for near in one] for one in found[30:]] == [[31, 32, 33, 34, 65, 66, 67, 68]] * 4


def test_what_is_near_must_be_given_for_each_query(new_index: IndexFactory) -> None:
    vectors = random_rows(3, 4, seed=17)
    searchable = filled(new_index, vectors)
    with pytest.raises(Broken, match="2 vectors"):
        searchable.search(vectors[:2], 1, at_least=0.9, nearby=searchable.nearby(vectors, 0.9))


def test_close_passes_over_most_of_what_is_far(new_index: IndexFactory) -> None:
    rows = random_rows(2000, 384, seed=10)
    index = new_index(384)
    index.add(rows)
    assert len(index.close_pairs(rows[:100], 0.95, 64, below=2000).queries) < 200


def test_a_threshold_near_one_is_met_with_a_shorter_head() -> None:
    assert heads(384) == {64, 96}
    assert head_for(384, 0.94 - score_margin(384) - 1e-4) == 64
    assert head_for(384, 0.93) == 96
    assert heads(20) == {20}


def test_close_leaves_out_crowded_queries_and_names_them(new_index: IndexFactory) -> None:
    same, other = unit_rows([np.arange(1, 385)]), unit_rows(np.random.default_rng(11).standard_normal((40, 384)))
    index = new_index(384)
    index.add(np.concatenate([np.repeat(same, 30, axis=0), other]))
    queries = np.concatenate([other[:2], same, other[2:3], same])
    pairs = index.close_pairs(queries, 0.99, 29, below=70)
    assert pairs.crowded.tolist() == [2, 4]
    assert sorted(zip(pairs.queries.tolist(), pairs.slots.tolist(), strict=True)) == [(0, 30), (1, 31), (3, 32)]
    assert index.close_pairs(queries, 0.99, 30, below=70).crowded.tolist() == []


def test_close_ones_are_found_where_the_beginning_of_all_vectors_is_the_same(new_index: IndexFactory) -> None:
    """Nothing can be passed over by the bound, in a namespace that is too small for a query to be crowded."""
    tails = random_rows(60, 384, seed=12)
    vectors = unit_rows(np.concatenate([np.zeros((60, 128), np.float32), tails], axis=1))
    searchable = filled(new_index, vectors)
    found = searchable.search(vectors, 8, at_least=0.95)
    exact = filled(ExactIndex, vectors)
    assert found == [exact.search(vectors[n : n + 1], 8, at_least=0.95)[0] for n in range(60)]
