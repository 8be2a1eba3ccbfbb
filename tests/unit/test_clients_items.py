"""A replica's items in memory: the same as a dictionary and a full sort give."""

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.clients.items import BLOCK_ROWS, FIRST_CAPACITY, Items, Plan, Row, matches
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, InvalidInput
from tests.support.histories import DIMENSION, a_change, lets_through, random_history, state_after, unit_vector

Vector = NDArray[np.float32]
EQUAL = unit_vector(random.Random(1), DIMENSION)


def copies(history: list[pb.Change]) -> list[pb.Change]:
    """Planning takes the vectors out of the changes."""
    return [pb.Change.FromString(change.SerializeToString()) for change in history]


def filled(history: list[pb.Change], batch: int = 7, dimension: int = DIMENSION) -> Items:
    items = Items(dimension)
    for start in range(0, len(history), batch):
        items.apply(items.plan(copies(history[start : start + batch])))
    return items


def everything(items: Items) -> dict[str, pb.Change | None]:
    return {item_id: items.get(item_id) for item_id in items.ids()}


def with_equal_vectors(history: list[pb.Change]) -> list[pb.Change]:
    """Every fourth change gets the same vector, so that many similarities are equal."""
    for change in history[2::4]:
        if change.embedding:
            change.embedding = EQUAL
    return history


def full_sort(
    history: list[pb.Change], query: Vector, limit: int, only: pb.Filter | None = None
) -> list[tuple[float, int]]:
    """Similarity and revision of the nearest items: every cosine in float64, then one sort."""
    vectors = {change.revision: change.embedding for change in history}
    wide = query.astype(np.float64)
    scored = []
    for change in state_after(history, len(history)).values():
        if vectors[change.revision] and lets_through(only, change):
            vector = np.frombuffer(vectors[change.revision], "<f4").astype(np.float64)
            cosine = (vector * wide).sum() / np.sqrt(np.square(vector).sum() * np.square(wide).sum())
            scored.append((float(np.clip(cosine, -1, 1)), change.revision))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:limit]


def found(items: Items, query: Vector, limit: int, only: pb.Filter | None = None) -> list[tuple[float, int]]:
    return [(hit.similarity, hit.change.revision) for hit in items.search(query, limit, only)]


@pytest.mark.parametrize("seed", range(10))
def test_any_batches_leave_the_same_items_as_one_change_after_the_other(seed: int) -> None:
    history = random_history(400, seed)
    for batch in (1, 7, 400):
        assert everything(filled(history, batch)) == state_after(history, 400)


@pytest.mark.parametrize("seed", range(10))
def test_search_equals_a_full_sort(seed: int) -> None:
    history = with_equal_vectors(random_history(600, seed, items=200))
    items = filled(history)
    rng = np.random.default_rng(seed)
    for limit in (1, 3, 50, 1000):
        query = rng.standard_normal(DIMENSION).astype(np.float32)
        assert found(items, query, limit) == full_sort(history, query, limit)
    equal = np.frombuffer(EQUAL, "<f4")
    assert found(items, equal, 20) == full_sort(history, equal, 20)


@pytest.mark.parametrize(
    "only",
    [
        pb.Filter(origins=[pb.ORIGIN_EXPERT]),
        pb.Filter(modalities=[pb.MODALITY_TEXT], producers=["ada"]),
        pb.Filter(attributes={"colour": "red"}, origins=[pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC]),
        pb.Filter(producers=["nobody"]),
        pb.Filter(),
    ],
)
def test_a_filtered_search_equals_a_filtered_sort(only: pb.Filter) -> None:
    history = with_equal_vectors(random_history(600, 3, items=200))
    items = filled(history)
    equal = np.frombuffer(EQUAL, "<f4")
    assert found(items, equal, 4, only) == full_sort(history, equal, 4, only)
    rng = np.random.default_rng(3)
    for limit in (1, 5, 500):
        query = rng.standard_normal(DIMENSION).astype(np.float32)
        assert found(items, query, limit, only) == full_sort(history, query, limit, only)


def test_the_filter_is_that_of_the_contract() -> None:
    change = a_change(1, "i", 1, pb.CHANGE_KIND_ADMITTED, random.Random(1), 0)
    known = change.knowledge
    known.origin, known.provenance.producer, known.attributes["colour"] = pb.ORIGIN_EXPERT, "ada", "red"
    assert matches(change, pb.Filter())
    assert matches(change, pb.Filter(origins=[pb.ORIGIN_EXPERT, pb.ORIGIN_CRAWLED], producers=["ada"]))
    assert not matches(change, pb.Filter(origins=[pb.ORIGIN_CRAWLED]))
    assert not matches(change, pb.Filter(modalities=[pb.MODALITY_CODE]))
    assert not matches(change, pb.Filter(attributes={"colour": "red", "size": ""}))


