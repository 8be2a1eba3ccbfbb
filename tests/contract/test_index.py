"""One suite for every index, alone and under Searchable. The oracle is held to it like the others."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray

from epistream.indexer.index import (
    ExactIndex,
    IndexFactory,
    Neighbour,
    Row,
    Searchable,
    load_snapshot,
    save_snapshot,
)
from epistream.indexer.model import Nearby
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, InvalidInput
from tests.support.fuzzing import examples
from tests.support.versions import PRODUCERS, PlainList, filled, random_rows, random_versions, unit_rows, versions


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads change as often as they can, so that a gap between two steps of the writer is met."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# The index alone


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


# Searchable


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


# Histories


class Histories(RuleBasedStateMachine):
    """A Searchable over one kind of index, beside a plain list, through any history, restarts included."""

    new_index: IndexFactory

    def __init__(self) -> None:
        super().__init__()
        self.plain = PlainList()
        self.folder = TemporaryDirectory()

    @initialize(dimension=st.sampled_from([1, 2, 3, 16]))
    def begin(self, dimension: int) -> None:
        self.dimension = dimension
        # Few directions, so that many vectors are equal, and as many again that differ in the last bits only.
        directions = np.random.default_rng(25).standard_normal((4, dimension))
        nudged = directions * (1 + 1e-7 * np.sign(directions))
        self.palette = unit_rows([*directions, *-directions, *nudged])
        self.searchable = Searchable(self.new_index(dimension))
        self.looked: list[tuple[NDArray[np.float32], list[Nearby]]] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(data=st.data(), count=st.integers(0, 20))
    def append(self, data: st.DataObject, count: int) -> None:
        revisions = np.cumsum(data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
        rows = [
            Row(
                self.plain.last_revision + int(revision),
                data.draw(st.integers(1, 4)),
                data.draw(st.integers(1, 2)),
                data.draw(st.sampled_from(PRODUCERS)),
                data.draw(st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw"))),
            )
            for revision in revisions
        ]
        newest = rows[-1].revision if rows else self.plain.last_revision
        ends = data.draw(st.lists(st.tuples(st.integers(1, newest), st.just(newest + 1)), max_size=3)) if newest else []
        vectors = data.draw(self.vectors(count))
        for taker in (self.searchable, self.plain):
            taker.append(rows, vectors, ends)

    @precondition(lambda self: self.plain.last_revision > 0)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(1, self.plain.last_revision))
        at_revision = self.plain.last_revision + 1
        self.searchable.end(revision, at_revision)
        self.plain.append([], np.empty((0, self.dimension), dtype=np.float32), [(revision, at_revision)])

    @rule(
        data=st.data(),
        limit=st.sampled_from([1, 2, 8, 30]),
        query_count=st.integers(1, 4),
        at_least=st.sampled_from([-1.0, 0.0, 0.9, 1.0]),
    )
    def search(self, data: st.DataObject, limit: int, query_count: int, at_least: float) -> None:
        queries = data.draw(self.vectors(query_count))
        as_of = data.draw(st.none() | st.integers(0, self.plain.last_revision + 2))
        wanted = data.draw(st.none() | FILTERS)
        found = self.searchable.search(queries, limit, as_of=as_of, filter=wanted, at_least=at_least)
        assert found == self.plain.search(queries, limit, as_of, wanted, at_least)

    @rule(data=st.data(), query_count=st.integers(1, 4), at_least=st.sampled_from([0.5, 0.9, 0.99]))
    def look_ahead(self, data: st.DataObject, query_count: int, at_least: float) -> None:
        queries = data.draw(self.vectors(query_count))
        self.looked.append((queries, self.searchable.nearby(queries, at_least)))

    @precondition(lambda self: self.looked)
    @rule(data=st.data(), limit=st.sampled_from([1, 2, 8, 30]), at_least=st.sampled_from([0.5, 0.9, 0.99]))
    def search_after_looking_ahead(self, data: st.DataObject, limit: int, at_least: float) -> None:
        """Looking ahead changes no answer, whatever was added or ended since, and whatever is asked."""
        queries, nearby = data.draw(st.sampled_from(self.looked))
        as_of = data.draw(st.none() | st.integers(0, self.plain.last_revision + 2))
        wanted = data.draw(st.none() | FILTERS)
        found = self.searchable.search(queries, limit, as_of=as_of, filter=wanted, at_least=at_least, nearby=nearby)
        assert found == self.plain.search(queries, limit, as_of, wanted, at_least)

    @rule()
    def restart(self) -> None:
        save_snapshot(self.searchable, Path(self.folder.name), epoch="e", namespace=1)
        loaded = load_snapshot(
            Path(self.folder.name),
            self.new_index(self.dimension),
            epoch="e",
            namespace=1,
            head_revision=self.plain.last_revision,
        )
        assert isinstance(loaded, Searchable)
        self.searchable = loaded

    @rule()
    def count(self) -> None:
        assert len(self.searchable) == len(self.plain.versions)
        assert self.searchable.live_count == len(self.plain.visible(None, None))
        assert self.searchable.last_revision == self.plain.last_revision
        for version in self.plain.versions:
            vector = self.searchable.vector(version.row.revision)
            assert vector is not None
            assert vector.tobytes() == version.vector.tobytes()

    def vectors(self, count: int) -> st.SearchStrategy[NDArray[np.float32]]:
        numbers = st.integers(0, len(self.palette) - 1)
        return st.lists(numbers, min_size=count, max_size=count).map(lambda chosen: self.palette[chosen])


FILTERS = st.builds(
    pb.Filter,
    origins=st.lists(st.integers(1, 4), max_size=2),
    modalities=st.lists(st.integers(1, 2), max_size=1),
    producers=st.lists(st.sampled_from([*PRODUCERS, "nobody"]), max_size=2),
    attributes=st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw")),
)


@pytest.mark.hypothesis
def test_any_history_answers_as_a_plain_list_does(new_index: IndexFactory) -> None:
    histories = type("Histories", (Histories,), {"new_index": staticmethod(new_index)})
    run_state_machine_as_test(histories, settings=settings(examples(40), stateful_step_count=25))


# Readers beside the writer


@pytest.mark.usefixtures("eager_switching")
def test_readers_beside_the_writer_see_each_step_whole_and_the_past_unchanged(
    new_index: IndexFactory, tmp_path: Path
) -> None:
    items, steps, dimension = 12, 120, 16
    vectors = random_rows(items * (steps + 1), dimension, seed=16)
    query = random_rows(1, dimension, seed=17)
    searchable, plain = Searchable(new_index(dimension)), PlainList()
    for taker in (searchable, plain):
        taker.append(versions(items), vectors[:items])
    answers: dict[int, list[Neighbour]] = {}

    def replace_every_item() -> None:
        for step in range(1, steps + 1):
            first = 1 + items * step
            searchable.append(
                versions(items, first),
                vectors[items * step : items * (step + 1)],
                [(revision - items, revision) for revision in range(first, first + items)],
            )

    def read() -> None:
        while searchable.last_revision < items * (steps + 1):
            at = searchable.last_revision
            assert len(searchable.search(query, 10 * items)[0]) == items  # neither both versions of an item, nor none
            assert searchable.live_count == items
            (found,) = searchable.search(query, 5, as_of=at)
            assert answers.setdefault(at, found) == found

    def save() -> None:
        while searchable.last_revision < items * (steps + 1):
            save_snapshot(searchable, tmp_path, epoch="e", namespace=1)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work) for work in (read, read, save, replace_every_item)]:
            done.result()

    for step in range(1, steps + 1):
        part = slice(items * step, items * (step + 1))
        first = 1 + items * step
        plain.append(
            versions(items, first),
            vectors[part],
            [(revision - items, revision) for revision in range(first, first + items)],
        )
    for at, found in answers.items():
        assert [found] == searchable.search(query, 5, as_of=at) == plain.search(query, 5, at)
    saved = load_snapshot(
        tmp_path, new_index(dimension), epoch="e", namespace=1, head_revision=searchable.last_revision
    )
    assert isinstance(saved, Searchable)
    for at in [at for at in answers if at <= saved.last_revision]:
        assert saved.search(query, 5, as_of=at) == [answers[at]]
    assert saved.live_count == items
