"""The store: one SQLite file that holds the journal, the views and the positions in Kafka.

One connection writes, in transactions with full durability (WAL, synchronous=FULL): when `transaction` is left
without an error, the data is on the disk. Readers have connections of their own, each used by one thread at a time,
and see the state of one moment for as long as they are held.
"""

import contextlib
import fcntl
import hashlib
import logging
import queue
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import apsw

from epistream.indexer import deadletters, journal, positions, views
from epistream.indexer.catalog import Catalog
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.journal import SqliteJournal
from epistream.wire.errors import Broken, Unavailable

_log = logging.getLogger(__name__)

FORMAT: Final = 2
"""The version of the file's layout."""

_OTHER_VIEWS: Final = ("1",)
"""Formats with the same journal and other views: these are made anew when such a store is opened."""

FILE: Final = "store.sqlite"
"""Its name in the store's folder."""

PAGE_BYTES: Final = 8192
"""An entry with a vector of 384 dimensions is about 2.5 kB: three share a page, where of 4,096 bytes each takes one."""

CHECKPOINT_PAGES: Final = 8192
"""The WAL is written back at 64 MiB: the same pages change again and again, and are then written back once."""

CACHE_KIBIBYTES: Final = 64 * 1024
"""Of the writing connection. With SQLite's own 2 MiB, look-ups and inserts of items took twice as long at 20,000."""

OLDEST_SQLITE: Final = (3, 51, 3)
"""The first SQLite without the WAL-reset bug, which corrupts a file that two connections use (sqlite.org/wal.html)."""

_META: Final = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
_DUMPED: Final = ("journal", *views.TABLES, "positions", "dead_letters")


