"""Dead letters, once more: back to where they came from, byte for byte, after what was wrong has been put right.

Letters from Kafka lie in topics and go back to the topic that they came from (`redrive`). Letters that came over gRPC
lie in the store only and are submitted again to a running service (`redrive_store`). Either way a submission that was
taken in meanwhile has no second effect.
"""

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from grpc_status import rpc_status

from epistream.clients.channel import blocking_channel
from epistream.clients.credentials import Credentials
from epistream.clients.failures import failure
from epistream.clients.kafka_client import translated
from epistream.clients.kafka_producer import CappedProducer, Position
from epistream.indexer import deadletters
from epistream.indexer.catalog import Catalog
from epistream.indexer.store import read_only
from epistream.services.kafka import clients
from epistream.services.kafka.progress import Partition
from epistream.v1 import ingest_service_pb2 as api
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import EpistreamError, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.status import from_status
from epistream.wire.topics import dead_letter_topic

_LOG: Final = logging.getLogger(__name__)

GROUP: Final = "epistream-redrive"
"""The consumer group that remembers which letters were redriven, one for each reason that was asked for."""
ATTEMPTS_HEADER: Final = "epistream-redrive-attempts"
"""How often a record was redriven."""
_ADDED: Final = "epistream-dlq-"
"""What the headers begin with that a dead letter got beside its own."""
_ATTEMPTS_DIGITS_MAX: Final = 9
_POLL_RECORDS_MAX: Final = 500
_POLL_MS: Final = 1_000
_SILENT_POLLS_MAX: Final = 30
_SETTLE_SECONDS: Final = 30.0
_COORDINATOR_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.2
_PAGE: Final = 100
_CALL_BYTES_MAX: Final = 4 * 1024 * 1024
_CALL_SECONDS: Final = 60.0
_Answer = TypeVar("_Answer")
_Submit: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
_Sent: TypeAlias = "tuple[str, Future[Position]]"
"""Which letter was sent back, and what becomes of that."""
_SUBMIT: Final = "/epistream.v1.IngestService/Submit"


@dataclass(slots=True)
class Counts:
    """What a redrive did with the letters of one topic, or of the store."""

    redriven: int = 0
    """Sent back; in a dry run, those that would be."""
    left: int = 0
    """Not of the reason that was asked for, or taken in meanwhile; or without a value: nothing can come of that; or
    refused for good by the topic that it came from, as where it is too large for it by now: the log names it."""
    strange: int = 0
    """Records in a topic of dead letters that do not say where they came from, or say what cannot be."""
    reasons: Counter[str] = field(default_factory=Counter)
    """For what the letters had been refused that were sent, or would be: UNKNOWN_NAMESPACE …"""
    outcomes: Counter[str] = field(default_factory=Counter)
    """What became of letters that were submitted: ADMITTED, REFUSED …"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is redriven, or would be."""

    place: str
    """Where it lies: its place in Kafka, or its number in the store."""
    submission: str
    """`producer/submission_id`, as far as they are known; empty in Kafka, where only its bytes say."""
    reason: str
    """Why it was refused, such as UNKNOWN_NAMESPACE; empty where it does not say."""
    error: str
    """What was wrong, for people."""


Told: TypeAlias = Callable[[Letter], None]


def untold(_: Letter) -> None:
    """Nobody wants to know."""


