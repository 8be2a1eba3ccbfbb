"""What is known while a batch is decided: a namespace's committed state, and over it the batch's earlier decisions.

The near neighbours of a whole batch are looked up at once, in the index and among the batch itself; each submission
then sees only what came before it, so that the outcome does not depend on how a stream is cut into batches. Most of the
look in the index is done beforehand, beside the writer: `look_ahead`.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer import valid_time
from epistream.indexer.catalog import Catalog, Head, comes_first
from epistream.indexer.claim import Claim, claim_of
from epistream.indexer.commit import as_head, head_after
from epistream.indexer.index import Neighbour, Searchable
from epistream.indexer.journal import Entry
from epistream.indexer.match import NEAR_MAX, NOMINEES, Nominee, about, tests_of
from epistream.indexer.model import Embedded, Malformed, Nearby, valid_us
from epistream.indexer.namespaces import Namespaces
from epistream.indexer.near import NearInBatch
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

_STATEMENTS_CHARACTERS_MAX: Final = 16 * 1024 * 1024
"""Of the contents whose statements are remembered: each takes some 7 bytes there, so 120 MiB in all (measured)."""
_STATEMENT_CHARACTERS: Final = 300
"""What a statement takes beside its content's, in these."""

LOOK_AHEAD_MIN: Final = 16
"""From how many submissions on. One in front of 20,000 items takes 340 µs alone, 80 in 16s, 50 in 500s (measured)."""

_ROUNDING: Final = 1e-4
"""More than a float32 product of two unit vectors errs by, at any dimension that a namespace may have."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a version says, as far as matching asks."""

    claim: Claim
    modality: pb.Modality.ValueType
    about: bytes
    tests: bytes
    weight: int
    """What it takes to remember it, in characters of its content."""


