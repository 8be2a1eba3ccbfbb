"""Every kind of index, for the suites that all of them are held to."""

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