class Readers:
    """Connections that read the store in a folder, which this or another process has open. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Opens nothing yet."""
        self._path = folder / FILE
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        self._opened: list[apsw.Connection] = []

    @contextlib.contextmanager
    def reader(self) -> Iterator[Catalog]:
        """The state of one moment. Any thread; blocks nobody. Raises apsw.Error where the file cannot be read."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(10_000)
            self._opened.append(connection)
        connection.execute("BEGIN")
        try:
            yield Catalog(connection)
        finally:
            connection.execute("ROLLBACK")
            self._idle.put(connection)

    def close(self) -> None:
        """Close the connections; none may be in use."""
        for connection in self._opened:
            connection.close()


class Store:
    """An open store. Only one process can have it open for writing.

    Attributes:
        epoch: names this store; a revision means something only together with it.
        readers: connections for reading.
        transaction_seconds: how long the newest committed transaction took, from its begin until it was durable.
        commit_seconds: how long its COMMIT alone took, which writes the WAL and waits for the disk; now and then it
            also writes the WAL back.
        writer: the writing connection. Only the writer thread may use it.
        journal: the journal over the writing connection.
        renewed: from how many entries the views were made anew when it was opened, since they were of an earlier
            version; None where they were not. A program of that version refuses the store from then on.
    """

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`, making it if there is none.

        Raises:
            Unavailable: another process has it open.
            Broken: the file is not a store of this version, cannot be opened, or is damaged where its views must be
                made anew.
        """
        _refuse_vulnerable_sqlite()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder / "lock")
        self.path = folder / FILE
        self.readers = Readers(folder)
        self.transaction_seconds = self.commit_seconds = 0.0
        try:
            self.writer = apsw.Connection(str(self.path))
            # First: after a kill, the publisher of the killed process may read for a moment longer.
            self.writer.set_busy_timeout(10_000)
            self.writer.pragma("page_size", PAGE_BYTES)
            self.writer.pragma("journal_mode", "wal")
            self.writer.wal_autocheckpoint(CHECKPOINT_PAGES)
            self.writer.pragma("synchronous", "full")
            self.writer.pragma("cache_size", -CACHE_KIBIBYTES)
            self.epoch, as_it_is = _prepare(self.writer)
        except apsw.Error as error:
            self._lock.close()
            raise Broken(f"{self.path} cannot be opened as a store: {error}", reason="CORRUPT") from error
        self.journal = SqliteJournal(self.writer)
        self.renewed = None if as_it_is else self._renew()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A transaction on the writing connection: durable when left without an error, undone otherwise.

        Raises:
            Broken: the disk refused. The state on it is unknown until the store is opened anew.
        """
        begun = time.monotonic()
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
            except BaseException:
                self.writer.execute("ROLLBACK")
                raise
            changed = time.monotonic()
            self.writer.execute("COMMIT")
            durable = time.monotonic()
            self.transaction_seconds, self.commit_seconds = durable - begun, durable - changed
        except (apsw.IOError, apsw.FullError, apsw.CorruptError, apsw.ReadOnlyError) as error:
            with contextlib.suppress(apsw.Error):
                self.writer.execute("ROLLBACK")
            raise Broken(f"{self.path} cannot be written: {error}") from error

    def _renew(self) -> int:
        """Make the views of an earlier version anew. Returns from how many entries."""
        _log.info("The views of %s are of an earlier version: they are made anew from the journal.", self.path)
        with contextlib.ExitStack() as failed:
            failed.callback(self._lock.close)
            failed.callback(self.writer.close)
            # Dropping them is safe only where the journal makes them again.
            for damage in _check_chain(self):
                raise Broken(f"{self.path} cannot be brought to format {FORMAT}: {damage}", reason="CORRUPT")
            entries = rebuild(self)
            failed.pop_all()
        return entries

    def reader(self) -> contextlib.AbstractContextManager[Catalog]:
        """The state of one moment, for reading. Any thread; blocks nobody."""
        return self.readers.reader()

    def dead_letters(self, after: int, limit: int) -> list[DeadLetter]:
        """At most `limit` records that were refused, whose number is above `after`, in order."""
        with self.reader() as catalog:
            return deadletters.read(catalog.connection, after, limit)

    def logical_dump(self) -> Iterator[str]:
        """Every row of the journal, the views, the positions and the dead letters as a line of text, in key order.

        Two stores with the same dump are the same, whatever the bytes of their files.
        """
        with self.reader() as at:
            for table in _DUMPED:
                for row in at.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):  # noqa: S608 - a constant
                    yield f"{table}: " + " ".join(v.hex() if isinstance(v, bytes) else repr(v) for v in row)

    def close(self) -> None:
        """Write the WAL back into the file and let go of it. Readers must have ended."""
        self.readers.close()
        with contextlib.suppress(apsw.BusyError):
            self.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.writer.close()
        self._lock.close()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Catalog]:
    """The state of one moment of the store in `folder`, which another process may have open.

    Its views may be those of an earlier version; the journal, the positions and the dead letters are as ever.

    Raises:
        Unavailable: there is no store.
        Broken: it cannot be read.
    """
    if not (folder / FILE).is_file():
        raise Unavailable(f"{folder} holds no store")
    try:
        with contextlib.closing(Readers(folder)) as readers, readers.reader() as catalog:
            yield catalog
    except apsw.Error as error:
        raise Broken(f"{folder / FILE} cannot be read: {error}", reason="CORRUPT") from error


def check(store: Store) -> list[str]:
    """What is wrong with a store, as sentences; nothing when all is well. Reads everything.

    Verifies the file and the chain of the journal with its dense revisions. If these are well, it applies the whole
    journal to empty views in memory and compares: the views must be what the journal makes.
    """
    found = [
        f"the file is damaged: {row[0]}" for row in store.writer.execute("PRAGMA integrity_check") if row[0] != "ok"
    ]
    found += _check_chain(store)
    return found or _check_views(store)


def _check_chain(store: Store) -> Iterator[str]:
    previous, expected, heads = journal.FIRST_DIGEST, 0, dict[int, int]()
    rows = store.writer.execute(
        "SELECT sequence, namespace, revision, change, embedding, record, digest FROM journal ORDER BY sequence"
    )
    for sequence, namespace, revision, change, embedding, record, digest in rows:
        expected += 1
        if sequence != expected:
            yield f"journal entry {expected} is missing"
            expected = sequence
        if digest != journal.chain(previous, namespace, revision or 0, change, embedding, record):
            yield f"journal entry {sequence} is not what was written"
        if revision is not None:
            if revision != heads.get(namespace, 0) + 1:
                yield f"journal entry {sequence} has revision {revision}, expected {heads.get(namespace, 0) + 1}"
            heads[namespace] = revision
        previous = digest


def _check_views(store: Store) -> list[str]:
    rebuilt = apsw.Connection(":memory:")
    rebuilt.execute(views.SCHEMA)
    after = 0
    while page := store.journal.read(after, journal.PAGE):
        views.apply(rebuilt, page)
        after = page[-1].sequence
    return [
        f"the view {table} is not what the journal makes: rebuild it"
        for table in views.TABLES
        if _table_digest(store.writer, table) != _table_digest(rebuilt, table)
    ]


def rebuild(store: Store) -> int:
    """Drop the views and make them anew from the journal, in one transaction. Returns the number of entries applied."""
    applied = 0
    with store.transaction() as connection:
        for table in views.TABLES:
            connection.execute(f"DROP TABLE {table}")
        connection.execute(views.SCHEMA)
        while page := store.journal.read(applied, journal.PAGE):
            views.apply(connection, page)
            applied = page[-1].sequence
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))
    return applied


def _table_digest(connection: apsw.Connection, table: str) -> str:
    digest = hashlib.sha256()
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):  # noqa: S608 - a constant
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _refuse_vulnerable_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise Broken(f"SQLite {apsw.sqlite_lib_version()} can corrupt the store: install apsw 3.51.3 or newer")


def _lock(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Unavailable(
            f"{path.parent} is in use by another process: stop that one, or choose another folder"
        ) from error
    return file


def _prepare(connection: apsw.Connection) -> tuple[str, bool]:
    """Make the tables of an empty file, check those of another; the epoch, and whether the views are of this format."""
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get:
        for schema in (_META, journal.SCHEMA, views.SCHEMA, positions.SCHEMA, deadletters.SCHEMA):
            connection.execute(schema)
        connection.execute("INSERT INTO meta VALUES ('format', ?), ('epoch', ?)", (str(FORMAT), uuid.uuid4().hex))
    connection.execute("COMMIT")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("format") not in (str(FORMAT), *_OTHER_VIEWS):
        raise Broken(f"the store has format {meta.get('format')}, this version reads format {FORMAT}", reason="CORRUPT")
    return str(meta["epoch"]), meta["format"] == str(FORMAT)
