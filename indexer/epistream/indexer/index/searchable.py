"""Exact answers about one namespace: the versions nearest to a vector, at any revision, through any filter.

An index gives candidates with float32 scores, which err in the last bits by the way they were computed. The answer must
not: it is the same for every index, every batch size and every run. So the candidates are scored again in float64, and
an answer stands only if nothing that was left out can belong to it, given how far a score may err (`score_margin`).
Example with limit 2, 3 candidates and a margin of 0.01:

    candidates   scores .99 .97 .96   similarities .9900 .9702 .9599
    left out     scores <= .96, so similarities <= .97: the second, .9702, cannot be beaten, the answer stands

    candidates   scores .99 .96 .96   similarities .9900 .9600 .9599
    left out     similarities <= .97 might beat .9600: ask the index for all within .96 - .01, score them all, choose

The second case is that of vectors that are equal or nearly so. Equal similarities are ordered by revision, older first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.index.base import Index, Pairs, Slots, Vectors, check_vectors
from epistream.indexer.index.columns import Columns, Row, Scope
from epistream.indexer.index.cosine import cosines, pair_cosines, score_margin
from epistream.indexer.model import Nearby, Vector
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, InvalidInput

CANDIDATES_SPARE: Final = 8
"""How many candidates more than the limit are asked for, so that the first case above is the usual one."""
QUERIES_MAX: Final = 1024
"""How many queries are looked for at a time: with the largest limit of a batch, 1,000, they take 25 MB."""
CLOSE_MIN: Final = 0.85
"""From this similarity on, looking at what is close is cheaper than looking for the best; below too much is close."""
CLOSE_MOST: Final = 64
CLOSE_SHARE: Final = 200
"""A query that may have more close versions than CLOSE_MOST and than one in CLOSE_SHARE of all is better off with a
search for the best: the vectors are in one place, or the bound, which looks at some of their values, says nothing
of them. Scoring one more closely takes as long as looking at 200 in a scan (measured at 20,000 and 60,000 of 384)."""
ROWS_MAX: Final = 4096
"""How many rows are scored again at a time."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A version that is near."""

    similarity: float
    """The cosine of the query and the version's vector, as stored, computed in float64; from -1 to 1."""
    revision: int
    """The revision that made the version."""


