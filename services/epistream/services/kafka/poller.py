"""Reads from Kafka and decodes: each record once, in the order of its partition.

It runs in a process of its own (`polling` starts it): what is read here and what it says needs nothing of the service's
state. It belongs to no consumer group: the service reads every partition, from where its own store says (`survey`). So
there is nothing to rebalance, and nobody else decides what is read next. Nothing is ever skipped: a partition that
cannot be read on is stopped, by name and with what an operator can do.

    python -m epistream.services.kafka.poller BOOTSTRAP SECURITY

SECURITY is a `KafkaSecurity`: it names the files with what is secret, and holds nothing of it.
It hears (`keeper`) where every partition is read on, again whenever there are more; and None in place of that, of one
that is not read any more. It tells messages with one of these fields, and waits while the service is busy: so much is
read as can be taken in.

    polled      of what a poll has brought the topic, the partition, where it is read on and the parcels, in portions;
                or None: it has brought nothing
    positions   by topic and partition, where Kafka is read next; and, as `ends`, where they ended when they were read
    stopped     a topic, a partition, a reason and a text: it is not read any more
    denied      the topics that we may not read now, each with a text: they are tried again from time to time
"""

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from epistream.indexer.clock import SystemClock
from epistream.indexer.model import Place, Position, Record
from epistream.services.kafka import clients
from epistream.services.kafka.backlog import BATCH_BYTES_MAX, weight_bytes
from epistream.services.kafka.batches import Refused
from epistream.services.kafka.keeper import Service
from epistream.services.kafka.parcels import Parcel, pack
from epistream.services.kafka.progress import Partition, Stopped
from epistream.wire.errors import Denied, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.limits import TIME_END

_LOG: Final = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
"""How long one poll waits."""
POLL_RECORDS_MAX: Final = 500
_RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_POSITIONS_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 2.0
_TIME_MS_END: Final = int(TIME_END.timestamp()) * 1000
DENIED_SECONDS: Final = 5.0
"""How long a topic that we may not read is left alone. Each try costs a new consumer, for all."""


