"""The main path. Read it top to bottom: decode, embed, match, gate, commit.

`prepare` (decode, embed) runs anywhere and takes the time that the encoder takes; `commit` (match, gate, commit) runs
on the one writer thread. What `commit` has returned is durable, searchable, and on its way to every subscription. So
that the writer's work hardly grows with the index, `prepare` also looks there for what is near; what came since, and
what has ended, `match` sees to. What the service reads from Kafka was decoded where it was read.

What was held takes the same way a second time, by `release`.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from epistream.indexer import deadletters, positions
from epistream.indexer.catalog import Catalog
from epistream.indexer.clock import Clock
from epistream.indexer.commit import Draft, Tip, write
from epistream.indexer.decode import decode
from epistream.indexer.embed import Embedder, EmbeddingCache, embed
from epistream.indexer.gate import Topic, Verdict, confirmed, decide, decide_again
from epistream.indexer.journal import Entry
from epistream.indexer.known import BatchView, Statements, look_ahead
from epistream.indexer.lineage import trace
from epistream.indexer.match import match, match_again
from epistream.indexer.model import Arrived, Embedded, Malformed, Record, Ruling, record_of
from epistream.indexer.namespaces import Namespaces
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, Conflict, Denied, FieldViolation, InvalidInput


class Pipeline:
    """The stages over one store."""

    def __init__(
        self,
        store: Store,
        namespaces: Namespaces,
        embedder: Embedder | None,
        clock: Clock,
        publish: Callable[[Sequence[Entry]], None],
        carried: Mapping[str, Collection[pb.Origin.ValueType]],
    ) -> None:
        """Nothing is taken in yet.

        Args:
            store: where it is kept.
            namespaces: what is known of each.
            embedder: makes vectors; None where producers bring them.
            clock: says when something is committed.
            publish: is told every entry after it is durable: it makes them searchable and wakes the subscriptions.
            carried: the origins that a Kafka topic carries; a topic that is not in it carries all.
        """
        self._topics = {name: Topic(name, carries) for name, carries in carried.items()}
        self._store, self._namespaces, self._embedder, self._clock = store, namespaces, embedder, clock
        self._cache = EmbeddingCache()
        self._statements = Statements()
        self._publish = publish
        with store.reader() as catalog:
            self._refused_offsets = deadletters.newest_offsets(catalog.connection)

    def prepare(self, records: Sequence[Arrived], *, wait: bool = True) -> list[Embedded | Malformed]:
        """Decode what is not decoded yet and embed, in order; look at what is near. Any thread; blocks for the encoder.

        Raises:
            Unavailable: the encoder is loading and `wait` is false, or it could not be loaded.
        """
        decoded = [decode(one) if isinstance(one, Record) else one for one in records]
        embedded = embed(decoded, self._namespaces.configs, self._embedder, self._cache, wait=wait)
        return look_ahead(embedded, self._namespaces)

    def commit(self, prepared: Sequence[Embedded | Malformed], *, atomic: bool = False) -> list[pb.Receipt]:
        """Match, gate and commit what was prepared, in its order, in one transaction: one receipt each.

        Only the writer thread.

        Raises:
            InvalidInput: `atomic`, and a submission was refused. Nothing but its dead letter was written.
            Conflict: as InvalidInput, where it was an expected version that was not met.
            Unavailable: DISK_FULL, nothing was written; or the store is locked by another program.
            Broken: the disk refused, or the store is damaged: open it anew before anything else is committed.
        """
        with self._store.newest() as catalog:
            draft = self._draft()
            receipts = self._decide(prepared, draft, catalog)
        refused = [(i, r) for i, r in enumerate(receipts) if r.outcome == pb.OUTCOME_REFUSED]
        if atomic and refused:
            draft.entries.clear()
        write(self._store, draft, map(record_of, prepared))
        self._remember_refused(draft)
        if atomic and refused:
            raise _refusal(refused)
        self._show(draft.entries)
        return receipts

    def release(self, rulings: Sequence[Ruling]) -> list[pb.Receipt]:
        """Decide again what is held, each against what is known now, in one transaction: one receipt each.

        Only the writer thread.

        Raises:
            Conflict: one is not held any more, or a person lets in what came too late. Nothing was written.
            Denied: a person lets in what is against knowledge of a higher authority. Nothing was written.
            Unavailable, Broken: as `commit`.
        """
        with self._store.newest() as catalog:
            draft = self._draft()
            receipts = self._decide_again(rulings, draft, catalog)
        write(self._store, draft, ())
        self._show(draft.entries)
        return receipts

    def positions(self) -> dict[tuple[str, int], int]:
        """The offset to read next of every Kafka partition that was read, by topic and partition."""
        with self._store.reader() as catalog:
            return positions.read(catalog.connection)

    def _show(self, entries: Sequence[Entry]) -> None:
        """Publish what is durable. Where that fails, memory is behind the store, and only a new start brings it up."""
        try:
            self._publish(entries)
        except Exception as error:
            raise Broken(f"what was committed cannot be made searchable ({error}): start the service anew") from error

    def _decide(self, prepared: Sequence[Embedded | Malformed], draft: Draft, catalog: Catalog) -> list[pb.Receipt]:
        views = self._views(prepared, catalog)
        receipts = []
        for candidate in prepared:
            before = self._refused_before(record_of(candidate), catalog)
            if before is not None:
                receipts.append(before)
                continue
            if isinstance(candidate, Malformed):
                receipts.append(draft.refuse_malformed(candidate))
                continue
            submission = candidate.decoded.submission
            config, view = self._namespaces.configs[submission.namespace], views[submission.namespace]
            lineage = trace(submission, candidate.decoded.item_id, view)
            found = match(candidate, view, config)
            verdict = decide(submission, found, lineage, config, self._topic(candidate))
            receipt, entry = draft.add(candidate, verdict, config)
            if entry is not None:
                view.add(candidate, entry)
            receipts.append(receipt)
        return receipts

    def _decide_again(self, rulings: Sequence[Ruling], draft: Draft, catalog: Catalog) -> list[pb.Receipt]:
        candidates = [_confirmed(ruling) for ruling in rulings]
        views = self._views(candidates, catalog)
        waiting = self._waiting(rulings, catalog)
        receipts = []
        for ruling, candidate in zip(rulings, candidates, strict=True):
            submission = candidate.decoded.submission
            config, view = self._namespaces.configs[submission.namespace], views[submission.namespace]
            if ruling.held.sequence not in waiting:
                raise Conflict(f"{_named(submission)} is not held any more: list what is", reason="NOT_HELD")
            waiting.remove(ruling.held.sequence)
            lineage = trace(submission, candidate.decoded.item_id, view)
            verdict = decide_again(submission, match_again(candidate, view, config), lineage, config, ruling)
            if ruling.decided_by:
                _require_decision(submission, verdict)
            receipt, entry = draft.release(ruling, candidate, verdict, config)
            view.add(candidate, entry)
            receipts.append(receipt)
        return receipts

    def _waiting(self, rulings: Iterable[Ruling], catalog: Catalog) -> set[int]:
        """Those of the entries that are to be ended that still wait."""
        by_namespace: defaultdict[str, list[int]] = defaultdict(list)
        for ruling in rulings:
            by_namespace[ruling.held.decision.receipt.namespace].append(ruling.held.sequence)
        numbers = {name: self._namespaces.configs[name].number for name in by_namespace}
        return {one for name, asked in by_namespace.items() for one in catalog.waiting(numbers[name], asked)}

    def _topic(self, candidate: Embedded) -> Topic | None:
        """The topic that a submission came in, where that does not carry every origin."""
        at = candidate.decoded.record.position
        return self._topics.get(at.topic) if at is not None else None

    def _refused_before(self, record: Record, catalog: Catalog) -> pb.Receipt | None:
        """The receipt of a Kafka record that was refused when it was first read.

        What is refused leaves nothing to be matched against, and might be right by now; but a topic that is read again
        must change nothing (docs/decisions/0005-refused-once.md).
        """
        at = record.position
        if at is None or at.offset > self._refused_offsets.get((at.topic, at.partition), -1):
            return None
        receipt = deadletters.receipt_of(catalog.connection, record, at)
        if receipt is not None:
            receipt.earlier = True
        return receipt

    def _remember_refused(self, draft: Draft) -> None:
        for record, _ in draft.refused:
            at = record.position
            if at is not None:
                key = (at.topic, at.partition)
                self._refused_offsets[key] = max(at.offset, self._refused_offsets.get(key, -1))

    def _views(self, prepared: Sequence[Embedded | Malformed], catalog: Catalog) -> dict[str, BatchView]:
        batches: defaultdict[str, list[Embedded]] = defaultdict(list)
        for candidate in prepared:
            if isinstance(candidate, Embedded):
                batches[candidate.decoded.submission.namespace].append(candidate)
        views = {}
        for name, batch in batches.items():
            config = self._namespaces.configs[name]
            searchable = self._namespaces.state(name).searchable
            threshold = config.policy.near_duplicate_threshold
            views[name] = BatchView(config.number, catalog, searchable, self._statements, batch, threshold)
        return views

    def _draft(self) -> Draft:
        sequence, digest = self._store.journal.last()
        tips = {state.config.number: Tip(state.head, state.commit_us) for state in self._namespaces.states()}
        return Draft(self._clock.now_us(), sequence, digest, tips)


def _confirmed(ruling: Ruling) -> Embedded:
    decoded = ruling.embedded.decoded
    submission = confirmed(decoded.submission, ruling.origin) if ruling.admits else decoded.submission
    return replace(ruling.embedded, decoded=replace(decoded, submission=submission))


def _require_decision(submission: pb.Submission, verdict: Verdict) -> None:
    """Raises where a person's word does not end it: HELD and REFUSED are no decisions of a person."""
    if verdict.outcome == pb.OUTCOME_HELD and verdict.head is not None:
        origin = pb.Origin.Name(pb.Origin.ValueType(verdict.head.origin)).removeprefix("ORIGIN_")
        text = f"{_named(submission)} is against {verdict.head.item_id}, which is {origin}: that authority must decide"
        raise Denied(text)
    if verdict.outcome == pb.OUTCOME_REFUSED:
        why = "; ".join(violation.description for violation in verdict.violations)
        raise Conflict(f"{_named(submission)} came too late, reject it: {why}", *verdict.violations)


def _named(submission: pb.Submission) -> str:
    return f"submission {submission.submission_id} of {submission.provenance.producer}"


def _refusal(refused: Sequence[tuple[int, pb.Receipt]]) -> InvalidInput | Conflict:
    violations = tuple(
        FieldViolation(f"submissions[{index}].{violation.field}".rstrip("."), violation.description)
        for index, receipt in refused
        for violation in receipt.violations
    )
    text = f"{len(refused)} of the submissions were refused, so none was written: " + "; ".join(
        f"{v.field}: {v.description}" for v in itertools.islice(violations, 3)
    )
    if all(receipt.reason == pb.REASON_VERSION_CONFLICT for _, receipt in refused):
        return Conflict(text, *violations)
    return InvalidInput(text, *violations)
