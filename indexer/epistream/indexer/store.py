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
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import apsw

from epistream.indexer import deadletters, disk, journal, positions, views
from epistream.indexer.catalog import Catalog
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.journal import SqliteJournal
from epistream.indexer.opening import CHAIN, VIEWS, Opening
from epistream.wire.errors import Broken, Unavailable

_log = logging.getLogger(__name__)

FORMAT: Final = 14
"""The version of the file's layout."""

OTHER_VIEWS: Final = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13")
"""Formats with the same journal and other views: these are made anew when such a store is opened. Positions of those
before 12 do not say which topics they are of."""

FILE: Final = "store.sqlite"
"""Its name in the store's folder."""
WAL: Final = f"{FILE}-wal"
"""Where SQLite has what is not in that file yet."""
ANEW: Final = "store.sqlite.new"
"""The file that is written in its place (repair.py), until it stands there."""
DAMAGED: Final = "store.sqlite.damaged"
"""What it is called where it was written anew."""
CHECKING: Final = "checking"
"""The folder beside it, while the views are checked: they are made anew there."""

PAGE_BYTES: Final = 8192
"""An entry with a vector of 384 dimensions is about 2.5 kB: three share a page, where of 4,096 bytes each takes one."""

CHECKPOINT_PAGES: Final = 8192
"""The WAL is written back at 64 MiB: the same pages change again and again, and are then written back once."""

CACHE_KIBIBYTES: Final = 64 * 1024
"""Of the writing connection. With SQLite's own 2 MiB, look-ups and inserts of items took twice as long at 20,000."""

BUSY_MILLISECONDS: Final = 10_000
"""So long another connection is waited for."""

OLDEST_SQLITE: Final = (3, 51, 3)
"""The first SQLite without the WAL-reset bug, which corrupts a file that two connections use (sqlite.org/wal.html)."""

META: Final = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
SCHEMAS: Final = (META, journal.SCHEMA, views.SCHEMA, positions.SCHEMA, deadletters.SCHEMA)
"""All that is in the file."""

