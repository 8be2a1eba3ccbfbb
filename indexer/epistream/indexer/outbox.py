"""The outbox: what Kafka must be told, read from what is kept anyway.

Changes, outcomes and alarms stand in the journal, dead letters in their table; what was acknowledged by Kafka is two
numbers, the newest of each. So nothing is written twice, and after a crash the messages since the last acknowledgement
are sent again: consumers tell them by `epistream-sequence`, which means something only together with `epistream-epoch`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import merge
from typing import Final, TypeAlias

from epistream.indexer import deadletters, positions
from epistream.indexer.catalog import Catalog, Written
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.positions import Cursor
from epistream.indexer.store import Readers, Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire import topics

_Header: TypeAlias = tuple[str, bytes]

PAGE_BYTES: Final = 16 * 1024 * 1024
"""How much a page holds: half of what a producer has on its way."""
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
        """The messages of at most `limit` journal entries and as many dead letters after a cursor, in their order.

        After the acknowledged cursor when `after` is None. Entries and letters come by the times of their receipts: who
        follows a submission hears that it was refused before it hears what became of it when it came again. A page
        ends before it is larger than PAGE_BYTES, but has something where there is something.
        """
        with self._readers.reader() as catalog:
            epoch = ("epistream-epoch", catalog.epoch().encode())
            start = after or positions.acknowledged(catalog.connection)
            with (
                closing(catalog.entries(start.sequence, limit)) as entries,
                closing(deadletters.each(catalog.connection, start.dead_letter, limit)) as letters,
            ):
                told_of_letters = _marked(_of_dead_letters(letters, epoch, self._letter_headers), limit)
                return _page(start, told_of_letters, _marked(_of_entries(entries, epoch, catalog), limit))

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


@dataclass(frozen=True, slots=True)
class _Told:
    """What Kafka is told of a journal entry or a dead letter; or that there may be more of these, later than all."""

    time_us: int
    """When it was decided; of an entry that is no decision, when the one before was."""
    messages: tuple[Message, ...] = ()
    sequence: int = 0
    """Of the entry."""
    dead_letter: int = 0
    """The number of the letter."""

    @property
    def size(self) -> int:
        return sum(
            len(message.key or b"") + len(message.value or b"") + sum(len(k) + len(v) for k, v in message.headers)
            for message in self.messages
        )


def _page(start: Cursor, letters: Iterable[_Told], entries: Iterable[_Told]) -> Page:
    """What comes first of both; where it is equally old, letters."""
    messages: list[Message] = []
    size, end, full = 0, start, False
    for told in merge(letters, entries, key=lambda told: told.time_us):
        size += told.size
        # Behind a mark are some that were not read, and what is later waits for them.
        full = not (told.sequence or told.dead_letter) or (bool(messages) and size > PAGE_BYTES)
        if full:
            break
        messages += told.messages
        end = Cursor(told.sequence or end.sequence, told.dead_letter or end.dead_letter)
    return Page(tuple(messages), end, full)


def _marked(all_told: Iterable[_Told], limit: int) -> Iterator[_Told]:
    """With a mark at the end where there may be more."""
    count = 0
    for count, told in enumerate(all_told, 1):  # noqa: B007 - what is there in the end
        yield told
    if count == limit:
        yield _Told(told.time_us)


def _of_entries(entries: Iterable[Written], epoch: _Header, catalog: Catalog) -> Iterator[_Told]:
    time_us = 0
    for entry in entries:
        record = journal_pb2.JournalRecord.FromString(entry.record)
        kind = record.WhichOneof("record")
        headers = (_PROTOBUF, epoch, ("epistream-sequence", b"%d" % entry.sequence))
        messages: list[Message] = []
        if kind == "watched" and record.watched.since_time == record.watched.time:  # raised or cleared by this window
            messages.append(_alarm(dict(catalog.namespaces())[entry.namespace].name, record.watched, headers))
        elif kind == "decision":
            receipt = record.decision.receipt
            time_us = receipt.time.ToMicroseconds()
            if entry.revision is not None:
                key = receipt.namespace.encode()  # one partition orders one namespace
                numbered = ("epistream-revision", b"%d" % entry.revision)
                messages.append(Message(topics.CHANGES, key, entry.change, (*headers, numbered)))
            messages.append(_outcome(receipt, headers))
        yield _Told(time_us, tuple(messages), sequence=entry.sequence)


def _of_dead_letters(letters: Iterable[DeadLetter], epoch: _Header, added: tuple[_Header, ...]) -> Iterator[_Told]:
    for letter in letters:
        record, receipt = letter.record, letter.receipt
        messages: list[Message] = []
        if record.position is not None:
            headers = (*record.headers, *_why(letter), *added)
            # kafka-python sends no record that has neither key nor value.
            value = b"" if record.key is None and record.value is None else record.value
            messages.append(Message(topics.dead_letter_topic(record.position.topic), record.key, value, headers))
        number = ("epistream-dead-letter", str(letter.number).encode())
        messages.append(_outcome(receipt, (_PROTOBUF, epoch, number)))
        yield _Told(receipt.time.ToMicroseconds(), tuple(messages), dead_letter=letter.number)


def _outcome(receipt: pb.Receipt, headers: tuple[_Header, ...]) -> Message:
    key = f"{receipt.namespace}/{receipt.producer}/{receipt.submission_id}".encode()
    return Message(topics.OUTCOMES, key, receipt.SerializeToString(deterministic=True), headers)


def _alarm(namespace: str, alarm: pb.CollapseAlarm, headers: tuple[_Header, ...]) -> Message:
    # The producer's name stands last, since it may have any sign in it.
    key = f"{namespace}/{pb.Modality.Name(alarm.modality).removeprefix('MODALITY_')}/{alarm.producer}".encode()
    return Message(topics.ALARMS, key, alarm.SerializeToString(deterministic=True), headers)


def _why(letter: DeadLetter) -> Iterator[tuple[str, bytes]]:
    """The headers that a dead letter gets beside its own (operations.md A.4)."""
    receipt, record = letter.receipt, letter.record
    yield "epistream-dlq-reason", letter.reason.encode()
    yield "epistream-dlq-error", letter.error.encode()
    yield "epistream-dlq-attempts", str(max(1, receipt.attempts)).encode()
    if record.position is not None:
        yield "epistream-dlq-original-topic", record.position.topic.encode()
        yield "epistream-dlq-original-partition", str(record.position.partition).encode()
        yield "epistream-dlq-original-offset", str(record.position.offset).encode()
    if record.timestamp_us is not None:
        yield "epistream-dlq-original-timestamp", str(record.timestamp_us // 1000).encode()
