"""A store from a backup file (backup.py has its format): whole or not at all, and with an epoch of its own.

Revisions after the backup's moment are given anew in the restored store, to other changes than in the one before. The
new epoch keeps the two apart: who comes with a revision of the old one is told so.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import apsw
from google.protobuf.message import DecodeError

from epistream.indexer import journal, positions, views
from epistream.indexer.backup import DIGEST_BYTES, FORMAT, HEADER_LENGTH_BYTES, MAGIC, RECORD_LENGTH_BYTES
from epistream.indexer.journal import Entry, entry_of
from epistream.indexer.model import Place
from epistream.indexer.positions import Cursor
from epistream.indexer.store import FILE, WAL, Store, check, locked
from epistream.v1 import backup_pb2
from epistream.wire.errors import Broken, EpistreamError, InvalidInput

UNFINISHED: Final = "restoring"
"""The folder, within that of the store, in which a store is made before it is moved to its place."""

_READ_BYTES: Final = 4 << 20
_ANY_MAGIC: Final = re.compile(rb"epistream backup (\d+)\n")

Progress = Callable[[str, int, int], None]
"""Told what is being done (`verify`, `write`, `check`, `place`), how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a folder holds now."""

    header: backup_pb2.BackupHeader
    """What the backup was of."""
    epoch: str
    """The new store's."""
    positions: dict[tuple[str, int], Place]
    """Where to read on, by topic and partition of Kafka."""
    acknowledged: Cursor
    """How far Kafka was told."""


def restore(
    file: Path, folder: Path, *, checked: bool = True, progress: Progress = lambda _what, _done, _of: None
) -> Restored:
    """Make a store in `folder` from a backup file. Blocks; a kill at any moment leaves a whole store or none.

    Args:
        file: the backup.
        folder: made if there is none. What it holds beside a store is left alone.
        checked: check the store before it is moved to its place, as `epistream fsck` does.
        progress: told how it goes, in this thread.

    Raises:
        InvalidInput: the file is no whole backup of a format that is known, or the folder holds a store.
        Unavailable: another process uses the folder.
        Broken: the disk refused, or what was copied was damaged already. There is no store then.
    """
    _refuse_a_store(folder)
    try:
        header = verify(file, progress)
        with ExitStack() as failed:
            if not folder.exists():
                folder.mkdir(parents=True)
                _sync(folder.parent)
                failed.callback(shutil.rmtree, folder, ignore_errors=True)
            with locked(folder):
                _refuse_a_store(folder)
                unfinished = folder / UNFINISHED
                shutil.rmtree(unfinished, ignore_errors=True)  # of one that was killed
                failed.callback(shutil.rmtree, unfinished, ignore_errors=True)
                restored = _write(file, header, unfinished, progress, checked=checked)
                progress("place", 0, 1)
                failed.callback((folder / FILE).unlink, missing_ok=True)
                _place(unfinished / FILE, folder / FILE)
                failed.pop_all()
                shutil.rmtree(unfinished, ignore_errors=True)
        progress("place", 1, 1)
    except (OSError, apsw.Error) as error:
        raise Broken(f"{folder} could not be restored: {error}. Is the disk full or read-only?") from error
    return restored


def verify(file: Path, progress: Progress) -> backup_pb2.BackupHeader:
    """What a backup file is of, after all of it was read and found to be just what was sent.

    Raises:
        InvalidInput: it is not a backup, of a format that is not known, or not whole.
    """
    try:
        with file.open("rb") as opened:
            return _verified(opened, file, progress)
    except OSError as error:
        raise InvalidInput.at("file", f"{file} cannot be read: {error.strerror}") from error


def _verified(opened: BinaryIO, file: Path, progress: Progress) -> backup_pb2.BackupHeader:
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    magic = _ANY_MAGIC.match(opened.read(len(MAGIC) + 10))
    if magic is None:
        raise InvalidInput.at("file", f"{file} is not a backup of Epistream")
    if int(magic[1]) != FORMAT:
        raise InvalidInput.at(
            "file",
            f"{file} is a backup of format {int(magic[1])}, this version reads format {FORMAT}: restore it with the"
            " version that made it or a later one",
        )
    opened.seek(0)
    digest, left = hashlib.sha256(), size - DIGEST_BYTES
    while left > 0 and (piece := opened.read(min(left, _READ_BYTES))):
        digest.update(piece)
        left -= len(piece)
        progress("verify", size - DIGEST_BYTES - left, size - DIGEST_BYTES)
    if left or opened.read() != digest.digest():
        raise InvalidInput.at(
            "file", f"{file} is damaged or was cut off: its SHA-256 does not fit. Take another backup; nothing was made"
        )
    opened.seek(len(MAGIC))
    try:
        return _read_header(opened)
    except DecodeError as error:
        raise InvalidInput.at(
            "file",
            f"{file} has no header that can be read, though its SHA-256 fits: another program made it",
        ) from error


