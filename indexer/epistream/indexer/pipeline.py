"""The main path. Read it top to bottom: decode, embed, match, gate, commit.

`prepare` (decode, embed) runs anywhere and takes the time that the encoder takes; `commit` (match, gate, commit) runs
on the one writer thread. What `commit` has returned is durable, searchable, and on its way to every subscription. So
that the writer's work hardly grows with the index, `prepare` also looks there for what is near; what came since, and
what has ended, `match` sees to. Likewise it looks how synthetic knowledge looks beside what people wrote. What the
service reads from Kafka was decoded where it was read.

What was held takes the same way a second time, by `release`.
"""

import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from epistream.indexer import conflicts, deadletters, disputes, holding, positions
from epistream.indexer.anchors import Anchors, Growing
from epistream.indexer.catalog import Catalog
from epistream.indexer.clock import Clock
from epistream.indexer.commit import Draft, Tip, write
from epistream.indexer.decode import decode
from epistream.indexer.embed import Embedder, EmbeddingCache, embed
from epistream.indexer.gate import TAKEN_BACK, Topic, Verdict, confirmed, decide, decide_again, superseded
from epistream.indexer.journal import Entry
from epistream.indexer.known import BatchView, Statements, look_ahead
from epistream.indexer.match import Retraction, match, match_again
from epistream.indexer.measure import look
from epistream.indexer.model import Arrived, Embedded, Malformed, Place, Record, Ruling, record_of
from epistream.indexer.moment import AT_EACH, AT_EACH_BEHIND, AT_ONCE, Asked, Moment, Orphans, PutOff
from epistream.indexer.namespaces import Namespaces, NamespaceState
from epistream.indexer.store import Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, Conflict, Denied, FieldViolation, InvalidInput


