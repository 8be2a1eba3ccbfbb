"""A subscription's position in the journal, and what the messages of its streams do to it. Pure: no sockets, no clock.

    stream 1:  subscribed(after 0)   changes 1 2 3   progress 3   (cut)
    stream 2:  subscribed(after 3)   changes 3 4 5   …            3 is dropped and counted, 4 and 5 are handed on

The cursor hands on each change once and in order. In a subscription without a filter revisions are dense, so that a
missing one shows at once; with a filter only the service knows what is missing, and says up to where nothing is by its
progress.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import Resync, State


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a journal: every matching change up to `revision` was received."""

    epoch: str
    """The epoch of the store; empty when it is not known."""
    revision: int
    """The revision; 0 before the first."""


class Start(enum.Enum):
    """Where a subscription without a position begins."""

    BEGINNING = "beginning"
    """With the very first change."""
    HEAD = "head"
    """With the first change that is committed from now on."""
    SNAPSHOT = "snapshot"
    """With all that is known now, then the changes."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A stream begins: the first one, or another one after the last ended."""

    epoch: str
    """The store's epoch."""
    head_revision: int
    """The namespace's head."""
    dimension: int
    """The namespace's dimension."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Some changes."""

    changes: Sequence[pb.Change]
    """In the order of their revisions, at least one."""
    revision: int
    """That of the last of them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Every matching change up to here was handed on."""

    revision: int
    """Up to here."""
    head_revision: int
    """The namespace's head."""
    time: datetime
    """The service's clock, UTC."""
    alarms: Sequence[pb.CollapseAlarm] = ()
    """The collapse alarms that are on, the newest first."""


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """A snapshot begins.

    Keep what there is until it has ended, and forget any snapshot that was begun before and did not end.
    """

    revision: int
    """The revision that it is of."""


