"""recall: the submission that a journal entry decided, as far as the journal still has it.

Of what became a version it has all but `expected_version`, of what is held or was feedback the whole. Of what was
merged it has who said it, how it came to be and of what it was made, but not the words: those of the version that it
was merged into stand in. Vectors are those that the journal has, so no encoder runs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from epistream.indexer import holding
from epistream.indexer.catalog import Catalog
from epistream.indexer.decode import again
from epistream.indexer.journal import Entry, SqliteJournal
from epistream.indexer.model import Decoded, Embedded, Held, Vector
from epistream.indexer.vectors import unit_vectors
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

NOT_KEPT: Final = "not kept"
"""Stands in for the generator of what was merged before it was kept: it named one, or nobody asked."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A submission, from the journal."""

    decoded: Decoded
    vector: Vector | None
    whole: bool
    """Whether it is all that the decision rested on; else it only stands in for the submission."""

    @property
    def lacks_vector(self) -> bool:
        """Whether only an encoder could give it the vector that it must have."""
        submission = self.decoded.submission
        return self.vector is None and not submission.retraction and not submission.HasField("feedback")

    def embedded(self) -> Embedded:
        """As the pipeline takes it."""
        return Embedded(self.decoded, self.vector)


def recall(catalog: Catalog, entry: Entry) -> Recalled:
    """The submission that an entry of a store decided; `catalog` reads that store.

    Raises:
        Broken: the store is damaged.
    """
    decision = entry.record.decision
    if entry.change is not None:
        submission = of_change(entry.change, decision)
        return Recalled(_decoded(entry, submission), _vector(entry.embedding), whole=True)
    if decision.receipt.outcome == pb.OUTCOME_MERGED:
        return _merged(catalog, entry)
    if decision.receipt.outcome == pb.OUTCOME_RECORDED:
        return Recalled(_decoded(entry, decision.recorded), None, whole=True)
    submission = decision.held
    vector = _own_vector(submission) if submission.HasField("embedding") else None
    if vector is None:
        vector = _vector(entry.embedding or _later_embedding(catalog, entry))
    return Recalled(_decoded(entry, submission), vector, whole=True)


def of_change(change: pb.Change, decision: journal_pb2.Decision) -> pb.Submission:
    """The submission that became a version.

    What was promoted since it claims the same in other words named no item that exists: with the item's name it would
    be a revision.
    """
    promoted = change.reason in (pb.REASON_PROMOTION, pb.REASON_LATE)
    in_other_words = promoted and decision.receipt.figures.HasField("similarity")
    said = change.knowledge
    submission = pb.Submission(
        namespace=change.namespace,
        submission_id=said.submission_id,
        item_id=decision.alias or ("" if decision.unnamed or in_other_words else change.item_id),
        origin=said.origin,
        retraction=change.kind == pb.CHANGE_KIND_RETRACTED,
        provenance=said.provenance,
        submitted_time=change.submitted_time,
    )
    if not submission.retraction:
        _say(submission, said)
    return submission


def _say(submission: pb.Submission, said: pb.Knowledge) -> None:
    """Set what a version says."""
    submission.modality, submission.content, submission.prompt = said.modality, said.content, said.prompt
    submission.attributes.MergeFrom(said.attributes)
    submission.further_media.MergeFrom(said.further_media)
    if said.HasField("media"):
        submission.media.CopyFrom(said.media)
    if said.HasField("tests"):
        submission.tests.CopyFrom(said.tests)
    if said.HasField("details"):
        submission.details.CopyFrom(said.details)
    if said.HasField("valid_from"):
        submission.valid_from.CopyFrom(said.valid_from)


def _merged(catalog: Catalog, entry: Entry) -> Recalled:
    """What was merged, with the words of the version that it was merged into."""
    decision, receipt = entry.record.decision, entry.record.decision.receipt
    submission = pb.Submission(
        namespace=receipt.namespace,
        submission_id=receipt.submission_id,
        item_id=decision.merged.item_id if decision.HasField("merged") else decision.alias or receipt.item_id,
        origin=decision.origin,
        provenance=pb.Provenance(producer=receipt.producer),
    )
    if receipt.reason == pb.REASON_ALREADY_RETRACTED:
        submission.retraction = True
        return Recalled(_decoded(entry, submission), None, whole=True)
    (revision,) = catalog.versions(entry.namespace, receipt.item_id, receipt.version - 1, 1)
    committed = catalog.committed(entry.namespace, revision)
    into = pb.Change.FromString(committed.change)
    _say(submission, into.knowledge)
    if decision.HasField("merged"):
        submission.ClearField("valid_from")
        if decision.merged.HasField("valid_from"):
            submission.valid_from.CopyFrom(decision.merged.valid_from)
    kept, synthetic = decision.merged.HasField("generator"), decision.origin == pb.ORIGIN_SYNTHETIC
    submission.provenance.generator = decision.merged.generator if kept else NOT_KEPT if synthetic else ""
    submission.provenance.derived_from.extend(decision.merged.derived_from)
    whole = receipt.reason == pb.REASON_SAME_CONTENT and (kept or not synthetic)
    decoded = _decoded(entry, submission, into.fingerprint)
    return Recalled(decoded, _vector(committed.embedding), whole=whole)


def _decoded(entry: Entry, submission: pb.Submission, fingerprint: bytes = b"") -> Decoded:
    """As it was decoded when it came; of what stands in, with the fingerprint of that."""
    decision = entry.record.decision
    said = journal_pb2.Decision(
        receipt=decision.receipt,
        submission_digest=decision.submission_digest,
        fingerprint=fingerprint or decision.fingerprint,
        held=submission,
    )
    return again(Held(entry.sequence, said))


def _later_embedding(catalog: Catalog, entry: Entry) -> bytes | None:
    """The vector that what was held had when it was let in or put off; None where it was not."""
    journal, sequence = SqliteJournal(catalog.connection), entry.sequence
    while (ended := holding.ended(catalog, entry.namespace, sequence)) is not None:
        (later,) = journal.read(ended - 1, 1)
        if later.embedding is not None or later.record.decision.receipt.outcome != pb.OUTCOME_HELD:
            return later.embedding
        sequence = ended
    return None


def _own_vector(submission: pb.Submission) -> Vector | None:
    (unit,) = unit_vectors([submission.embedding], "embedding")
    return unit if isinstance(unit, np.ndarray) else None


def _vector(embedding: bytes | None) -> Vector | None:
    return np.frombuffer(embedding, "<f4") if embedding is not None else None