class Pipeline:
    """The stages over one store.

    Attributes:
        refused: is told the receipts of what became dead letters, once they are durable.
    """

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
        self._anchors = Anchors()
        self._publish = publish
        self.refused: Callable[[Sequence[pb.Receipt]], None] = lambda _receipts: None
        with store.reader() as catalog:
            self._refused_offsets = deadletters.newest_offsets(catalog.connection)

    def prepare(self, records: Sequence[Arrived], *, wait: bool = True) -> list[Embedded | Malformed]:
        """Decode what is not decoded yet and embed, in order; look at what is near. Any thread; blocks for the encoder.

        Raises:
            Unavailable: the encoder is loading and `wait` is false, or it could not be loaded.
        """
        decoded = [decode(one) if isinstance(one, Record) else one for one in records]
        embedded = embed(decoded, self._namespaces.configs, self._embedder, self._cache, wait=wait)
        return look_ahead(self._look(embedded), self._namespaces)

    def commit(self, prepared: Sequence[Embedded | Malformed], *, atomic: bool = False) -> list[pb.Receipt]:
        """Match, gate and commit what was prepared, in its order, in one transaction: one receipt each.

        Only the writer thread.

        Raises:
            InvalidInput: `atomic`, and a submission was refused. Nothing but its dead letter was written.
            Conflict: as InvalidInput, where it was an expected version that was not met.
            Unavailable: DISK_FULL, nothing was written; or SQLite is short of memory, or the store is locked by another
                program.
            Broken: the disk refused, or the store is damaged: open it anew before anything else is committed.
        """
        with self._store.newest() as catalog:
            draft, moments = self._draft(), self._moments(prepared, catalog)
            receipts = self._decide(prepared, draft, catalog, moments)
        refused = [(i, r) for i, r in enumerate(receipts) if r.outcome == pb.OUTCOME_REFUSED]
        if atomic and refused:
            draft.entries.clear()
        write(self._store, draft, map(record_of, prepared))
        if not (atomic and refused):
            self._stands(draft, moments)  # first: nothing may come between what is durable and what is known of it
        self._remember_refused(draft)
        self.refused([receipt for _, receipt in draft.refused])
        if atomic and refused:
            raise _refusal(refused)
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
            rulings = [_confirmed(ruling) for ruling in rulings]
            draft, moments = self._draft(), self._moments([ruling.embedded for ruling in rulings], catalog)
            receipts = self._decide_again(rulings, draft, catalog, moments)
        write(self._store, draft, ())
        self._stands(draft, moments)
        return receipts

    def let_go(self, name: str) -> int:
        """Decide what was put off in a namespace and may go on now, at most AT_ONCE: how many that were.

        For a policy that has changed, and where more may go on than what came in has let go of. Only the writer thread.

        Raises as `release`.
        """
        with self._store.newest() as catalog:
            draft, moment = self._draft(), self._moment(name, (), catalog)
            _let_go(moment, draft, AT_ONCE)
        write(self._store, draft, ())
        self._stands(draft, {name: moment})
        return len(draft.entries)

    def behind(self) -> list[str]:
        """The namespaces in which `let_go` has something to decide. Any thread."""
        states = list(self._namespaces.states())
        return [s.config.name for s in states if s.standing.with_room(s.config.policy.real_share_floor)]

    def resolve(
        self,
        namespace: str,
        resolution: journal_pb2.Resolution,
        sides: tuple[tuple[conflicts.Party, int], ...],
        retractions: Sequence[Embedded],
        rulings: Sequence[Ruling],
    ) -> None:
        """End a conflict, with all that it takes, in one transaction. Only the writer thread.

        Args:
            namespace: in which it is.
            resolution: all but its time.
            sides: its parties as they were read, `conflicts.sides`.
            retractions: of the items that do not stand.
            rulings: of what is held and is a party of it.

        Raises:
            Conflict: it is over by now, or a party has changed since it was read. Nothing was written.
            Denied: an item that does not stand has a higher authority. Nothing was written.
            Unavailable, Broken: as `commit`.
        """
        config = self._namespaces.configs[namespace]
        with self._store.newest() as catalog:
            known = conflicts.read(catalog.connection, config.number, resolution.conflict)
            if known is None or known.ended_by is not None:
                raise Conflict(f"conflict {resolution.conflict} is not open any more", reason="NOT_OPEN")
            if conflicts.sides(catalog, config.number, known) != sides:
                text = f"a party of conflict {resolution.conflict} has changed since it was read: read it again"
                raise Conflict(text, reason="NOT_OPEN")
            draft, rulings = self._draft(), [_confirmed(ruling) for ruling in rulings]
            record = journal_pb2.JournalRecord(resolution=resolution)
            record.resolution.time.FromMicroseconds(draft.now_us)
            draft.add_record(config.number, record)
            moments = self._moments([*retractions, *(ruling.embedded for ruling in rulings)], catalog)
            for candidate, receipt in zip(retractions, self._decide(retractions, draft, catalog, moments), strict=True):
                _require_retracted(candidate.decoded.submission, receipt)
            self._decide_again(rulings, draft, catalog, moments)
        write(self._store, draft, ())
        self._stands(draft, moments)

    def settle(self, namespace: str, settlement: journal_pb2.Settlement, retraction: Embedded | None) -> None:
        """End a dispute, in one transaction. Only the writer thread.

        Args:
            namespace: in which it is.
            settlement: all but its time.
            retraction: of the item, where it does not stand: the next entry.

        Raises:
            Conflict: it is over by now, or the item has changed since it was read. Nothing was written.
            Denied: the item does not stand and has a higher authority. Nothing was written.
            Unavailable, Broken: as `commit`.
        """
        config = self._namespaces.configs[namespace]
        with self._store.newest() as catalog:
            known = disputes.read(catalog, config.number, settlement.dispute)
            if known is None or known.ended is not None:
                raise Conflict(f"review {settlement.dispute} is not disputed any more", reason="NOT_HELD")
            draft = self._draft()
            record = journal_pb2.JournalRecord(settled=settlement)
            record.settled.time.FromMicroseconds(draft.now_us)
            draft.add_record(config.number, record)
            retractions = [retraction] if retraction is not None else []
            moments = self._moments(retractions, catalog)
            for one, receipt in zip(retractions, self._decide(retractions, draft, catalog, moments), strict=True):
                _require_retracted(one.decoded.submission, receipt)
        write(self._store, draft, ())
        self._stands(draft, moments)

    def comment(self, namespace: str, comment: journal_pb2.Comment) -> journal_pb2.Comment:
        """Write down what somebody said; returns it with its time. Only the writer thread; raises as `commit`."""
        with self._store.newest():
            draft = self._draft()
        record = journal_pb2.JournalRecord(comment=comment)
        record.comment.time.FromMicroseconds(draft.now_us)
        draft.add_record(self._namespaces.configs[namespace].number, record)
        write(self._store, draft, ())
        self._stands(draft, {})
        return record.comment

    def positions(self) -> dict[tuple[str, int], Place]:
        """Where every Kafka partition that was read is read on, by topic and partition."""
        with self._store.reader() as catalog:
            return positions.read(catalog.connection)

    def _look(self, prepared: Sequence[Embedded | Malformed]) -> Sequence[Embedded | Malformed]:
        """How what is synthetic looks beside what people wrote: it takes too long for the writer."""
        alike: defaultdict[tuple[str, pb.Modality.ValueType], list[Embedded]] = defaultdict(list)
        for candidate in prepared:
            if isinstance(candidate, Embedded) and candidate.vector is not None:
                submission = candidate.decoded.submission
                if submission.origin == pb.ORIGIN_SYNTHETIC:
                    alike[submission.namespace, submission.modality].append(candidate)
        if not alike:
            return prepared
        looked: dict[int, Embedded] = {}
        for (name, modality), candidates in alike.items():
            state = self._namespaces.state(name)
            with self._store.reader() as catalog:
                anchor = self._anchors.of(catalog, state.config, modality, state.head)
            for one, looks in zip(candidates, look(candidates, anchor), strict=True):
                looked[id(one)] = replace(one, looks=looks)
        return [looked.get(id(candidate), candidate) for candidate in prepared]

    def _stands(self, draft: Draft, moments: Mapping[str, Moment]) -> None:
        """What was decided is durable: it stands from now on, and is published.

        Where that fails, memory is behind the store, and only a new start brings it up.
        """
        try:
            for name, moment in moments.items():
                moment.standing.rest()
                self._namespaces.state(name).standing = moment.standing
            self._publish(draft.entries)
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"what was committed cannot be made searchable ({error!r}): start the service anew") from error

    def _decide(
        self, prepared: Sequence[Embedded | Malformed], draft: Draft, catalog: Catalog, moments: Mapping[str, Moment]
    ) -> list[pb.Receipt]:
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
            moment = moments[submission.namespace]
            found = match(candidate, moment.view, moment.config)
            taken_back: Sequence[Ruling] = ()
            if isinstance(found, Retraction):
                taken_back = moment.taken_back(candidate)
                found = replace(found, put_off=bool(taken_back))
            grounds = moment.grounds(candidate, found)
            verdict = decide(submission, found, grounds, moment.config, self._topic(candidate))
            receipt, entry = draft.add(candidate, verdict, moment.config)
            receipts.append(receipt)
            if entry is not None:
                _take(moment, draft, candidate, entry, taken_back=taken_back)
        return receipts

    def _decide_again(
        self, rulings: Sequence[Ruling], draft: Draft, catalog: Catalog, moments: Mapping[str, Moment]
    ) -> list[pb.Receipt]:
        waiting = self._waiting(rulings, catalog)
        receipts = []
        for ruling in rulings:
            moment = moments[ruling.held.decision.receipt.namespace]
            submission = ruling.embedded.decoded.submission
            if ruling.held.sequence not in waiting or ruling.held.sequence in moment.ended:
                raise Conflict(f"{_named(submission)} is not held any more: list what is", reason="NOT_HELD")
            verdict = _verdict_again(ruling, moment)
            if ruling.decided_by:
                _require_decision(submission, verdict)
            receipt, entry = draft.release(ruling, ruling.embedded, verdict, moment.config)
            receipts.append(receipt)
            taken_back = moment.taken_back(ruling.embedded, ruling.held) if submission.retraction else ()
            _take(moment, draft, ruling.embedded, entry, ruling, taken_back=taken_back)
        return receipts

    def _waiting(self, rulings: Iterable[Ruling], catalog: Catalog) -> set[int]:
        """Those of the entries that are to be ended that still wait."""
        by_namespace: defaultdict[str, list[int]] = defaultdict(list)
        for ruling in rulings:
            by_namespace[ruling.held.decision.receipt.namespace].append(ruling.held.sequence)
        numbers = {name: self._namespaces.configs[name].number for name in by_namespace}
        return {one for name, asked in by_namespace.items() for one in holding.waiting(catalog, numbers[name], asked)}

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

    def _moments(self, candidates: Sequence[Embedded | Malformed], catalog: Catalog) -> dict[str, Moment]:
        """What is known in each namespace that there are candidates for."""
        batches: defaultdict[str, list[Embedded]] = defaultdict(list)
        for candidate in candidates:
            if isinstance(candidate, Embedded):
                batches[candidate.decoded.submission.namespace].append(candidate)
        return {name: self._moment(name, batch, catalog) for name, batch in batches.items()}

    def _moment(self, name: str, batch: Sequence[Embedded], catalog: Catalog) -> Moment:
        state = self._namespaces.state(name)
        config, standing = state.config, state.standing.branch()
        threshold = config.policy.near_duplicate_threshold
        view = BatchView(config.number, catalog, state.searchable, self._statements, batch, threshold)
        asked = Asked(catalog, config.number)
        if standing.unattended:
            asked.ask(batch)
        put_off, orphans = PutOff(catalog, config.number), Orphans(catalog, config.number, asked)
        anchors = self._anchored(batch, state, catalog)
        if len(batch) > 1 and any(one.decoded.submission.origin == pb.ORIGIN_SYNTHETIC for one in batch):
            standing.expect(batch)
        return Moment(catalog, config, view, standing, anchors, asked, put_off, orphans, state.alarms)

    def _anchored(self, candidates: Iterable[Embedded], state: NamespaceState, catalog: Catalog) -> dict[int, Growing]:
        """The anchor windows of the modalities that synthetic candidates have, or what goes on may have."""
        submissions = (candidate.decoded.submission for candidate in candidates)
        modalities = {s.modality for s in submissions if s.origin == pb.ORIGIN_SYNTHETIC and not s.retraction}
        if state.standing.put_off.total() or state.standing.orphans:
            modalities |= set(pb.Modality.values()[1:])
        return {modality: self._anchors.growing(catalog, state.config, modality, state.head) for modality in modalities}

    def _draft(self) -> Draft:
        sequence, digest = self._store.journal.last()
        tips = {state.config.number: Tip(state.head, state.commit_us) for state in self._namespaces.states()}
        return Draft(self._clock.now_us(), sequence, digest, tips)


