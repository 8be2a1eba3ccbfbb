"""The outbox: what Kafka must be told, read from what is kept anyway.

Changes and outcomes stand in the journal, dead letters in their table; what was acknowledged by Kafka is two numbers,
the newest of each. So nothing is written twice, and after a crash the messages since the last acknowledgement are
sent again: consumers tell them by `epistream-sequence`, which means something only together with `epistream-epoch`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from epistream.indexer import deadletters, positions
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.positions import Cursor
from epistream.indexer.store import Readers, Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire import topics

_Header: TypeAlias = tuple[str, bytes]

_PROTOBUF: Final = ("content-type", b"application/protobuf")


@dataclass(frozen=True, slots=True)
class Message:
    """A record for Kafka."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages, in order."""

    messages: tuple[Message, ...]
    cursor: Cursor
    """Where the outbox stands when all of them are acknowledged."""
    full: bool
    """Whether there may be more behind it."""


class Outbox:
    """What Kafka must be told. Any thread, any process."""

    def __init__(self, readers: Readers, *, letter_headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """`letter_headers` are added to each dead letter, beside those that say why and whence."""
        self._readers, self._letter_headers = readers, tuple(letter_headers)

    def pending(self, after: Cursor | None, limit: int) -> Page:
        """The messages of at most `limit` journal entries and as many dead letters after a cursor.

        After the acknowledged cursor when `after` is None.
        """
        with self._readers.reader() as catalog:
            epoch = ("epistream-epoch", catalog.epoch().encode())
            start = after or positions.acknowledged(catalog.connection)
            entries = [_Told(*entry) for entry in catalog.entries(start.sequence, limit)]
            letters = deadletters.read(catalog.connection, start.dead_letter, limit)
        end = Cursor(
            entries[-1].sequence if entries else start.sequence, letters[-1].number if letters else start.dead_letter
        )
        full = limit in (len(entries), len(letters))
        messages = (*_of_entries(entries, epoch), *_of_dead_letters(letters, epoch, self._letter_headers))
        return Page(messages, end, full)

    def count(self) -> int:
        """How many journal entries and dead letters are not yet acknowledged."""
        with self._readers.reader() as catalog:
            at = positions.acknowledged(catalog.connection)
            newest = catalog.connection.execute(
                "SELECT (SELECT IFNULL(MAX(sequence), 0) FROM journal),"
                " (SELECT IFNULL(MAX(number), 0) FROM dead_letters)"
            ).get
        return int(newest[0] - at.sequence + newest[1] - at.dead_letter)


def acknowledge(store: Store, cursor: Cursor) -> None:
    """Kafka has everything up to `cursor`. Only the writer thread."""
    with store.transaction() as connection:
        positions.acknowledge(connection, cursor)


class _Told(NamedTuple):
    """What Kafka is told of a journal entry."""

    sequence: int
    revision: int | None
    change: bytes | None
    record: bytes


def _of_entries(entries: Iterable[_Told], epoch: _Header) -> Iterator[Message]:
    for entry in entries:
        record = journal_pb2.JournalRecord.FromString(entry.record)
        if record.WhichOneof("record") != "decision":
            continue
        receipt = record.decision.receipt
        headers = (_PROTOBUF, epoch, ("epistream-sequence", b"%d" % entry.sequence))
        if entry.revision is not None:
            key = receipt.namespace.encode()  # one partition orders one namespace
            revision = ("epistream-revision", b"%d" % entry.revision)
            yield Message(topics.CHANGES, key, entry.change, (*headers, revision))
        key = f"{receipt.namespace}/{receipt.producer}/{receipt.submission_id}".encode()
        yield Message(topics.OUTCOMES, key, receipt.SerializeToString(deterministic=True), headers)


def _of_dead_letters(letters: Iterable[DeadLetter], epoch: _Header, added: tuple[_Header, ...]) -> Iterator[Message]:
    for letter in letters:
        record, receipt = letter.record, letter.receipt
        if record.position is not None:
            headers = (*record.headers, *_why(letter), *added)
            # kafka-python sends no record that has neither key nor value.
            value = b"" if record.key is None and record.value is None else record.value
            yield Message(topics.dead_letter_topic(record.position.topic), record.key, value, headers)
        key = f"{receipt.namespace}/{receipt.producer}/{receipt.submission_id}".encode()
        value = receipt.SerializeToString(deterministic=True)
        number = ("epistream-dead-letter", str(letter.number).encode())
        yield Message(topics.OUTCOMES, key, value, (_PROTOBUF, epoch, number))


def _why(letter: DeadLetter) -> Iterator[tuple[str, bytes]]:
    """The headers that a dead letter gets beside its own (operations.md A.4)."""
    receipt, record = letter.receipt, letter.record
    errors = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in receipt.violations)
    yield "epistream-dlq-reason", pb.Reason.Name(receipt.reason).removeprefix("REASON_").encode()
    yield "epistream-dlq-error", errors.encode()
    yield "epistream-dlq-attempts", str(max(1, receipt.attempts)).encode()
    if record.position is not None:
        yield "epistream-dlq-original-topic", record.position.topic.encode()
        yield "epistream-dlq-original-partition", str(record.position.partition).encode()
        yield "epistream-dlq-original-offset", str(record.position.offset).encode()
    if record.timestamp_us is not None:
        yield "epistream-dlq-original-timestamp", str(record.timestamp_us // 1000).encode()
