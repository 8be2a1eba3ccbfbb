"""How a record passes from the poller's process to the service, decoded already: as plain values, which pickle fast."""

import logging
from typing import Any, Final, TypeAlias

from epistream.indexer.decode import decode
from epistream.indexer.model import Arrived, Decoded, Malformed, Position, Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation

_LOG: Final = logging.getLogger(__name__)

Parcel: TypeAlias = tuple[Any, ...]
"""The record's values, what was made of it, and that one's values."""


def pack(record: Record, refused: str = "") -> Parcel:
    """Decode a record, and wrap up what came of it. One that is `refused`, for what it says, was not read.

    A record that `decode` itself fails on, which is a bug, is wrapped up as it came: where it is decoded again, it is
    seen to.
    """
    at = record.position
    position = (at.topic, at.partition, at.offset, at.leader_epoch) if at is not None else None
    came = (record.value, record.received_us, record.headers, record.key, record.timestamp_us, position)
    if refused:
        return came, False, pb.REASON_INVALID, [("", refused)], ("", "", "")
    try:
        decoded = decode(record)
    except Exception:  # noqa: BLE001 - whatever it is, it is seen to where it happens again
        _LOG.exception("Decoding fails on the record at %s", at)
        return came, None
    if isinstance(decoded, Malformed):
        violations = [(violation.field, violation.description) for violation in decoded.violations]
        names = (decoded.namespace, decoded.producer, decoded.submission_id)
        return came, False, decoded.reason, violations, names
    submission = decoded.submission.SerializeToString()
    # Where it is what came, which plain protobuf without a map is, it is wrapped up once.
    same = submission == record.value
    return came, True, record.value if same else submission, decoded.fingerprint, decoded.item_id, decoded.digest


def unpack(parcel: Parcel) -> Arrived:
    """What was wrapped up."""
    value, received_us, headers, key, timestamp_us, position = parcel[0]
    at = Position(*position) if position is not None else None
    record = Record(value, received_us, headers, key, timestamp_us, at)
    match parcel:
        case _, True, submission, fingerprint, item_id, digest:
            return Decoded(record, pb.Submission.FromString(submission), fingerprint, item_id, digest)
        case _, False, reason, violations, names:
            return Malformed(record, reason, tuple(FieldViolation(*one) for one in violations), *names)
        case _:
            return record
