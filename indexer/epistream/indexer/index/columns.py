"""What each version is filtered by, and from which revision to which it lives: columns of NumPy arrays by slot.

Example: revision 4 changed nothing that has a vector, 5 replaced the version of revision 2, 6 retracted that of 3.

    slot      0   1   2   3
    revision  1   2   3   5
    ended_at  -   5   6   -         ("-" is NEVER)

At revision R a slot is visible when its revision <= R < ended_at: slots 0, 1, 2 at revision 3; 0, 2, 3 at 5; 0, 3 at 6.
Slots are in the order of revisions, so "revision <= R" is a prefix, and a later end does not change an earlier answer.

One thread writes, any thread reads, without locks: arrays are filled first, and `_head` is replaced last, in one step.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.index.base import Mask
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken

NEVER: Final = int(np.iinfo(np.int64).max)
"""`ended_at` of a version that lives."""

Name = TypeVar("Name", bound=Hashable)
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Row:
    """A version, as far as it can be filtered by."""

    revision: int
    """The revision of the change that made it."""
    origin: int
    modality: int
    producer: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scope:
    """The slots that a search may answer with."""

    below: int
    """Only slots under this one."""
    allowed: Mask | None
    """Which of them, shape (below,); None for all."""
    count: int
    """How many that are."""


@dataclass(frozen=True, slots=True)
class State:
    """The columns after a revision, for a snapshot. Row i of the first five is slot i."""

    revision: int
    revisions: NDArray[np.int64]
    ended_at: NDArray[np.int64]
    """NEVER for what lives. May name revisions above `revision`, when it was taken while the writer worked."""
    origins: NDArray[np.int32]
    modalities: NDArray[np.int32]
    producers: NDArray[np.int32]
    """Numbers into `producer_names`."""
    labels: NDArray[np.int32]
    """Numbers into `label_names`, one for each attribute of each slot, by slot."""
    label_slots: NDArray[np.int64]
    """The slot of each of `labels`."""
    producer_names: Sequence[str]
    label_names: Sequence[tuple[str, str]]
    """Attributes as (key, value)."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What readers may see."""

    count: int
    revision: int