class Searchable:
    """The versions of one namespace that have a vector.

    One thread calls `append` and `end`; any number of threads read meanwhile, without locks, and see all of a call or
    nothing. An answer as of a revision R stays the same whatever comes after, once all changes up to R were given.

    Args:
        index: where the vectors are; empty when `columns` is not given. It belongs to this object from now on.
        columns: the columns of the versions that the index holds already.
    """

    def __init__(self, index: Index, columns: Columns | None = None) -> None:
        self.index = index
        self.columns = Columns() if columns is None else columns
        self._margin = score_margin(index.dimension)
        self._check_pairing()

    def __len__(self) -> int:
        """The number of versions, ended ones too."""
        return len(self.columns)

    @property
    def live_count(self) -> int:
        """The number of versions that have not ended."""
        return self.columns.scope(None, None).count

    @property
    def last_revision(self) -> int:
        """The newest revision that was given to `append` or `end`; 0 at first."""
        return self.columns.last_revision

    def append(self, rows: Sequence[Row], vectors: Vectors, ends: Sequence[tuple[int, int]] = ()) -> None:
        """Take in versions and ends of versions, in one step for readers.

        Args:
            rows: the versions, their revisions rising and above all before.
            vectors: their vectors, shape (len(rows), dimension), of length one; copied.
            ends: (revision, at_revision) as in `end`; may name versions of this very call.

        Raises:
            InvalidInput: vectors that the index refuses; nothing was taken in.
            Broken: revisions out of order; nothing was taken in.
        """
        self._check_pairing()
        if len(rows) != len(vectors):
            raise Broken(f"The index was given {len(rows)} versions and {len(vectors)} vectors; it needs one for each.")
        self.columns.check(rows, ends)
        self.index.add(vectors)
        self.columns.append(rows, ends)

    def end(self, revision: int, at_revision: int) -> None:
        """The version that `revision` made is superseded or retracted: from `at_revision` on it is in no answer.

        Does nothing for a revision without a vector, or for a version that has ended before. Where another version
        takes its place, give both to `append` together: between two calls a reader would see both, or neither.
        """
        no_vectors = np.empty((0, self.index.dimension), dtype=np.float32)
        self.append((), no_vectors, [(revision, at_revision)])

    def search(
        self,
        queries: Vectors,
        limit: int,
        *,
        as_of: int | None = None,
        filter: pb.Filter | None = None,  # noqa: A002 (the contract's word)
        at_least: float = -1.0,
        nearby: Sequence[Nearby] = (),
    ) -> list[list[Neighbour]]:
        """Find the nearest versions of each query; nearest first, of equally near ones the older first.

        Args:
            queries: shape (q, dimension), float32, each row of length one.
            limit: how many at most for each query.
            as_of: the revision whose state is asked about; the newest when None or beyond it.
            filter: only versions that match it.
            at_least: only versions with at least this similarity.
            nearby: what `nearby` has answered to these queries before, so that only what came since is looked at; or
                nothing. It makes no difference to the answer.

        Returns:
            One list a query. The same for every index and however the queries are divided into calls.

        Raises:
            InvalidInput: vectors of another shape or type, not finite or not of length one; a limit below 1.
            Broken: `nearby` is not one for each query.
        """
        if limit < 1:
            raise InvalidInput.at("limit", f"expected at least 1, found {limit}")
        check_vectors(queries, self.index.dimension)
        scope = self.columns.scope(as_of, filter)
        if scope.count == 0:
            return [[] for _ in queries]
        if nearby and len(nearby) != len(queries):
            raise Broken(f"A search for {len(queries)} vectors was given what is near {len(nearby)}.")
        if as_of is not None or any(one.at_least > at_least for one in nearby):
            nearby = ()  # it knows too little: what has ended by now, or what is less close
        found: list[list[Neighbour]] = []
        for start in range(0, len(queries), QUERIES_MAX):
            part = slice(start, start + QUERIES_MAX)
            if at_least >= CLOSE_MIN:
                found += self._close(queries[part], limit, scope, at_least, nearby[part])
            else:
                found += self._nearest(queries[part], limit, scope, at_least)
        return found

    def nearby(self, queries: Vectors, at_least: float) -> list[Nearby]:
        """What is close to each query now, for a later `search` with this or a higher similarity to begin with.

        Empty where that would spare it nothing: below CLOSE_MIN. `queries` are as in `search`.

        Raises:
            InvalidInput: as `search`.
        """
        if at_least < CLOSE_MIN:
            return []
        scope = self.columns.scope(None, None)
        close: list[list[int]] = [[] for _ in queries]
        crowded: set[int] = set()
        for start in range(0, len(queries), QUERIES_MAX):
            part = queries[start : start + QUERIES_MAX]
            pairs = self._candidates(part, scope, at_least, ())
            near = self._pair_similarities(part, pairs) >= at_least
            for number, slot in zip((start + pairs.queries[near]).tolist(), pairs.slots[near].tolist(), strict=True):
                close[number].append(slot)
            crowded.update((start + pairs.crowded).tolist())
        return [
            Nearby(at_least, scope.below, None if number in crowded else tuple(slots))
            for number, slots in enumerate(close)
        ]

    def vector(self, revision: int) -> Vector | None:
        """A copy of the vector of the version that `revision` made, ended or not; None when there is none."""
        slot = self.columns.slot(revision)
        return None if slot is None else self.index.rows(np.array([slot]))[0]

    def _close(
        self, queries: Vectors, limit: int, scope: Scope, at_least: float, nearby: Sequence[Nearby]
    ) -> list[list[Neighbour]]:
        """The answers where only close versions are wanted."""
        pairs = self._candidates(queries, scope, at_least, nearby)
        numbers, slots, crowded = pairs
        similarities = self._pair_similarities(queries, pairs)
        best = np.lexsort((slots, -similarities, numbers))
        best = best[similarities[best] >= at_least]
        found: list[list[Neighbour]] = [[] for _ in queries]
        revisions = self.columns.revisions(slots[best]).tolist()
        for number, *near in zip(numbers[best].tolist(), similarities[best].tolist(), revisions, strict=True):
            if len(found[number]) < limit:
                found[number].append(Neighbour(*near))
        if len(crowded):
            for number, nearest in zip(crowded, self._nearest(queries[crowded], limit, scope, at_least), strict=True):
                found[number] = nearest
        return found

    def _candidates(self, queries: Vectors, scope: Scope, at_least: float, nearby: Sequence[Nearby]) -> Pairs:
        """The pairs that may be close: those of `nearby`, if there is any, and of what came since."""
        since = min((scope.below, *(one.below for one in nearby))) if nearby else 0
        most = max(CLOSE_MOST, scope.below // CLOSE_SHARE)
        new = self.index.close_pairs(
            queries, at_least - self._margin, most, since=since, below=scope.below, allowed=scope.allowed
        )
        if not since:
            return new
        # A slot from `since` on is among the new pairs.
        pairs = [(n, slot) for n, one in enumerate(nearby) for slot in one.slots or () if slot < since]
        old = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        if scope.allowed is not None:
            old = old[scope.allowed[old[:, 1]]]
        crowded = np.union1d(new.crowded, [n for n, one in enumerate(nearby) if one.slots is None]).astype(np.int64)
        numbers, slots = np.append(new.queries, old[:, 0]), np.append(new.slots, old[:, 1])
        fits = ~np.isin(numbers, crowded)
        return Pairs(numbers[fits], slots[fits], crowded)

    def _pair_similarities(self, queries: Vectors, pairs: Pairs) -> NDArray[np.float64]:
        parts = [slice(start, start + ROWS_MAX) for start in range(0, len(pairs.slots), ROWS_MAX)]
        scored = (pair_cosines(queries[pairs.queries[part]], self.index.rows(pairs.slots[part])) for part in parts)
        return np.concatenate([np.empty(0), *scored])

    def _nearest(self, queries: Vectors, limit: int, scope: Scope, at_least: float) -> list[list[Neighbour]]:
        """The answers, from the nearest candidates on."""
        k = min(limit + CANDIDATES_SPARE, scope.count)
        scores, slots = self.index.nearest(queries, k, below=scope.below, allowed=scope.allowed)
        # What was left out has at most the last candidate's score.
        left_out = (
            scores[:, -1].astype(np.float64) + self._margin if k < scope.count else np.full(len(queries), -np.inf)
        )
        near = scores >= at_least - self._margin
        found = []
        for number in range(len(queries)):
            best = self._best(queries[number], slots[number, near[number]], limit, at_least)
            to_beat = best[-1].similarity if len(best) == limit else at_least
            if left_out[number] >= to_beat:
                within = self.index.within(
                    queries[number : number + 1], to_beat - self._margin, below=scope.below, allowed=scope.allowed
                )
                best = self._best(queries[number], within, limit, at_least)
            found.append(best)
        return found

    def _best(self, query: Vector, slots: Slots, limit: int, at_least: float) -> list[Neighbour]:
        """The best of these slots, scored exactly."""
        if len(slots) == 0:
            return []
        similarities = self._similarities(query, slots)
        best = np.lexsort((slots, -similarities))[:limit]
        best = best[similarities[best] >= at_least]
        revisions = self.columns.revisions(slots[best])
        return [Neighbour(*pair) for pair in zip(similarities[best].tolist(), revisions.tolist(), strict=True)]

    def _similarities(self, query: Vector, slots: Slots) -> NDArray[np.float64]:
        parts = [slots[start : start + ROWS_MAX] for start in range(0, len(slots), ROWS_MAX)]
        return np.concatenate([cosines(query, self.index.rows(part)) for part in parts])

    def _check_pairing(self) -> None:
        if len(self.index) != len(self.columns):
            raise Broken(
                f"The index holds {len(self.index)} vectors for {len(self.columns)} versions; "
                "build it anew from the journal."
            )
