"""Every kind of index, for the suites that all of them are held to."""

import sys
from collections.abc import Iterator

import pytest

from epistream.indexer.index import ExactIndex, FaissIndex, IndexFactory

INDEXES: dict[str, IndexFactory] = {
    "exact": ExactIndex,
    "faiss": FaissIndex,
    "faiss-small-blocks": lambda dimension: FaissIndex(dimension, block_rows=7),
}


@pytest.fixture(params=INDEXES)
def new_index(request: pytest.FixtureRequest) -> IndexFactory:
    return INDEXES[request.param]


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads change as often as they can, so that a gap between two steps of the writer is met."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
