"""rehearsal: what a namespace's journal would say under another policy.

A second engine, in a folder of its own, is given the journal as the submissions that were decided, in their order, at
their times and in their batches, and decides them anew. Under the policies that the journal has nothing differs, to the
last bit of the figures: that is how replay is checked. With fields of the policy changed from the beginning, the
differences are what that would have made.

What people and programs decided, and what the collapse watch found, is taken over as it was. What cannot be rehearsed
is counted, for its reason (`LeftOut`): nothing is guessed.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from epistream.indexer import generated, holding
from epistream.indexer.catalog import Catalog, Counts
from epistream.indexer.collapse_watch import Window
from epistream.indexer.commit import Draft, write
from epistream.indexer.embed import Embedder
from epistream.indexer.engine import Engine
from epistream.indexer.journal import FIRST_DIGEST, PAGE, Entry, SqliteJournal, chain
from epistream.indexer.model import UNATTENDED, Embedded, Held, Ruling
from epistream.indexer.recall import Recalled, recall
from epistream.indexer.store import Readers, Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken, Conflict, Denied, InvalidInput, NotFound

BATCH_MAX: Final = 2000
"""No batch is larger: entries of one time are one batch, and after a jump of the clock many have one time."""

_NO_PART: Final = {
    "accept_producer_embeddings": "the journal does not say whose a vector was",
    "retained_revisions": "it decides nothing",
    "watch_items": "what the collapse watch found is taken over",
    "watch_every": "what the collapse watch found is taken over",
}
"""The fields of a policy that a rehearsal says nothing about."""

Outcome: TypeAlias = tuple[pb.Outcome.ValueType, pb.Reason.ValueType]
_Sender: TypeAlias = tuple[str, str]


class LeftOut(enum.StrEnum):
    """Why a decision was not compared."""

    NO_VECTOR = "held, and the journal has no vector of it"
    NOT_WHOLE = "merged, and the journal has not what it said: the item that it was merged into stood in"
    NOT_HELD = "decided a second time, and not held in the rehearsal when its turn came"
    NOT_POSSIBLE = "decided by somebody as the rehearsal does not allow"


@dataclass(frozen=True, slots=True)
class Difference:
    """A submission that was decided otherwise."""

    sequence: int
    """Of the entry in the journal that was rehearsed."""
    producer: str
    submission_id: str
    before: Outcome
    after: Outcome


@dataclass(slots=True)
class Rehearsal:
    """What came of it."""

    decisions: int = 0
    """How many were compared; of a submission that was held the second one too."""
    outcomes: Counter[tuple[Outcome, Outcome]] = field(default_factory=Counter)
    """How many were decided so before, and so now."""
    differences: list[Difference] = field(default_factory=list)
    """In the order of the journal."""
    other_figures: int = 0
    """How many came out alike, but with other figures."""
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    before: Counts | None = None
    """The namespace's figures in the journal's end."""
    after: Counts | None = None
    """The same of the rehearsal."""

    def compare(self, entry: Entry, now: pb.Receipt) -> None:
        """Take in what an entry decided and what it would be now."""
        kept = entry.record.decision.receipt
        before, after = (kept.outcome, kept.reason), (now.outcome, now.reason)
        self.decisions += 1
        self.outcomes[before, after] += 1
        if before != after:
            self.differences.append(Difference(entry.sequence, kept.producer, kept.submission_id, before, after))
        elif kept.figures.SerializeToString(deterministic=True) != now.figures.SerializeToString(deterministic=True):
            self.other_figures += 1


def rehearse(
    readers: Readers,
    name: str,
    changed: ns_pb.Policy,
    folder: Path,
    *,
    embedder: Embedder | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Rehearsal:
    """Decide a namespace's journal anew. Blocks for all of it: every decision is made and written once more.

    Args:
        readers: of the store; what is written to it meanwhile is left out.
        name: of the namespace.
        changed: the fields of the policy that are set in it are so from the beginning; those that are not, as the
            journal has them.
        folder: an empty one, for the rehearsal's store. It is as large as the namespace's, and not durable.
        embedder: makes the vectors of what is held, where the journal has none; None: such submissions are left out.
        progress: told how many entries of the journal are done, and of how many.

    Raises:
        NotFound: there is no such namespace.
        InvalidInput: a field of the policy is wrong, or has no part in a rehearsal.
        Broken: the store is damaged, or the folder cannot be written.
    """
    for one, _ in changed.ListFields():
        if one.name in _NO_PART:
            raise InvalidInput.at(f"policy.{one.name}", f"it cannot be rehearsed: {_NO_PART[one.name]}")
    with readers.reader() as catalog:
        number = next((number for number, known in catalog.namespaces() if known.name == name), None)
        if number is None:
            raise NotFound(f"there is no namespace {name!r} in the store", reason="UNKNOWN_NAMESPACE")
        before, (last, _) = catalog.counts(number), SqliteJournal(catalog.connection).last()
    entries = _entries(readers, number, last, progress)
    clock = _Then()
    _begin(folder, next(entries))
    engine = Engine(folder, embedder, clock=clock, carried={})
    try:
        engine.store.writer.pragma("synchronous", "off")
        stage = _Stage(readers, engine, name, number, changed, clock)
        for entry in entries:
            stage.take(entry)
        stage.decide()
        stage.result.before = before
        with engine.store.reader() as catalog:
            stage.result.after = catalog.counts(number)
        return stage.result
    finally:
        engine.close()


@dataclass(slots=True)
class _Then:
    """The clock, as it was."""

    us: int = 0

    def now_us(self) -> int:
        return self.us


@dataclass(slots=True)
class _Batch:
    """First decisions of one time, and what went on by itself behind the last of them."""

    recalled: list[tuple[Entry, Recalled]] = field(default_factory=list)
    went_on: list[Entry] = field(default_factory=list)


class _Stage:
    """The second engine, as the journal's entries come to it."""

    def __init__(
        self, readers: Readers, engine: Engine, name: str, number: int, changed: ns_pb.Policy, clock: _Then
    ) -> None:
        self._readers, self._engine, self._changed, self._clock = readers, engine, changed, clock
        self._name, self._number = name, number
        self._batch = _Batch()
        self._held: dict[_Sender, Embedded] = {}
        """What the rehearsal has held, with its vector."""
        self.result = Rehearsal()
        self._set_policy(ns_pb.Policy())

    def take(self, entry: Entry) -> None:
        """The next entry of the namespace. What people say or settle decides nothing: what it led to does."""
        match entry.record.WhichOneof("record"):
            case "decision":
                self._take_decision(entry)
            case "namespace":
                self.decide()
                self._set_policy(entry.record.namespace.policy)
            case "watched":
                self.decide()
                self._watched(entry.record.watched)

    def decide(self) -> None:
        """Have the batch decided."""
        batch, self._batch = self._batch, _Batch()
        ready = self._with_vectors(batch.recalled)
        receipts = self._engine.pipeline.commit([candidate for _, _, candidate in ready])
        for (entry, recalled, candidate), now in zip(ready, receipts, strict=True):
            if now.outcome == pb.OUTCOME_HELD:
                self._held[_sender(entry)] = candidate
            if recalled.whole:
                self.result.compare(entry, now)
            else:
                self.result.left_out[LeftOut.NOT_WHOLE] += 1
        for entry in batch.went_on:
            self._went_on(entry)

    def _take_decision(self, entry: Entry) -> None:
        decision = entry.record.decision
        time_us = decision.receipt.time.ToMicroseconds()
        # What went on in a commit of its own comes before what was said after it, also where both have one time.
        is_later = self._batch.went_on and not decision.releases
        if time_us != self._clock.us or len(self._batch.recalled) >= BATCH_MAX or is_later:
            self.decide()
            self._clock.us = time_us
        if not decision.releases:
            with self._readers.reader() as catalog:
                self._batch.recalled.append((entry, recall(catalog, entry)))
        elif decision.decided_by or not self._goes_on(decision.releases):
            self.decide()
            self._decided(entry)
        else:
            self._batch.went_on.append(entry)

    def _with_vectors(self, batch: list[tuple[Entry, Recalled]]) -> list[tuple[Entry, Recalled, Embedded]]:
        """Those that can be decided, the others are counted."""
        lacking = [recalled.decoded for _, recalled in batch if recalled.lacks_vector]
        made = iter(self._engine.pipeline.prepare(lacking) if lacking else ())
        ready = []
        for entry, recalled in batch:
            candidate = next(made) if recalled.lacks_vector else recalled.embedded()
            if isinstance(candidate, Embedded):
                ready.append((entry, recalled, candidate))
            else:
                self.result.left_out[LeftOut.NO_VECTOR] += 1
        return ready

    def _set_policy(self, recorded: ns_pb.Policy) -> None:
        """The fields that are recorded, but those that are changed."""
        policy = ns_pb.Policy()
        policy.MergeFrom(recorded)
        policy.MergeFrom(self._changed)
        self._engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=self._name, policy=policy))

    def _watched(self, found: pb.CollapseAlarm) -> None:
        """Take over what the collapse watch found, at its time."""
        self._clock.us = found.time.ToMicroseconds()
        watch, config = self._engine.collapse_watch, self._engine.namespaces.configs[self._name]
        with self._engine.store.reader() as catalog:
            known = generated.alarm(catalog, self._number, found.producer, found.modality)
        watch.record(Window(config, found.producer, found.modality, found.accepted, found.revision, known), found)

    def _goes_on(self, sequence: int) -> bool:
        """Whether the entry held it for a reason for which the gate ends it by itself, too."""
        with self._readers.reader() as catalog:
            return catalog.decision(sequence).receipt.reason in UNATTENDED

    def _went_on(self, entry: Entry) -> None:
        """What the gate let go of by itself: it does so here, in a commit or, after a change of policy, without one."""
        with self._readers.reader() as catalog:
            times = len(_chain(catalog, entry.record.decision))
        decided = self._decisions(entry)
        while len(decided) < times and self._is_put_off(entry) and self._engine.pipeline.let_go(self._name):
            decided = self._decisions(entry)
        # As many times in as the entry is, or last: it may have been decided again since.
        now = decided[max(0, len(decided) - times)] if decided else None
        if now is not None and now.releases:
            self.result.compare(entry, now.receipt)
        else:
            self.result.left_out[LeftOut.NOT_HELD] += 1

    def _decided(self, entry: Entry) -> None:
        """Take over what somebody decided of what was held."""
        decision, held = entry.record.decision, self._waiting(entry)
        if held is None and self._newest(entry) is None and decision.receipt.outcome == pb.OUTCOME_MERGED:
            with self._readers.reader() as catalog:
                self._batch.recalled.append((entry, recall(catalog, entry)))
            return
        if held is None:
            self.result.left_out[LeftOut.NOT_HELD] += 1
            return
        try:
            (now,) = self._engine.pipeline.release([_ruling(held, self._held[_sender(entry)], entry)])
        except (Conflict, Denied):
            self.result.left_out[LeftOut.NOT_POSSIBLE] += 1
            return
        self.result.compare(entry, now)

    def _newest(self, entry: Entry) -> Held | None:
        """What the rehearsal decided last of the submission that an entry decides; None where it does not have it."""
        sender = _sender(entry)
        with self._engine.store.reader() as catalog:
            found = catalog.submissions(self._number, [sender]).get(sender)
            return Held(found[1], catalog.decision(found[1])) if found is not None else None

    def _decisions(self, entry: Entry) -> list[journal_pb2.Decision]:
        """All that the rehearsal decided of the submission that an entry decides, the newest first."""
        newest = self._newest(entry)
        with self._engine.store.reader() as catalog:
            return _chain(catalog, newest.decision) if newest is not None else []

    def _is_put_off(self, entry: Entry) -> bool:
        """Whether the same is held until there is room for it."""
        held = self._waiting(entry)
        return held is not None and held.decision.receipt.reason == pb.REASON_DEFERRED

    def _waiting(self, entry: Entry) -> Held | None:
        """The same, where it is still held."""
        newest = self._newest(entry)
        with self._engine.store.reader() as catalog:
            return newest if newest is not None and holding.waiting(catalog, self._number, [newest.sequence]) else None


