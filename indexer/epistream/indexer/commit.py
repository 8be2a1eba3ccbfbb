"""commit: verdicts become journal entries, receipts and dead letters, written in one durable transaction.

`Draft` gives every change its item id, version and revision and chains the entries; nothing outside it changes until
`write` has returned.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from epistream.indexer import deadletters, positions, views
from epistream.indexer.catalog import Head
from epistream.indexer.collapse import RAISED_BELOW
from epistream.indexer.gate import Grounds, Verdict
from epistream.indexer.journal import Entry, chain
from epistream.indexer.model import (
    GOES_ON,
    Decoded,
    Embedded,
    Malformed,
    NamespaceConfig,
    Position,
    Record,
    Ruling,
    valid_us,
)
from epistream.indexer.store import Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb

_KINDS: Final = {
    pb.OUTCOME_ADMITTED: pb.CHANGE_KIND_ADMITTED,
    pb.OUTCOME_REVISED: pb.CHANGE_KIND_REVISED,
}


@dataclass(slots=True)
class Tip:
    """Where a namespace's journal ends while a draft is made."""

    revision: int
    commit_us: int
    """When the newest change was committed; the next is never earlier."""


@dataclass(slots=True)
class Draft:
    """Entries that are decided but not yet written."""

    now_us: int
    sequence: int
    """Of the newest entry."""
    digest: bytes
    """Of the newest entry."""
    tips: dict[int, Tip]
    """By namespace number; changed as entries are added."""
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[Record, pb.Receipt]] = field(default_factory=list)
    newest_versions: dict[tuple[int, str], int] = field(default_factory=dict)
    """Of the items that the draft changes, by namespace number and item."""

    def refuse_malformed(self, malformed: Malformed) -> pb.Receipt:
        """The receipt of a record that was refused before it was matched; its bytes become a dead letter."""
        receipt = pb.Receipt(
            namespace=malformed.namespace,
            producer=malformed.producer,
            submission_id=malformed.submission_id,
            outcome=pb.OUTCOME_REFUSED,
            reason=malformed.reason,
            attempts=malformed.attempts,
        )
        for violation in malformed.violations:
            receipt.violations.add(field=violation.field, description=violation.description)
        receipt.time.FromMicroseconds(self.now_us)
        self.refused.append((malformed.record, receipt))
        return receipt

    def add(self, embedded: Embedded, verdict: Verdict, config: NamespaceConfig) -> tuple[pb.Receipt, Entry | None]:
        """The receipt of a decided submission, and the entry that keeps it; none for an earlier or refused one."""
        decoded = embedded.decoded
        if verdict.earlier is not None:
            receipt = pb.Receipt()
            receipt.CopyFrom(verdict.earlier)
            receipt.earlier = True
            return receipt, None
        receipt = _receipt(decoded.submission, verdict, config)
        if verdict.outcome == pb.OUTCOME_REFUSED:
            receipt.time.FromMicroseconds(self.now_us)
            self.refused.append((decoded.record, receipt))
            return receipt, None
        return receipt, self._decided(embedded, receipt, verdict, config, journal_pb2.JournalRecord())

    def release(
        self, ruling: Ruling, embedded: Embedded, verdict: Verdict, config: NamespaceConfig
    ) -> tuple[pb.Receipt, Entry]:
        """The second receipt of a submission that was held, and the entry that ends the first one.

        `embedded` is the submission as it is confirmed; the verdict is not REFUSED.
        """
        receipt = _receipt(embedded.decoded.submission, verdict, config)
        record = journal_pb2.JournalRecord()
        record.decision.releases = ruling.held.sequence
        record.decision.decided_by, record.decision.comment = ruling.decided_by, ruling.comment
        # As `decode.again` has it, also where it was held in this very batch: it came when it was held.
        came = Record(embedded.decoded.record.value, ruling.held.decision.receipt.time.ToMicroseconds())
        embedded = replace(embedded, decoded=replace(embedded.decoded, record=came))
        return receipt, self._decided(embedded, receipt, verdict, config, record)

    def add_record(self, number: int, record: journal_pb2.JournalRecord) -> Entry:
        """The entry of an act that decides no submission: a namespace made or changed, a comment, a resolution."""
        return self._chain(number, record, None, None)

    def _decided(
        self,
        embedded: Embedded,
        receipt: pb.Receipt,
        verdict: Verdict,
        config: NamespaceConfig,
        record: journal_pb2.JournalRecord,
    ) -> Entry:
        """The entry of a decision, which it fills in, as it does the receipt."""
        decoded = embedded.decoded
        tip = self.tips[config.number]
        tip.commit_us = max(tip.commit_us, self.now_us)
        receipt.time.FromMicroseconds(tip.commit_us)
        change: pb.Change | None = None
        if verdict.outcome in _KINDS:
            tip.revision += 1
            receipt.revision = tip.revision
            change = _change(decoded, verdict, receipt, self._next_version(config.number, verdict))
            self.newest_versions[config.number, change.item_id] = change.version
            change.generation, change.verified_by = receipt.figures.generation, verdict.verified_by
        elif verdict.outcome == pb.OUTCOME_MERGED:
            # The retraction of what was only put off has no version.
            known = verdict.head
            receipt.item_id = known.item_id if known is not None else decoded.item_id
            receipt.version = known.version if known is not None else 0
        _keep(record.decision, decoded, receipt, late=verdict.late)
        record.decision.policy_version = config.policy_version
        return self._chain(config.number, record, change, embedded)

    def _next_version(self, number: int, verdict: Verdict) -> int:
        """The number of the version that a verdict makes. The draft may have made some since its head was."""
        head = verdict.head
        if verdict.outcome != pb.OUTCOME_REVISED or head is None:
            return 1
        return max(head.newest_version, self.newest_versions.get((number, head.item_id), 0)) + 1

    def add_watched(self, number: int, alarm: pb.CollapseAlarm) -> Entry:
        """The entry of a window that was compared with what people wrote."""
        return self._chain(number, journal_pb2.JournalRecord(watched=alarm), None, None)

    def _chain(
        self, number: int, record: journal_pb2.JournalRecord, change: pb.Change | None, embedded: Embedded | None
    ) -> Entry:
        change_bytes = change.SerializeToString(deterministic=True) if change is not None else None
        # Of what goes on by itself too: nobody may have to wait for an encoder then.
        goes_on = record.decision.receipt.reason in GOES_ON
        vector = embedded.vector if embedded is not None and (change is not None or goes_on) else None
        embedding = vector.astype("<f4", copy=False).tobytes() if vector is not None else None
        record_bytes = record.SerializeToString(deterministic=True)
        self.sequence += 1
        revision = change.revision if change is not None else 0
        self.digest = chain(self.digest, number, revision, change_bytes, embedding, record_bytes)
        entry = Entry(self.sequence, number, record, change, change_bytes, embedding, record_bytes, self.digest)
        self.entries.append(entry)
        return entry


