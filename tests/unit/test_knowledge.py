"""What a question costs, and how large its answer becomes."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from epistream.indexer import knowledge
from epistream.indexer.catalog import Catalog, Committed
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import InvalidInput
from tests.support.knowing import NAMESPACE, commit, open_engine, retraction, submission

NOBODY = pb.Filter(producers=["nobody"])
ANSWER_BYTES = 5000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Its answers have at most ANSWER_BYTES."""
    open_engine(tmp_path).close()
    with closing(Engine(tmp_path, answer_bytes_max=ANSWER_BYTES)) as engine:
        yield engine


def fact(number: int, *, version: int = 1, length: int = 0) -> pb.Submission:
    content = f"Fact {number}, version {version}." + "x" * length
    return submission(content, id=f"{number}-{version}", item=f"item-{number}")


def difference(start: int = 0, **fields: object) -> api.DiffRequest:
    request = api.DiffRequest(namespace=NAMESPACE, **fields)  # type: ignore[arg-type] # as they are given
    getattr(request, "from").revision = start
    return request


def pages(engine: Engine, request: api.DiffRequest) -> Iterator[api.DiffResponse]:
    """All pages; an empty one is not the last, unless it says so."""
    while True:
        page = engine.knowledge.diff(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def steps(engine: Engine, request: api.DiffRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many instructions SQLite executes for an answer."""
    executed = 0

    def execute() -> bool:
        nonlocal executed
        executed += 1
        return False

    reader = engine.store.reader

    @contextmanager
    def counted() -> Iterator[Catalog]:
        with reader() as catalog:
            catalog.connection.set_progress_handler(execute, 1)
            try:
                yield catalog
            finally:
                catalog.connection.set_progress_handler(None)

    with monkeypatch.context() as patch:
        patch.setattr(engine.store, "reader", counted)
        engine.knowledge.diff(request)
    return executed


def test_what_a_difference_costs_grows_with_what_it_looks_at(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with its square, where a filter lets nothing through."""
    commit(engine, *(fact(number) for number in range(10)))
    few = steps(engine, difference(limit=1, filter=NOBODY), monkeypatch)
    commit(engine, *(fact(number) for number in range(10, 40)))
    assert steps(engine, difference(limit=1, filter=NOBODY), monkeypatch) < 6 * few


def test_a_page_of_differences_looks_at_so_many_changes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "DIFF_CHANGES_MAX", 3)
    commit(engine, *(fact(number) for number in range(8)))
    found = list(pages(engine, difference(1, limit=1, filter=NOBODY)))
    assert [(len(page.entries), page.next_page_token) for page in found] == [(0, "4"), (0, "7"), (0, "")]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_the_pages_have_each_item_once_in_the_order_of_its_last_change(
    engine: Engine, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "DIFF_CHANGES_MAX", 4)
    monkeypatch.setattr(knowledge, "_ITEMS_AT_A_TIME", 2)
    commit(engine, *(fact(number) for number in range(4)))
    commit(engine, fact(0, version=2), fact(4), retraction("item-1", id="gone"), fact(0, version=3), fact(5))
    commit(engine, retraction("item-5", id="gone too"))
    found = [entry for page in pages(engine, difference(2, limit=limit)) for entry in page.entries]
    assert [(e.item_id, e.before.version, e.after.version) for e in found] == [
        ("item-2", 0, 1),
        ("item-3", 0, 1),
        ("item-4", 0, 1),
        ("item-1", 1, 0),
        ("item-0", 1, 3),
    ]


def test_a_page_of_differences_ends_before_it_is_too_large(engine: Engine) -> None:
    lengths = [1500, 1500, 1500, 1500, 2 * ANSWER_BYTES, 10, 10]
    commit(engine, *(fact(number, length=length) for number, length in enumerate(lengths)))
    found = [len(page.entries) for page in pages(engine, difference())]
    assert found == [2, 2, 1, 2]
    assert all(page.ByteSize() <= ANSWER_BYTES for page in pages(engine, difference()) if len(page.entries) > 1)


def test_what_does_not_match_fills_a_page_too(engine: Engine) -> None:
    commit(engine, *(fact(number, length=2000) for number in range(6)))
    found = [(len(page.entries), page.next_page_token) for page in pages(engine, difference(filter=NOBODY))]
    assert found == [(0, "2"), (0, "4"), (0, "")]


def test_a_page_of_a_history_ends_before_it_is_too_large(engine: Engine) -> None:
    commit(engine, *(fact(1, version=version, length=1500) for version in range(1, 6)))
    request, found = api.HistoryRequest(namespace=NAMESPACE, item_id="item-1"), []
    while page := engine.knowledge.history(request).changes:
        found.append([change.version for change in page])
        request.after_version = page[-1].version
    assert found == [[1, 2], [3, 4], [5]]


def test_a_page_of_feedback_ends_before_it_is_too_large(engine: Engine) -> None:
    for number, length in enumerate([1500, 1500, 2 * ANSWER_BYTES, 10]):
        judged = pb.Feedback(kind=pb.FEEDBACK_KIND_BINARY, rater="r", rater_type=pb.RATER_TYPE_HUMAN)
        judged.judged.add(item_id="item-1", score=1)
        judged.rationale = "x" * length
        made = pb.Submission(namespace=NAMESPACE, submission_id=str(number), origin=pb.ORIGIN_EXPERT, feedback=judged)
        made.provenance.producer = "panel"
        commit(engine, made)
    request, found = api.ListFeedbackRequest(namespace=NAMESPACE, item_id="item-1"), []
    while True:
        page = engine.knowledge.list_feedback(request)
        found.append([one.submission.submission_id for one in page.feedback])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [["0", "1"], ["2"], ["3"]]


def test_a_search_reads_no_more_than_it_may_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(engine, *(fact(number, length=2000) for number in range(8)))
    read, chosen = list[int](), Catalog.chosen

    def counted(catalog: Catalog, namespace: int, revisions: Iterable[int]) -> Generator[Committed, None, None]:
        with closing(chosen(catalog, namespace, revisions)) as rows:
            for one in rows:
                read.append(one.revision)
                yield one

    monkeypatch.setattr(Catalog, "chosen", counted)
    request = api.SearchRequest(namespace=NAMESPACE, vector=fact(1, length=2000).embedding, limit=2)
    assert len(engine.knowledge.search(request).hits) == 2
    request.limit = 8
    read.clear()
    with pytest.raises(InvalidInput, match="ask for less") as refused:
        engine.knowledge.search(request)
    assert refused.value.reason == "TOO_LARGE"
    assert len(read) == 3
