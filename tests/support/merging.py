"""R1 to R8: what the pipeline makes of published pairs of statements, with the packaged encoder.

All first statements of the pairs are submitted, then all second ones, to one namespace; and the other way round to
another one. So each statement also meets those of all other pairs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from tests.support.asked import Share, engine_with_encoder, said, share, state_of, take_in
from tests.support.samples import DATA, rows

PAIRS = DATA / "pairs_sample.jsonl"
MUTATIONS = DATA / "pairs_mutations_sample.jsonl"
FORWARD, BACKWARD = "forward", "backward"
THRESHOLD = 0.95
"""The policy's default, from which on two statements are looked at as claims."""
HITS = 5
_NUMBERS = frozenset(["year_change", "number_change", "month_change"])
_TURNS = frozenset(["negation", "polarity_or_direction"])
_WHO_OR_HOW_MANY = frozenset(["cardinals", "ordinals", "nationalities", "countries"])

Row: TypeAlias = Mapping[str, Any]
"""A pair of the samples."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair, fed both ways."""

    row: Row
    merged: bool
    """The second statement into the item of the first: it is in no answer."""
    merged_backward: bool
    """The same when the second came first."""


@dataclass(frozen=True, slots=True)
class Opposed:
    """A pair of statements that contradict each other and are near enough to be compared."""

    conflict: bool
    """One open conflict names both, from either side."""
    both_found: bool
    """The question brings both among the first hits, each with the mark of a conflict that they have in common."""


@dataclass(frozen=True, slots=True)
class Merging:
    """What came out."""

    pairs: tuple[Judged, ...]
    strangers: Share
    """Statements merged with one that no pairs connect with them."""
    opposed: tuple[Opposed, ...]
    replayed_unchanged: bool
    """Everything again changed no row of the store, and every receipt was that of the first time."""

    def r01(self) -> Share:
        """Pairs that differ in form, merged."""
        return self._merged(lambda row: row["expect"] == "duplicate")

    def r02_values(self) -> Share:
        """Pairs that differ in a year, a number or a month, merged, both ways."""
        return self._wrong(_NUMBERS)

    def r02_turns(self) -> Share:
        """The same of pairs that differ in a negation or a direction."""
        return self._wrong(_TURNS)

    def r03_values(self) -> Share:
        """The same of pairs that differ in a cardinal, an ordinal, a nationality or a country."""
        return self._wrong(_WHO_OR_HOW_MANY)

    def r03_others(self) -> Share:
        """The same of the other contradictions of Breaking NLI."""
        return self._wrong({pair.row["category"] for pair in self.pairs if "category" in pair.row} - _WHO_OR_HOW_MANY)

    def r04_synonyms(self) -> Share:
        """Pairs that differ in a synonym, merged."""
        return self._merged(lambda row: row["source"] == "breaking_nli" and row["expect"] == "near_duplicate")

    def r04_paraphrases(self) -> Share:
        """Paraphrases of PAWS, merged."""
        return self._merged(lambda row: row["source"] == "paws" and row["expect"] == "near_duplicate")

    def r04_wrong(self) -> Share:
        """Pairs of PAWS that are no paraphrases, merged."""
        return self._merged(lambda row: row["source"] == "paws" and row["expect"] == "must_not_merge")

    def wrong(self) -> Share:
        """Of all pairs that must not merge, those that did, one way or the other."""
        wrong = [pair for pair in self.pairs if "duplicate" not in pair.row["expect"]]
        return share(pair.merged or pair.merged_backward for pair in wrong)

    def r06(self) -> Share:
        """Pairs with the same answer both ways."""
        return share(pair.merged == pair.merged_backward for pair in self.pairs)

    def r08(self) -> Share:
        """Contradictions that are a conflict, of which the question brings both."""
        return share(one.conflict and one.both_found for one in self.opposed)

    def table(self) -> list[tuple[str, str, Share]]:
        """Every kind of pair, what is expected of it, and how many are merged."""
        kinds = sorted({_kind(pair.row) for pair in self.pairs})
        return [(*kind, share(pair.merged for pair in self.pairs if _kind(pair.row) == kind)) for kind in kinds]

    def _merged(self, wanted: Callable[[Row], bool]) -> Share:
        return share(pair.merged for pair in self.pairs if wanted(pair.row))

    def _wrong(self, kinds: Collection[str]) -> Share:
        chosen = [pair for pair in self.pairs if pair.row["expect"] == "must_not_merge"]
        chosen = [pair for pair in chosen if pair.row.get("category", pair.row["relation"]) in kinds]
        return share(merged for pair in chosen for merged in (pair.merged, pair.merged_backward))


