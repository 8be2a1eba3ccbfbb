"""The frozen values that pass between the stages of the pipeline.

Record ─decode─► Decoded | Malformed ─embed─► Embedded | Malformed ─match─► Match ─gate─► Verdict ─commit─► Entry

What was held is decoded, embedded and decided again: Held ─decode─► Decoded ─embed─► Embedded ─► Ruling ─► Entry
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import FieldViolation

Vector: TypeAlias = NDArray[np.float32]
"""Shape (dimension,), float32, length one."""

AUTHORITY: Final[Mapping[int, int]] = {
    pb.ORIGIN_UNSPECIFIED: 0,
    pb.ORIGIN_SYNTHETIC: 1,
    pb.ORIGIN_CRAWLED: 2,
    pb.ORIGIN_COLLABORATIVE: 3,
    pb.ORIGIN_EXPERT: 4,
}
"""Whose word counts more."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a Kafka record stands."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    """The leader's epoch of the record (KIP-320), -1 when the broker did not say."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition of Kafka is read on."""

    offset: int
    """Of the record to read next."""
    leader_epoch: int = -1
    """Of the record read last, by which Kafka tells whether its log is still the one that was read; -1: not known."""
    topic_id: str = ""
    """Of the topic that was read, by which another one under its name is told from it; empty: not known."""


@dataclass(frozen=True, slots=True)
class Record:
    """What arrived, untouched."""

    value: bytes | None
    """The payload; None for a Kafka tombstone."""
    received_us: int
    """When it arrived, microseconds since 1970 by the service's clock."""
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = None
    timestamp_us: int | None = None
    """The Kafka record's timestamp in microseconds."""
    position: Position | None = None
    """Where it stands in Kafka; None for gRPC."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is refused before anything known is looked at."""

    record: Record
    reason: pb.Reason.ValueType
    violations: tuple[FieldViolation, ...]
    namespace: str = ""
    """As far as it could be read."""
    producer: str = ""
    """As far as it could be read."""
    submission_id: str = ""
    """As far as it could be read."""
    attempts: int = 0
    """How often the service failed on it before it gave up; 0 where the record is wrong."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A submission whose every field is right on its own."""

    record: Record
    submission: pb.Submission
    fingerprint: bytes
    """SHA-256 of the canonical content, 32 bytes; for a retraction and feedback of the empty text."""
    item_id: str
    """The item that the submission is about; of one that names none, an id made from producer and submission id."""
    digest: bytes
    """SHA-256 over what makes two submissions of one id the same: all but the embedding and `submitted_time`."""


Arrived: TypeAlias = Record | Decoded | Malformed
"""What the pipeline is given: as it came, or decoded before."""


@dataclass(frozen=True, slots=True)
class NamespaceConfig:
    """What the stages need to know of a namespace."""

    number: int
    """Its number in the store."""
    name: str
    encoder: ns_pb.Encoder
    policy: ns_pb.Policy
    """Every field set. Replaced, never changed."""
    policy_version: int


@dataclass(frozen=True, slots=True)
class Nearby:
    """Which versions are close to a vector, of those that an index held at a moment; since then some may have ended.

    Rows of an index never change, so what was far then is far for ever: later only what came since is looked at.
    """

    at_least: float
    """From which similarity on."""
    below: int
    """The index's slots under this one were looked at."""
    slots: tuple[int, ...] | None
    """Those that are so close; None when they are too many to be named."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How synthetic knowledge looks beside what people wrote."""

    anchors: str
    """The digest of the anchor window that it was compared with; empty where there is none yet."""
    plausibility: float | None
    """The share of people's items that lie at least as far out, 0 to 1; None where that cannot be told."""
    doubts: tuple[str, ...]
    """Why it does not look like knowledge, or why that cannot be told; worst first."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A submission that fits its namespace, with its vector."""

    decoded: Decoded
    vector: Vector | None
    """None for a retraction and for feedback."""
    nearby: Nearby | None = None
    """What was found beforehand, so that the writer need not look at the whole index; None when nobody looked."""
    looks: Looks | None = None
    """Of SYNTHETIC knowledge, found beforehand likewise."""


GOES_ON: Final = frozenset((pb.REASON_DEFERRED, pb.REASON_UNKNOWN_PARENT))
"""For what reasons is held what the gate itself decides again: when there is room for it, when its parents came."""

UNATTENDED: Final = GOES_ON | {pb.REASON_UNVERIFIED}
"""For what reasons is held what may come in with no person in between: by the gate, or by what has run its tests."""


@dataclass(frozen=True, slots=True)
class Held:
    """A submission that was held, as the journal has it."""

    sequence: int
    """Of its entry."""
    decision: journal_pb2.Decision
    """With the whole submission as `held`."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is decided of a submission that was held."""

    held: Held
    embedded: Embedded
    """The submission, decoded by `decode.again`; where it is admitted, embedded too."""
    admits: bool
    """False rejects it."""
    origin: pb.Origin.ValueType = pb.ORIGIN_UNSPECIFIED
    """On whose authority; of the gate itself none."""
    decided_by: str = ""
    """The person or program who decides; empty for the gate itself."""
    comment: str = ""

    @property
    def by_person(self) -> bool:
        """Whether somebody answers for it who has looked at what is known."""
        return bool(self.decided_by) and self.origin != pb.ORIGIN_SYNTHETIC


def valid_us(said: pb.Submission | pb.Knowledge) -> int | None:
    """From when on something holds, microseconds since 1970; None where its producer does not say."""
    return said.valid_from.ToMicroseconds() if said.HasField("valid_from") else None


def answered(change: pb.Change) -> bool:
    """Whether a change made what it says part of the answers: it took nothing back, and came not late."""
    return change.kind not in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LATE)


def not_above(origin: pb.Origin.ValueType) -> list[int]:
    """The origins of no higher authority."""
    return [other for other, authority in AUTHORITY.items() if authority <= AUTHORITY[origin]]


def says(change: pb.Change, waits: pb.Submission) -> bool:
    """Whether a version with the content of what waits says all of that, so that nothing is left to decide.

    What names no item is said by any. What names one is said by that one only, else its own would go on without it, and
    only from the same time on.
    """
    return not waits.item_id or (waits.item_id == change.item_id and valid_us(waits) == valid_us(change.knowledge))


def record_of(one: Record | Decoded | Malformed | Embedded) -> Record:
    """What arrived, at whatever stage it is."""
    match one:
        case Record():
            return one
        case Embedded():
            return one.decoded.record
        case _:
            return one.record
