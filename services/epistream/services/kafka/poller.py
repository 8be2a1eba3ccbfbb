"""The one thread that reads from Kafka: raw records into the backlog, each once, in the order of its partition.

It belongs to no consumer group: this service reads every partition, from where its own store says (`survey`). So there
is nothing to rebalance, and nobody else decides what is read next. Nothing is ever skipped: a partition that cannot be
read on is stopped, by name and with what an operator can do.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from epistream.indexer.clock import Clock
from epistream.indexer.model import Position, Record
from epistream.services.kafka import clients
from epistream.services.kafka.backlog import Backlog
from epistream.services.kafka.progress import Partition, Progress, Stopped
from epistream.wire.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
"""How long one poll waits; so long takes a stop, too."""
POLL_RECORDS_MAX: Final = 500
PACE_SECONDS: Final = 0.02
"""While what was read before still waits, the next poll may wait so long for more: a poll has costs of its own."""
_RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_POSITIONS_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 2.0


class Poller:
    """Reads what it was told to begin with, until it is stopped."""

    def __init__(self, bootstrap: str, backlog: Backlog, progress: Progress, clock: Clock) -> None:
        """Nothing runs before `start`."""
        self._bootstrap, self._backlog, self._progress, self._clock = bootstrap, backlog, progress, clock
        self._told: queue.SimpleQueue[dict[Partition, int]] = queue.SimpleQueue()
        self._next: dict[Partition, int] = {}
        """Where every partition goes on that is not stopped: after the newest record that was handed on."""
        self._stopping = threading.Event()
        self._alive_at = time.monotonic()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="kafka-poll", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Read no more. Whether the thread has ended in time."""
        self._stopping.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def begin(self, starts: dict[Partition, int]) -> None:
        """Read these partitions, too, each from its offset on. Any thread."""
        self._told.put(starts)

    def poll_age_seconds(self) -> float:
        """How long ago Kafka was last polled, or room for more was waited for."""
        return time.monotonic() - self._alive_at

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            before = dict(self._next)
            try:
                self._read_on()
            except Exception as error:  # noqa: BLE001 - whatever poll raises, its consumer is not used again
                failures = failures + 1 if self._next == before else 1
                self._handle(error, failures)
                self._stopping.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    def _read_on(self) -> None:
        """Read with one consumer until it fails or the thread stops."""
        if not self._next:
            self._next |= self._told_next(timeout_seconds=POLL_SECONDS)
            return
        with clients.consumer(self._bootstrap, "epistream-intake") as consumer:
            self._away = False
            _assign(consumer, self._next, self._next)
            positions_due = 0.0
            while not self._stopping.is_set() and self._next:
                if new := self._told_next():
                    self._next |= new
                    _assign(consumer, self._next, new)
                self._hand_on(self._poll(consumer))
                self._backlog.await_taken(PACE_SECONDS)
                if time.monotonic() > positions_due:
                    self._note_positions(consumer)
                    positions_due = time.monotonic() + _POSITIONS_SECONDS

    def _told_next(self, timeout_seconds: float = 0.0) -> dict[Partition, int]:
        try:
            return self._told.get(block=timeout_seconds > 0, timeout=timeout_seconds)
        except queue.Empty:
            return {}

    def _poll(self, consumer: Any) -> Mapping[Any, Sequence[Any]]:
        """One poll; none while the backlog is full.

        Without a group nobody expects polls, so nothing needs to be paused for them to go on. kafka-python forgets the
        error of a partition that is paused before it was raised, and then spins for ever when it is resumed.
        """
        self._alive_at = time.monotonic()
        if not self._backlog.await_room(POLL_SECONDS):
            return {}
        polled: Mapping[Any, Sequence[Any]] = consumer.poll(int(POLL_SECONDS * 1000), max_records=POLL_RECORDS_MAX)
        return polled

    def _hand_on(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        now_us = self._clock.now_us()
        for partition, records in polled.items():
            key = (partition.topic, partition.partition)
            self._next[key] = records[-1].offset + 1
            self._progress.handed_on(key, self._next[key])
            self._backlog.put(_records(records, now_us))

    def _note_positions(self, consumer: Any) -> None:
        """Tell the progress where each partition is read next, and where it ended when it was read last."""
        ends = {}
        for partition in consumer.assignment():
            key = (partition.topic, partition.partition)
            if (position := consumer.position(partition, timeout_ms=0)) is not None:
                self._progress.at(key, position)
            if (end := consumer.highwater(partition)) is not None:
                ends[key] = end
        self._progress.ends(ends)

    def _handle(self, error: Exception, failures: int) -> None:
        from kafka import errors as kafka

        match error:
            case kafka.OffsetOutOfRangeError():
                self._stop_partitions(_keyed(error.args[0]), "OFFSET_OUT_OF_RANGE", _OUT_OF_RANGE)
            case kafka.LogTruncationError():
                self._stop_partitions(_keyed(error.divergent_offsets), "LOG_TRUNCATED", _TRUNCATED)
            case kafka.CorruptRecordError() | kafka.UnsupportedCodecError() if failures > 1:
                for partition, why in list(self._unreadable()):
                    self._stop_partitions([partition], "UNREADABLE", f"{why}. {_UNREADABLE}")
            case Unavailable():
                if not self._away:
                    _LOG.warning("Kafka is away; reading goes on when it is back: %s", error)
                self._away = True
            case kafka.KafkaError():
                _LOG.warning("Reading from Kafka failed; beginning anew with a new consumer: %s", error)
            case _:
                _LOG.error("Reading from Kafka failed unexpectedly; beginning anew", exc_info=error)

    def _unreadable(self) -> Iterator[tuple[Partition, Exception]]:
        """The partitions whose next record cannot be read, each tried alone."""
        from kafka import errors as kafka

        for partition, offset in self._next.items():
            if self._stopping.is_set():
                return
            try:
                with clients.consumer(self._bootstrap, "epistream-intake-probe") as consumer:
                    _assign(consumer, {partition: offset}, {partition: offset})
                    consumer.poll(int(_PROBE_SECONDS * 1000), max_records=1)
            except (kafka.CorruptRecordError, kafka.UnsupportedCodecError) as error:
                yield partition, error

    def _stop_partitions(self, partitions: Iterable[Partition], reason: str, what: str) -> None:
        for topic, number in partitions:
            offset = self._next.pop((topic, number), None)
            if offset is None:
                continue
            text = f"{topic}/{number} is not read any more ({reason}). It was to be read from offset {offset}. {what}"
            message = text + _WAY_ON.format(topic=topic, number=number)
            self._progress.stop((topic, number), Stopped(reason, message))
            _LOG.error("%s", message)


_OUT_OF_RANGE: Final = (
    "The partition does not hold it: records were removed before they were read, or the topic was made anew."
)
_TRUNCATED: Final = "Kafka has lost records that were read before, and others stand in their place."
_UNREADABLE: Final = (
    "Either it is compressed with something that is not installed here (pip install lz4, zstandard or python-snappy), "
    "or Kafka's files are damaged, or its producer writes what Kafka's protocol does not allow"
)
_WAY_ON: Final = (
    " Nothing is skipped without a decision: stop the service, then run `python -m epistream.services kafka reread "
    "--folder FOLDER {topic} {number}` to have it read from its oldest record again (what is known has no second "
    "effect), or with an offset behind the number from there on, and start the service."
)


def _keyed(partitions: Mapping[Any, Any]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]


def _assign(consumer: Any, all_: Iterable[Partition], new: Mapping[Partition, int]) -> None:
    """Have a consumer read all of these partitions; the new ones from their offsets on, the others where they are."""
    from kafka import TopicPartition

    consumer.assign([TopicPartition(*partition) for partition in all_])
    for partition, offset in new.items():
        consumer.seek(TopicPartition(*partition), offset)


def _records(records: Iterable[Any], now_us: int) -> Iterator[Record]:
    """What kafka-python read, untouched, but that a header without a value gets an empty one."""
    for r in records:
        yield Record(
            value=r.value,
            received_us=now_us,
            headers=tuple((name, value or b"") for name, value in r.headers),
            key=r.key,
            timestamp_us=r.timestamp * 1000 if r.timestamp >= 0 else None,
            position=Position(r.topic, r.partition, r.offset, r.leader_epoch),
        )
