"""What there is to read in Kafka: asked for again and again, beside the poller.

It finds partitions and says where each begins, asks where they end, and tells Kafka's group how far everything is
durable. That last is for lag tools only, and late or lost it changes nothing: where to read is in our own store.

It stops the partitions of a topic that was deleted and made anew under its name: offsets and epochs begin again there,
so a position may fit by chance, and what stands before it would never be read. Only the topic's id tells (KIP-516). A
poller may have read on in the new topic until then, for as long as the time between two surveys. That loses nothing:
those records are taken in, the store's position goes on being of the topic before, so the partition is stopped at the
latest by the next start, and read from its oldest record it brings them once more, without a second effect.
"""

import base64
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from epistream.clients.kafka_client import translated
from epistream.indexer.clock import Clock
from epistream.indexer.model import Place
from epistream.services.kafka import clients
from epistream.services.kafka.progress import Partition, Progress, Stopped
from epistream.wire.errors import EpistreamError
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity

_LOG: Final = logging.getLogger(__name__)

SURVEY_SECONDS: Final = 3.0
"""How often Kafka is asked and told. The group is behind the store by at most this and the time of the answers."""
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 3.0)
_REPLACED: Final = (
    "The topic was deleted and made anew, or this is another Kafka: what was read was of the topic with the id {read}, "
    "and this one has the id {there}. Of what stands before that offset now, not all was read."
)


@dataclass(frozen=True, slots=True)
class Source:
    """What to read."""

    bootstrap: str
    """`host:port` of a broker, or several with commas between."""
    topics: tuple[str, ...]
    """Where submissions are."""
    group: str
    """The consumer group that shows Kafka's tools how far this service is."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a topic begins that the store has never read: at its oldest records, or after its newest.

    A partition that is added to one that was read begins at its oldest: producers may have found it first.
    """
    security: KafkaSecurity = PLAINTEXT
    """What the brokers ask for."""


@dataclass(frozen=True, slots=True)
class Positions:
    """The store's memory of how far it has read."""

    read: Callable[[], Mapping[Partition, Place]]
    """`Pipeline.positions`."""
    begin: Callable[[Mapping[Partition, Place]], None]
    """Keeps where partitions begin; returns when that is durable."""
    learn: Callable[[Mapping[Partition, str]], None]
    """Keeps which topics positions are of that did not say so; returns when that is durable.

    Told of partitions that are to be read before they are `found`.
    """