_NAMES: Final = "SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
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
        """The state of one moment. Any thread; blocks nobody.

        Raises:
            Broken: the file cannot be read; CORRUPT where it is damaged.
            Unavailable: memory is short, or there is no space for what SQLite must write beside it.
        """
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            with disk.translated(self._path):
                connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            self._opened.append(connection)
        try:
            with disk.translated(self._path, connection):
                connection.execute("BEGIN")
                yield Catalog(connection)
        finally:
            if connection.in_transaction:
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
        full: whether the newest transaction found no space on the disk.
        timed: is told how long each committed transaction took, from its begin until it was durable, and how long its
            COMMIT alone, which writes the WAL and waits for the disk, and now and then writes the WAL back. Seconds.
        writer: the writing connection. Only the writer thread may use it.
        journal: the journal over the writing connection.
        renewed: from how many entries the views were made anew when it was opened, since they were of an earlier
            version; None where they were not. A program of that version refuses the store from then on.
    """

    def __init__(self, folder: Path, opening: Opening | None = None) -> None:
        """Open the store in `folder`, making it if there is none. `opening` is told how far that is.

        Raises:
            Unavailable: another process has it open, or the disk is full.
            Broken: the file is not a store of this version, cannot be opened, or is damaged where its views must be
                made anew. Or there is none, but what is left of one.
        """
        _refuse_vulnerable_sqlite()
        self._lock = locked(folder)
        self.path = folder / FILE
        self.readers = Readers(folder)
        self.full = False
        self.timed: Callable[[float, float], None] = lambda _seconds, _of_commit: None
        with contextlib.ExitStack() as failed:
            failed.callback(self._lock.close)
            if not self.path.exists() and any((folder / left).exists() for left in (DAMAGED, ANEW, WAL)):
                raise Broken(missing(folder))
            self.epoch, as_it_is = self._open()
            failed.callback(self.writer.close)
            self.journal = SqliteJournal(self.writer)
            self.renewed = None if as_it_is else self._renew(opening or Opening())
            failed.pop_all()

    def _open(self) -> tuple[str, bool]:
        """Open the writing connection. Returns the epoch, and whether the views are of this format."""
        with disk.translated(self.path):
            self.writer = apsw.Connection(str(self.path))
        try:
            with disk.translated(self.path, self.writer):
                # First: after a kill, the publisher of the killed process may read for a moment longer.
                self.writer.set_busy_timeout(BUSY_MILLISECONDS)
                self.writer.pragma("page_size", PAGE_BYTES)
                self.writer.pragma("journal_mode", "wal")
                self.writer.wal_autocheckpoint(CHECKPOINT_PAGES)
                self.writer.pragma("synchronous", "full")
                self.writer.pragma("cache_size", -CACHE_KIBIBYTES)
                return _prepare(self.writer)
        except apsw.Error as error:
            self.writer.close()
            raise Broken(f"{self.path} cannot be opened as a store: {error}", reason="CORRUPT") from error
        except BaseException:
            self.writer.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A transaction on the writing connection: durable when left without an error, undone otherwise.

        Raises:
            Unavailable: DISK_FULL, there was no space, or memory is short. It is undone, and the next one may be tried.
                Only if the process dies before that, the next start may find it written all the same.
            Broken: the disk refused, or the file is damaged. The state on the disk is unknown until the store is opened
                anew.
        """
        begun = time.monotonic()
        with self._noting_space():
            try:
                self.writer.execute("BEGIN IMMEDIATE")
                yield self.writer
                changed = time.monotonic()
                self.writer.execute("COMMIT")
            except apsw.Error as error:
                known = disk.ours(error, self.path, self.writer.system_errno)
                self._undo()
                if known is None:
                    raise
                raise known from error
            except BaseException:
                self._undo()
                raise
        durable = time.monotonic()
        self.timed(durable - begun, durable - changed)

    def look_for_space(self) -> None:
        """Write a page of the file as it is, so that `full` tells what is so also while nobody writes.

        For the writer thread. Raises as `transaction`.
        """
        with self.transaction() as connection:
            connection.pragma("user_version", connection.pragma("user_version"))

    def _undo(self) -> None:
        """Undo the transaction, unless SQLite has done so by itself, as it does when a COMMIT fails."""
        try:
            if self.writer.in_transaction:
                self.writer.release_memory()  # to undo it takes some, and it may be that there is none
                self.writer.execute("ROLLBACK")
        except apsw.Error as error:
            raise Broken(f"{self.path}: a transaction cannot be undone: {error}") from error

    @contextlib.contextmanager
    def _noting_space(self) -> Iterator[None]:
        """Know, and log once, whether there is space."""
        try:
            yield
        except Unavailable as error:
            if error.reason == "DISK_FULL" and not self.full:
                self.full = True
                _log.error("Nothing is written for now: %s", error)
            raise
        if self.full:
            self.full = False
            _log.warning("There is space on the disk again: %s is written", self.path)

    def _renew(self, opening: Opening) -> int:
        """Make the views of an earlier version anew. Returns from how many entries."""
        _log.info("The views of %s are of an earlier version: they are made anew from the journal.", self.path)
        # Dropping them is safe only where the journal makes them again.
        entries = self.writer.execute("SELECT MAX(sequence) FROM journal").get or 0
        opening.expect(CHAIN, entries)
        opening.expect(VIEWS, entries)
        for damage in _check_chain(self, opening):
            raise Broken(f"{self.path} cannot be brought to format {FORMAT}: {damage}", reason="CORRUPT")
        return rebuild(self, opening)

    def reader(self) -> contextlib.AbstractContextManager[Catalog]:
        """The state of one moment, for reading. Any thread; blocks nobody."""
        return self.readers.reader()

    @contextlib.contextmanager
    def newest(self) -> Iterator[Catalog]:
        """The state as it is, for the writer thread, by its own connection. Raises as `Readers.reader`."""
        with disk.translated(self.path, self.writer):
            yield Catalog(self.writer)

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

    def close_file(self) -> None:
        """Write the WAL back into the file and let go of it. Readers must have ended.

        Nobody else can open the store before `close`.
        """
        self.readers.close()
        try:
            self.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.ConnectionClosedError):
            pass  # somebody reads; SQLite writes it back when the last connection is closed. Or it was closed before
        except apsw.Error as error:
            _log.warning("The WAL of %s stays beside it, with all that is in it: %s", self.path, error)
        self.writer.close()

    def close(self) -> None:
        """As `close_file`, and let go of the folder."""
        self.close_file()
        self._lock.close()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Catalog]:
    """The state of one moment of the store in `folder`, which another process may have open.

    Its views and its positions may be those of an earlier version; the journal and the dead letters are as ever.

    Raises:
        Unavailable: there is no store.
        Broken: it cannot be read.
    """
    if not (folder / FILE).is_file():
        raise Unavailable(missing(folder))
    try:
        with contextlib.closing(Readers(folder)) as readers, readers.reader() as catalog:
            yield catalog
    except apsw.Error as error:
        raise Broken(f"{folder / FILE} cannot be read: {error}", reason="CORRUPT") from error