def _take(
    moment: Moment,
    draft: Draft,
    candidate: Embedded,
    entry: Entry,
    ruling: Ruling | None = None,
    *,
    taken_back: Iterable[Ruling] = (),
) -> None:
    """Take in what was decided; end what waited of an item that it took back; decide what goes on since then.

    Of that so many that the commit stays short: `Pipeline.let_go` takes the rest, in commits of their own.
    """
    behind = moment.behind()
    moment.take(candidate, entry, ruling)
    ended = entry.record.decision.receipt.outcome in (pb.OUTCOME_REVISED, pb.OUTCOME_MERGED)
    for one in taken_back if ended else ():
        _, rejected = draft.release(one, one.embedded, TAKEN_BACK, moment.config)
        moment.take(one.embedded, rejected, one)
    _bring_together(moment, draft, entry)
    _let_go(moment, draft, AT_EACH_BEHIND if behind else AT_EACH)


def _bring_together(moment: Moment, draft: Draft, entry: Entry) -> None:
    """Decide what was held for want of the parent that an entry makes known, then what was for want of these.

    At most AT_ONCE with each entry; what is beyond waits for the parent's next version, or for a person.
    """
    begun, known = len(draft.entries), deque([entry])
    while known and (left := AT_ONCE - (len(draft.entries) - begun)):
        for child in moment.children(known.popleft(), left):
            if moment.waits(child):
                _, decided = draft.release(child, child.embedded, _verdict_again(child, moment), moment.config)
                moment.take(child.embedded, decided, child)
                known.append(decided)


