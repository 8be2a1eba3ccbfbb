"""The items of a replica in memory: what its answers come from. Thread-safe; nothing here touches the disk.

Every item has a row, a number that it keeps for as long as it lives; the rows of removed items are used again. The
vectors are in blocks with a line for each row: one matrix would be copied whenever it is full, and nothing could be
applied or answered meanwhile (0.25 s at 65,536 rows of 384). The replica's file (`replica_file.py`) keeps items under
the same numbers.
"""

import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.wire.errors import Broken, InvalidInput

FIRST_CAPACITY: Final = 1024
BLOCK_ROWS: Final = 4096
UNIT_ROUNDOFF: Final = 2.0**-24
"""Of float32. A dot product of n products is off by at most about n times this for vectors of length one (N. J. Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1)."""
LENGTH_TOLERANCE: Final = 1e-5
"""How far from one the service lets the length of a vector be."""
_REMOVING: Final = frozenset((pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LEFT))
_VECTOR: Final = np.dtype("<f4")
Number = TypeVar("Number", np.float32, np.uint64, np.bool_)


class Row(NamedTuple):
    """An item as the replica keeps it."""

    row: int
    """Its number."""
    item_id: str
    """Its id."""
    revision: int
    """The revision of its version."""
    change: bytes
    """The change that made its version, without the vector, as protobuf."""
    embedding: bytes | None
    """Its vector, little-endian float32, length one; None when it has none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What some changes do to the items: every item once, as it is after the last of them."""

    kept: list[Row]
    """Items to put, over what is in their rows."""
    removed: list[tuple[int, str]]
    """Rows to empty, with the ids of the items in them."""


