"""What the feed reads of the journal for one batch."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import pytest

from epistream.indexer.engine import Engine
from epistream.indexer.feed import BATCH_BYTES_MAX, Batch, Wish
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync
from tests.support.knowing import NAMESPACE, commit, open_engine, submission

ITEMS: Final = 40
ITEM_BYTES: Final = 250_000

ALL: Final = Wish()
NONE: Final = Wish.of(pb.Filter(attributes={"topic": "other"}), include_embeddings=False)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Forty items as large as an item may be, ten times what a batch has."""
    with closing(open_engine(tmp_path_factory.mktemp("large"))) as engine:
        for number in range(1, ITEMS + 1):
            commit(engine, submission(f"{number} " + "x" * ITEM_BYTES, id=str(number)))
        yield engine


def replayed(engine: Engine, after: int, wish: Wish) -> Batch:
    return engine.feed.replay(NAMESPACE, after, wish)


def of_a_snapshot(engine: Engine, after: int, wish: Wish) -> Batch:
    return engine.feed.snapshot(NAMESPACE, ITEMS, after, wish)


Read = Callable[[Engine, int, Wish], Batch]
READS: Final = pytest.mark.parametrize("read", [replayed, of_a_snapshot])


@READS
@pytest.mark.parametrize(("wish", "count"), [(ALL, 3), (NONE, 0)], ids=["all match", "none matches"])
def test_one_batch_takes_the_memory_of_one_batch(engine: Engine, read: Read, wish: Wish, count: int) -> None:
    tracemalloc.start()
    try:
        batch = read(engine, 0, wish)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch.count == count
    assert peak_bytes < 4 * BATCH_BYTES_MAX


@READS
def test_batch_by_batch_everything_is_read_once(engine: Engine, read: Read) -> None:
    after, found = 0, list[int]()
    while after < ITEMS:
        batch = read(engine, after, ALL)
        found += [change.revision for change in sync.Changes.FromString(batch.body).changes]
        assert found[-1] == batch.last_revision
        after = batch.last_revision
    assert found == list(range(1, ITEMS + 1))
