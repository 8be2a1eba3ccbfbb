"""What signals are computed of: the newest records of a namespace, and what was said of them. Frozen once made."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from google.protobuf import struct_pb2
from numpy.typing import NDArray

from epistream.indexer.conflicts import Conflict
from epistream.indexer.gain import left_out
from epistream.v1 import knowledge_pb2 as pb

READ_MAX: Final = 500
"""So many of a cell's programs are parsed, the newest, and videos compared segment by segment."""
PRODUCERS_MAX: Final = 10
"""So many producers have figures of their own: those with the most items in a cell."""

_Kept = TypeVar("_Kept")
Rows: TypeAlias = NDArray[np.float32]
"""Unit vectors, a row each."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a rater says, as it was submitted."""

    submission: pb.Submission
    time_us: int
    """When it was recorded."""

    @property
    def feedback(self) -> pb.Feedback:
        """The judgement."""
        return self.submission.feedback

    @property
    def rater(self) -> tuple[str, str]:
        """Who says it: the producer, and the name, which is one of the producer's."""
        return self.submission.provenance.producer, self.submission.feedback.rater

    @property
    def rating(self) -> float | None:
        """Where on its scale the first judged item was rated, in [0, 1]; None where it was not."""
        low, high, score = self.feedback.scale_min, self.feedback.scale_max, self.feedback.judged[0].score
        if self.feedback.kind != pb.FEEDBACK_KIND_RATING or low == high or not low <= score <= high:
            return None
        return (score - low) / (high - low)


@dataclass(frozen=True)
class Window:
    """The newest versions in answers, oldest first, and what is known of them."""

    changes: Sequence[pb.Change]
    vectors: Rows
    """The vector of each, a row of zeros where it has none."""
    threshold: float
    """The namespace's cosine for near duplicates."""
    said: Sequence[Said] = ()
    """Feedback on these items, in the order in which it came."""
    corroborations: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Of an item the producers whose submissions were merged into it."""
    conflicts: Sequence[Conflict] = ()
    """Those of the namespace that are open, the oldest first."""
    held_us: Sequence[int] = ()
    """When each submission came that waits for a person."""
    end_us: int = 0
    """The journal's newest time: ages end here, so that the same journal has the same figures."""
    _memory: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def cell(self, origin: pb.Origin.ValueType, modality: pb.Modality.ValueType) -> list[int]:
        """The places of a cell's items, oldest first."""
        return self._cells.get((origin, modality), [])

    def places(self, modality: pb.Modality.ValueType) -> list[int]:
        """The places of all items of a modality, oldest first."""
        return sorted(place for (_, other), cell in self._cells.items() if other == modality for place in cell)

    def by_producer(self, places: Iterable[int]) -> Iterator[tuple[str, list[int]]]:
        """The PRODUCERS_MAX producers with the most of these items, by name, each with its places."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for place in places:
            found[self.producer(place)].append(place)
        most = sorted(found, key=lambda name: (-len(found[name]), name))[:PRODUCERS_MAX]
        yield from ((name, found[name]) for name in sorted(most))

    def producer(self, place: int) -> str:
        """Who says so."""
        return self.changes[place].knowledge.provenance.producer

    def content(self, place: int) -> str:
        """The text, the code, or the caption."""
        return self.changes[place].knowledge.content

    def parents(self, place: int) -> list[int]:
        """The places of the items that it was derived from, those in the window."""
        names = self.changes[place].knowledge.provenance.derived_from
        return [self.by_item[name] for name in names if name in self.by_item]

    def has_vector(self, place: int) -> bool:
        """Whether it has one."""
        return bool(self.vectors[place].any())

    def is_a(self, item_id: str, modality: pb.Modality.ValueType) -> bool:
        """Whether an item is in the window and of this modality."""
        place = self.by_item.get(item_id)
        return place is not None and self.changes[place].knowledge.modality == modality

    def remembered(self, name: str, make: Callable[[], _Kept]) -> _Kept:
        """What `make` made the first time that this name was asked for: several signals come of it."""
        if name not in self._memory:
            self._memory[name] = make()
        kept: _Kept = self._memory[name]
        return kept

    @cached_property
    def by_item(self) -> Mapping[str, int]:
        """The place of each item."""
        return {change.item_id: place for place, change in enumerate(self.changes)}

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """What each tells beyond all the others, nats: `gain.left_out`. NaN where it has no vector."""
        found = np.full(len(self.changes), np.nan)
        rows = np.flatnonzero(self.vectors.any(axis=1))
        if len(rows):
            found[rows] = left_out(self.vectors[rows])
        return found

    @cached_property
    def _cells(self) -> Mapping[tuple[int, int], list[int]]:
        found: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for place, change in enumerate(self.changes):
            found[change.knowledge.origin, change.knowledge.modality].append(place)
        return found


def number(details: struct_pb2.Struct, *names: str) -> float | None:
    """The first of these fields that is a finite number: `details` come as they were sent."""
    return next(_numbers(details, names), None)


def positive(details: struct_pb2.Struct, *names: str) -> float | None:
    """The first of these fields that is a finite number above 0: what something is a share of, or is divided by."""
    return next((found for found in _numbers(details, names) if found > 0), None)


def _numbers(details: struct_pb2.Struct, names: Sequence[str]) -> Iterator[float]:
    for name in names:
        value = details.fields.get(name)
        if value is not None and value.WhichOneof("kind") == "number_value" and math.isfinite(value.number_value):
            yield value.number_value


def field_names(details: struct_pb2.Struct) -> Iterator[str]:
    """The names of all fields that say something, at any depth, in small letters."""
    for name, value in details.fields.items():
        kind = value.WhichOneof("kind")
        if kind is None or kind == "null_value":
            continue
        yield name.lower()
        if kind == "struct_value":
            yield from field_names(value.struct_value)
        elif kind == "list_value":
            for each in value.list_value.values:
                if each.WhichOneof("kind") == "struct_value":
                    yield from field_names(each.struct_value)


def texts(details: struct_pb2.Struct, *names: str) -> list[str]:
    """The texts of the first of these fields that there is: of a text, or of a list of them."""
    for name in names:
        value = details.fields.get(name)
        if value is not None and value.WhichOneof("kind") == "string_value":
            return [value.string_value]
        if value is not None and value.WhichOneof("kind") == "list_value":
            return [one.string_value for one in value.list_value.values if one.WhichOneof("kind") == "string_value"]
    return []