class Columns:
    """The columns of one namespace."""

    def __init__(self, state: State | None = None) -> None:
        self._revisions = _Column(np.int64, None if state is None else state.revisions)
        self._ended_at = _Column(np.int64, None if state is None else state.ended_at)
        self._origins = _Column(np.int32, None if state is None else state.origins)
        self._modalities = _Column(np.int32, None if state is None else state.modalities)
        self._producers = _Column(np.int32, None if state is None else state.producers)
        self._labels = _Column(np.int32, None if state is None else state.labels)
        self._label_slots = _Column(np.int64, None if state is None else state.label_slots)
        self._producer_numbers = _Numbers[str](() if state is None else state.producer_names)
        self._label_numbers = _Numbers[tuple[str, str]](() if state is None else state.label_names)
        self._head = _Head(len(self._revisions), 0 if state is None else state.revision)

    def __len__(self) -> int:
        return self._head.count

    @property
    def last_revision(self) -> int:
        """The newest revision that a version was made or ended at; 0 at first."""
        return self._head.revision

    def check(self, rows: Sequence[Row], ends: Sequence[tuple[int, int]]) -> None:
        """Raise Broken where `append` may not be called with these."""
        revisions = [int(self._revisions.first(len(self))[-1]) if len(self) else 0, *(row.revision for row in rows)]
        for before, after in pairwise(revisions):
            if after <= before:
                raise Broken(f"The index takes versions in the order of their revisions; after {before} came {after}.")
        for revision, at_revision in ends:
            if at_revision <= revision:
                raise Broken(
                    f"The version of revision {revision} cannot end at {at_revision}: only a later change ends it."
                )

    def append(self, rows: Sequence[Row], ends: Sequence[tuple[int, int]]) -> None:
        """Add the versions behind the last slot and set the ends, (revision, ended at), in one step for readers.

        An end of a revision that has no slot is passed over, and so is a later end of what has ended.
        """
        count = self._head.count
        labels = [(slot, label) for slot, row in enumerate(rows, count) for label in row.attributes.items()]
        self._labels.extend([self._label_numbers.number(label) for _, label in labels])
        self._label_slots.extend([slot for slot, _ in labels])
        self._origins.extend([row.origin for row in rows])
        self._modalities.extend([row.modality for row in rows])
        self._producers.extend([self._producer_numbers.number(row.producer) for row in rows])
        self._ended_at.extend([NEVER] * len(rows))
        self._revisions.extend([row.revision for row in rows])
        last_revision = max(self._head.revision, rows[-1].revision if rows else 0)
        for revision, at_revision in ends:
            slot = self._slot(revision, count + len(rows))
            if slot is not None:
                ended_at = self._ended_at.first(count + len(rows))
                ended_at[slot] = min(int(ended_at[slot]), at_revision)
            last_revision = max(last_revision, at_revision)
        self._head = _Head(count + len(rows), last_revision)

    def scope(self, as_of: int | None, wanted: pb.Filter | None) -> Scope:
        """The slots that are visible at a revision (the newest when None) and that match a filter (all when None)."""
        head = self._head
        revision = head.revision if as_of is None else min(as_of, head.revision)
        below = int(np.searchsorted(self._revisions.first(head.count), revision, side="right"))
        allowed = self._ended_at.first(below) > revision
        if wanted is not None:
            self._keep_matching(allowed, wanted)
        count = int(np.count_nonzero(allowed))
        return Scope(below, None if count == below else allowed, count)

    def slot(self, revision: int) -> int | None:
        """The slot of the version that this revision made; None when there is none."""
        return self._slot(revision, self._head.count)

    def revisions(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The revisions that made the versions of these slots."""
        return self._revisions.first(self._head.count)[slots]

    def state(self) -> State:
        """Everything as it is after the newest revision; arrays that later changes leave as they are."""
        head = self._head
        label_slots = self._label_slots.first()
        label_count = int(np.searchsorted(label_slots, head.count))
        return State(
            revision=head.revision,
            revisions=self._revisions.first(head.count),
            ended_at=self._ended_at.first(head.count).copy(),
            origins=self._origins.first(head.count),
            modalities=self._modalities.first(head.count),
            producers=self._producers.first(head.count),
            labels=self._labels.first(label_count),
            label_slots=label_slots[:label_count],
            producer_names=self._producer_numbers.names(),
            label_names=self._label_numbers.names(),
        )

    def _slot(self, revision: int, count: int) -> int | None:
        revisions = self._revisions.first(count)
        slot = int(np.searchsorted(revisions, revision))
        return slot if slot < count and revisions[slot] == revision else None

    def _keep_matching(self, allowed: Mask, wanted: pb.Filter) -> None:
        """Clear the mask, whose length says how many slots are meant, where the filter does not match."""
        below = len(allowed)
        if wanted.origins:
            allowed &= np.isin(self._origins.first(below), list(wanted.origins))
        if wanted.modalities:
            allowed &= np.isin(self._modalities.first(below), list(wanted.modalities))
        if wanted.producers:
            numbers = [self._producer_numbers.known(producer) for producer in wanted.producers]
            allowed &= np.isin(self._producers.first(below), numbers)
        for label in wanted.attributes.items():
            if not allowed.any():
                return
            labelled = np.zeros(below, dtype=np.bool_)
            slots = self._label_slots.first()
            slots = slots[self._labels.first(len(slots)) == self._label_numbers.known(label)]
            labelled[slots[: np.searchsorted(slots, below)]] = True
            allowed &= labelled


class _Column(Generic[Value]):
    """An array that grows at its end; it is copied only when it has doubled."""

    def __init__(self, dtype: type[Value], values: NDArray[Value] | None) -> None:
        self._array: NDArray[Value] = np.empty(0, dtype=dtype) if values is None else values.astype(dtype)
        self._count = len(self._array)

    def __len__(self) -> int:
        return self._count

    def first(self, count: int | None = None) -> NDArray[Value]:
        """The first values, all of them when None, without a copy; appending leaves them as they are."""
        # The count is read before the array: the array may be newer than the count, never older.
        return self._array[: self._count if count is None else count]

    def extend(self, values: Sequence[Any]) -> None:
        count = self._count + len(values)
        if count > len(self._array):
            grown = np.empty(max(count, 2 * len(self._array)), dtype=self._array.dtype)
            grown[: self._count] = self._array[: self._count]
            self._array = grown
        self._array[self._count : count] = values
        self._count = count


class _Numbers(Generic[Name]):
    """Numbers 0, 1, 2 … for names, in the order in which they are first met."""

    def __init__(self, names: Sequence[Name]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}

    def number(self, name: Name) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def known(self, name: Name) -> int:
        """The number of a name; -1, which no column holds, when it was never met."""
        return self._numbers.get(name, -1)

    def names(self) -> list[Name]:
        return list(self._numbers)