@dataclass(frozen=True, slots=True)
class SnapshotItems:
    """Some items of the snapshot."""

    changes: Sequence[pb.Change]
    """Each as the change that made its version."""


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is whole: its items, and nothing else, are what is known at its revision."""

    revision: int
    """The revision that it is of. Changes after it follow."""


Event: TypeAlias = Subscribed | Changes | Progress | SnapshotBegin | SnapshotItems | SnapshotEnd
"""What a subscription yields."""


class StreamFault(Exception):
    """The stream does not hold what was promised.

    A revision is missing, a snapshot has another size than said, messages come out of order.
    """


class _Phase(enum.Enum):
    OPENING = enum.auto()
    """Nothing was received on this stream."""
    LIVE = enum.auto()
    """Changes follow the position."""
    SNAPSHOT_DUE = enum.auto()
    """Before anything else a snapshot must begin."""
    SNAPSHOT = enum.auto()
    """Between the begin and the end of a snapshot."""


class Cursor:
    """Where a subscription is.

    Attributes:
        position: what was received; None until there is something to resume from.
        epoch: the store's, as the last stream began with; that of the start before.
        head_revision: the newest revision heard of.
        duplicates: changes that came again and were dropped.
        alarms: the collapse alarms that are on, as was last heard.
    """

    def __init__(self, start: Start | Position, *, dense: bool) -> None:
        """Begins at `start`. `dense` says that every revision must come, as it must without a filter."""
        if start is Start.BEGINNING:
            start = Position("", 0)
        self.position = start if isinstance(start, Position) else None
        self.epoch = self.position.epoch if self.position else ""
        self.head_revision = 0
        self.duplicates = 0
        self.alarms: Sequence[pb.CollapseAlarm] = ()
        self._start = start
        self._dense = dense
        self._phase = _Phase.OPENING
        self._snapshot_revision = 0
        self._snapshot_count = 0

    @property
    def live(self) -> bool:
        """True while changes follow the position on this stream."""
        return self._phase is _Phase.LIVE

    def open(self, subscription: sync.Subscription) -> None:
        """Begins a new stream: sets in `subscription` where it starts."""
        self._phase = _Phase.OPENING
        if self.position is not None:
            subscription.after_revision = self.position.revision
            subscription.epoch = self.position.epoch
        elif self._start is Start.HEAD:
            subscription.head = True
        else:
            subscription.snapshot = True

    def forget(self) -> None:
        """Drops the position: the next stream starts with a snapshot."""
        self.position = None
        self._start = Start.SNAPSHOT

    def take(self, message: sync.SubscribeResponse) -> Event | None:
        """What `message` means to the consumer; None when it means nothing, as kinds that this version does not know.

        Raises:
            StreamFault: the stream is not to be trusted: begin a new one at the position, which is still right.
            Resync: the store is not the one that the position came from.
        """
        match message.WhichOneof("message"):
            case "subscribed":
                return self._subscribed(message.subscribed)
            case "changes":
                return self._changes(message.changes.changes)
            case "progress":
                return self._progress(message.progress)
            case "snapshot_begin":
                return self._snapshot_begin(message.snapshot_begin)
            case "snapshot":
                return self._snapshot_items(message.snapshot.changes)
            case "snapshot_end":
                return self._snapshot_end(message.snapshot_end)
            case "drain" if self.live:
                self._advance(message.drain.revision)
                return None
            case _:
                return None

    @property
    def revision(self) -> int:
        """The position's revision; 0 without one."""
        return self.position.revision if self.position else 0

    def _subscribed(self, subscribed: sync.Subscribed) -> Subscribed:
        if self._phase is not _Phase.OPENING:
            raise StreamFault("A second `subscribed` came on one stream.")
        position = self.position
        if position and position.epoch and position.epoch != subscribed.epoch:
            state = State(subscribed.epoch, subscribed.head_revision, 0)
            text = f"The position is of epoch {position.epoch}, the store of epoch {subscribed.epoch}: take a snapshot."
            raise Resync(text, reason="EPOCH_MISMATCH", state=state)
        self.epoch = subscribed.epoch
        self.head_revision = subscribed.head_revision
        if position is None and self._start is Start.HEAD:
            position = Position(subscribed.epoch, subscribed.after_revision)
        resumes = position is not None and subscribed.after_revision <= position.revision
        self._phase = _Phase.LIVE if resumes else _Phase.SNAPSHOT_DUE
        self.position = Position(subscribed.epoch, position.revision) if position else None
        return Subscribed(subscribed.epoch, subscribed.head_revision, subscribed.dimension)

    def _changes(self, changes: Sequence[pb.Change]) -> Changes | None:
        self._demand(_Phase.LIVE)
        revision = self.revision
        fresh = []
        for change in changes:
            if change.revision <= revision:
                continue
            if self._dense and change.revision != revision + 1:
                raise StreamFault(f"Revision {revision + 1} is missing: {change.revision} came after {revision}.")
            revision = change.revision
            fresh.append(change)
        self.duplicates += len(changes) - len(fresh)
        if not fresh:
            return None
        self._move(revision)
        return Changes(fresh, revision)

    def _progress(self, progress: sync.Progress) -> Progress | None:
        self.alarms = tuple(progress.alarms)
        if self._phase is _Phase.SNAPSHOT:  # a sign of life
            return None
        self._advance(progress.revision)
        self.head_revision = max(self.head_revision, progress.head_revision)
        return Progress(self.revision, progress.head_revision, progress.time.ToDatetime(UTC), self.alarms)

    def _advance(self, revision: int) -> None:
        """Nothing up to `revision` is still to come."""
        self._demand(_Phase.LIVE)
        if revision <= self.revision:
            return
        if self._dense:
            raise StreamFault(
                f"Revisions {self.revision + 1} to {revision} are missing; the service says it sent them."
            )
        self._move(revision)

    def _snapshot_begin(self, begin: sync.SnapshotBegin) -> SnapshotBegin:
        if self._phase is _Phase.OPENING:
            raise StreamFault("The stream did not begin with `subscribed`.")
        self._phase = _Phase.SNAPSHOT
        self._snapshot_revision = begin.revision
        self._snapshot_count = 0
        return SnapshotBegin(begin.revision)

    def _snapshot_items(self, changes: Sequence[pb.Change]) -> SnapshotItems:
        self._demand(_Phase.SNAPSHOT)
        self._snapshot_count += len(changes)
        return SnapshotItems(changes)

    def _snapshot_end(self, end: sync.SnapshotEnd) -> SnapshotEnd:
        self._demand(_Phase.SNAPSHOT)
        if end.revision != self._snapshot_revision or end.count != self._snapshot_count:
            raise StreamFault(
                f"The snapshot of revision {self._snapshot_revision} came with {self._snapshot_count} items, "
                f"its end says revision {end.revision} and {end.count} items."
            )
        self._phase = _Phase.LIVE
        self._move(end.revision)
        return SnapshotEnd(end.revision)

    def _move(self, revision: int) -> None:
        self.position = Position(self.epoch, revision)
        self.head_revision = max(self.head_revision, revision)

    def _demand(self, phase: _Phase) -> None:
        if self._phase is not phase:
            raise StreamFault(f"A message came out of place: it wants {phase.name}, the stream is {self._phase.name}.")
