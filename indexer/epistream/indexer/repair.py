"""Makes what can be made anew of a store that is damaged: the views, and the file around what is true.

What is true (the journal, the positions in Kafka, the dead letters) is never mended: where it is damaged, that is told,
and a backup is needed.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import apsw

from epistream.indexer import disk, journal, store, views
from epistream.indexer.store import ANEW, DAMAGED, FILE, FORMAT, PAGE_BYTES, WAL, Store
from epistream.wire.errors import Broken, Unavailable

_TRUE: Final = ("meta", "journal", "positions", "acknowledged", "dead_letters")


def remake(folder: Path) -> int:
    """Make the views of a store that nobody has open anew, and the whole file where it is damaged.

    The file that was damaged stays beside the new one, as DAMAGED. A kill at any moment leaves the one or the other in
    its place, whole.

    Returns:
        From how many journal entries.

    Raises:
        Unavailable: another process has it open or reads it, or the disk is full.
        Broken: what is true is damaged; nothing was changed. Or the file cannot be opened at all.
    """
    damaged = Store(folder)
    try:
        if damaged.renewed is not None:
            return damaged.renewed
        with disk.translated(damaged.path, damaged.writer):
            for damage in store.damage_of_truth(damaged):
                raise Broken(f"{damaged.path} is not made anew: {damage}. Restore a backup", reason="CORRUPT")
            if not store.damage_of_file(damaged):
                return store.rebuild(damaged)
        return _remake_file(damaged, folder)
    finally:
        damaged.close()


def _remake_file(damaged: Store, folder: Path) -> int:
    with contextlib.ExitStack() as failed:
        failed.callback((folder / ANEW).unlink, missing_ok=True)
        with disk.translated(damaged.path, damaged.writer):
            entries = _write_anew(damaged, folder / ANEW)
        damaged.close_file()
        try:
            _put_in_place(folder)
        except OSError as error:
            raise disk.of_system(error, folder) from error
        failed.pop_all()
    return entries


def _write_anew(damaged: Store, path: Path) -> int:
    """Copy what is true into a new file, and make the views there. It is on the disk then."""
    path.unlink(missing_ok=True)
    with contextlib.closing(apsw.Connection(str(path))) as fresh, disk.translated(path, fresh):
        fresh.pragma("page_size", PAGE_BYTES)
        fresh.pragma("synchronous", "full")
        fresh.execute("BEGIN IMMEDIATE")
        for schema in store.SCHEMAS:
            fresh.execute(schema)
        for table in _TRUE:
            _copy(damaged.writer, fresh, table)
        fresh.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))
        applied, copied = 0, journal.SqliteJournal(fresh)
        while page := copied.read(applied, journal.PAGE):
            views.apply(fresh, page)
            applied = page[-1].sequence
        fresh.execute("COMMIT")
    return applied


def _copy(source: apsw.Connection, fresh: apsw.Connection, table: str) -> None:
    fresh.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
    columns = list(fresh.execute("SELECT name FROM pragma_table_info(?)", (table,)))
    marks = ",".join("?" * len(columns))
    rows = source.execute(f"SELECT * FROM {table} NOT INDEXED")  # noqa: S608 - a constant
    fresh.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - a constant


def _put_in_place(folder: Path) -> None:
    """Have the new file take the place of the damaged one, in one step.

    The WAL of the one must not be taken for the other's. It may go when it is empty: then all of it is in its file.
    """
    file, wal = folder / FILE, folder / WAL
    if wal.exists() and wal.stat().st_size:
        raise Unavailable(f"{wal} cannot be written back, and nothing was changed. End whoever reads the store")
    for path in (wal, folder / f"{FILE}-shm", folder / DAMAGED):
        path.unlink(missing_ok=True)
    try:
        (folder / DAMAGED).hardlink_to(file)
    except OSError:  # a file system without such links
        shutil.copyfile(file, folder / DAMAGED)
    (folder / ANEW).replace(file)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