def _let_go(moment: Moment, draft: Draft, limit: int) -> None:
    """Decide what was put off and may go on now, until there are `limit` entries more."""
    begun = len(draft.entries)
    while len(draft.entries) - begun < limit and (ruling := moment.goes_on()) is not None:
        _, entry = draft.release(ruling, ruling.embedded, _verdict_again(ruling, moment), moment.config)
        moment.take(ruling.embedded, entry, ruling)
        _bring_together(moment, draft, entry)


def _verdict_again(ruling: Ruling, moment: Moment) -> Verdict:
    if ruling.admits and not ruling.by_person and moment.out_of_date(ruling):
        return superseded(moment.view.head(ruling.embedded.decoded.item_id))
    found = match_again(ruling.embedded, moment.view, moment.config)
    grounds = moment.grounds(ruling.embedded, found)
    # A person has looked at it, whoever said it; and what was put off does not wait behind itself.
    if ruling.decided_by:
        grounds = replace(grounds, alarm=None)
    elif ruling.held.decision.receipt.reason == pb.REASON_DEFERRED:
        grounds = replace(grounds, waiting=False)
    return decide_again(ruling.embedded.decoded.submission, found, grounds, moment.config, ruling)


def _confirmed(ruling: Ruling) -> Ruling:
    """With the submission as it is when somebody answers for it."""
    if not ruling.admits:
        return ruling
    decoded = ruling.embedded.decoded
    submission = confirmed(decoded.submission, ruling.origin)
    return replace(ruling, embedded=replace(ruling.embedded, decoded=replace(decoded, submission=submission)))


