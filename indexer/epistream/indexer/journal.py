"""The journal: the append-only truth of a store, as a table of its SQLite file.

Each entry is one act: a submission was decided, a namespace was made or its policy changed. An entry that changes
knowledge has a revision and carries the change as it is pushed, byte for byte; the others have none. Entries are
chained by SHA-256, so that a changed or missing one is found. docs/journal-format.md describes the columns.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import apsw

from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken

SCHEMA: Final = """
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    revision INTEGER,
    change BLOB,
    embedding BLOB,
    record BLOB NOT NULL,
    digest BLOB NOT NULL
);
CREATE UNIQUE INDEX journal_by_revision ON journal (namespace, revision) WHERE revision IS NOT NULL;
"""

FIRST_DIGEST: Final = bytes(32)
"""What the first entry is chained to."""

_HASHED_BYTES: Final = 2047
"""For more at a time Python's hashlib lets other threads run, and beside a busy one every entry would wait its turn."""

PAGE: Final = 1000
"""How many entries `follow` reads at a time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal."""

    sequence: int
    """Its number in the store: 1, 2, 3 …"""
    namespace: int
    """The namespace's number in the store."""
    record: journal_pb2.JournalRecord
    change: pb.Change | None
    """What the entry changed; its `embedding` is never set."""
    change_bytes: bytes | None
    """The encoded change, as it is pushed."""
    embedding: bytes | None
    """Little-endian float32."""
    record_bytes: bytes
    digest: bytes
    """SHA-256 over the digest before, the namespace, the revision, the change, the embedding and the record."""

    @property
    def revision(self) -> int | None:
        """The revision of the change, if there is one."""
        return self.change.revision if self.change is not None else None


class Journal(Protocol):
    """What the store asks of a journal."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries. They are durable when the surrounding transaction is."""

    def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries whose sequence is above `after`, in order."""

    def follow(self, after: int) -> Iterator[Entry]:
        """All entries whose sequence is above `after`, in order, read page by page."""

    def last(self) -> tuple[int, bytes]:
        """The sequence and digest of the newest entry; (0, FIRST_DIGEST) of an empty journal."""


class SqliteJournal:
    """The journal as a table; append and apply are one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries; a sequence that exists raises Broken, since two writers would be at work."""
        try:
            self._connection.executemany(
                "INSERT INTO journal VALUES (?,?,?,?,?,?,?)",
                (
                    (e.sequence, e.namespace, e.revision, e.change_bytes, e.embedding, e.record_bytes, e.digest)
                    for e in entries
                ),
            )
        except apsw.ConstraintError as error:
            raise Broken(f"the journal has this entry already: is another service writing? ({error})") from error

    def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries after the sequence `after`."""
        rows = self._connection.execute(
            "SELECT sequence, namespace, change, embedding, record, digest FROM journal"
            " WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        return [entry_of(*row) for row in rows]

    def follow(self, after: int) -> Iterator[Entry]:
        """All entries after the sequence `after`."""
        while page := self.read(after, PAGE):
            yield from page
            after = page[-1].sequence

    def last(self) -> tuple[int, bytes]:
        """The newest entry's sequence and digest."""
        row = self._connection.execute("SELECT sequence, digest FROM journal ORDER BY sequence DESC LIMIT 1").get
        return row or (0, FIRST_DIGEST)


def entry_of(
    sequence: int, namespace: int, change: bytes | None, embedding: bytes | None, record: bytes, digest: bytes
) -> Entry:
    """The entry that a row holds."""
    return Entry(
        sequence=sequence,
        namespace=namespace,
        record=journal_pb2.JournalRecord.FromString(record),
        change=pb.Change.FromString(change) if change is not None else None,
        change_bytes=change,
        embedding=embedding,
        record_bytes=record,
        digest=digest,
    )


def chain(
    previous: bytes, namespace: int, revision: int, change: bytes | None, embedding: bytes | None, record: bytes
) -> bytes:
    """The digest of an entry; `revision` is 0 where there is none.

    Lengths are part of it, so that no two entries hash alike.
    """
    head = b"%d %d %d %d %d\n" % (namespace, revision, len(change or b""), len(embedding or b""), len(record))
    digest = hashlib.sha256(previous + head)
    for part in (change or b"", embedding or b"", record):
        for start in range(0, len(part), _HASHED_BYTES):
            digest.update(part[start : start + _HASHED_BYTES])
    return digest.digest()