class Poller:
    """Reads what it was told to begin with, for ever."""

    def __init__(self, bootstrap: str, service: Service, security: KafkaSecurity = PLAINTEXT) -> None:
        """Nothing runs before `run`."""
        self._bootstrap, self._security = bootstrap, security
        self._service, self._clock = service, SystemClock()
        self._told: queue.SimpleQueue[Mapping[Partition, Place | None]] = queue.SimpleQueue()
        self._next: dict[Partition, Place] = {}
        """Where every partition goes on that is not stopped: after the newest record that was handed on."""
        self._known: set[Partition] = set()
        self._denied: dict[str, float] = {}
        """The topics that we may not read, and when each is tried again."""
        self._away = ""
        """Why Kafka cannot be read at all, as it was last told."""
        self._was_unreadable = False
        """Whether a record could not be read, once. The second time it is looked for, however much others bring."""

    def begin(self, starts: Mapping[Partition, Place | None]) -> None:
        """Read these partitions, too, each on from its place; the known are left as they are. Any thread.

        One that has None in place of that is not read any more, whatever is told of it afterwards.
        """
        self._told.put(starts)

    def run(self) -> None:
        """Read. Does not return."""
        failures = 0
        self._tell_denied()  # nothing yet, whatever the process before this one told
        while True:
            before = dict(self._next)
            try:
                self._read_on()
            except Exception as error:  # noqa: BLE001 - whatever poll raises, its consumer is not used again
                failures = failures + 1 if self._next == before else 1
                self._handle(error)
                time.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    def _read_on(self) -> None:
        """Read with one consumer until it fails, or nothing is left to read."""
        while not self._next:
            self._begin_told(wait=True)
        with clients.consumer(self._bootstrap, "epistream-intake", self._security) as consumer:
            self._away = ""
            read: set[Partition] = set()
            positions_due = 0.0
            while self._next:
                self._begin_told()
                if (readable := self._readable()) != read:
                    _assign(consumer, readable, {partition: self._next[partition] for partition in readable - read})
                    read = readable
                # Without a group nobody expects polls, so nothing needs to be paused while the service is busy.
                # kafka-python forgets the error of a partition that is paused before it was raised, and then spins
                # for ever when it is resumed.
                self._hand_on(clients.polled(consumer, int(POLL_SECONDS * 1000), POLL_RECORDS_MAX))
                if time.monotonic() > positions_due:
                    self._tell_positions(consumer)
                    positions_due = time.monotonic() + _POSITIONS_SECONDS

    def _begin_told(self, *, wait: bool = False) -> None:
        """Take up what is new of what was told."""
        with contextlib.suppress(queue.Empty):
            told = self._told.get(block=wait)
            for partition, place in told.items():
                if place is None:
                    self._next.pop(partition, None)
                elif partition not in self._known:
                    self._next[partition] = place
            self._known |= told.keys()

    def _readable(self) -> set[Partition]:
        """The partitions to read now: all but those of topics that are left alone for a while."""
        now = time.monotonic()
        return {partition for partition in self._next if self._denied.get(partition[0], now) <= now}

    def _hand_on(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        """Tell what a poll has brought, in portions; also nothing, which is a sign of life."""
        now_us = self._clock.now_us()
        if not polled:
            self._service.tell(polled=None)
        for partition, records in polled.items():
            for portion in _portions(records):
                parcels = [_parcel(record, now_us) for record in portion]
                following = Place(portion[-1].offset + 1, portion[-1].leader_epoch)
                self._service.tell(polled=[partition.topic, partition.partition, following, parcels])
                # Only now: if something fails, reading begins anew from here.
                self._next[partition.topic, partition.partition] = following

    def _tell_positions(self, consumer: Any) -> None:
        """Tell where each partition is read next, and where it ended when it was read last."""
        positions, ends = {}, {}
        for partition in consumer.assignment():
            key = (partition.topic, partition.partition)
            if (position := consumer.position(partition, timeout_ms=0)) is not None:
                positions[key] = position
            if (end := consumer.highwater(partition)) is not None:
                ends[key] = end
                if self._denied.pop(partition.topic, None) is not None:
                    _LOG.info("%s may be read now", partition.topic)
                    self._tell_denied()
        self._service.tell(positions=positions, ends=ends)

    def _handle(self, error: Exception) -> None:
        from kafka import errors as kafka

        match error:
            case kafka.OffsetOutOfRangeError():
                self._stop_partitions(_keyed(error.args[0]), "OFFSET_OUT_OF_RANGE", _OUT_OF_RANGE)
            case kafka.LogTruncationError():
                for partition, at in error.divergent_offsets.items():
                    since = f" from offset {at.offset} on" if at is not None else ""
                    self._stop_partitions(_keyed([partition]), "LOG_TRUNCATED", _TRUNCATED.format(since=since))
            case kafka.TopicAuthorizationFailedError():
                self._leave_alone(error.args[0])
            case kafka.CorruptRecordError() | kafka.UnsupportedCodecError():
                found = list(self._unreadable()) if self._was_unreadable else []
                for partition, why in found:
                    self._stop_partitions([partition], "UNREADABLE", f"{why}. {_UNREADABLE}")
                self._was_unreadable = not self._was_unreadable
                if not found:
                    _LOG.warning("A record cannot be read; beginning anew with a new consumer: %s", error)
            case Unavailable() | Denied() | InvalidInput():
                if self._away != error.reason:
                    _LOG.warning("Kafka is away, or does not let us in; reading goes on when it does: %s", error)
                self._away = error.reason
            case kafka.KafkaError():
                _LOG.warning("Reading from Kafka failed; beginning anew with a new consumer: %s", error)
            case _:
                _LOG.error("Reading from Kafka failed unexpectedly; beginning anew", exc_info=error)

    def _leave_alone(self, topics: Iterable[str]) -> None:
        """Read these topics again only after some time: until then they would hold up the others."""
        for topic in topics:
            if topic not in self._denied:
                _LOG.error("%s", _DENIED.format(topic=topic))
            self._denied[topic] = time.monotonic() + DENIED_SECONDS
        self._tell_denied()

    def _tell_denied(self) -> None:
        self._service.tell(denied={topic: _DENIED.format(topic=topic) for topic in self._denied})

    def _unreadable(self) -> Iterator[tuple[Partition, Exception]]:
        """The partitions whose next record cannot be read, each tried alone. One without a next would be waited for."""
        from kafka import TopicPartition
        from kafka import errors as kafka

        tried = self._readable()
        try:
            with self._probe() as consumer:
                ends = consumer.end_offsets([TopicPartition(*partition) for partition in tried])
        except (kafka.KafkaError, KeyError) as error:  # as where one has no leader now, which kafka-python then misses
            _LOG.warning("Kafka does not say where the partitions end, so all are tried: %r", error)
        else:
            tried = {one for one in _keyed(ends) if ends[TopicPartition(*one)] > self._next[one].offset}
        for partition in tried:
            try:
                with self._probe() as consumer:
                    _assign(consumer, [partition], {partition: self._next[partition]})
                    clients.polled(consumer, int(_PROBE_SECONDS * 1000), 1)
            except (kafka.CorruptRecordError, kafka.UnsupportedCodecError) as error:
                yield partition, error

    def _probe(self) -> contextlib.AbstractContextManager[Any]:
        return clients.consumer(self._bootstrap, "epistream-intake-probe", self._security)

    def _stop_partitions(self, partitions: Iterable[Partition], reason: str, what: str) -> None:
        for topic, number in partitions:
            place = self._next.pop((topic, number), None)
            if place is None:
                continue
            why = Stopped.at((topic, number), place.offset, reason, what)
            self._service.tell(stopped=[topic, number, why.reason, why.message])


_OUT_OF_RANGE: Final = (
    "The partition does not hold it: records were removed before they were read, or the topic was made anew."
)
_TRUNCATED: Final = (
    "Kafka has lost what was read{since}, or the topic was made anew. What stands in its place now was not read."
)
_UNREADABLE: Final = (
    "Either it is compressed with something that is not installed here (pip install 'epistream[kafka]' has all four), "
    "or Kafka's files are damaged, or its producer writes what Kafka's protocol does not allow."
)
_DENIED: Final = (
    "{topic} is not read, since Kafka does not allow it to this user: an ACL must allow READ on the topic "
    f"(docs/kafka.md). It is tried again every {DENIED_SECONDS:g} seconds, and goes on where it was."
)


def _keyed(partitions: Iterable[Any]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]


def _assign(consumer: Any, all_: Iterable[Partition], new: Mapping[Partition, Place]) -> None:
    """Have a consumer read all of these partitions; the new ones on from their places, the others where they are."""
    from kafka import TopicPartition

    consumer.assign([TopicPartition(*partition) for partition in all_])
    for partition, place in new.items():
        clients.read_on(consumer, *partition, place)


def _portions(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The records in order, cut so that a portion is no larger than what is prepared together, or one record."""
    start = size = 0
    for at, record in enumerate(records):
        more = weight_bytes(record)
        if at > start and size + more > BATCH_BYTES_MAX:
            yield records[start:at]
            start, size = at, 0
        size += more
    yield records[start:]


def _parcel(r: Any, received_us: int) -> Parcel:
    """What kafka-python read, untouched, but that a header without a value gets an empty one; decoded.

    A producer may have written any 64 bits as the time. What is none that a submission could say is not kept.
    """
    refused = r.value.why if isinstance(r.value, Refused) else ""
    record = Record(
        value=r.value if not refused else None,
        received_us=received_us,
        headers=tuple((name, value or b"") for name, value in r.headers),
        key=r.key,
        timestamp_us=r.timestamp * 1000 if 0 <= r.timestamp < _TIME_MS_END else None,
        position=Position(r.topic, r.partition, r.offset, r.leader_epoch),
    )
    return pack(record, refused)


def _listen(service: Service, begin: Callable[[Mapping[Partition, Place | None]], None]) -> None:
    for starts in service.heard():
        begin(starts)
    # What was read and not taken in is read again by the next.
    os._exit(0)


def main(bootstrap: str, security: str) -> None:
    """Read from Kafka what the service says, until it stops."""
    service = Service()
    poller = Poller(bootstrap, service, KafkaSecurity.from_argument(security))
    threading.Thread(target=_listen, args=(service, poller.begin), name="listen", daemon=True).start()
    poller.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