def write(store: Store, draft: Draft, records: Iterable[Record]) -> None:
    """Write a draft, and how far the records' partitions have been read, in one transaction with full durability.

    Raises:
        Unavailable: DISK_FULL, or memory is short; nothing was written, and what is known is as it was.
        Broken: nothing was acknowledged, and nothing more can be written.
    """
    newest = _newest(records)
    if not draft.entries and not draft.refused and not newest:
        return
    with store.transaction() as connection:
        store.journal.append(draft.entries)
        views.apply(connection, draft.entries)
        deadletters.write(connection, draft.refused)
        positions.write(connection, newest)


def head_after(entry: Entry) -> Head | None:
    """The head that an entry's change makes; None for an entry that makes none."""
    change = entry.change
    return None if change is None or change.kind == pb.CHANGE_KIND_LATE else as_head(change)


def as_head(change: pb.Change) -> Head:
    """A version, as a head is told."""
    return Head(
        change.item_id,
        change.version,
        change.revision,
        change.knowledge.origin,
        change.kind == pb.CHANGE_KIND_RETRACTED,
        change.fingerprint,
        change.generation,
        change.version,
        valid_us(change.knowledge),
    )


def _receipt(submission: pb.Submission, verdict: Verdict, config: NamespaceConfig) -> pb.Receipt:
    receipt = pb.Receipt(
        namespace=submission.namespace,
        producer=submission.provenance.producer,
        submission_id=submission.submission_id,
        outcome=verdict.outcome,
        reason=verdict.reason,
    )
    if verdict.head is not None or verdict.similarity is not None:
        figures = receipt.figures
        if verdict.similarity is not None:
            figures.similarity = verdict.similarity
        if verdict.threshold is not None:
            figures.threshold = verdict.threshold
        if verdict.head is not None:
            figures.item_id, figures.version = verdict.head.item_id, verdict.head.version
            figures.origin = pb.Origin.ValueType(verdict.head.origin)
        figures.differences.extend(verdict.differences)
    if verdict.grounds is not None:
        _ground(receipt.figures, verdict.grounds, config.policy)
    for violation in verdict.violations:
        receipt.violations.add(field=violation.field, description=violation.description)
    return receipt