def test_a_removed_item_is_in_no_answer_and_its_row_is_used_again() -> None:
    rng = random.Random(5)
    history = [a_change(r, f"i{r}", 1, pb.CHANGE_KIND_ADMITTED, rng, DIMENSION) for r in range(1, 11)]
    for change in history:
        change.embedding = unit_vector(rng, DIMENSION)
    items = filled(history)
    gone = [pb.Change(revision=11, item_id="i3", kind=pb.CHANGE_KIND_RETRACTED)]
    gone.append(pb.Change(revision=12, item_id="i7", kind=pb.CHANGE_KIND_LEFT))
    items.apply(items.plan(gone))
    query = np.frombuffer(history[2].embedding, "<f4")
    assert items.get("i3") is None
    assert {hit.change.item_id for hit in items.search(query, 100)} == {f"i{r}" for r in (1, 2, 4, 5, 6, 8, 9, 10)}
    new = a_change(13, "new", 1, pb.CHANGE_KIND_ADMITTED, rng, DIMENSION)
    plan = items.plan([new])
    assert plan.kept[0].row == 6
    items.apply(plan)
    assert len(items) == 9


def test_an_item_without_a_vector_is_kept_and_never_found() -> None:
    change = a_change(1, "plain", 1, pb.CHANGE_KIND_ADMITTED, random.Random(1), 0)
    items = filled([change])
    assert items.get("plain") == change
    assert items.search(np.ones(DIMENSION, np.float32), 10) == []
    nowhere = filled([change], dimension=0)
    assert nowhere.get("plain") == change
    with pytest.raises(InvalidInput):
        nowhere.search(np.ones(DIMENSION, np.float32), 10)


def test_a_version_without_a_vector_is_not_found_by_the_vector_of_the_one_before() -> None:
    rng = random.Random(2)
    first = a_change(1, "i", 1, pb.CHANGE_KIND_ADMITTED, rng, DIMENSION)
    first.embedding = unit_vector(rng, DIMENSION)
    second = a_change(2, "i", 2, pb.CHANGE_KIND_REVISED, rng, 0)
    assert filled([first, second], 1).search(np.frombuffer(first.embedding, "<f4"), 10) == []


def test_the_matrix_grows() -> None:
    rng = random.Random(4)
    count = max(2 * FIRST_CAPACITY, BLOCK_ROWS) + 1
    history = [a_change(r, f"i{r}", 1, pb.CHANGE_KIND_ADMITTED, rng, 3) for r in range(1, count + 1)]
    items = filled(history, 500, dimension=3)
    assert len(items) == count
    query = np.array([1, 2, 3], np.float32)
    assert found(items, query, 25) == full_sort(history, query, 25)


def test_a_vector_of_another_dimension_is_a_defect_of_the_service() -> None:
    change = a_change(1, "i", 1, pb.CHANGE_KIND_ADMITTED, random.Random(1), 0)
    change.embedding = b"\0" * 12
    with pytest.raises(Broken, match="dimension 8"):
        Items(8).plan([change])


@pytest.mark.parametrize("query", [np.zeros(8), np.ones(7), np.ones((2, 8)), np.full(8, np.nan), np.full(8, np.inf)])
def test_a_query_that_cannot_be_compared_is_refused(query: NDArray[np.float64]) -> None:
    items = filled(random_history(20, 1))
    with pytest.raises(InvalidInput, match="vector"):
        items.search(query.astype(np.float32), 3)
    with pytest.raises(InvalidInput, match="limit"):
        items.search(np.ones(8, np.float32), 0)


def test_an_empty_replica_answers_with_nothing() -> None:
    assert Items(0).search(np.ones(8, np.float32), 3) == []


class Interrupted(list[Row]):
    """Rows of a batch; in the middle of each way through them something else is done."""

    def __init__(self, rows: Iterable[Row], interruption: Callable[[], None]) -> None:
        super().__init__(rows)
        self._interruption = interruption

    def __iter__(self) -> Iterator[Row]:
        for place, row in enumerate(super().__iter__()):
            if place == len(self) // 2:
                self._interruption()
            yield row


def test_a_search_sees_nothing_of_a_batch_that_is_being_applied() -> None:
    """One that begins in the middle of it, at whatever of its steps, sees all of it: it waits."""
    rng = random.Random(6)
    items, query = Items(DIMENSION), np.ones(DIMENSION, np.float32)

    def batch(content: str) -> Plan:
        changes = []
        for item in range(50):
            change = a_change(item + 1, f"i{item}", 1, pb.CHANGE_KIND_REVISED, rng, DIMENSION)
            change.knowledge.content, change.embedding = content, unit_vector(rng, DIMENSION)
            changes.append(change)
        return items.plan(changes)

    def seen() -> list[tuple[str, float]]:
        return [(hit.change.knowledge.content, hit.similarity) for hit in items.search(query, 50)]

    items.apply(batch("old"))
    searches: list[Future[list[tuple[str, float]]]] = []
    with ThreadPoolExecutor(20) as pool:

        def search() -> None:
            searches.append(pool.submit(seen))
            wait(searches[-1:], 0.1)

        plan = batch("new")
        items.apply(Plan(Interrupted(plan.kept, search), plan.removed))
    after = seen()
    assert {content for content, _ in after} == {"new"}
    assert len(searches) > 2
    assert [search.result() for search in searches] == [after] * len(searches)