class Items:
    """The items of a replica, searchable."""

    def __init__(self, dimension: int) -> None:
        """Empty, for vectors of `dimension`."""
        self.dimension = dimension
        # Two scores that are further apart than this are in the right order. The 4 is for the rounding of the query.
        self._rounding = 2 * ((dimension + 4) * UNIT_ROUNDOFF + LENGTH_TOLERANCE)
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._changes: list[bytes | None] = []
        self._blocks: list[NDArray[np.float32]] = []
        self._revisions: NDArray[np.uint64] = np.zeros(FIRST_CAPACITY, np.uint64)
        self._searchable: NDArray[np.bool_] = np.zeros(FIRST_CAPACITY, np.bool_)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, item_id: str) -> pb.Change | None:
        """The change that made the item's version, without its vector; None when there is no such item."""
        with self._lock:
            row = self._rows.get(item_id)
            content = None if row is None else self._changes[row]
        return None if content is None else pb.Change.FromString(content)

    def ids(self) -> list[str]:
        """The ids of all items, in no order."""
        with self._lock:
            return list(self._rows)

    def plan(self, changes: Iterable[pb.Change]) -> Plan:
        """What `changes` will do. Takes the vectors out of them. Only the thread that also calls `apply` may call it.

        Raises:
            Broken: a vector does not have the namespace's dimension.
        """
        latest = {change.item_id: change for change in changes}
        new_rows = itertools.chain(reversed(self._free), itertools.count(len(self._changes)))
        kept, removed = [], []
        for item_id, change in latest.items():
            row = self._rows.get(item_id)
            if change.kind not in _REMOVING:
                kept.append(self._row(next(new_rows) if row is None else row, change))
            elif row is not None:
                removed.append((row, item_id))
        return Plan(kept, removed)

    def apply(self, plan: Plan) -> None:
        """Do what was planned last. Searches see all of it or nothing."""
        with self._lock:
            self._put(plan.kept)
            for row, item_id in plan.removed:
                del self._rows[item_id]
                self._changes[row] = None
                self._searchable[row] = False
                self._free.append(row)

    def load(self, rows: Sequence[Row]) -> None:
        """Put items that a file kept, in the order of their numbers."""
        with self._lock:
            self._put(rows)

    def loaded(self) -> None:
        """All was loaded: the rows in between are free."""
        with self._lock:
            self._free = [row for row, change in enumerate(self._changes) if change is None]

    def search(self, vector: NDArray[np.float32], limit: int, only: pb.Filter | None = None) -> list[knowledge.Hit]:
        """The items nearest to `vector` (shape: dimension), the nearest first; of equal ones the older first. Exact.

        Raises:
            InvalidInput: the vector has another dimension, is zero, or is not finite; the limit is not positive.
        """
        if limit < 1:
            raise InvalidInput.at("limit", f"expected 1 or more, got {limit}")
        if not self._rows:
            return []
        query = self._query(vector)
        with self._lock:
            used = len(self._changes)
            searchable = np.flatnonzero(self._searchable[:used])
            scores = self._scores((query / np.linalg.norm(query)).astype(_VECTOR))[searchable]
            if only is None or only == pb.Filter():
                chosen = searchable[_best(scores, limit, self._rounding)]
            else:
                chosen = self._best_matching(searchable, scores, limit, only)
            similarities = _cosines(query, self._lines(chosen).astype(np.float64))
            order = np.lexsort((self._revisions[chosen], -similarities))[:limit]
            hits = [(float(similarities[i]), self._changes[chosen[i]]) for i in order]
        return [
            knowledge.Hit(similarity=similarity, change=pb.Change.FromString(change))
            for similarity, change in hits
            if change is not None
        ]

    def _row(self, row: int, change: pb.Change) -> Row:
        embedding = change.embedding
        if embedding:
            if len(embedding) != _VECTOR.itemsize * self.dimension:
                raise Broken(
                    f"The vector of item {change.item_id} at revision {change.revision} has {len(embedding)} bytes, "
                    f"expected {_VECTOR.itemsize * self.dimension} for the namespace's dimension {self.dimension}."
                )
            change.ClearField("embedding")
        return Row(row, change.item_id, change.revision, change.SerializeToString(), embedding or None)

    def _put(self, kept: Sequence[Row]) -> None:
        if not kept:
            return
        used = len(self._changes)
        last = max(row.row for row in kept)
        if last >= used:
            self._changes.extend(itertools.repeat(None, last + 1 - used))
            self._grow(last + 1)
        reused = sum(row.row < used and row.item_id not in self._rows for row in kept)
        del self._free[len(self._free) - reused :]
        for row in kept:
            self._rows[row.item_id] = row.row
            self._changes[row.row] = row.change
        rows = np.fromiter((row.row for row in kept), np.int64, len(kept))
        self._revisions[rows] = np.fromiter((row.revision for row in kept), np.uint64, len(kept))
        has_vector = np.fromiter((row.embedding is not None for row in kept), np.bool_, len(kept))
        self._searchable[rows] = has_vector
        vectors = np.frombuffer(b"".join(row.embedding for row in kept if row.embedding is not None), _VECTOR)
        self._set_lines(rows[has_vector], vectors.reshape(int(has_vector.sum()), self.dimension))

    def _set_lines(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        numbers, lines = np.divmod(rows, BLOCK_ROWS)
        for number in np.unique(numbers):
            mine = numbers == number
            self._blocks[number][lines[mine]] = vectors[mine]

    def _lines(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the vectors of some rows, shape (n, dimension)."""
        lines = [self._blocks[number][line] for number, line in zip(*np.divmod(rows, BLOCK_ROWS), strict=True)]
        return np.stack(lines) if lines else np.empty((0, self.dimension), _VECTOR)

    def _scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product of a vector and each row, of those that are used."""
        used = len(self._changes)
        return np.concatenate(
            [
                block[: used - start] @ query
                for start, block in zip(range(0, used, BLOCK_ROWS), self._blocks, strict=False)
            ]
        )

    def _grow(self, needed: int) -> None:
        while len(self._blocks) * BLOCK_ROWS < needed:
            self._blocks.append(np.zeros((BLOCK_ROWS, self.dimension), _VECTOR))
        capacity = len(self._searchable)
        if needed <= capacity:
            return
        while capacity < needed:
            capacity *= 2
        self._revisions = _grown(self._revisions, capacity)
        self._searchable = _grown(self._searchable, capacity)

    def _query(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        query = np.asarray(vector, np.float64)
        if query.shape != (self.dimension,):
            raise InvalidInput.at("vector", f"expected {self.dimension} numbers, got the shape {query.shape}")
        if not np.isfinite(query).all() or not query.any():
            raise InvalidInput.at("vector", "expected finite numbers that are not all zero")
        return query

    def _best_matching(
        self, searchable: NDArray[np.int64], scores: NDArray[np.float32], limit: int, only: pb.Filter
    ) -> NDArray[np.int64]:
        """As `_best`, among what the filter lets through: from the best down until there are enough."""
        chosen: list[int] = []
        worst = -np.inf
        for i in np.argsort(-scores):
            if scores[i] < worst - self._rounding:
                break
            row = searchable[i]
            content = self._changes[row]
            if content is not None and matches(pb.Change.FromString(content), only):
                chosen.append(row)
                if len(chosen) == limit:
                    worst = scores[i]
        return np.array(chosen, np.int64)


def matches(change: pb.Change, only: pb.Filter) -> bool:
    """Whether every part of the filter that is set matches the change's knowledge."""
    known = change.knowledge
    return (
        (not only.origins or known.origin in only.origins)
        and (not only.modalities or known.modality in only.modalities)
        and (not only.producers or known.provenance.producer in only.producers)
        and all(known.attributes.get(key) == value for key, value in only.attributes.items())
    )


def _cosines(query: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exact cosines, each by itself, so that equal vectors have equal ones; BLAS does not promise that."""
    squares = np.square(rows).sum(axis=1) * np.square(query).sum()
    cosines: NDArray[np.float64] = np.clip((rows * query).sum(axis=1) / np.sqrt(squares), -1.0, 1.0)
    return cosines


def _best(scores: NDArray[np.float32], limit: int, rounding: float) -> NDArray[np.int64]:
    """The places of the `limit` best scores, and of all that rounding could have kept from being among them."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    worst = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    return np.flatnonzero(scores >= worst - rounding)


def _grown(array: NDArray[Number], capacity: int) -> NDArray[Number]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
