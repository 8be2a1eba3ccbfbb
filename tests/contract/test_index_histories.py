"""Whatever happens to versions, every index under Searchable answers as a plain list does, also beside the writer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray

from epistream.indexer.index import (
    IndexFactory,
    Neighbour,
    Row,
    Searchable,
    load_snapshot,
    save_snapshot,
)
from epistream.indexer.model import Nearby
from epistream.v1 import knowledge_pb2 as pb
from tests.support.fuzzing import examples
from tests.support.versions import PRODUCERS, PlainList, random_rows, unit_rows, versions


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