def redrive(
    bootstrap: str,
    topics: Sequence[str],
    *,
    reason: str | None = None,
    limit: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
    told: Told = untold,
    security: KafkaSecurity = PLAINTEXT,
) -> dict[str, Counts]:
    """Send the dead letters in these topics back to where they came from. Blocks until Kafka has them.

    Takes what is there when it begins: a letter that fails again is a new one, for the next time. Each letter is sent
    back once, unless `everything` is asked for; every `reason` remembers its own place. Where the process is killed in
    the middle, some are sent again, which has no second effect.

    Args:
        bootstrap: `host:port` of a broker, or several with commas between.
        topics: topics of dead letters.
        reason: only letters with this reason, such as UNKNOWN_NAMESPACE.
        limit: at most so many from each topic.
        everything: from the oldest letter on, those that were sent back before, too.
        dry_run: send nothing.
        told: is called with each letter that is sent, or would be.
        security: what the brokers ask for.

    Returns:
        What was done, by topic.

    Raises:
        Unavailable: Kafka is away, or one of the topics does not exist.
        Denied: Kafka does not let us in, or not to one of the topics or to the group.
    """
    from kafka.errors import KafkaError

    group = f"{GROUP}-{reason.lower()}" if reason else GROUP
    counts: dict[str, Counts] = {}
    try:
        with (
            clients.consumer(bootstrap, GROUP, security) as consumer,
            clients.admin(bootstrap, GROUP, security) as admin,
            CappedProducer(bootstrap, client_id=GROUP, security=security) as producer,
        ):
            for topic in topics:
                places = _places(admin, group, topic, everything=everything)
                counts[topic] = Counts()
                letters = _letters(consumer, places)
                done = _send_all_back(letters, counts[topic], reason, limit, None if dry_run else producer, told)
                if not dry_run:
                    _keep(admin, group, done)
    except KafkaError as error:
        raise translated(error, bootstrap, "redriving") from error
    return counts


def redrive_store(
    folder: Path,
    target: str,
    *,
    credentials: Credentials | None = None,
    reason: str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    told: Told = untold,
) -> Counts:
    """Submit again the dead letters that came over gRPC, from the store in `folder` to the service at `target`. Blocks.

    The service may have the store open; this only reads it. The same bytes are submitted once, and not when their
    submission was taken in meanwhile.

    Args:
        folder: the store's.
        target: `host:port` of a service.
        credentials: what to show to it, and how to know it; without, nothing is encrypted.
        reason: only letters with this reason.
        limit: at most so many.
        dry_run: submit nothing.
        told: is called with each letter that is submitted, or would be.

    Raises:
        Unavailable: there is no store, or the service does not answer.
        EpistreamError: what the service answers.
    """
    counts = Counts()
    with read_only(folder) as catalog:
        chosen = list(_chosen(catalog, counts, reason, limit, told))
    counts.redriven = len(chosen)
    if dry_run or not chosen:
        return counts
    with blocking_channel(target, credentials) as channel:
        submit: _Submit = channel.unary_unary(_SUBMIT)
        for batch in _batches(chosen):
            for receipt in _submitted(submit, batch):
                counts.outcomes[pb.Outcome.Name(receipt.outcome).removeprefix("OUTCOME_")] += 1
    return counts