def _require_decision(submission: pb.Submission, verdict: Verdict) -> None:
    """Raises where somebody's word does not end it: HELD and REFUSED are no decisions.

    But what a program lets in stays synthetic, and may have to wait until the real share allows it.
    """
    if verdict.reason == pb.REASON_DEFERRED:
        return
    if verdict.outcome == pb.OUTCOME_HELD and verdict.head is not None:
        raise _against(_named(submission), verdict.head.item_id, pb.Origin.ValueType(verdict.head.origin))
    if verdict.outcome == pb.OUTCOME_HELD:
        reason = pb.Reason.Name(verdict.reason).removeprefix("REASON_")
        raise Denied(f"{_named(submission)} stays held, for {reason}: somebody with authority must decide")
    if verdict.outcome == pb.OUTCOME_REFUSED:
        why = "; ".join(violation.description for violation in verdict.violations)
        raise Conflict(f"{_named(submission)} came too late, reject it: {why}", *verdict.violations)


def _require_retracted(submission: pb.Submission, receipt: pb.Receipt) -> None:
    """Raises where a retraction that belongs to a resolution did not end an item.

    Its producer is the reviewer, whose name others may submit under: what was said by its id before ends nothing again.
    """
    if receipt.earlier:
        raise Conflict(f"{_named(submission)} was sent before: decide in another name", reason="NOT_OPEN")
    if receipt.outcome == pb.OUTCOME_HELD:
        raise _against("its retraction", submission.item_id, receipt.figures.origin)
    if receipt.outcome == pb.OUTCOME_REFUSED:
        why = "; ".join(violation.description for violation in receipt.violations)
        raise Conflict(f"{submission.item_id} has changed since it was read: {why}", reason="NOT_OPEN")


def _against(what: str, item_id: str, origin: pb.Origin.ValueType) -> Denied:
    authority = pb.Origin.Name(origin).removeprefix("ORIGIN_")
    return Denied(f"{what} is against {item_id}, which is {authority}: that authority must decide")


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
