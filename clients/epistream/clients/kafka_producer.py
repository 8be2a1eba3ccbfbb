"""Knowledge to Kafka: an idempotent producer that never holds more than it may.

kafka-python's own buffer has no limit: with the broker away it takes records until memory ends. `CappedProducer` counts
the bytes that are not yet acknowledged, and makes the sender wait, then fail. `KafkaProducer` sends submissions over
it; the service's outbox uses it for topics of its own.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

from epistream.clients import tracing
from epistream.clients.kafka_client import translated
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import EpistreamError, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.topics import DEAD_LETTER_BYTES_MAX, submission_key, submission_topic

_RECORD_OVERHEAD_BYTES: Final = 3_000
"""What a record costs until it is acknowledged, beside its own bytes: futures, locks, callbacks. Measured: 2.8 kB."""
_BATCH_BYTES: Final = 128 * 1024
_LINGER_MS: Final = 5
_CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record is, once Kafka has acknowledged it."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ProducerLimits:
    """How much a producer holds, and how long it tries."""

    in_flight_bytes_max: int = 32 * 1024 * 1024
    """How many bytes may wait for their acknowledgement, with what their keeping costs."""
    room_timeout_seconds: float = 10.0
    """How long a sender waits for room under that limit, and for a topic that is not known yet."""
    delivery_timeout_seconds: float = 120.0
    """How long one record is tried before it fails."""
    connect_timeout_seconds: float = 10.0
    """How long the first connection is tried."""


class Outgoing(Protocol):
    """A record to be sent."""

    @property
    def topic(self) -> str:
        """An existing topic."""

    @property
    def key(self) -> bytes | None:
        """What decides the partition."""

    @property
    def value(self) -> bytes | None:
        """The content."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and values."""


class _Page:
    """Records that are followed together."""

    def __init__(self, bootstrap: str, count: int, done: Callable[[], None], stop: Callable[[], None]) -> None:
        self.future: Future[None] = Future()
        self.future.set_running_or_notify_cancel()
        self._bootstrap, self._open, self._done, self._stop = bootstrap, count, done, stop
        self._lock = threading.Lock()
        self._failures: list[EpistreamError] = []

    def delivered(self, _: Any) -> None:
        """One more is acknowledged. Called by kafka-python's thread."""
        self._end_one(None)

    def failed(self, topic: str, error: Any) -> bool:
        """One more has failed; whether that may pass. Called by kafka-python's thread, or the sender's."""
        ours = translated(error, self._bootstrap, f"sending to {topic}")
        ours.__cause__ = error
        passes = not isinstance(ours, InvalidInput)
        if passes:
            self._stop()
        self._end_one(ours)
        return passes

    def _end_one(self, failure: EpistreamError | None) -> None:
        with self._lock:
            self._open -= 1
            if failure is not None:
                self._failures.append(failure)
            if self._open:
                return
        self._done()
        passing = [error for error in self._failures if not isinstance(error, InvalidInput)]
        if self._failures:
            self.future.set_exception((passing or self._failures)[0])
        else:
            self.future.set_result(None)


