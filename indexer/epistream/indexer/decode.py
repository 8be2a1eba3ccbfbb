"""decode: bytes to a submission whose every field is right on its own, or to the reasons why not. Pure.

`formats` reads the bytes, `rules` checks the fields. What this stage does not look at is what else is known: whether
the namespace exists, and whether the embedding fits it, is asked by embed.
"""

import base64
import hashlib
from typing import Final

from epistream.indexer import formats, rules
from epistream.indexer.model import Decoded, Held, Malformed, Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import fingerprint, media_of
from epistream.wire.errors import FieldViolation
from epistream.wire.limits import ID_CHARACTERS_MAX, REASON_CHARACTERS_MAX, SUBMISSION_BYTES_MAX

_TOMBSTONE: Final = FieldViolation(
    "", "the record has no value; to take an item back, send a submission with `retraction` set"
)
_NOTHING: Final = fingerprint(pb.MODALITY_TEXT, "")


def decode(record: Record) -> Decoded | Malformed:
    """The submission in a record, checked; or what is wrong with it, every field that is.

    REASON_MALFORMED: the bytes are not what the record's headers say, or hold what their producer could not read.
    REASON_INVALID: they are, but a field is missing or wrong, or the record is too large. Raises nothing, whatever the
    bytes.
    """
    value = record.value
    if value is None:
        return _malformed(record, pb.REASON_MALFORMED, (_TOMBSTONE,), pb.Submission())
    if len(value) > SUBMISSION_BYTES_MAX:
        text = f"a record has at most {SUBMISSION_BYTES_MAX} bytes, found {len(value)}"
        return _malformed(record, pb.REASON_INVALID, (FieldViolation("", text),), pb.Submission())
    try:
        submission = formats.read(value, record)
    except formats.Unreadable as error:
        return _malformed(record, pb.REASON_MALFORMED, error.violations, error.glimpse)
    if submission.HasField("unreadable"):
        return _malformed(record, pb.REASON_MALFORMED, (_unreadable(submission.unreadable),), submission)
    violations = rules.violations(submission) or rules.ahead(submission, record.received_us)
    if violations:
        return _malformed(record, pb.REASON_INVALID, violations, submission)
    return Decoded(record, submission, _fingerprint(submission), item_of(submission), digest(submission))


def again(held: Held) -> Decoded:
    """The submission of a journal entry that held it, as it was decoded then; it came when it was held."""
    decision = held.decision
    submission = decision.held
    record = Record(submission.SerializeToString(), decision.receipt.time.ToMicroseconds())
    return Decoded(record, submission, decision.fingerprint, item_of(submission), decision.submission_digest)


def digest(submission: pb.Submission) -> bytes:
    """SHA-256, 32 bytes, over all that makes two submissions of one id the same.

    That is every field that this version knows, but `embedding` (an encoder may round otherwise the second time) and
    `submitted_time` (a retry is sent later).
    """
    same = pb.Submission()
    same.CopyFrom(submission)
    same.ClearField("embedding")
    same.ClearField("submitted_time")
    same.DiscardUnknownFields()
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()


def item_of(submission: pb.Submission) -> str:
    """The item that a submission is about.

    The id of one that names none is the same however often and in whatever batches the submission comes.
    """
    if submission.item_id:
        return submission.item_id
    name = f"{submission.provenance.producer}\0{submission.submission_id}".encode()
    return "k-" + base64.b32encode(hashlib.sha256(name).digest()[:15]).decode().lower()


def _fingerprint(submission: pb.Submission) -> bytes:
    if submission.retraction or submission.HasField("feedback"):
        return _NOTHING
    tests = submission.tests if submission.HasField("tests") else None
    return fingerprint(submission.modality, submission.content, media_of(submission), submission.prompt, tests)


def _unreadable(unreadable: pb.Unreadable) -> FieldViolation:
    """What the producer says of a record that it could not read."""
    return FieldViolation("unreadable", unreadable.reason[:REASON_CHARACTERS_MAX] or "its producer could not read it")


def _malformed(
    record: Record, reason: pb.Reason.ValueType, violations: tuple[FieldViolation, ...], glimpse: pb.Submission
) -> Malformed:
    """What was read of names is not checked, so it is cut to the length that names have."""
    read = (glimpse.namespace, glimpse.provenance.producer, glimpse.submission_id)
    namespace, producer, submission_id = (name[:ID_CHARACTERS_MAX] for name in read)
    return Malformed(record, reason, violations, namespace, producer, submission_id)
