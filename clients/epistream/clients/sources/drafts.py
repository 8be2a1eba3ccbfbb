"""What an adapter makes of a record: items of knowledge, and verdicts of raters on them.

Items are named by keys that are unique within the work. What is the same for all of a work (its name, stage and
licence) is added when submissions are made of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from epistream.clients.sources.record import Fields, Json
from epistream.v1 import knowledge_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An image, a video, or a part of one."""

    uri: str
    """A URI, or a path as the work gives it, relative to where it is published."""
    role: str = ""
    """Such as `source`, `mask`, `target`."""
    media_type: str = ""
    content: bytes | None = None
    """The bytes, where the record holds them: their digest is kept."""
    digest: str = ""
    """`sha256:` and 64 hexadecimal digits, where the record says it."""
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One unit of knowledge."""

    key: str
    """Its name within the work."""
    content: str
    origin: "pb.Origin.ValueType"
    modality: "pb.Modality.ValueType"
    prompt: str = ""
    source: str = ""
    time: datetime | None = None
    producer: str = ""
    """Who made it, where the record says so; else the work is named."""
    generator: str = ""
    parents: tuple[str, ...] = ()
    """The keys of the items that it was derived from."""
    licence: str = ""
    """Where the record says it; else that of the work."""
    media: tuple[Part, ...] = ()
    tests: pb.Tests | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Short ones to filter by, beside those that every item of the work has. Empty ones are left out."""
    negative: bool = False
    """Whether it is an example of what is wrong: a rejected answer, a program that fails."""
    details: Mapping[str, Json] = field(default_factory=dict)
    """The record's remaining fields."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An item that a rater judged."""

    key: str
    place: int | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rater says about items."""

    kind: "pb.FeedbackKind.ValueType"
    judged: tuple[Judged, ...]
    rater: str
    rater_type: "pb.RaterType.ValueType" = pb.RATER_TYPE_HUMAN
    aspect: str = ""
    rationale: str = ""
    scale: tuple[float, float] | None = None
    degree: str = ""
    time: datetime | None = None
    details: Mapping[str, Json] = field(default_factory=dict)
    """What else the record says of it."""


Draft: TypeAlias = Item | Verdict


def preference(
    better: str,
    worse: str,
    *,
    rater: str,
    tie: bool = False,
    degree: str = "",
    time: datetime | None = None,
    details: Mapping[str, Json] | None = None,
) -> Verdict:
    """A person's choice between two items."""
    return Verdict(
        kind=pb.FEEDBACK_KIND_PAIRWISE,
        judged=(Judged(better, 1), Judged(worse, 1 if tie else 2)),
        rater=rater,
        degree=degree,
        time=time,
        details=details or {},
    )


def lineage(record: Fields, parent: str, otherwise: str) -> tuple[str, tuple[str, ...]]:
    """The key of what a record says, and of what that was derived from: its `id`, and what the field `parent` names.

    Only where a record has an `id`, its parent can be another record of the same set, which stands before it. Without,
    the key is `otherwise`, and the parent is left to the details: the service holds what models derived from items that
    it does not know.
    """
    if "id" not in record:
        return otherwise, ()
    return record.name("id"), (record.name(parent),) if parent in record else ()
