"""Tells Kafka what happened: changes, outcomes and dead letters, from the outbox, in order.

It reads behind the commits and never holds them up. What Kafka has acknowledged is noted once a second, so after a
crash the messages of about that time are sent again: consumers tell them by `epistream-sequence`, which only grows.
While Kafka is away nothing is held in memory but one page: the outbox is the store itself.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Final

from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.indexer.outbox import Message, Outbox, Page
from epistream.indexer.positions import Cursor
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.services.writer import Writer
from epistream.wire.errors import EpistreamError, InvalidInput, Unavailable

_LOG: Final = logging.getLogger(__name__)

PAGE_ENTRIES: Final = 200
"""How many journal entries are read and sent together. Of the largest submissions that is 200 MiB."""
TICK_SECONDS: Final = 0.5
"""How often the outbox is looked at without a wake-up: a commit of nothing but dead letters wakes nobody."""
_REST: Final = 3.0
"""While commits go on, it rests this many times as long as it has worked, for Python runs one thread at a time."""
_ACKNOWLEDGE_SECONDS: Final = 1.0
"""An acknowledgement costs the writer an fsync, so it is not worth one for each page."""
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_WAIT_SECONDS: Final = 1.0
"""A stop leaves the page at hand at most this time."""
_STOP_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 1.0
_LIMITS: Final = ProducerLimits(room_timeout_seconds=5.0, delivery_timeout_seconds=20.0, connect_timeout_seconds=3.0)


class Publisher:
    """A thread that empties the outbox into Kafka."""

    def __init__(
        self,
        bootstrap: str,
        outbox: Outbox,
        writer: Writer,
        subscribe: Callable[[Callable[[], None]], Callable[[], None]],
        metrics: KafkaMetrics,
        *,
        prepare_topics: Callable[[], object] | None = None,
    ) -> None:
        """Nothing runs before `start`, and Kafka need not be there.

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            outbox: what to tell.
            writer: the thread on which acknowledgements are kept.
            subscribe: `Feed.subscribe_to_commits`.
            metrics: what is counted.
            prepare_topics: called (blocking) on this thread once Kafka is reached, until it has succeeded once.
        """
        self._bootstrap, self._outbox, self._writer, self._metrics = bootstrap, outbox, writer, metrics
        self._subscribe, self._prepare_topics = subscribe, prepare_topics
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        """Since something was published."""
        self._acknowledged_at = 0.0
        self._acknowledged: Cursor | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-publish", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Finish the page at hand, keep what was acknowledged, end. Blocks until then, or until the time is over.

        Stop the writer after it.
        """
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            _LOG.warning("The Kafka publisher did not end in time; it is left behind")

    def _run(self) -> None:
        unsubscribe = self._subscribe(self._wake.set)
        try:
            while not self._stopping.is_set():
                try:
                    with _connected(self._bootstrap) as producer:
                        self._make_topics()
                        self._publish(producer)
                except Exception as error:  # noqa: BLE001 - the thread lives as long as the service; what fails is tried again
                    self._failures += 1
                    self._log(error)
                    self._metrics.publishing_failed()
                    self._stopping.wait(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1])
        finally:
            unsubscribe()

    def _make_topics(self) -> None:
        if self._prepare_topics is not None:
            self._prepare_topics()
            self._prepare_topics = None

    def _publish(self, producer: CappedProducer) -> None:
        """Send pages, each after the one before is acknowledged, until the thread stops."""
        after: Cursor | None = None
        while True:
            begun = time.thread_time()
            self._wake.clear()
            page = self._outbox.pending(after, PAGE_ENTRIES)
            is_news = page.cursor != after
            if page.messages:
                self._deliver(producer, page)
                self._works()
            after = page.cursor
            self._acknowledge(after, at_once=self._stopping.is_set())
            if self._stopping.is_set():
                return
            if not is_news:
                self._wake.wait(TICK_SECONDS)
            elif self._wake.is_set():
                self._stopping.wait(_REST * (time.thread_time() - begun))

    def _deliver(self, producer: CappedProducer, page: Page) -> None:
        """Send a page; returns when Kafka has all of it.

        Raises:
            Unavailable: some of it was not acknowledged, and all must be sent again.
        """
        try:
            self._await(producer.send_page(page.messages))
        except InvalidInput:
            # One is too large, or its headers are: which one is known when each is sent alone.
            self._deliver_singly(producer, page.messages)
            return
        for topic, count in Counter(message.topic for message in page.messages).items():
            self._metrics.published(topic, count)

    def _deliver_singly(self, producer: CappedProducer, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self._await(producer.send_page([message]))
            except InvalidInput as error:
                _LOG.error("Kafka refuses a message for %s for good; it is in the store: %s", message.topic, error)
                self._metrics.unpublishable(message.topic)
            else:
                self._metrics.published(message.topic, 1)

    def _acknowledge(self, cursor: Cursor, *, at_once: bool) -> None:
        """Have noted what Kafka has, from time to time."""
        if cursor == self._acknowledged:
            return
        if not at_once and time.monotonic() - self._acknowledged_at < _ACKNOWLEDGE_SECONDS:
            return
        self._writer.run(lambda: self._outbox.acknowledge(cursor)).result()
        self._acknowledged, self._acknowledged_at = cursor, time.monotonic()

    def _await(self, sent: "Future[None]") -> None:
        """Wait until all are acknowledged.

        Raises:
            Unavailable: one is not.
            InvalidInput: Kafka will never take one. All others are acknowledged.
        """
        while wait_for([sent], _WAIT_SECONDS).not_done:
            if self._stopping.is_set():
                raise Unavailable("a page was not acknowledged before the service stopped")
        sent.result()

    def _works(self) -> None:
        if self._failures:
            _LOG.info("Publishing to Kafka goes on")
        self._failures = 0

    def _log(self, error: Exception) -> None:
        if not isinstance(error, Unavailable):
            _LOG.error("Publishing to Kafka failed; trying again", exc_info=error)
        elif self._failures == 1:
            _LOG.warning("Nothing is published to Kafka for now; trying again until it works: %s", error)


@contextlib.contextmanager
def _connected(bootstrap: str) -> Iterator[CappedProducer]:
    producer = CappedProducer(bootstrap, _LIMITS, client_id="epistream-publisher")
    try:
        yield producer
    finally:
        with contextlib.suppress(EpistreamError):
            producer.close(_CLOSE_SECONDS)
