"""Tells Kafka what happened: changes, outcomes, alarms and dead letters, from the outbox, in order.

It runs in a process of its own (`publishing` starts it), at low priority: it reads behind the commits and never holds
them up. What Kafka has acknowledged is noted once a second, so after a crash the messages of about that time are sent
again: consumers tell them by `epistream-sequence`, which only grows. While Kafka is away nothing is held in memory but
one page: the outbox is the store itself.

    python -m epistream.services.kafka.publisher FOLDER BOOTSTRAP SECURITY GROUP [TOPIC ...]

SECURITY is a `KafkaSecurity`: it names the files with what is secret, and holds nothing of it.

What it hears (`keeper`) means that something was committed. It tells messages with one of these fields.

    published       by topic, how many messages Kafka has acknowledged
    acknowledged    the sequence and the dead letter up to which Kafka has everything
    unpublishable   the topic of a message that Kafka refuses for good
    failed          publishing begins anew, true
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.indexer.outbox import Message, Outbox, Page
from epistream.indexer.positions import Cursor
from epistream.indexer.store import Readers
from epistream.services.kafka.keeper import Service
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.errors import Denied, EpistreamError, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity

_LOG: Final = logging.getLogger(__name__)

NICENESS: Final = 19
"""The lowest: on a busy machine it gets what processor time is left. Knowledge is taken in and pushed first."""
PAGE_ENTRIES: Final = 200
"""How many journal entries are read and sent together at most, and dead letters; no more than `outbox.PAGE_BYTES`."""
TICK_SECONDS: Final = 0.5
"""How often the outbox is looked at without a wake-up: a commit of nothing but dead letters wakes nobody."""
PACE_SECONDS: Final = 0.02
"""After a page that was not full it waits so long for more: a page has costs of its own, whatever is in it."""
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_ACKNOWLEDGE_SECONDS: Final = 1.0
"""An acknowledgement costs the writer an fsync, so it is not worth one for each page."""
_AGAIN_SECONDS: Final = 30.0
"""What may not have been kept, as on a full disk, is told again."""
_PAGE_SECONDS: Final = 60.0
"""Three times what a record is tried. Who has heard nothing of a page by then has a producer that works no more."""
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_WAIT_SECONDS: Final = 1.0
"""A stop leaves the page at hand at most this time."""
_CLOSE_SECONDS: Final = 1.0
_LIMITS: Final = ProducerLimits(room_timeout_seconds=5.0, delivery_timeout_seconds=20.0, connect_timeout_seconds=3.0)


class Publisher:
    """Empties the outbox into Kafka."""

    def __init__(
        self,
        bootstrap: str,
        outbox: Outbox,
        service: Service,
        *,
        prepare_topics: Callable[[], object] | None = None,
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        """Nothing runs before `run`, and Kafka need not be there.

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            outbox: what to tell.
            service: is told how it goes.
            prepare_topics: called (blocking) whenever Kafka is reached, also after a failure: a topic may be gone.
            security: what the brokers ask for.
        """
        self._bootstrap, self._security = bootstrap, security
        self._outbox, self._service, self._prepare_topics = outbox, service, prepare_topics
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        """Since something was published."""
        self._said = ""
        """The reason that was last told of them."""
        self._entries = PAGE_ENTRIES
        """How many journal entries are sent together now."""
        self._had_topics = False
        self._acknowledged_at = 0.0
        self._acknowledged: Cursor | None = None

    def wake(self) -> None:
        """Something was committed. Any thread; returns at once."""
        self._wake.set()

    def stop(self) -> None:
        """Have `run` finish the page at hand, tell what was acknowledged, and return. Any thread; returns at once."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Publish until `stop`."""
        while not self._stopping.is_set():
            try:
                with _connected(self._bootstrap, self._security) as producer:
                    self._have_topics()
                    self._publish(producer)
            except Exception as error:  # noqa: BLE001 - it lives as long as the service; what fails is tried again
                if self._stopping.is_set():
                    return  # what was not acknowledged is sent again by the next
                self._failures += 1
                self._log(error)
                self._service.tell(failed=True)
                self._stopping.wait(_RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1])

    def _have_topics(self) -> None:
        """Make what is missing. All must be there the first time; later one may be without a leader for a while."""
        if self._prepare_topics is None:
            return
        try:
            self._prepare_topics()
        except EpistreamError as error:
            if not self._had_topics:
                raise
            _LOG.warning("Not all topics can be used; what goes to others is published: %s", error)
        self._had_topics = True

    def _publish(self, producer: CappedProducer) -> None:
        """Send pages, each after the one before is acknowledged, until the stop."""
        after: Cursor | None = None
        while True:
            self._wake.clear()
            page = self._outbox.pending(after, self._entries)
            is_news = page.cursor != after
            if page.messages:
                self._deliver_in_time(producer, page)
                self._works()
            after = page.cursor
            self._acknowledge(after, at_once=self._stopping.is_set())
            if self._stopping.is_set():
                return
            if not is_news:
                self._wake.wait(TICK_SECONDS)
            elif not page.full:
                self._stopping.wait(PACE_SECONDS)

    def _deliver_in_time(self, producer: CappedProducer, page: Page) -> None:
        """Send a page, and choose how large the next one is. Raises as `_deliver`.

        What is too much for the time that a record is tried, as on a slow way or beside others who leave no processor
        time, would fail for ever, and all of it be sent again each time. So half as many are tried then; one more after
        each that is taken, and twice as many after one that was quick. A single entry is tried for ever.
        """
        begun = time.monotonic()
        try:
            self._deliver(producer, page)
        except Unavailable:
            self._entries = max(1, self._entries // 2)
            raise
        quick = time.monotonic() - begun < _LIMITS.delivery_timeout_seconds / 4
        self._entries = min(PAGE_ENTRIES, 2 * self._entries if quick else self._entries + 1)

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
        self._service.tell(published=dict(Counter(message.topic for message in page.messages)))

    def _deliver_singly(self, producer: CappedProducer, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self._await(producer.send_page([message]))
            except InvalidInput as error:
                _LOG.error("Kafka refuses a message for %s for good; it is in the store: %s", message.topic, error)
                self._service.tell(unpublishable=message.topic)
            else:
                self._service.tell(published={message.topic: 1})

    def _acknowledge(self, cursor: Cursor, *, at_once: bool) -> None:
        """Tell what Kafka has, from time to time."""
        pause = _AGAIN_SECONDS if cursor == self._acknowledged else _ACKNOWLEDGE_SECONDS
        if not at_once and time.monotonic() - self._acknowledged_at < pause:
            return
        self._service.tell(acknowledged=[cursor.sequence, cursor.dead_letter])
        self._acknowledged, self._acknowledged_at = cursor, time.monotonic()

    def _await(self, sent: "Future[None]") -> None:
        """Wait until all are acknowledged.

        Raises:
            Unavailable: one is not, or nothing was heard of them.
            InvalidInput: Kafka will never take one. All others are acknowledged.
        """
        given_up = time.monotonic() + _PAGE_SECONDS
        while wait_for([sent], _WAIT_SECONDS).not_done:
            if time.monotonic() > given_up:
                raise Unavailable(f"nothing was heard of a page in {_PAGE_SECONDS:g} seconds: a new producer sends it")
            if self._stopping.is_set():
                raise Unavailable("a page was not acknowledged before the service stopped")
        sent.result()

    def _works(self) -> None:
        if self._failures:
            _LOG.info("Publishing to Kafka goes on")
        self._failures, self._said = 0, ""

    def _log(self, error: Exception) -> None:
        if not isinstance(error, Unavailable | Denied):
            _LOG.error("Publishing to Kafka failed; trying again", exc_info=error)
        elif self._said != error.reason:
            self._said = error.reason
            _LOG.warning("Nothing is published to Kafka for now; trying again until it works: %s", error)


@contextlib.contextmanager
def _connected(bootstrap: str, security: KafkaSecurity) -> Iterator[CappedProducer]:
    producer = CappedProducer(bootstrap, _LIMITS, client_id="epistream-publisher", security=security)
    try:
        yield producer
    finally:
        with contextlib.suppress(EpistreamError):
            producer.close(_CLOSE_SECONDS)


def _yield_to_others() -> None:
    """Take the lowest priority.

    Where Linux shares processor time out among sessions first, `nice` counts only within one, and this process has a
    session of its own: beside a busy one it got half of a core (sched(7), "The autogroup feature"; measured).
    """
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(NICENESS))


def _listen(service: Service, publisher: Publisher) -> None:
    for _ in service.heard():
        publisher.wake()
    publisher.stop()


def main(folder: str, bootstrap: str, security_argument: str, group: str, *topics: str) -> None:
    """Publish from the store in `folder` until the service stops; make the topics that belong to `topics`, if any.

    Dead letters say which `group` refused them.
    """
    service = Service()
    _yield_to_others()
    security = KafkaSecurity.from_argument(security_argument)
    prepare_topics = partial(ensure_topics, bootstrap, submission_topics=topics, security=security) if topics else None
    letter_headers = [
        ("epistream-dlq-group", group.encode()),
        ("epistream-dlq-service-version", version("epistream").encode()),
    ]
    outbox = Outbox(Readers(Path(folder)), letter_headers=letter_headers)
    publisher = Publisher(bootstrap, outbox, service, prepare_topics=prepare_topics, security=security)
    threading.Thread(target=_listen, args=(service, publisher), name="listen", daemon=True).start()
    publisher.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