class CappedProducer:
    """Sends raw records, each once while this producer lives, in order for each partition. Threads may share it.

    After a record has failed, records that were sent after it may have been delivered. Who needs the order takes
    `send_page`. Nothing is compressed.
    """

    def __init__(
        self,
        bootstrap: str,
        limits: ProducerLimits | None = None,
        *,
        client_id: str = "epistream",
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        """Connects (blocking).

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            limits: the defaults of `ProducerLimits` when None.
            client_id: what the brokers' logs call this client.
            security: what the brokers ask for.

        Raises:
            Unavailable: no broker answers, or its certificate is not trusted.
            Denied: the broker takes neither the password nor the certificate.
            InvalidInput: that is no address, or the security is wrong in itself.
        """
        self._bootstrap = bootstrap
        self._limits = limits or ProducerLimits()
        self._in_flight_bytes = 0
        self._undelivered: set[Future[Position]] = set()
        self._failure: EpistreamError | None = None
        self._changed = threading.Condition()
        self._client = _connected(bootstrap, self._limits, client_id, security)

    @property
    def in_flight_bytes(self) -> int:
        """How many bytes wait for their acknowledgement, with what their keeping costs."""
        return self._in_flight_bytes

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> "Future[Position]":
        """Takes a record to be sent; blocks only while there is no room, or the topic is not known yet.

        Args:
            topic: an existing topic.
            value: the content; None deletes the key in a compacted topic.
            key: what decides the partition.
            headers: names and values.
            timestamp_ms: the record's time, milliseconds since 1970; now when None.
            partition: instead of what the key decides.

        Returns:
            A future that is done when every in-sync replica has the record, or it has failed. Its callbacks run on the
            client's own thread and must return at once.

        Raises:
            Unavailable: there was no room in time, or the topic is not known: the record was not taken.
            Denied: we may not write to the topic: the record was not taken. Make a new producer once we may.
            InvalidInput: the record is too large, or no topic can have that name.
        """
        from kafka.errors import KafkaError

        size = _size(key, value, headers)
        self._take_room(size, topic)
        try:
            sent = self._client.send(topic, value, key, list(headers), partition, timestamp_ms)
        except BaseException as error:
            self._give_room(size)
            if isinstance(error, KafkaError):
                raise translated(error, self._bootstrap, f"sending to {topic}") from error
            if isinstance(error, ValueError):  # no topic can have that name
                raise InvalidInput.at("topic", str(error)) from error
            raise
        return self._followed(sent, size, topic)

    def send_page(self, records: Sequence[Outgoing]) -> "Future[None]":
        """Takes records to be sent, in order, and follows them together: half the cost of as many calls of `send`.

        Once one has failed with an error that may pass, this producer sends nothing more: a new one has to send them
        all again. So who reads a partition finds no later one of them before an earlier one.

        Returns:
            A future that is done when each of them is acknowledged or has failed. It fails when one did: with the first
            error that may pass, or else with the first InvalidInput, when Kafka will never take some of them.

        Raises:
            Unavailable: there was no room in time: no record was taken.
        """
        from kafka.errors import KafkaError

        size = sum(_size(record.key, record.value, record.headers) for record in records)
        self._take_room(size, records[0].topic)
        # Called on the client's own thread, before it sends anything else.
        stop = self._client._sender.force_close  # noqa: SLF001 - there is no other way in
        page = _Page(self._bootstrap, len(records), lambda: self._give_room(size), stop)
        away: KafkaError | None = None
        for record in records:
            try:
                if away is not None:  # each would wait as long as the one before
                    raise away
                sent = self._client.send(record.topic, record.value, record.key, list(record.headers))
            except KafkaError as error:
                away = error if page.failed(record.topic, error) else None
            else:
                sent.add_callback(page.delivered)
                sent.add_errback(partial(page.failed, record.topic))
        return page.future

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Waits until every record that was taken before is acknowledged.

        Raises:
            EpistreamError: a record has failed since the last flush; this is the first one's error.
            Unavailable: some are not acknowledged in time; they are still tried.
        """
        with self._changed:
            waiting = set(self._undelivered)
        late = wait_for(waiting, timeout_seconds).not_done
        with self._changed:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if late:
            raise Unavailable(
                f"Kafka at {self._bootstrap} has not acknowledged {len(late)} records in {timeout_seconds:g} seconds"
            )

    def close(self, timeout_seconds: float = 30.0) -> None:
        """Flushes and ends. What is not acknowledged in time fails.

        Raises:
            EpistreamError: as `flush`.
        """
        try:
            self.flush(timeout_seconds)
        finally:
            if self._in_flight_bytes:
                # kafka-python's close waits for them first and, when that fails, leaves its thread running.
                self._client._sender.force_close()  # noqa: SLF001 - as said
            self._client.close(timeout=_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_room(self, size: int, topic: str) -> None:
        with self._changed:
            # A record that is larger than the limit goes alone.
            has_room = self._changed.wait_for(
                lambda: not self._in_flight_bytes or self._in_flight_bytes + size <= self._limits.in_flight_bytes_max,
                self._limits.room_timeout_seconds,
            )
            if not has_room:
                raise Unavailable(
                    f"Kafka at {self._bootstrap} is away or slow: {self._in_flight_bytes} bytes wait for it, and "
                    f"a record for {topic} got no room under the limit of {self._limits.in_flight_bytes_max} within "
                    f"{self._limits.room_timeout_seconds:g} seconds. It was not taken: try it again later."
                )
            self._in_flight_bytes += size

    def _give_room(self, size: int) -> None:
        with self._changed:
            self._in_flight_bytes -= size
            self._changed.notify_all()

    def _followed(self, sent: Any, size: int, topic: str) -> "Future[Position]":
        """Our future of kafka-python's, which gives back the room when it is done."""
        future: Future[Position] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            self._undelivered.add(future)

        def delivered(metadata: Any) -> None:
            self._done(future, size)
            future.set_result(Position(metadata.topic, metadata.partition, metadata.offset))

        def failed(error: Any) -> None:
            ours = translated(error, self._bootstrap, f"sending to {topic}")
            ours.__cause__ = error
            self._done(future, size, ours)
            future.set_exception(ours)

        sent.add_callback(delivered)
        sent.add_errback(failed)
        return future

    def _done(self, future: "Future[Position]", size: int, failure: EpistreamError | None = None) -> None:
        with self._changed:
            self._undelivered.discard(future)
            self._failure = self._failure or failure
            self._in_flight_bytes -= size
            self._changed.notify_all()


class KafkaProducer:
    """Sends submissions to the topic of their origin, over a `CappedProducer`. Threads may share it.

    Example:
        with KafkaProducer("localhost:9092") as producer:
            producer.send(submission)

    An acknowledgement means that Kafka keeps the submission. What becomes of it is decided later, and told in the
    outcomes topic.
    """

    def __init__(
        self,
        bootstrap: str,
        limits: ProducerLimits | None = None,
        *,
        cloud_events: bool = False,
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        """Connects (blocking).

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            limits: the defaults of `ProducerLimits` when None.
            cloud_events: add the CloudEvents headers (binary mode), for other readers of the topics.
            security: what the brokers ask for.

        Raises:
            Unavailable: no broker answers, or its certificate is not trusted.
            Denied: the broker takes neither the password nor the certificate.
            InvalidInput: that is no address, or the security is wrong in itself.
        """
        self._producer = CappedProducer(bootstrap, limits, client_id="epistream-producer", security=security)
        self._cloud_events = cloud_events

    def send(self, submission: pb.Submission, *, topic: str | None = None) -> "Future[Position]":
        """Takes a submission to be sent; blocks only while there is no room.

        Everything about one item goes to one partition in the order of the calls, retractions too: give a retraction
        the origin of the submissions that it is about, and it follows them.
        The span of OpenTelemetry's that is active in the caller is told in a header, so that the service goes on with
        its trace.

        Args:
            submission: what to send.
            topic: instead of the topic of its origin. All submissions of an item must go to the same.

        Returns:
            A future that is done when Kafka has it or it has failed; see `CappedProducer.send`.

        Raises:
            InvalidInput: it has no origin, or is too large for a record, or no topic can have that name.
            Unavailable: there was no room in time: it was not taken.
        """
        headers = submission_headers(submission, cloud_events=self._cloud_events)
        if (parent := tracing.traceparent()) is not None:
            headers.append((tracing.HEADER, parent.encode()))
        return self._producer.send(
            topic or submission_topic(submission.origin),
            submission.SerializeToString(),
            key=submission_key(submission),
            headers=headers,
            timestamp_ms=_submitted_ms(submission),
        )

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Waits until every submission that was taken before is acknowledged; see `CappedProducer.flush`."""
        self._producer.flush(timeout_seconds)

    def close(self, timeout_seconds: float = 30.0) -> None:
        """Flushes and ends; see `CappedProducer.close`."""
        self._producer.close(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def submission_headers(submission: pb.Submission, *, cloud_events: bool = False) -> list[tuple[str, bytes]]:
    """The headers of a submission's record.

    Args:
        submission: the record's content.
        cloud_events: with those of CloudEvents 1.0 (Kafka binding, binary mode). A resend has the same id and source.
    """
    headers = [("content-type", b"application/protobuf")]
    if cloud_events:
        headers += [
            ("ce_specversion", b"1.0"),
            ("ce_type", submission.DESCRIPTOR.full_name.encode()),
            ("ce_id", submission.submission_id.encode()),
            ("ce_source", f"/{quote(submission.namespace)}/{quote(submission.provenance.producer)}".encode()),
        ]
        if milliseconds := _submitted_ms(submission):
            time = datetime.fromtimestamp(milliseconds / 1000, UTC)
            headers.append(("ce_time", time.isoformat(timespec="milliseconds").encode()))
    return headers


def _submitted_ms(submission: pb.Submission) -> int | None:
    """When it was submitted, milliseconds since 1970; None when its producer gives no time, or one that cannot be."""
    try:
        milliseconds = submission.submitted_time.ToMilliseconds()
    except ValueError:  # before year 1 or after 9999
        return None
    return milliseconds if milliseconds > 0 else None


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    return _RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"") + sum(len(k) + len(v) for k, v in headers)


def _connected(bootstrap: str, limits: ProducerLimits, client_id: str, security: KafkaSecurity) -> Any:
    from kafka import KafkaProducer as Client

    from epistream.clients.kafka_network import opened

    client = opened(
        Client,
        bootstrap,
        security,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        batch_size=_BATCH_BYTES,
        linger_ms=_LINGER_MS,
        max_request_size=DEAD_LETTER_BYTES_MAX,
        max_block_ms=int(limits.room_timeout_seconds * 1000),
        delivery_timeout_ms=int(limits.delivery_timeout_seconds * 1000),
        request_timeout_ms=int(min(30.0, limits.delivery_timeout_seconds / 2) * 1000),
        reconnect_backoff_max_ms=1000,
        metrics_enabled=False,  # nobody reads them, and they cost half of a send
        bootstrap_timeout_ms=int(limits.connect_timeout_seconds * 1000),
    )
    _outlive_refusals(client)
    return client


def _outlive_refusals(client: Any) -> None:
    """Makes a producer of kafka-python go on after the broker has refused a record.

    As it is (3.0.12), one record that the broker refuses for good, such as one that is too large for its topic, makes
    an idempotent producer fail every later record on every topic with the same error. What it does after a lost
    sequence number is right here too: take a new producer epoch, where sequence numbers begin anew, and send the rest.
    """
    manager = client._transaction_manager  # noqa: SLF001 - there is no other way in
    classify = manager.classify_batch_error

    def classify_refusal(error: Any, batch: Any, log_start_offset: int = -1) -> Any:
        outcome = classify(error, batch, log_start_offset=log_start_offset)
        is_of_one_batch = type(error) not in manager._FATAL_ERRORS  # noqa: SLF001 - as above
        if outcome == manager.ERROR_CLASS_FATAL and is_of_one_batch:
            return manager.ERROR_CLASS_NEEDS_EPOCH_BUMP
        return outcome

    manager.classify_batch_error = classify_refusal
