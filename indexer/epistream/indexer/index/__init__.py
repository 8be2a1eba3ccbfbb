"""The searchable index of a namespace: which versions are near a vector, now or at any revision.

Read in this order:

    searchable.py   Searchable: the one class that callers need; exact answers from an index's candidates
    columns.py      what a version is filtered by, and from which to which revision it lives
    cosine.py       the exact similarity, and how far a float32 score may be from it
    base.py         Index: what Searchable asks of an implementation
    exact.py        ExactIndex: NumPy, obviously right; the oracle of the tests
    faiss.py        FaissIndex: the one in use
    bound.py        what FaissIndex passes over without a closer look, when only close ones are wanted
    blocks.py       where FaissIndex keeps its rows
    snapshot.py     a Searchable in one file, for a fast restart

Everything here is derived from the journal and may be thrown away at any time.
"""

from epistream.indexer.index.base import Index, IndexFactory
from epistream.indexer.index.columns import Row
from epistream.indexer.index.cosine import cosines, score_margin
from epistream.indexer.index.exact import ExactIndex
from epistream.indexer.index.faiss import FaissIndex
from epistream.indexer.index.searchable import Neighbour, Searchable
from epistream.indexer.index.snapshot import Unusable, load_snapshot, save_snapshot

__all__ = [
    "ExactIndex",
    "FaissIndex",
    "Index",
    "IndexFactory",
    "Neighbour",
    "Row",
    "Searchable",
    "Unusable",
    "cosines",
    "load_snapshot",
    "save_snapshot",
    "score_margin",
]
