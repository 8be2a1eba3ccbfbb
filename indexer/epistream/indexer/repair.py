"""Makes what can be made anew of a store that is damaged: the views, and the file around what is true.

What is true (the journal, the positions in Kafka, the dead letters) is never mended: where it is damaged, that is told,
and a backup is needed.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import apsw

from epistream.indexer import disk, journal, store, views
from epistream.indexer.store import FILE, FORMAT, PAGE_BYTES, Store
from epistream.wire.errors import Broken

DAMAGED: Final = "store.sqlite.damaged"
"""What the file is called that was written anew."""

_UNFINISHED: Final = "store.sqlite.new"
_TRUE: Final = ("meta", "journal", "positions", "acknowledged", "dead_letters")


def remake(folder: Path) -> int:
    """Make the views of a store that nobody has open anew, and the whole file where it is damaged.

    The file that was damaged stays beside the new one, as DAMAGED.

    Returns:
        From how many journal entries.

    Raises:
        Unavailable: another process has it open, or the disk is full.
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
            entries = _write_anew(damaged, folder / _UNFINISHED)
    finally:
        damaged.close()
    _put_in_place(folder)
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
    """Have the new file take the place of the damaged one, whose WAL must not be taken for its own."""
    try:
        (folder / FILE).replace(folder / DAMAGED)
        for ending in ("-wal", "-shm"):
            (folder / f"{FILE}{ending}").unlink(missing_ok=True)
        (folder / _UNFINISHED).replace(folder / FILE)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk.of_system(error, folder) from error
