"""One suite for every index under Searchable. The oracle is held to it like the others."""

from typing import Any

import numpy as np
import pytest

from epistream.indexer.index import (
    ExactIndex,
    IndexFactory,
    Neighbour,
    Searchable,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, InvalidInput
from tests.support.versions import PlainList, filled, random_rows, random_versions, unit_rows, versions


def test_an_empty_namespace_answers_nothing(new_index: IndexFactory) -> None:
    searchable = Searchable(new_index(4))
    assert searchable.search(unit_rows([(1, 0, 0, 0)] * 3), 10) == [[], [], []]
    assert searchable.search(np.empty((0, 4), dtype=np.float32), 10) == []
    assert (len(searchable), searchable.live_count, searchable.last_revision, searchable.vector(1)) == (0, 0, 0, None)
    searchable.append([], np.empty((0, 4), dtype=np.float32))
    searchable.end(3, 4)
    assert (len(searchable), searchable.live_count, searchable.last_revision) == (0, 0, 4)


def test_the_readers_of_the_docstring_get_what_it_draws(new_index: IndexFactory) -> None:
    vectors = unit_rows([(1, 0), (2, 1), (1, 2), (2, 1)])
    searchable = Searchable(new_index(2))
    searchable.append(versions(3), vectors[:3])
    searchable.append(versions(1, 5), vectors[3:], [(2, 5)])
    searchable.end(3, 6)
    seen = {
        at: {near.revision for near in searchable.search(unit_rows([(1, 0)]), 9, as_of=at)[0]}
        for at in (0, 1, 3, 4, 5, 6, None, 99)
    }
    assert seen == {0: set(), 1: {1}, 3: {1, 2, 3}, 4: {1, 2, 3}, 5: {1, 3, 5}, 6: {1, 5}, None: {1, 5}, 99: {1, 5}}
    assert (len(searchable), searchable.live_count, searchable.last_revision) == (4, 2, 6)
    assert searchable.vector(3) is not None  # ended, but known
    assert searchable.vector(4) is None


def test_of_equally_near_versions_the_older_come_first_even_at_the_cut(new_index: IndexFactory) -> None:
    same, other = unit_rows([np.arange(1, 385)]), random_rows(300, 384, seed=8)
    vectors = np.concatenate([other[:100], np.repeat(same, 200, axis=0), other[100:]])
    searchable = filled(new_index, vectors)
    expected = [Neighbour(1.0, revision) for revision in range(101, 301)]
    for limit in (1, 8, 100, 200):
        assert searchable.search(same, limit) == [expected[:limit]]
        assert searchable.search(np.repeat(same, 30, axis=0), limit, at_least=1.0) == [expected[:limit]] * 30
    assert searchable.search(same, 250, at_least=0.9999) == [expected]
    for revision in range(101, 120):
        searchable.end(revision, 500)
    assert searchable.search(same, 8) == [expected[19:27]]
    assert searchable.search(same, 8, as_of=499) == [expected[:8]]


def test_versions_whose_float32_scores_cannot_be_told_apart_are_ordered_by_their_exact_cosines(
    new_index: IndexFactory,
) -> None:
    rng = np.random.default_rng(9)
    base = rng.standard_normal(384)
    vectors = unit_rows(base * (1 + 2e-7 * rng.standard_normal((400, 384))))
    plain = PlainList()
    plain.append(versions(400), vectors)
    query = unit_rows([base + rng.standard_normal(384)])
    assert len(np.unique(vectors @ query[0])) < 100  # so the order cannot come from float32
    assert filled(new_index, vectors).search(query, 20) == plain.search(query, 20)


def test_similarities_of_one_dimension_are_one_and_minus_one(new_index: IndexFactory) -> None:
    searchable = filled(new_index, unit_rows([(-2.0,), (3.0,), (0.5,)]))
    found = searchable.search(unit_rows([(1.0,), (-1.0,)]), 9)
    assert found == [
        [Neighbour(1.0, 2), Neighbour(1.0, 3), Neighbour(-1.0, 1)],
        [Neighbour(1.0, 1), Neighbour(-1.0, 2), Neighbour(-1.0, 3)],
    ]


def test_the_answer_does_not_depend_on_how_queries_are_divided_into_calls(new_index: IndexFactory) -> None:
    rows, vectors = random_versions(400, seed=10), random_rows(400, 384, seed=10)
    searchable = Searchable(new_index(384))
    searchable.append(rows, vectors, [(row.revision, row.revision + 50) for row in rows[::9]])
    queries = np.concatenate([vectors[:128], random_rows(128, 384, seed=11)])
    cases: list[dict[str, Any]] = [
        {"limit": 8},
        {"limit": 8, "at_least": 0.95},
        {"limit": 3, "as_of": 300},
        {"limit": 30, "filter": pb.Filter(producers=["ada"])},
    ]
    for arguments in cases:
        whole = searchable.search(queries, **arguments)
        for size in (1, 7, 256):
            parts = [searchable.search(queries[at : at + size], **arguments) for at in range(0, 256, size)]
            assert [found for part in parts for found in part] == whole


@pytest.mark.parametrize(
    "wanted",
    [
        pb.Filter(),
        pb.Filter(origins=[pb.ORIGIN_EXPERT]),
        pb.Filter(origins=[pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC], modalities=[pb.MODALITY_CODE]),
        pb.Filter(producers=["grace", "nobody"]),
        pb.Filter(producers=["nobody"]),
        pb.Filter(attributes={"lang": "de"}),
        pb.Filter(attributes={"lang": "de", "rare": "yes"}),
        pb.Filter(attributes={"rare": "no"}),
        pb.Filter(attributes={"unheard": "of"}),
        pb.Filter(origins=[pb.Origin.ValueType(12345678)], attributes={"lang": "en"}),
    ],
    ids=lambda wanted: str(wanted).replace("\n", " ") or "all",
)
def test_filters_and_points_in_the_past_answer_as_a_plain_list_does(new_index: IndexFactory, wanted: pb.Filter) -> None:
    rows, vectors = random_versions(400, seed=12), random_rows(400, 384, seed=12)
    ends = [(row.revision, row.revision + 40) for row in rows[::4]]
    searchable, plain = Searchable(new_index(384)), PlainList()
    for taker in (searchable, plain):
        taker.append(rows, vectors, ends)
    queries = np.concatenate([vectors[::80], random_rows(4, 384, seed=13)])
    for as_of in (None, rows[0].revision, rows[200].revision, rows[390].revision):
        found = searchable.search(queries, 10, as_of=as_of, filter=wanted)
        assert found == plain.search(queries, 10, as_of, wanted)


def test_every_index_gives_the_oracles_answer_to_the_last_bit(new_index: IndexFactory) -> None:
    rows, vectors = random_versions(3000, seed=14), random_rows(3000, 384, seed=14)
    ends = [(row.revision, row.revision + 500) for row in rows[::6]]
    searchable, oracle = Searchable(new_index(384)), Searchable(ExactIndex(384))
    for taker in (searchable, oracle):
        for start in range(0, 3000, 250):
            taker.append(rows[start : start + 250], vectors[start : start + 250])
        for end in ends:
            taker.end(*end)
    queries = np.concatenate([vectors[::30], random_rows(50, 384, seed=15)])
    for as_of in (None, 2500):
        for wanted in (None, pb.Filter(attributes={"lang": "fr"}), pb.Filter(attributes={"rare": "yes"})):
            found = searchable.search(queries, 10, as_of=as_of, filter=wanted)
            assert found == oracle.search(queries, 10, as_of=as_of, filter=wanted)
            assert all(found)


def test_what_does_not_fit_is_refused_and_changes_nothing(new_index: IndexFactory) -> None:
    vectors = unit_rows([(1, 2), (2, 1)])
    searchable = filled(new_index, vectors)
    for rows, given, ends in (
        (versions(1, 2), vectors[:1], []),  # a revision again
        (versions(2, 3)[::-1], vectors, []),  # falling revisions
        (versions(2, 3), vectors[:1], []),  # a vector too few
        (versions(1, 3), vectors[:1], [(2, 2)]),  # an end that is no later change
    ):
        with pytest.raises(Broken):
            searchable.append(rows, given, ends)
    with pytest.raises(Broken):
        searchable.end(2, 1)
    with pytest.raises(InvalidInput):
        searchable.search(vectors, 0)
    assert (len(searchable), searchable.live_count, searchable.last_revision) == (2, 2, 2)
    with pytest.raises(Broken):
        Searchable(searchable.index)


def test_only_the_first_end_of_a_version_counts(new_index: IndexFactory) -> None:
    searchable = filled(new_index, unit_rows([(1, 2), (2, 1)]))
    searchable.end(1, 5)
    searchable.end(1, 5)
    searchable.end(1, 7)
    assert [len(searchable.search(unit_rows([(1, 0)]), 9, as_of=at)[0]) for at in (4, 5, 6, 7)] == [2, 1, 1, 1]
