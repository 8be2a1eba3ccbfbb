r"""A copy of a store, made while it is written to.

The journal and the dead letters are only ever added to. So a copy of one moment needs no transaction that lasts as long
as the copying: what was the newest entry then is noted once, and whatever stands before it is read page by page, at the
reader's pace. The writer notices nothing, the WAL is written back as ever, and no second copy lies on the disk
(docs/decisions/0013-backup-by-entries.md). Views are left out: the journal makes them again.

The file, all numbers little-endian:

    magic            19 bytes   b"epistream backup 1\n"; another number is another format
    length            8 bytes   of the header
    header                      an epistream.v1.BackupHeader
    records                     each: its length (4 bytes) and an epistream.v1.BackupRecord
    SHA-256          32 bytes   of everything before
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import apsw

from epistream.indexer import journal, positions
from epistream.indexer.catalog import Catalog
from epistream.indexer.store import Readers
from epistream.v1 import backup_pb2
from epistream.wire.errors import Broken

FORMAT: Final = 1
"""The version of the file's layout."""
MAGIC: Final = b"epistream backup %d\n" % FORMAT
HEADER_LENGTH_BYTES: Final = 8
RECORD_LENGTH_BYTES: Final = 4
DIGEST_BYTES: Final = hashlib.sha256().digest_size

CHUNK_BYTES: Final = 1024 * 1024
"""So much is read from the store, and given out, at a time."""

_Row: TypeAlias = tuple[Any, ...]


class Backup:
    """A copy of a store as it is when this is made. Any thread, one at a time, and any process.

    Attributes:
        header: what it is of.
        data_bytes: how much `data` has given out.
    """

    def __init__(self, readers: Readers, service_version: str, now_us: int) -> None:
        """Take the moment: `now_us`, in microseconds since 1970. Blocks for some reads, and holds up nobody."""
        self._readers = readers
        self._digest = hashlib.sha256()
        self.data_bytes = 0
        with readers.reader() as at:
            self.header: Final = _header(at, service_version, now_us)
            self._positions: Final[list[_Row]] = at.connection.execute(
                "SELECT topic, partition, next_offset, leader_epoch, topic_id FROM positions ORDER BY topic, partition"
            ).fetchall()
            self._acknowledged: Final = positions.acknowledged(at.connection)

    def data(self) -> Iterator[bytes]:
        """All of the file but its last 32 bytes, in pieces of at most CHUNK_BYTES. Each step blocks for the disk.

        Between two steps nothing is held but a piece. Ask once.

        Raises:
            Broken: the journal is not what was written; what was given out is of no use.
        """
        kept = bytearray()
        for part in self._parts():
            kept += part
            while len(kept) >= CHUNK_BYTES:
                yield self._counted(bytes(kept[:CHUNK_BYTES]))
                del kept[:CHUNK_BYTES]
        if kept:
            yield self._counted(bytes(kept))

    def sha256(self) -> bytes:
        """The last 32 bytes of the file. Call it when `data` has ended."""
        return self._digest.digest()

    def _counted(self, piece: bytes) -> bytes:
        self._digest.update(piece)
        self.data_bytes += len(piece)
        return piece

    def _parts(self) -> Iterator[bytes]:
        header = self.header.SerializeToString(deterministic=True)
        yield MAGIC + len(header).to_bytes(HEADER_LENGTH_BYTES, "little") + header
        yield from self._entries()
        yield from self._dead_letters()
        for topic, partition, next_offset, leader_epoch, topic_id in self._positions:
            at = backup_pb2.BackupPosition(
                topic=topic,
                partition=partition,
                next_offset=next_offset,
                leader_epoch=leader_epoch,
                topic_id=topic_id,
            )
            yield _framed(backup_pb2.BackupRecord(position=at))
        told = backup_pb2.BackupAcknowledged(
            sequence=self._acknowledged.sequence, dead_letter=self._acknowledged.dead_letter
        )
        yield _framed(backup_pb2.BackupRecord(acknowledged=told))

    def _entries(self) -> Iterator[bytes]:
        """The journal, page by page. Its chain is verified: a backup that was made can be restored."""
        after, previous = 0, journal.FIRST_DIGEST
        while after < self.header.journal_entries:
            rows = self._page(
                "SELECT sequence, namespace, revision, change, embedding, record, digest FROM journal"
                " WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
                (after, self.header.journal_entries),
            )
            page = bytearray()
            for sequence, namespace, revision, change, embedding, record, digest in rows:
                after += 1
                if sequence != after or digest != journal.chain(
                    previous, namespace, revision or 0, change, embedding, record
                ):
                    raise _damaged(after)
                previous = digest
                entry = backup_pb2.BackupEntry(
                    sequence=sequence,
                    namespace=namespace,
                    change=change,
                    embedding=embedding,
                    record=record,
                    digest=digest,
                )
                page += _framed(backup_pb2.BackupRecord(entry=entry))
            if not rows:
                raise _damaged(after + 1)
            yield bytes(page)

    def _dead_letters(self) -> Iterator[bytes]:
        after = 0
        while rows := self._page(
            "SELECT number, topic, partition, offset, received_us, timestamp_us, key, value, headers, receipt, digest"
            " FROM dead_letters WHERE number > ? AND number <= ? ORDER BY number",
            (after, self.header.dead_letters),
        ):
            yield b"".join(_framed(backup_pb2.BackupRecord(dead_letter=_dead_letter(row))) for row in rows)
            after = rows[-1][0]

    def _page(self, query: str, between: tuple[int, int]) -> Sequence[_Row]:
        """The first rows of a query, CHUNK_BYTES of them and a row more at most: rows can be large."""
        rows: list[_Row] = []
        size = 0
        with self._readers.reader() as at:
            cursor = at.connection.execute(query, between)
            for row in cursor:
                rows.append(row)
                size += sum(len(value) for value in row if isinstance(value, bytes))
                if size >= CHUNK_BYTES or len(rows) >= journal.PAGE:
                    cursor.close(force=True)
                    break
        return rows


def _header(at: Catalog, service_version: str, now_us: int) -> backup_pb2.BackupHeader:
    connection = at.connection
    header = backup_pb2.BackupHeader(
        format=FORMAT,
        epoch=at.epoch(),
        service_version=service_version,
        namespaces=sorted(
            (
                backup_pb2.BackupNamespace(name=namespace.name, head_revision=at.counts(number).head)
                for number, namespace in at.namespaces()
            ),
            key=lambda one: one.name,
        ),
        journal_entries=_first(connection, "SELECT IFNULL(MAX(sequence), 0) FROM journal"),
        dead_letters=_first(connection, "SELECT IFNULL(MAX(number), 0) FROM dead_letters"),
        store_bytes=_first(connection, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"),
    )
    header.create_time.FromMicroseconds(now_us)
    return header


def _first(connection: apsw.Connection, query: str) -> int:
    return int(connection.execute(query).get)


def _dead_letter(row: _Row) -> backup_pb2.BackupDeadLetter:
    names = [field.name for field in backup_pb2.BackupDeadLetter.DESCRIPTOR.fields]
    return backup_pb2.BackupDeadLetter(**dict(zip(names, row, strict=True)))


def _framed(record: backup_pb2.BackupRecord) -> bytes:
    encoded = record.SerializeToString(deterministic=True)
    return len(encoded).to_bytes(RECORD_LENGTH_BYTES, "little") + encoded


def _damaged(sequence: int) -> Broken:
    return Broken(
        f"journal entry {sequence} is not what was written: verify the store with `epistream fsck`", reason="CORRUPT"
    )