def _ground(figures: pb.Figures, grounds: Grounds, policy: ns_pb.Policy) -> None:
    """Set the figures that a verdict on synthetic knowledge rests on."""
    figures.generation, figures.generation_max = grounds.lineage.generation, policy.generation_max
    figures.unknown_parents.extend(grounds.lineage.unknown)
    if grounds.real_share is not None:
        figures.real_share, figures.real_share_floor = grounds.real_share, policy.real_share_floor
    if grounds.alarm is not None:
        figures.collapse_ratio, figures.collapse_bar = grounds.alarm.recent[-1], RAISED_BELOW
        figures.collapse_since_revision = grounds.alarm.since_revision
    measured = grounds.measured
    if measured is None:
        return
    figures.doubts.extend(measured.looks.doubts)
    if measured.gain is not None and measured.human_gain is not None:
        figures.gain, figures.human_gain = measured.gain, measured.human_gain
    if measured.looks.plausibility is not None:
        figures.plausibility = measured.looks.plausibility
    if measured.worth is not None:
        figures.worth, figures.worth_min = measured.worth, policy.worth_min


def _change(decoded: Decoded, verdict: Verdict, receipt: pb.Receipt, version: int) -> pb.Change:
    """The change that a verdict makes; fills in the receipt's item and version."""
    submission, head = decoded.submission, verdict.head if verdict.outcome == pb.OUTCOME_REVISED else None
    receipt.item_id = head.item_id if head else decoded.item_id
    receipt.version = version
    retraction = submission.retraction
    # Set field by field: nested messages that are given to a constructor are copied twice.
    change = pb.Change()
    change.namespace, change.revision = submission.namespace, receipt.revision
    change.item_id, change.version = receipt.item_id, receipt.version
    change.kind = pb.CHANGE_KIND_RETRACTED if retraction else _KINDS[verdict.outcome]
    if verdict.late:
        change.kind = pb.CHANGE_KIND_LATE
    change.commit_time.CopyFrom(receipt.time)
    change.reason = verdict.reason
    change.conflicts.extend(verdict.conflicts)
    change.fingerprint = head.fingerprint if head and retraction else decoded.fingerprint
    change.replaced_revision = head.revision if head and not verdict.late else 0
    if receipt.HasField("figures"):
        change.figures.CopyFrom(receipt.figures)
    change.submitted_time.FromMicroseconds(submitted_us(decoded))
    _say(change.knowledge, submission)
    return change


def _say(knowledge: pb.Knowledge, submission: pb.Submission) -> None:
    """Set what a submission says."""
    knowledge.origin, knowledge.modality = submission.origin, submission.modality
    knowledge.content, knowledge.submission_id = submission.content, submission.submission_id
    knowledge.attributes.MergeFrom(submission.attributes)
    knowledge.provenance.CopyFrom(submission.provenance)
    if submission.HasField("media"):
        knowledge.media.CopyFrom(submission.media)
        knowledge.further_media.MergeFrom(submission.further_media)
    if submission.prompt:
        knowledge.prompt = submission.prompt
    if submission.HasField("tests"):
        knowledge.tests.CopyFrom(submission.tests)
    if submission.HasField("details"):
        knowledge.details.CopyFrom(submission.details)
    if submission.HasField("valid_from"):
        knowledge.valid_from.CopyFrom(submission.valid_from)


def submitted_us(decoded: Decoded) -> int:
    """When a submission was sent, microseconds: as its producer says, else as Kafka says, else when it arrived."""
    if decoded.submission.HasField("submitted_time"):
        return decoded.submission.submitted_time.ToMicroseconds()
    return decoded.record.timestamp_us or decoded.record.received_us


def _keep(decision: journal_pb2.Decision, decoded: Decoded, receipt: pb.Receipt, *, late: bool) -> None:
    """Set what a decision keeps of its submission."""
    decision.receipt.CopyFrom(receipt)
    decision.submission_digest, decision.fingerprint = decoded.digest, decoded.fingerprint
    decision.origin = decoded.submission.origin
    own = decoded.submission.item_id
    if receipt.outcome in (pb.OUTCOME_MERGED, pb.OUTCOME_REVISED) and own not in ("", receipt.item_id):
        decision.alias = own
    decision.unnamed = own == "" and receipt.outcome in (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED)
    if receipt.outcome == pb.OUTCOME_MERGED:
        decision.merged.item_id, decision.merged.late = own, late
        decision.merged.generator = decoded.submission.provenance.generator
        decision.merged.derived_from.extend(decoded.submission.provenance.derived_from)
        if decoded.submission.HasField("valid_from"):
            decision.merged.valid_from.CopyFrom(decoded.submission.valid_from)
    if receipt.outcome == pb.OUTCOME_HELD:
        decision.held.CopyFrom(decoded.submission)
    elif receipt.outcome == pb.OUTCOME_RECORDED:
        decision.recorded.CopyFrom(decoded.submission)


def _newest(records: Iterable[Record]) -> dict[tuple[str, int], Position]:
    newest: dict[tuple[str, int], Position] = {}
    for record in records:
        at = record.position
        if at is not None:
            known = newest.get((at.topic, at.partition))
            if known is None or at.offset > known.offset:
                newest[at.topic, at.partition] = at
    return newest
