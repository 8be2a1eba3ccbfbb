"""Keeps a publisher running, in a process of its own, and takes in what it tells."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from epistream.indexer.positions import Cursor
from epistream.services.kafka import publisher
from epistream.services.kafka.keeper import Keeper
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.wire.errors import EpistreamError
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity

_LOG: Final = logging.getLogger(__name__)

_STOP_SECONDS: Final = 10.0


class Publishing:
    """A publisher's process, and a thread that follows what it tells."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        acknowledge: Callable[[Cursor], None],
        subscribe: Callable[[Callable[[], None]], Callable[[], None]],
        metrics: KafkaMetrics,
        *,
        group: str,
        submission_topics: Sequence[str] = (),
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        """Nothing runs before `start`, and Kafka need not be there.

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            folder: the store's, which this process has open.
            acknowledge: keeps, durably, up to where Kafka has everything; may block, and is called again if it raises.
            subscribe: `Feed.subscribe_to_commits`.
            metrics: what is counted.
            group: the name of this service's consumer group, which dead letters tell.
            submission_topics: the topics whose dead letters are told. They and the others are made where missing; none
                when empty.
            security: what the brokers ask for.
        """
        self._acknowledge, self._subscribe, self._metrics = acknowledge, subscribe, metrics
        arguments = [str(folder.resolve()), bootstrap, security.to_argument(), group, *submission_topics]
        self._keeper = Keeper(publisher, arguments, self._take, metrics.publishing_failed, patient=False)
        self._unsubscribe: Callable[[], None] = lambda: None
        self._told: Cursor | None = None
        """Up to where Kafka has everything, until that is kept."""
        self._kept: Cursor | None = None

    def start(self) -> None:
        """Start the process, and wake it after each commit. Does not block."""
        self._keeper.start()
        # A publisher that is too busy to read has been woken already.
        self._unsubscribe = self._subscribe(lambda: self._keeper.send(None))

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Have the page at hand finished, keep what was acknowledged, end. Blocks until then, or the time is over.

        Stop the writer after it.
        """
        self._unsubscribe()
        self._keeper.stop(timeout_seconds)

    def _take(self, told: Mapping[str, Any]) -> bool:
        """Take in what the publisher tells. Whether something was published."""
        match told:
            case {"published": counts}:
                for topic, count in counts.items():
                    self._metrics.published(topic, count)
            case {"acknowledged": [sequence, dead_letter]}:
                told_of = Cursor(sequence, dead_letter)
                self._told = told_of if told_of != self._kept else None
            case {"unpublishable": topic}:
                self._metrics.unpublishable(topic)
            case {"failed": True}:
                self._metrics.publishing_failed()
            case _:
                raise ValueError(f"unknown: {told}")
        self._keep()
        return "published" in told

    def _keep(self) -> None:
        """Keep what Kafka has, if that is news; when it cannot be kept, the next message is the next try."""
        if self._told is None:
            return
        try:
            self._acknowledge(self._told)
        except EpistreamError as error:
            _LOG.warning("What Kafka has acknowledged cannot be kept now: %s", error)
        else:
            self._told, self._kept = None, self._told