def missing(folder: Path) -> str:
    """That a folder holds no store, for people; and what to do where it holds what is left of one."""
    here = f"{folder} holds no store"
    wanted = "Only where nothing of it is wanted, move that file away"
    if (folder / DAMAGED).exists():
        way = f"rename that to {FILE} and run `epistream fsck --rebuild`, or restore a backup"
        return f"{here}, but {DAMAGED}, which a rebuild keeps: {way}. {wanted}"
    if (folder / ANEW).exists():
        return f"{here}, but {ANEW}, of a rebuild that was cut off: restore a backup. {wanted}"
    if (folder / WAL).exists():
        return f"{here}, but {WAL}, which is the newest part of one: bring {FILE} back, or restore a backup. {wanted}"
    return here


def check(store: Store) -> list[str]:
    """What is wrong with a store, as sentences that say what to do; nothing when all is well. Reads everything.

    Verifies what is true: the journal, by its chain and its dense revisions, the positions and the dead letters; then
    the file. If these are well, it applies the whole journal to empty views, in a file beside the store that is gone
    afterwards, and compares: the views must be what the journal makes.

    Raises:
        Unavailable: there is no space for these.
        Broken: the disk refuses.
    """
    damage = damage_of_truth(store)
    if damage:
        return [*damage, "what is true is damaged: restore a backup. Nothing here is mended by itself"]
    damage = damage_of_file(store)
    if damage:
        return [*damage, "what is true is whole: `epistream fsck --rebuild` writes the file anew from it"]
    return _check_views(store)


def damage_of_truth(store: Store) -> list[str]:
    """What is wrong with the journal, the positions in Kafka and the dead letters."""
    found: list[str] = []
    try:
        found += _check_chain(store)
    except apsw.Error as error:
        found.append(f"the journal cannot be read to its end: {error}")
    for table in ("positions", "acknowledged", "dead_letters"):
        found += [f"the table {table} is damaged: {line}" for line in _integrity(store, f"('{table}')")]
    return found


def damage_of_file(store: Store) -> list[str]:
    """What SQLite finds wrong with the file, and what of its tables and indexes is not as it was made."""
    return [f"the file is damaged: {line}" for line in (*_integrity(store), *_changed_schema(store))]