def _entries(readers: Readers, number: int, last: int, progress: Callable[[int, int], None]) -> Iterator[Entry]:
    """The entries of a namespace, until the sequence `last`. Between two pages the store is not held.

    Raises:
        Broken: one is not what was written.
    """
    after, digest = 0, FIRST_DIGEST
    while after < last:
        with readers.reader() as catalog:
            page = SqliteJournal(catalog.connection).read(after, min(PAGE, last - after))
        for entry in page:
            parts = (entry.change_bytes, entry.embedding, entry.record_bytes)
            digest = chain(digest, entry.namespace, entry.revision or 0, *parts)
            if digest != entry.digest:
                text = f"journal entry {entry.sequence} is not what was written: run `epistream fsck`"
                raise Broken(text, reason="CORRUPT")
            if entry.namespace == number:
                yield entry
        after = page[-1].sequence
        progress(after, last)


def _begin(folder: Path, first: Entry) -> None:
    """Make the rehearsal's store, with the namespace as it was made."""
    with closing(Store(folder)) as store:
        draft = Draft(0, 0, FIRST_DIGEST, {})
        draft.add_record(first.namespace, first.record)
        write(store, draft, ())


def _chain(catalog: Catalog, newest: journal_pb2.Decision) -> list[journal_pb2.Decision]:
    """A decision and those on the same submission before it, the newest first."""
    decided = [newest]
    while decided[-1].releases:
        decided.append(catalog.decision(decided[-1].releases))
    return decided


def _sender(entry: Entry) -> _Sender:
    receipt = entry.record.decision.receipt
    return receipt.producer, receipt.submission_id


def _ruling(held: Held, embedded: Embedded, entry: Entry) -> Ruling:
    """What was decided a second time, as it was asked for."""
    decision, change = entry.record.decision, entry.change
    superseded = decision.receipt.reason == pb.REASON_SUPERSEDED  # nobody rejected it: it was to be let in
    rejected = decision.receipt.outcome == pb.OUTCOME_REJECTED and not superseded
    failed = decision.receipt.reason == pb.REASON_FAILED_TESTS
    by_program = failed or superseded or (change is not None and change.verified_by != "")
    return Ruling(
        held,
        embedded,
        # The gate rejects only what it would have let in, had it not come too late.
        admits=not rejected or not decision.decided_by,
        origin=pb.ORIGIN_SYNTHETIC if by_program else pb.ORIGIN_UNSPECIFIED if rejected else decision.origin,
        decided_by=decision.decided_by,
        comment=decision.comment,
    )