def _places(admin: Any, group: str, topic: str, *, everything: bool) -> dict[Partition, tuple[int, int]]:
    """From where to where each partition is read."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec
    from kafka.errors import TopicAuthorizationFailedError, for_code

    [described] = admin.describe_topics([topic])
    if for_code(described["error_code"]) is TopicAuthorizationFailedError:
        raise TopicAuthorizationFailedError(topic)
    if described["error_code"]:
        raise Unavailable(f"the topic of dead letters {topic} cannot be read: {for_code(described['error_code'])()}")
    partitions = [TopicPartition(topic, partition["partition_index"]) for partition in described["partitions"]]
    first = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    last = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    kept = {} if everything else _kept(admin, group, partitions)
    return {
        (topic, p.partition): (max(first[p].offset, kept[p].offset if p in kept else 0), last[p].offset)
        for p in partitions
    }


def _kept(admin: Any, group: str, partitions: Sequence[Any]) -> Mapping[Any, Any]:
    """How far a group has come."""
    kept: Mapping[Any, Any] = _asked(admin, group, lambda: admin.list_group_offsets({group: partitions})[group])
    return kept


def _asked(admin: Any, group: str, ask: Callable[[], _Answer]) -> _Answer:
    """What the broker that keeps a group's positions answers; it is waited for while Kafka has yet to choose it.

    Kafka chooses another when that broker goes, and makes the topic for it first if it never had a group.
    """
    from kafka.errors import KafkaError

    deadline = time.monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            return ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        clients.forget_coordinator(admin, group)
        time.sleep(_AGAIN_SECONDS)


def _letters(consumer: Any, places: Mapping[Partition, tuple[int, int]]) -> Iterator[Any]:
    """The records between two places of each partition."""
    from kafka import TopicPartition

    ends = {TopicPartition(*partition): end for partition, (start, end) in places.items() if start < end}
    if not ends:
        return
    consumer.assign(list(ends))
    for partition in ends:
        consumer.seek(partition, places[partition.topic, partition.partition][0])
    silent = 0
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        polled = clients.polled(consumer, _POLL_MS, _POLL_RECORDS_MAX)
        silent = 0 if polled else silent + 1
        if silent == _SILENT_POLLS_MAX:
            raise Unavailable("Kafka does not deliver the dead letters that it says it has: try again")
        for partition, records in polled.items():
            yield from (record for record in records if record.offset < ends[partition])


def _send_all_back(
    letters: Iterable[Any],
    counts: Counts,
    reason: str | None,
    limit: int | None,
    producer: CappedProducer | None,
    told: Told,
) -> dict[Partition, int]:
    """Send letters back and count them; how far each partition is done. Returns when Kafka has what it takes.

    One without a key goes by itself: a compacted topic does not take it, and of the batch that it is in nothing.
    """
    done: dict[Partition, int] = {}
    sent: deque[_Sent] = deque()
    for letter in letters:
        if limit is not None and counts.redriven == limit:
            break
        if letter.key is None:
            _settle_all(sent, counts, producer)
        if future := _send_back(letter, counts, reason, producer, told):
            sent.append((_place(letter), future))
        if letter.key is None:
            _settle_all(sent, counts, producer)
        done[letter.topic, letter.partition] = letter.offset + 1
        while sent and sent[0][1].done():
            _settle(*sent.popleft(), counts)
    _settle_all(sent, counts, producer)
    return done


def _settle_all(sent: "deque[_Sent]", counts: Counts, producer: CappedProducer | None) -> None:
    if producer is not None and sent:
        with contextlib.suppress(InvalidInput):  # of one that was looked at, or is next
            producer.flush()
    while sent:
        _settle(*sent.popleft(), counts)


def _send_back(
    letter: Any, counts: Counts, reason: str | None, producer: CappedProducer | None, told: Told
) -> "Future[Position] | None":
    """Send a letter back and count it; None where it is not sent."""
    back = way_back(letter.topic, letter.headers)
    if back is None:
        counts.strange += 1
        return None
    # Without a value it would be refused again, and in a compacted topic delete what its key has said since.
    if not letter.value or (reason is not None and back.reason != reason):
        counts.left += 1
        return None
    counts.redriven += 1
    counts.reasons[back.reason] += 1
    told(Letter(_place(letter), "", back.reason, back.error))
    if producer is None:
        return None
    try:
        return producer.send(back.topic, letter.value, key=letter.key, headers=back.headers)
    except InvalidInput as error:
        _leave(_place(letter), counts, error)
        return None


def _settle(place: str, sent: "Future[Position]", counts: Counts) -> None:
    """See what became of a letter that was sent back.

    Raises:
        EpistreamError: Kafka has not taken it, but may, another time.
    """
    try:
        sent.result(_SETTLE_SECONDS)
    except InvalidInput as error:
        _leave(place, counts, error)
    except TimeoutError:
        raise Unavailable(f"Kafka has not acknowledged the letter {place} in time: try again") from None


def _leave(place: str, counts: Counts, error: InvalidInput) -> None:
    """One letter that nobody takes must not keep those behind it for ever."""
    counts.redriven -= 1
    counts.left += 1
    _LOG.error("The letter %s is left, since Kafka refuses it for good: %s", place, error)


def _place(letter: Any) -> str:
    return f"{letter.topic}/{letter.partition} at offset {letter.offset}"


@dataclass(frozen=True, slots=True)
class WayBack:
    """Where a dead letter goes, and what for."""

    topic: str
    headers: Sequence[tuple[str, bytes]]
    """Its own, and how often it was redriven."""
    reason: str
    """Why it was refused, as it says; empty where it does not."""
    error: str
    """What was wrong, as it says; empty where it does not."""


def way_back(letters: str, headers: Sequence[tuple[str, bytes | None]]) -> WayBack | None:
    """Where a record in a topic of dead letters came from.

    Args:
        letters: the topic.
        headers: the record's.

    Returns:
        None when it does not say, or names a topic whose dead letters are not here: whoever may write to this topic is
        not to write, by our hands, to any other.
    """
    added = {name: (value or b"").decode(errors="replace") for name, value in headers if name.startswith(_ADDED)}
    topic = added.get(f"{_ADDED}original-topic", "")
    if not topic or dead_letter_topic(topic) != letters:
        return None
    return WayBack(topic, _original(headers), added.get(f"{_ADDED}reason", ""), added.get(f"{_ADDED}error", ""))


def _original(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    attempts = next((value for name, value in headers if name == ATTEMPTS_HEADER), None) or b"0"
    own = [(n, value or b"") for n, value in headers if not n.startswith(_ADDED) and n != ATTEMPTS_HEADER]
    count = int(attempts) + 1 if attempts.isdigit() and len(attempts) <= _ATTEMPTS_DIGITS_MAX else 1
    return [*own, (ATTEMPTS_HEADER, str(count).encode())]


def _keep(admin: Any, group: str, done: Mapping[Partition, int]) -> None:
    """Remember how far a group has come."""
    from kafka import TopicPartition
    from kafka.errors import AuthorizationError, KafkaError
    from kafka.structs import OffsetAndMetadata

    if not done:
        return
    offsets = {TopicPartition(*partition): OffsetAndMetadata(offset, "", -1) for partition, offset in done.items()}

    def keep() -> None:
        for error in admin.alter_group_offsets(group, offsets).values():
            if error.errno:
                raise error

    try:
        _asked(admin, group, keep)
    except AuthorizationError:
        raise  # it says what is not allowed
    except KafkaError as error:
        text = f"the letters are sent, but Kafka does not remember it (group {group}): {error}"
        raise Unavailable(text) from error


def _chosen(catalog: Catalog, counts: Counts, reason: str | None, limit: int | None, told: Told) -> Iterator[bytes]:
    """The bytes to submit, each once."""
    numbers = {namespace.name: number for number, namespace in catalog.namespaces()}
    seen: set[bytes] = set()
    after = 0
    while letters := deadletters.read(catalog.connection, after, _PAGE):
        after = letters[-1].number
        for letter in letters:
            value = letter.record.value
            if letter.record.position is not None or value is None or value in seen:
                continue
            if len(seen) == limit:
                return
            sender = letter.receipt.producer, letter.receipt.submission_id
            is_other = reason is not None and letter.reason != reason
            if is_other or catalog.submissions(numbers.get(letter.receipt.namespace, 0), [sender]):
                counts.left += 1
                continue
            seen.add(value)
            counts.reasons[letter.reason] += 1
            submission = "/".join(filter(None, sender))
            told(Letter(f"number {letter.number} of the store", submission, letter.reason, letter.error))
            yield value


def _batches(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for value in values:
        if batch and (len(batch) == _PAGE or size + len(value) > _CALL_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(value)
        size += len(value)
    if batch:
        yield batch


def _submitted(submit: _Submit, batch: Sequence[bytes]) -> Iterable[pb.Receipt]:
    try:
        answer = submit(RawSubmitRequest(submissions=batch).SerializeToString(), timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        raise _translated(error) from error
    return api.SubmitResponse.FromString(answer).receipts


def _translated(error: Any) -> EpistreamError:
    """The error of ours that a failed call tells of."""
    with contextlib.suppress(ValueError):
        if status := rpc_status.from_call(error):
            return from_status(status)
    return failure(error.code(), error.details() or "no details")
