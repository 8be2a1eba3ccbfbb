"""How far the partitions of Kafka have been read, made durable, and how much there is still to read."""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from epistream.indexer.model import Record

Partition: TypeAlias = tuple[str, int]
"""A topic and the number of one of its partitions."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition is behind."""

    records: int
    """How many offsets are not yet durable."""
    seconds: float
    """The age of the newest durable record while there are more; 0 when there are none."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a partition is not read any more. It is read again only after an operator's decision or permission."""

    reason: str
    """A name for programs: OFFSET_OUT_OF_RANGE, LOG_TRUNCATED, TOPIC_REPLACED or UNREADABLE; PERMISSION_DENIED passes
    by itself."""
    message: str
    """What happened, and what to do."""

    @classmethod
    def at(cls, partition: Partition, offset: int, reason: str, what: str) -> "Stopped":
        """A partition that was to be read from `offset`, until an operator decides; `what` says what happened."""
        topic, number = partition
        text = f"{topic}/{number} is not read any more ({reason}). It was to be read from offset {offset}. {what}"
        return cls(reason, text + _WAY_ON.format(topic=topic, number=number))


_WAY_ON: Final = (
    " Nothing is skipped without a decision: stop the service, then run `epistream kafka reread {topic} {number} "
    "--folder FOLDER` to have it read from its oldest record again, unless kafka_start says otherwise (what is known "
    "has no second effect), or with an offset behind the number from there on, and start the service."
)


@dataclass(slots=True)
class _State:
    durable: int
    """The offset after the newest durable record."""
    handed_on: int
    """The offset after the newest record that was taken from Kafka."""
    position: int
    """Where Kafka is read next: beyond `handed_on` where transactions have left their marks."""
    newest_us: int
    """The time of the newest durable record."""
    end: int
    """The offset after the newest record in Kafka."""


class Progress:
    """The partitions that are read. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Partition, _State] = {}
        self._stopped: dict[Partition, Stopped] = {}
        self._denied: dict[str, Stopped] = {}

    def begin(self, partition: Partition, offset: int, now_us: int) -> None:
        """A partition is read from `offset` on."""
        with self._lock:
            self._states[partition] = _State(offset, offset, offset, now_us, offset)

    def handed_on(self, partition: Partition, offset: int) -> None:
        """Everything before `offset` was taken from Kafka."""
        with self._lock:
            state = self._states[partition]
            state.handed_on, state.position = offset, max(offset, state.position)

    def at(self, partition: Partition, position: int) -> None:
        """Kafka is read from `position` next: there is nothing between the newest record taken and it."""
        with self._lock:
            self._states[partition].position = position

    def durable(self, records: Iterable[Record]) -> None:
        """Records are durable, in their order."""
        with self._lock:
            for record in records:
                if (at := record.position) is not None:
                    state = self._states[at.topic, at.partition]
                    state.durable = at.offset + 1
                    state.newest_us = record.timestamp_us or record.received_us

    def ends(self, ends: Mapping[Partition, int]) -> None:
        """Where partitions end in Kafka."""
        with self._lock:
            for partition, end in ends.items():
                self._states[partition].end = end

    def stop(self, partition: Partition, why: Stopped) -> None:
        """A partition is not read any more."""
        with self._lock:
            self._stopped[partition] = why

    def deny(self, denied: Mapping[str, str], asked: Collection[str]) -> None:
        """Of the topics `asked` for we may not read these now, and each text says why; the others of them we may."""
        with self._lock:
            kept = {topic: why for topic, why in self._denied.items() if topic not in asked}
            self._denied = kept | {topic: Stopped("PERMISSION_DENIED", text) for topic, text in denied.items()}

    def partitions(self) -> frozenset[Partition]:
        """Every partition that was begun."""
        with self._lock:
            return frozenset(self._states)

    def stopped(self) -> dict[Partition, Stopped]:
        """The partitions that are not read, and why."""
        with self._lock:
            denied = {each: self._denied[each[0]] for each in self._states if each[0] in self._denied}
            return denied | self._stopped

    def done(self) -> dict[Partition, int]:
        """The offset before which everything is durable, by partition."""
        with self._lock:
            return {partition: _done(state) for partition, state in self._states.items()}

    def lag(self, now_us: int) -> dict[Partition, Lag]:
        """How far each partition is behind."""
        with self._lock:
            return {partition: _lag(state, now_us) for partition, state in self._states.items()}


def _done(state: _State) -> int:
    return state.position if state.durable == state.handed_on else state.durable


def _lag(state: _State, now_us: int) -> Lag:
    records = max(0, max(state.end, state.position) - _done(state))
    # A producer's clock may be wrong.
    return Lag(records, max(0, now_us - state.newest_us) / 1e6 if records else 0.0)