def _read_header(opened: BinaryIO) -> backup_pb2.BackupHeader:
    return backup_pb2.BackupHeader.FromString(_framed(opened, HEADER_LENGTH_BYTES))


def _framed(opened: BinaryIO, length_bytes: int) -> bytes:
    """What stands behind its length. Raises DecodeError where the file ends before."""
    length = int.from_bytes(opened.read(length_bytes), "little")
    if length > os.fstat(opened.fileno()).st_size:
        raise DecodeError("longer than the file")
    return opened.read(length)


def _records(file: Path) -> Iterator[backup_pb2.BackupRecord]:
    """The records of a file that was verified."""
    with file.open("rb") as opened:
        end = opened.seek(0, os.SEEK_END) - DIGEST_BYTES
        opened.seek(len(MAGIC))
        _read_header(opened)
        while opened.tell() < end:
            yield backup_pb2.BackupRecord.FromString(_framed(opened, RECORD_LENGTH_BYTES))


def _write(file: Path, header: backup_pb2.BackupHeader, folder: Path, progress: Progress, *, checked: bool) -> Restored:
    """Make the store in a folder of its own, check it and close it: one file, on the disk."""
    store = Store(folder)
    try:
        with _of_a_journal(file):
            records, written = _records(file), 0
            while page := list(islice(records, journal.PAGE)):
                with store.transaction() as connection:
                    _put(store, connection, page)
                written = min(written + len(page), header.journal_entries)
                progress("write", written, header.journal_entries)
            with store.reader() as at:
                found = positions.read(at.connection), positions.acknowledged(at.connection)
                heads = {namespace.name: at.counts(number).head for number, namespace in at.namespaces()}
        if store.journal.last()[0] != header.journal_entries or heads != _heads(header):
            raise Broken(f"{file} does not hold what its header says: report it as a defect", reason="CORRUPT")
        progress("check", 0, 1)
        if checked and (findings := check(store)):
            raise Broken(f"the store that was copied was damaged already: {'; '.join(findings)}", reason="CORRUPT")
        progress("check", 1, 1)
    finally:
        store.close()
    return Restored(header, store.epoch, *found)


@contextmanager
def _of_a_journal(file: Path) -> Iterator[None]:
    """Raises Broken where the block meets what no journal holds: views that are made of it fail in any way."""
    try:
        yield
    except (EpistreamError, OSError, apsw.Error):
        raise
    except Exception as error:
        text = f"{file}: an entry of the journal cannot be decoded, or cannot stand where it does"
        raise Broken(text, reason="CORRUPT") from error


def _put(store: Store, connection: apsw.Connection, page: Sequence[backup_pb2.BackupRecord]) -> None:
    entries = [_entry(record.entry) for record in page if record.HasField("entry")]
    store.journal.append(entries)
    views.apply(connection, entries)
    for record in page:
        match record.WhichOneof("record"):
            case "dead_letter":
                row = [_value(record.dead_letter, field.name) for field in record.dead_letter.DESCRIPTOR.fields]
                connection.execute("INSERT INTO dead_letters VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)
            case "position":
                at = record.position
                row = [at.topic, at.partition, at.next_offset, at.leader_epoch, at.topic_id]
                connection.execute("INSERT INTO positions VALUES (?,?,?,?,?)", row)
            case "acknowledged":
                told = record.acknowledged
                positions.acknowledge(connection, Cursor(told.sequence, told.dead_letter))
            case _:
                pass


def _entry(entry: backup_pb2.BackupEntry) -> Entry:
    change, embedding = _value(entry, "change"), _value(entry, "embedding")
    return entry_of(entry.sequence, entry.namespace, change, embedding, entry.record, entry.digest)  # type: ignore[arg-type]


def _value(message: backup_pb2.BackupEntry | backup_pb2.BackupDeadLetter, name: str) -> int | str | bytes | None:
    """A field's value; None where an optional one is not set."""
    optional = message.DESCRIPTOR.fields_by_name[name].has_presence
    is_set = not optional or message.HasField(name)  # type: ignore[arg-type] # the name of a field
    return getattr(message, name) if is_set else None


def _heads(header: backup_pb2.BackupHeader) -> dict[str, int]:
    return {namespace.name: namespace.head_revision for namespace in header.namespaces}


def _refuse_a_store(folder: Path) -> None:
    # A WAL that belongs to another file would be written into this one.
    for name in (FILE, WAL, f"{FILE}-shm"):
        if (folder / name).exists():
            raise InvalidInput.at(
                "folder",
                f"{folder} holds a store ({name}), which is never overwritten: choose another folder, or stop the"
                f" service and move that store away (`mv {folder / name}* ELSEWHERE`)",
            )


def _place(made: Path, place: Path) -> None:
    """Move a store that is closed to its place, durably."""
    if made.with_name(WAL).exists():
        raise Broken(f"{made} could not be closed. Is the disk full?")
    for path in (made, made.parent):
        _sync(path)
    made.rename(place)
    _sync(place.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