def measure(folder: Path) -> Merging:
    """Feed the pairs to an engine over `folder`. Takes as long as the encoder needs for 2,200 sentences."""
    pairs = [*rows(PAIRS), *rows(MUTATIONS)]
    with engine_with_encoder(folder, FORWARD, BACKWARD) as engine:
        sent = [*_sent(pairs, FORWARD, "ab"), *_sent(pairs, BACKWARD, "ba")]
        receipts = take_in(engine, sent)
        before = state_of(engine)
        again = take_in(engine, sent)
        unchanged = state_of(engine) == before and all(receipt.earlier for receipt in again)
        forward, backward = (_merged(receipts[at:], len(pairs)) for at in (0, len(sent) // 2))
        return Merging(
            tuple(Judged(*of) for of in zip(pairs, forward, backward, strict=True)),
            _with_strangers(pairs, sent, receipts),
            tuple(_opposed(engine, pairs, receipts)),
            unchanged,
        )


def _sent(pairs: Sequence[Row], namespace: str, order: str) -> list[pb.Submission]:
    return [
        said(row[side], id=row["id"], namespace=namespace, producer=f"producer-{side}")
        for side in order
        for row in pairs
    ]


def _merged(receipts: Sequence[pb.Receipt], count: int) -> list[bool]:
    """Of each pair, whether the second statement was merged into the item of the first."""
    seconds = zip(receipts[:count], receipts[count : 2 * count], strict=True)
    return [second.outcome == pb.OUTCOME_MERGED and second.item_id == first.item_id for first, second in seconds]


def _with_strangers(pairs: Sequence[Row], sent: Sequence[pb.Submission], receipts: Sequence[pb.Receipt]) -> Share:
    """How many were merged into an item that began with a statement that no pairs connect with them."""
    group: dict[str, str] = {}

    def of(text: str) -> str:
        while group.setdefault(text, text) != text:
            text = group[text]
        return text

    for row in pairs:
        group[of(row["a"])] = of(row["b"])
    began: dict[str, str] = {}
    return share(
        of(began.setdefault(receipt.item_id, one.content)) != of(one.content)
        for one, receipt in zip(sent, receipts, strict=True)
    )


def _opposed(engine: Engine, pairs: Sequence[Row], receipts: Sequence[pb.Receipt]) -> Iterator[Opposed]:
    for row, *both in zip(pairs, receipts, receipts[len(pairs) :], strict=False):
        if row["source"] != "conflictqa":
            continue
        one, other = (_found(engine, receipt) for receipt in both)
        vectors = [np.frombuffer(found.change.embedding, "<f4").astype(np.float64) for found in (one, other)]
        if float(vectors[0] @ vectors[1]) < THRESHOLD:
            continue
        search = api.SearchRequest(namespace=FORWARD, text=row["question"], limit=HITS)
        marks = {hit.change.item_id: hit.open_conflicts for hit in engine.knowledge.search(search).hits}
        items = one.change.item_id, other.change.item_id
        yield Opposed(
            conflict=bool(_common(one.open_conflicts, other.open_conflicts, items)),
            both_found=bool(_common(marks.get(items[0], []), marks.get(items[1], []), items)),
        )


def _common(one: Iterable[api.OpenConflict], other: Iterable[api.OpenConflict], items: tuple[str, str]) -> set[int]:
    """The conflicts in which each side names the other item."""
    ours = {mark.conflict_id for mark in one if items[1] in mark.item_ids}
    return ours & {mark.conflict_id for mark in other if items[0] in mark.item_ids}


def _found(engine: Engine, receipt: pb.Receipt) -> api.GetResponse:
    """The item that a submission became or was merged into, as it is now."""
    wanted = api.GetRequest(namespace=receipt.namespace, item_id=receipt.item_id, include_embedding=True)
    return engine.knowledge.get(wanted)


def _kind(row: Row) -> tuple[str, str]:
    return f"{row['source']} {row.get('category', row['relation'])}", row["expect"]