def _changed_schema(store: Store) -> list[str]:
    """Tables and indexes that are missing or nobody made: what SQLite reads of their names it does not check."""
    with contextlib.closing(apsw.Connection(":memory:")) as fresh:
        for schema in SCHEMAS:
            fresh.execute(schema)
        made = set(fresh.execute(_NAMES))
    try:
        there = set(store.writer.execute(_NAMES))
    except apsw.Error as error:
        return [str(error)]
    return [f"the {kind} {name} is missing" for kind, name, _ in sorted(made - there)] + [
        f"the {kind} {name} of {table} is none of ours" for kind, name, table in sorted(there - made)
    ]


def _integrity(store: Store, table: str = "") -> list[str]:
    try:
        rows = [row[0] for row in store.writer.execute(f"PRAGMA integrity_check{table}")]
    except apsw.Error as error:
        return [str(error)]
    return [row for row in rows if row != "ok"]


def _check_chain(store: Store, opening: Opening | None = None) -> Iterator[str]:
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
        if opening is not None:
            opening.did(CHAIN, 1)
    for entry in _known_to_others(store):
        if entry > expected:
            yield f"journal entry {entry} is missing: the journal ends with entry {expected}"


def _known_to_others(store: Store) -> Iterator[int]:
    """The newest journal entry that is spoken of elsewhere: a journal that has lost its end is whole in itself."""
    for column, table in (("sequence", "acknowledged"), ("MAX(sequence)", "submissions")):
        with contextlib.suppress(apsw.Error):  # of an earlier version, or damaged, which is found by itself
            yield store.writer.execute(f"SELECT {column} FROM {table}").get or 0  # noqa: S608 - constants


def _check_views(store: Store) -> list[str]:
    with _scratch(store.path.with_name(CHECKING)) as rebuilt:
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


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[apsw.Connection]:
    """An empty database, in a transaction, in a folder of its own for our eyes only, which is gone afterwards.

    Raises:
        Unavailable: there is no space.
        Broken: the disk refuses.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise disk.of_system(error, folder) from error
    try:
        with contextlib.closing(apsw.Connection(str(folder / FILE))) as connection, disk.translated(folder, connection):
            # Nobody reads it after a crash, so nothing waits for the disk; memory is used up to the cache's bound.
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("journal_mode", "MEMORY")
            connection.pragma("synchronous", "OFF")
            connection.pragma("cache_size", -CACHE_KIBIBYTES)
            connection.execute("BEGIN")
            yield connection
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rebuild(store: Store, opening: Opening | None = None) -> int:
    """Drop the views and make them anew from the journal, in one transaction. Returns the number of entries applied.

    Look for damage of the journal first: what it has lost, the views lose here.
    """
    applied = 0
    with store.transaction() as connection:
        positions.renew(connection)
        for table in views.TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")  # an earlier version had fewer
        connection.execute(views.SCHEMA)
        while page := store.journal.read(applied, journal.PAGE):
            views.apply(connection, page)
            applied = page[-1].sequence
            if opening is not None:
                opening.did(VIEWS, len(page))
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


def locked(folder: Path) -> IO[str]:
    """Make the folder where it is missing, and take its lock, held until the file is closed or the process has ended.

    Raises:
        Unavailable: another process holds it, or there is no space.
        Broken: the system refuses.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise disk.of_system(error, folder) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Unavailable(f"{folder} is in use by another process: stop that one, or choose another folder") from error
    return file


def _prepare(connection: apsw.Connection) -> tuple[str, bool]:
    """Make the tables of an empty file, check those of another; the epoch, and whether the views are of this format."""
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get:
        for schema in SCHEMAS:
            connection.execute(schema)
        connection.execute("INSERT INTO meta VALUES ('format', ?), ('epoch', ?)", (str(FORMAT), uuid.uuid4().hex))
    connection.execute("COMMIT")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("format") not in (str(FORMAT), *OTHER_VIEWS):
        raise Broken(f"the store has format {meta.get('format')}, this version reads format {FORMAT}", reason="CORRUPT")
    return str(meta["epoch"]), meta["format"] == str(FORMAT)