class Statements:
    """The statements of versions, by namespace and revision, remembered."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], Statement] = OrderedDict()
        self._weight = 0

    def of(self, catalog: Catalog, namespace: int, revisions: Iterable[int]) -> dict[int, Statement]:
        """The statements of committed versions, by revision."""
        wanted = list(revisions)
        unknown = [revision for revision in wanted if (namespace, revision) not in self._kept]
        for revision, change in catalog.contents(namespace, unknown).items() if unknown else ():
            read = self._kept[namespace, revision] = statement_of(pb.Change.FromString(change).knowledge)
            self._weight += read.weight
        found = {}
        for revision in wanted:
            self._kept.move_to_end((namespace, revision))
            found[revision] = self._kept[namespace, revision]
        while self._weight > _STATEMENTS_CHARACTERS_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._weight -= oldest.weight
        return found


def statement_of(knowledge: pb.Knowledge) -> Statement:
    """What `knowledge` says."""
    claim, weight = claim_of(knowledge.modality, knowledge.content), len(knowledge.content) + _STATEMENT_CHARACTERS
    return Statement(claim, knowledge.modality, about(knowledge), tests_of(knowledge), weight)


@dataclass(frozen=True)
class _Fresh:
    """A head that the batch itself made."""

    head: Head
    knowledge: pb.Knowledge
    row: int
    """Where its vector is in the batch; -1 without one."""

    @cached_property
    def statement(self) -> Statement:
        """What it says, read once for all that it is near to."""
        return statement_of(self.knowledge)


def look_ahead(prepared: Sequence[Embedded | Malformed], namespaces: Namespaces) -> list[Embedded | Malformed]:
    """Look for what is near each submission, in the index as it is now, so that the writer need only look at the rest.

    Any thread. Most of the time passes in the index, without Python's lock. A few submissions are left as they are: the
    writer commits what many calls brought together, and one look for all of them costs less than one for each call.
    """
    by_namespace: defaultdict[str, list[Embedded]] = defaultdict(list)
    for candidate in prepared:
        if isinstance(candidate, Embedded) and candidate.vector is not None:
            by_namespace[candidate.decoded.submission.namespace].append(candidate)
    looked: dict[int, Embedded] = {}
    for name, candidates in by_namespace.items():
        if len(candidates) >= LOOK_AHEAD_MIN:
            state = namespaces.state(name)
            at_least = _at_least(state.config.policy.near_duplicate_threshold)
            # Nothing comes back where the threshold is low.
            for one, nearby in zip(candidates, state.searchable.nearby(_vectors(candidates), at_least), strict=False):
                looked[id(one)] = replace(one, nearby=nearby)
    return [looked.get(id(candidate), candidate) for candidate in prepared]


class BatchView:
    """The known state of one namespace, as one batch moves it on. Implements `match.Known`, `lineage.KnownParents`."""

    def __init__(
        self,
        number: int,
        catalog: Catalog,
        searchable: Searchable,
        statements: Statements,
        batch: Sequence[Embedded],
        threshold: float,
    ) -> None:
        self._number, self._catalog, self._searchable, self._statements = number, catalog, searchable, statements
        self._decided: dict[tuple[str, str], tuple[bytes, journal_pb2.Decision]] = {}
        self._committed_decisions: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._aliases: dict[str, str] = {}
        self._asked: set[str] = set()
        """The parents whose heads are at hand, where they have any."""
        self._committed_parents: dict[str, Sequence[str]] = {}
        self._committed_heads: dict[str, Head] = {}
        self._committed_contents: dict[bytes, Head] = {}
        self._fresh: dict[str, _Fresh] = {}
        self._fresh_by_fingerprint: dict[bytes, set[str]] = {}
        self._fresh_by_row: dict[int, str] = {}
        self._dated: defaultdict[str, dict[int, Head]] = defaultdict(dict)
        """The batch's versions of an item by when they hold from, since its last one that does not say."""
        self._undated: set[str] = set()
        """Items of which the batch has made a version that does not say when it holds from: it replaced all before."""
        self._batch: list[Embedded] = []
        self._rows: dict[int, int] = {}
        """Where a candidate's vector is, by its identity: the batch keeps it alive."""
        self._nearby: list[Nearby | None] = []
        self._at_least = _at_least(threshold)
        self._neighbours: dict[int, list[Neighbour]] = {}
        self._heads: dict[int, Head] = {}
        self._said: dict[int, Statement] = {}
        with_vector = self._take_in(batch)
        self._near = NearInBatch(_vectors(with_vector), self._at_least)
        self._look_around([self._rows[id(c)] for c in with_vector if self._may_need_neighbours(c)])

    def join(self, candidates: Sequence[Embedded]) -> None:
        """Take candidates that were decided before into the batch, as the batch was taken in."""
        if with_vector := self._take_in(candidates):
            self._near.join(_vectors(with_vector))
            self._look_around([self._rows[id(candidate)] for candidate in with_vector])

    def _take_in(self, candidates: Sequence[Embedded]) -> list[Embedded]:
        """Look up what is known of candidates, for all at once. Returns those with a vector, which have a row now."""
        if not candidates:
            return []  # each question to the catalog takes its time, even about nothing
        number, catalog = self._number, self._catalog
        self._batch.extend(candidates)
        self._committed_decisions |= catalog.submissions(number, {_sender(candidate) for candidate in candidates})
        self.know({parent for c in candidates for parent in c.decoded.submission.provenance.derived_from})
        self._committed_heads |= catalog.heads(number, {candidate.decoded.item_id for candidate in candidates})
        self._committed_contents |= catalog.first_heads_with(number, {c.decoded.fingerprint for c in candidates})
        with_vector = [candidate for candidate in candidates if candidate.vector is not None]
        self._rows |= {id(candidate): row for row, candidate in enumerate(with_vector, len(self._rows))}
        self._nearby.extend(candidate.nearby for candidate in with_vector)
        return with_vector

    def know(self, parents: Collection[str]) -> None:
        """Have the heads of parents at hand, or of the items that they were merged into, and the names of theirs."""
        named = set(parents) - self._asked
        if named:
            self._asked |= named
            aliases = self._catalog.aliases(self._number, named)
            self._aliases = aliases | self._aliases
            named.update(aliases.values())
            self._committed_heads |= self._catalog.heads(self._number, named)
            self._know_parents_of(named)

    def _know_parents_of(self, item_ids: Collection[str]) -> None:
        found = self._catalog.parents(self._number, item_ids)
        self._committed_parents |= {item_id: found.get(item_id, ()) for item_id in item_ids}

    def has(self, candidate: Embedded) -> bool:
        """Whether a candidate with a vector is of the batch."""
        return id(candidate) in self._rows

    def decision(self, producer: str, submission_id: str) -> tuple[bytes, journal_pb2.Decision] | None:
        """The digest of an earlier submission and what became of it."""
        fresh = self._decided.get((producer, submission_id))
        if fresh is not None:
            return fresh
        found = self._committed_decisions.get((producer, submission_id))
        return (found[0], self._catalog.decision(found[1])) if found else None

    def head(self, item_id: str) -> Head | None:
        """The newest version of an item."""
        fresh = self._fresh.get(item_id)
        return fresh.head if fresh is not None else self._committed_heads.get(item_id)

    def head_with(self, fingerprint: bytes) -> Head | None:
        """The item whose head has this content, the first by `catalog.comes_first`."""
        committed = self._committed_contents.get(fingerprint)
        if committed is not None and committed.item_id in self._fresh:
            others = self._catalog.heads_with(self._number, fingerprint)
            committed = next((head for head in others if head.item_id not in self._fresh), None)
        heads = [self._fresh[item_id].head for item_id in self._fresh_by_fingerprint.get(fingerprint, ())]
        if committed is not None:
            heads.append(committed)
        return min(heads, key=comes_first, default=None)

    def newest_from(self, item_id: str, valid_us: int) -> Head | None:
        """The newest version of an item, in answers or not, that holds from a time on; microseconds since 1970."""
        fresh = self._dated[item_id].get(valid_us)
        if fresh is not None or item_id in self._undated:
            return fresh
        revision = valid_time.newest_from(self._catalog, self._number, item_id, valid_us)
        if revision is None:
            return None
        return as_head(pb.Change.FromString(self._catalog.committed(self._number, revision).change))

    def parent(self, item_id: str) -> Head | None:
        """The newest version of an item, or of the one that it was merged into."""
        own = self.head(item_id)
        if own is not None or item_id not in self._aliases:
            return own
        merged_into = self._aliases[item_id]
        return self.head(merged_into) or self._catalog.head(self._number, merged_into)

    def made_known(self, entry: Entry) -> set[str]:
        """The names of items that an entry makes known, before it is taken in: all of one that it brings back."""
        change, alias = entry.change, entry.record.decision.alias
        names = {alias} if alias else set[str]()
        if change is None or change.kind == pb.CHANGE_KIND_RETRACTED:
            return names
        names.add(change.item_id)
        before = self.head(change.item_id) or self._catalog.head(self._number, change.item_id)
        if before is not None and before.retracted:
            names.update(self._catalog.other_names(self._number, change.item_id))
            names.update(name for name, item_id in self._aliases.items() if item_id == change.item_id)
        return names

    def parents(self, item_id: str) -> Sequence[str]:
        """What an item's newest version was derived from, each by the name that it gives, in their order."""
        fresh = self._fresh.get(item_id)
        if fresh is not None:
            named: Sequence[str] = sorted(set(fresh.knowledge.provenance.derived_from))
        else:
            if item_id not in self._committed_parents:
                self._know_parents_of([item_id])
            named = self._committed_parents[item_id]
        self.know(named)
        return named

    def nominees(self, candidate: Embedded, threshold: float) -> Iterator[Nominee]:
        """The heads in answers at or above a cosine to `candidate`, the nearest first, then the older first.

        At most NEAR_MAX. Those after the first NOMINEES are looked for only when they are asked for.
        """
        row = self._rows[id(candidate)]
        if row not in self._neighbours:
            self._look_around([row])
        nearest = self._nearest(row, threshold, NOMINEES)
        yield from nearest
        if len(nearest) == NOMINEES:
            yield from self._nearest(row, threshold, NEAR_MAX)[NOMINEES:]

    def _nearest(self, row: int, threshold: float, limit: int) -> list[Nominee]:
        near: list[tuple[float, Head, _Fresh | None]] = [
            (near.similarity, head, None) for near, head in self._committed(row, limit) if near.similarity >= threshold
        ]
        near.extend((similarity, fresh.head, fresh) for similarity, fresh in self._from_batch(row, threshold, limit))
        near.sort(key=lambda found: (-found[0], found[1].revision))
        return [self._nominee(*found) for found in near[:limit]]

    def add(self, candidate: Embedded, entry: Entry) -> None:
        """Take in what was decided of `candidate`."""
        receipt = entry.record.decision.receipt
        key = (receipt.producer, receipt.submission_id)
        self._decided[key] = (candidate.decoded.digest, entry.record.decision)
        if entry.record.decision.alias:
            self._aliases[entry.record.decision.alias] = receipt.item_id
        head = head_after(entry)
        if entry.change is not None:
            self._date(entry.change)
        if head is None or entry.change is None:
            return
        before = self._fresh.get(head.item_id)
        if before is not None:
            self._fresh_by_fingerprint[before.head.fingerprint].discard(head.item_id)
            if before.row >= 0:
                self._near.mark(before.row, is_head=False)
        row = self._rows.get(id(candidate), -1)
        self._fresh[head.item_id] = _Fresh(head, entry.change.knowledge, row)
        self._fresh_by_fingerprint.setdefault(head.fingerprint, set()).add(head.item_id)
        if row >= 0:
            self._fresh_by_row[row] = head.item_id
            self._near.mark(row, is_head=not head.retracted)

    def _date(self, change: pb.Change) -> None:
        """Take in when a version of the batch holds from."""
        from_us = valid_us(change.knowledge)
        if from_us is None:
            self._undated.add(change.item_id)
            self._dated[change.item_id].clear()
        else:
            self._dated[change.item_id][from_us] = as_head(change)

    def _may_need_neighbours(self, candidate: Embedded) -> bool:
        fingerprint = candidate.decoded.fingerprint
        known = self.head(candidate.decoded.item_id) or self.head_with(fingerprint)
        same = known is not None and known.fingerprint == fingerprint and not known.retracted
        return _sender(candidate) not in self._committed_decisions and not same

    def _look_around(self, rows: list[int]) -> None:
        """Find the neighbours of these rows in the index."""
        for part in ([r for r in rows if self._nearby[r] is None], [r for r in rows if self._nearby[r] is not None]):
            if part:
                found = self._search(part, NOMINEES)
                self._neighbours.update(zip(part, found, strict=True))
                self._read(found)

    def _search(self, rows: list[int], limit: int) -> list[list[Neighbour]]:
        """What is near these rows in the index; all of them were looked at beforehand, or none."""
        nearby = [looked for row in rows if (looked := self._nearby[row]) is not None]
        return self._searchable.search(self._near.vectors(rows), limit, at_least=self._at_least, nearby=nearby)

    def _from_batch(self, row: int, threshold: float, limit: int) -> Iterator[tuple[float, _Fresh]]:
        """The heads near by that the batch itself made and has not replaced since: the nearest ones, and their like."""
        for other, similarity in self._near.heads(row, limit):
            if similarity >= threshold:
                yield similarity, self._fresh[self._fresh_by_row[other]]

    def _committed(self, row: int, limit: int) -> list[tuple[Neighbour, Head]]:
        """The neighbours in the index that the batch has not replaced or retracted."""
        neighbours = self._neighbours[row]
        kept = self._unreplaced(neighbours)
        if len(kept) < limit and len(neighbours) == NOMINEES:
            wider = self._search([row], limit + len(self._fresh))
            self._read(wider)
            kept = self._unreplaced(wider[0])
        return kept

    def _unreplaced(self, neighbours: Sequence[Neighbour]) -> list[tuple[Neighbour, Head]]:
        heads = [(near, self._heads[near.revision]) for near in neighbours]
        return [(near, head) for near, head in heads if head.item_id not in self._fresh]

    def _read(self, found: Sequence[Sequence[Neighbour]]) -> None:
        """Have the heads and statements of neighbours at hand."""
        new = {near.revision for neighbours in found for near in neighbours} - self._heads.keys()
        if new:
            heads = self._catalog.heads_of(self._number, new)
            self._heads |= heads
            self._said |= self._statements.of(self._catalog, self._number, {h.revision for h in heads.values()})

    def _nominee(self, similarity: float, head: Head, fresh: _Fresh | None) -> Nominee:
        statement = fresh.statement if fresh is not None else self._said[head.revision]
        return Nominee(head, similarity, statement.claim, statement.modality, statement.about, statement.tests)


def _at_least(threshold: float) -> float:
    """From which similarity on versions are looked for."""
    return threshold - _ROUNDING


def _vectors(candidates: Sequence[Embedded]) -> NDArray[np.float32]:
    """The vectors of candidates that have one, a row each."""
    vectors = [candidate.vector for candidate in candidates if candidate.vector is not None]
    return np.stack(vectors) if vectors else np.empty((0, 1), np.float32)


def _sender(candidate: Embedded) -> tuple[str, str]:
    submission = candidate.decoded.submission
    return submission.provenance.producer, submission.submission_id
