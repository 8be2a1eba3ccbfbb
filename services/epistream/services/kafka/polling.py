"""Keeps a poller running, in a process of its own, and puts what it reads into the backlog."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from epistream.indexer.model import Arrived, Place
from epistream.services.kafka import poller
from epistream.services.kafka.backlog import Backlog
from epistream.services.kafka.keeper import Keeper
from epistream.services.kafka.parcels import unpack
from epistream.services.kafka.poller import POLL_SECONDS
from epistream.services.kafka.progress import Partition, Progress, Stopped
from epistream.services.kafka.survey import Source

_LOG: Final = logging.getLogger(__name__)


class Polling:
    """A poller's process, and a thread that takes in what it reads, while the backlog has room."""

    def __init__(
        self,
        source: Source,
        backlog: Backlog,
        progress: Progress,
        restarted: Callable[[], None],
        arrived: Callable[[Arrived], Arrived] | None = None,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            source: where Kafka is, how it is reached, and the topics that are read.
            backlog: gets what is read.
            progress: is told how far that is.
            restarted: called when another process is begun after one that failed.
            arrived: called with each record; what it returns is put into the backlog. None where nobody looks.
        """
        self._backlog, self._progress, self._arrived = backlog, progress, arrived
        self._topics: Final = frozenset(source.topics)
        self._lock = threading.Lock()
        self._next: dict[Partition, Place] = {}
        """Where a new process has to begin: after the newest record that was put into the backlog."""
        self._stopping = threading.Event()
        self._alive_at = time.monotonic()
        self._keeper = Keeper(
            poller,
            [source.bootstrap, source.security.to_argument()],
            self._take,
            restarted,
            first=self._starts,
            patient=True,
        )

    def start(self) -> None:
        """Start the process. Does not block."""
        self._keeper.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Read no more. Whether the process and the thread have ended in time."""
        self._stopping.set()
        return self._keeper.stop(timeout_seconds)

    def begin(self, starts: Mapping[Partition, Place]) -> None:
        """Read these partitions, too, each on from its place, where they are of its topics. Any thread."""
        with self._lock:
            if not self._next:
                self._alive_at = time.monotonic()  # until now there was nothing to poll
            self._next.update({each: place for each, place in starts.items() if each[0] in self._topics})
        self._keeper.send(self._starts())

    def leave(self, partitions: Iterable[Partition]) -> None:
        """Read these partitions no more, and take in nothing else of them. Any thread."""
        with self._lock:
            left = [each for each in partitions if self._next.pop(each, None) is not None]
        if left:
            self._keeper.send(dict.fromkeys(left))

    @property
    def reads(self) -> bool:
        """Whether it has a partition to read."""
        with self._lock:
            return bool(self._next)

    def poll_age_seconds(self) -> float:
        """How long ago Kafka was last polled, or room for more was waited for."""
        return time.monotonic() - self._alive_at

    def _starts(self) -> dict[Partition, Place]:
        with self._lock:
            return dict(self._next)

    def _take(self, told: Mapping[str, Any]) -> bool:
        """Take in what the poller tells. Whether it has polled."""
        self._alive_at = time.monotonic()
        if self._stopping.is_set():
            return True  # not taken in, and so read again by the next start
        match told:
            case {"polled": None}:
                return True
            case {"polled": [topic, number, following, parcels]}:
                self._put((topic, number), following, [unpack(parcel) for parcel in parcels])
                return True
            case {"positions": positions, "ends": ends}:
                with self._lock:  # of a partition that was left it may be of another topic
                    for partition, position in positions.items():
                        if partition in self._next:
                            self._progress.at(partition, position)
                    self._progress.ends({each: end for each, end in ends.items() if each in self._next})
            case {"denied": denied}:
                self._progress.deny(denied, self._topics)
            case {"stopped": [topic, number, reason, message]}:
                with self._lock:  # so that what `leave` is told for stands, whichever comes first
                    if self._next.pop((topic, number), None) is None:
                        return False
                    self._progress.stop((topic, number), Stopped(reason, message))
                _LOG.error("%s", message)
            case _:
                raise ValueError(f"unknown: {[*told]}")
        return False

    def _put(self, partition: Partition, following: Place, records: Sequence[Arrived]) -> None:
        """Put records into the backlog; returns when there is room for more."""
        with self._lock:
            if partition not in self._next:
                return  # it was left while these were on their way
        if self._arrived is not None:
            records = [self._arrived(record) for record in records]
        self._progress.handed_on(partition, following.offset)
        self._backlog.put(records)
        # Only now: if something fails, a new process begins before it.
        with self._lock:
            if partition in self._next:
                self._next[partition] = following
        while not self._stopping.is_set() and not self._backlog.await_room(POLL_SECONDS):
            self._alive_at = time.monotonic()