class Survey:
    """A thread that keeps the progress up to date with Kafka, and Kafka's group with the progress."""

    def __init__(
        self,
        source: Source,
        positions: Positions,
        progress: Progress,
        clock: Clock,
        found: Callable[[dict[Partition, Place]], None],
        replaced: Callable[[Collection[Partition]], None],
    ) -> None:
        """Nothing runs before `start`. On the survey's thread `found` is told new partitions and where to begin.

        `replaced` is told of partitions, found or not, that they must not be read: they are of another topic by now.
        """
        self._source, self._positions, self._progress, self._clock = source, positions, progress, clock
        self._found, self._replaced = found, replaced
        self._begun: dict[Partition, str] = {}
        """Of each partition that was begun, and not stopped here, the id of the topic that its position is of."""
        self._missing: dict[str, str] = {}
        self._without_leader: set[Partition] = set()
        self._late: set[Partition] = set()
        """Those that had no leader when the first of their topics began: they are as old as these."""
        self._told: dict[Partition, int] = {}
        """What the group has taken."""
        self._refused: frozenset[Partition] = frozenset()
        """What it did not take the last time."""
        self._said = ""
        """Why Kafka does not answer, as it was last told."""
        self._away_since: float | None = None
        """When Kafka failed first of the times since it last answered what topics there are."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-survey", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Tell the group once more, where Kafka answers, and end. Whether the thread has ended in time."""
        self._stopping.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def away_seconds(self) -> float:
        """For how long Kafka has not answered; 0 while it does. Any thread."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                with clients.admin(self._source.bootstrap, "epistream-survey", self._source.security) as admin:
                    self._survey(admin)
                    failures, self._said = 0, ""
                    while not self._stopping.wait(SURVEY_SECONDS):
                        self._survey(admin)
                    self._tell_group(admin)
            except Exception as error:  # noqa: BLE001 - the thread lives as long as the service; what fails is tried again
                failures += 1
                if self._away_since is None:
                    self._away_since = time.monotonic()
                self._log(error, failures)
                self._stopping.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    def _survey(self, admin: Any) -> None:
        there, topic_ids = self._partitions(admin)
        self._away_since = None  # it answers, though what follows may fail where a leader changes now
        self._stop_replaced(topic_ids)
        if new := there - self._progress.partitions():
            known = self._positions.read()
            read = {topic for topic, _ in known}
            self._late |= {partition for partition in self._without_leader if partition[0] not in read}
            # First those that Kafka need not be asked about: it may not answer.
            self._begin({partition: known[partition] for partition in new & known.keys()}, topic_ids)
            self._begin(self._starts(admin, new - known.keys(), read, topic_ids), topic_ids)
        self._begun |= self._learnt(self._begun, topic_ids)
        self._progress.ends(self._offsets(admin, dict.fromkeys(there, "latest")))
        self._tell_group(admin)

    def _partitions(self, admin: Any) -> tuple[frozenset[Partition], dict[str, str]]:
        """The partitions that have a leader, and the topics' ids; what is not there is named in the log once.

        Nobody can say where a partition without a leader begins and ends, and kafka-python then says it of no other.
        """
        from kafka.errors import LeaderNotAvailableError, for_code

        found: set[Partition] = set()
        topic_ids: dict[str, str] = {}
        missing: dict[str, str] = {}
        self._without_leader.clear()
        for topic in admin.describe_topics(list(self._source.topics)):
            if topic["error_code"]:
                missing[topic["name"]] = for_code(topic["error_code"]).__name__
            elif topic_id := topic.get("topic_id"):  # brokers before 2.8 have none
                topic_ids[topic["name"]] = _shown(topic_id)
            for partition in topic["partitions"]:
                number, error = partition["partition_index"], partition["error_code"]
                if error or partition["leader_id"] < 0:
                    why = for_code(error) if error else LeaderNotAvailableError
                    missing[f"{topic['name']}/{number}"] = why.__name__
                    self._without_leader.add((topic["name"], number))
                else:
                    found.add((topic["name"], number))
        if missing and missing != self._missing:
            _LOG.error("Kafka does not have these, or does not let us see them: %s. They are read when it has", missing)
        self._missing = missing
        return frozenset(found), topic_ids

    def _starts(
        self, admin: Any, partitions: frozenset[Partition], read: Collection[str], topic_ids: Mapping[str, str]
    ) -> dict[Partition, Place]:
        """Where partitions begin that the store does not know, which is then kept in the store.

        That is at their oldest records where their topics were `read` before, else where the setting says.
        `topic_ids` were asked for before the offsets: a topic that is made anew in between is found to be another.
        """
        added = {each for each in partitions if each[0] in read} - self._late
        which = {each: "earliest" if each in added else self._source.start for each in partitions}
        first = {
            partition: Place(offset, topic_id=topic_ids.get(partition[0], ""))
            for partition, offset in self._offsets(admin, which).items()
        }
        if first:
            self._positions.begin(first)
        for (topic, number), place in first.items():
            _LOG.info(
                "%s/%d is read for the first time, from %s on: offset %d",
                topic,
                number,
                which[topic, number],
                place.offset,
            )
        return first

    def _begin(self, starts: dict[Partition, Place], topic_ids: Mapping[str, str]) -> None:
        if not starts:
            return
        begun = {partition: place.topic_id for partition, place in starts.items()}
        begun |= self._learnt(begun, topic_ids)  # before they are read: what was refused is known again by these ids
        for partition, place in starts.items():
            self._progress.begin(partition, place.offset, self._clock.now_us())
        self._begun |= begun
        self._stop_replaced(topic_ids)
        self._found({partition: place for partition, place in starts.items() if partition in self._begun})

    def _stop_replaced(self, topic_ids: Mapping[str, str]) -> None:
        """Stop the partitions whose positions are of other topics than those that have their names now."""
        replaced = {
            partition: (read, there)
            for partition, read in self._begun.items()
            if (there := topic_ids.get(partition[0], read)) != read and read
        }
        if not replaced:
            return
        done = self._progress.done()
        self._replaced(replaced.keys())
        for partition, (read, there) in replaced.items():
            what = _REPLACED.format(read=read, there=there)
            why = Stopped.at(partition, done[partition], "TOPIC_REPLACED", what)
            self._progress.stop(partition, why)
            _LOG.error("%s", why.message)
            del self._begun[partition]

    def _learnt(self, begun: Mapping[Partition, str], topic_ids: Mapping[str, str]) -> dict[Partition, str]:
        """Keep the ids of topics for positions that do not say which topics they are of, and return these."""
        unknown = [partition for partition, read in begun.items() if not read]
        learnt = {partition: topic_ids[partition[0]] for partition in unknown if partition[0] in topic_ids}
        if learnt:
            self._positions.learn(learnt)
        return learnt

    def _offsets(self, admin: Any, which: Mapping[Partition, str]) -> dict[Partition, int]:
        """The `earliest` or the `latest` offsets of partitions."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec
        from kafka.protocol.consumer import IsolationLevel

        asked = {TopicPartition(*partition): OffsetSpec[name.upper()] for partition, name in which.items()}
        if not asked:
            return {}
        answers = admin.list_partition_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, timeout_ms=clients.REQUEST_TIMEOUT_MS
        )
        return {(partition.topic, partition.partition): answer.offset for partition, answer in answers.items()}

    def _tell_group(self, admin: Any) -> None:
        """Commit how far everything is durable to the group, where that has changed."""
        from kafka import TopicPartition
        from kafka.errors import (
            CoordinatorLoadInProgressError,
            CoordinatorNotAvailableError,
            GroupAuthorizationFailedError,
            NotCoordinatorError,
        )
        from kafka.structs import OffsetAndMetadata

        done = self._progress.done()
        new = {partition: offset for partition, offset in done.items() if self._told.get(partition) != offset}
        if not new:
            return
        offsets = {TopicPartition(*partition): OffsetAndMetadata(offset, "", -1) for partition, offset in new.items()}
        moved = {NotCoordinatorError, CoordinatorNotAvailableError, CoordinatorLoadInProgressError}
        try:
            answers = admin.alter_group_offsets(self._source.group, offsets)
            refused = {(p.topic, p.partition): error.__name__ for p, error in answers.items() if error.errno}
            if not moved.isdisjoint(answers.values()):
                clients.forget_coordinator(admin, self._source.group)
        except GroupAuthorizationFailedError as error:  # reading does not need the group
            refused = dict.fromkeys(new, type(error).__name__)
        if refused.keys() - self._refused:
            _LOG.warning(
                "The group %s does not take our positions now, and lag tools are misled; it is told again every %g "
                "seconds: %s",
                self._source.group,
                SURVEY_SECONDS,
                {f"{topic}/{number}": why for (topic, number), why in refused.items()},
            )
        self._refused = frozenset(refused)
        self._told |= {partition: offset for partition, offset in new.items() if partition not in refused}

    def _log(self, error: Exception, failures: int) -> None:
        from kafka.errors import KafkaError

        if isinstance(error, KafkaError):
            error = translated(error, self._source.bootstrap, "asking about topics")
        if not isinstance(error, EpistreamError):
            _LOG.error("Asking Kafka failed unexpectedly; trying again", exc_info=error)
        # The first may be a coordinator that is being chosen, or a leader that has moved.
        elif failures > 1 and self._said != error.reason:
            self._said = error.reason
            _LOG.warning("Kafka does not answer, or does not let us in; trying again until it does: %s", error)


def _shown(topic_id: str) -> str:
    """The id of a topic, a UUID, as Kafka's tools show it."""
    return base64.urlsafe_b64encode(uuid.UUID(topic_id).bytes).rstrip(b"=").decode()
