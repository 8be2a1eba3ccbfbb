"""The file of a replica: its items and how far they go, in SQLite, through one connection that owns the file.

One transaction holds what one message of the service did: items, position, nothing in between. Opening the file after a
crash therefore finds the state of some revision, and the replica goes on from there.

A snapshot is collected in the table `staged` and takes the place of `item` in one transaction when it is whole, so that
a crash in the middle of it leaves what was there before.

Damage is found when the file is opened: of each item and of each vector of a text there is a checksum, of the items the
sum of theirs, so that none can be missing, and one over that sum and the position. What SQLite itself notices comes
earlier, and what is damaged in the log was never in the file.

Settings, and why:

- write-ahead log: one flush to disk a transaction where the rollback journal needs three. The defect of older SQLite
  versions in resetting the log (fixed in 3.51.3) takes two connections; there is one.
- exclusive locking: a second replica on the same file is refused at once, not after it has done damage, and the log's
  index stays in memory.
- full synchronisation: after an acknowledgement not even a power failure brings a retracted item back.
"""

import contextlib
import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.clients.cursor import Position
from epistream.clients.items import Items, Plan, Row
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, Conflict, InvalidInput, Unavailable

FORMAT: Final = 2
"""The version of this format, in the file's `user_version`."""
APPLICATION_ID: Final = 0x45505352
"""`EPSR`, in the file's header."""
LOAD_ROWS: Final = 4096
FULL_RETRY_SECONDS: Final = 2.0
"""When to try again on a full disk."""
QUERIES_MAX: Final = 4096
"""So many vectors of texts are remembered, about 6 MB at 384 dimensions."""

_SCHEMA: Final = """
CREATE TABLE replica (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    namespace TEXT NOT NULL,
    filter_hash BLOB NOT NULL,
    epoch TEXT NOT NULL,
    revision INTEGER,
    dimension INTEGER NOT NULL,
    items INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE query (text TEXT PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
"""
# `revision` of `replica` is NULL until the first snapshot is whole; `items` is the sum of the checksums of the items,
# `checksum` that of the columns before it. An item's row is its number in memory, so no second index is needed.
_ITEM_COLUMNS: Final = (
    "(row INTEGER PRIMARY KEY, item_id TEXT NOT NULL, revision INTEGER NOT NULL, change BLOB NOT NULL, embedding BLOB)"
)
_CREATE_ITEM: Final = f"CREATE TABLE item {_ITEM_COLUMNS}"
_CREATE_STAGED: Final = f"CREATE TABLE staged {_ITEM_COLUMNS}"


@dataclass(frozen=True, slots=True)
class Held:
    """What a file held when it was opened."""

    position: Position | None
    """How far its items go; None when it holds no whole state."""
    items: Items
    """Its items."""
    queries: dict[str, bytes]
    """The vectors of texts, the oldest first."""


class ReplicaFile:
    """A replica's file. Its methods block on the disk, and belong to the thread that made it.

    Every method raises:
        Unavailable: DISK_FULL, there is no space. Nothing was changed, and it may be tried again.
        Broken: the disk fails, or the file is damaged.
    """

    def __init__(self, path: Path, namespace: str, only: pb.Filter) -> None:
        """Opens `path`, or makes it, for what the filter lets through of the namespace.

        Raises:
            Conflict: another process has the file open.
            InvalidInput: the file is not a replica's, or that of another namespace.
        """
        self._path = path
        self._namespace = namespace
        self._staged = 0
        """The sum of the checksums of what is staged."""
        with self._translated():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            with self._translated():
                self._prepare()
                self._claim(hashlib.sha256(only.SerializeToString(deterministic=True)).digest())
        except BaseException:
            self._db.close()
            raise

    def load(self) -> Held:
        """All that the file holds."""
        with self._transaction():
            *state, checksum = self._state()
            if checksum != _checksum(state):
                raise self._damaged("its state has another checksum")
            _, _, epoch, revision, dimension, total = state
            self._db.execute("DELETE FROM staged")
            items = Items(dimension)
            # Read twice: of what is damaged nothing may be used, be it a row's number that takes all memory.
            if total != sum(map(_checksum, self._items())):
                raise self._damaged("the items have another checksum")
            cursor = self._items()
            while rows := cursor.fetchmany(LOAD_ROWS):
                items.load([Row(*row) for row in rows])
            items.loaded()
            queries = {}
            for text, vector, checksum in self._db.execute("SELECT * FROM query ORDER BY rowid"):
                if checksum != _checksum((text, vector)):
                    raise self._damaged("a text's vector has another checksum")
                queries[text] = vector
        return Held(None if revision is None else Position(epoch, revision), items, queries)

    def _items(self) -> sqlite3.Cursor:
        return self._db.execute("SELECT row, item_id, revision, change, embedding FROM item ORDER BY row")

    def apply(self, plan: Plan, position: Position) -> None:
        """The items as planned, at `position`. Durable when it returns."""
        with self._transaction():
            before = self._checksums(row.row for row in plan.kept) + self._checksums(row for row, _ in plan.removed)
            self._db.executemany("REPLACE INTO item VALUES (?, ?, ?, ?, ?)", plan.kept)
            self._db.executemany("DELETE FROM item WHERE row = ?", ((row,) for row, _ in plan.removed))
            self._db.execute(
                "UPDATE replica SET epoch = ?, revision = ?, items = items + ?",
                (position.epoch, position.revision, sum(map(_checksum, plan.kept)) - before),
            )
            self._seal()

    def begin_snapshot(self) -> None:
        """Forget any snapshot that was begun before."""
        with self._transaction():
            self._db.execute("DELETE FROM staged")
        self._staged = 0

    def stage(self, plan: Plan) -> None:
        """Some items of a snapshot. What there is stays."""
        with self._transaction():
            self._db.executemany("INSERT INTO staged VALUES (?, ?, ?, ?, ?)", plan.kept)
        self._staged += sum(map(_checksum, plan.kept))

    def end_snapshot(self, position: Position, dimension: int) -> None:
        """What was staged is what there is now, at `position`. Durable when it returns."""
        with self._transaction():
            self._db.execute("DROP TABLE item")
            self._db.execute("ALTER TABLE staged RENAME TO item")
            self._db.execute(_CREATE_STAGED)
            self._db.execute("DELETE FROM query WHERE (SELECT epoch FROM replica) <> ?", (position.epoch,))
            self._db.execute(
                "UPDATE replica SET epoch = ?, revision = ?, dimension = ?, items = ?",
                (position.epoch, position.revision, dimension, self._staged),
            )
            self._seal()

    def remember(self, text: str, vector: bytes, epoch: str, forgotten: str | None) -> None:
        """Keep the vector of a text, if it is of the file's epoch, and no longer that of `forgotten`."""
        with self._transaction():
            kept = (text, vector, _checksum((text, vector)), epoch)
            self._db.execute("REPLACE INTO query SELECT ?, ?, ? FROM replica WHERE epoch = ?", kept)
            self._db.execute("DELETE FROM query WHERE text = ?", (forgotten,))

    def close(self) -> None:
        """Closes the file."""
        with self._translated():
            self._db.close()

    def _prepare(self) -> None:
        """Looks before it touches: the file may be somebody else's."""
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application_id,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application_id != APPLICATION_ID:
            raise InvalidInput.at(
                "path", f"{self._path} is an SQLite file, but not that of a replica; name another one"
            )
        if tables and version > FORMAT:
            raise InvalidInput.at(
                "path",
                f"{self._path} has format {version}, this version reads {FORMAT}; name another one",
            )
        if tables:
            self._check_namespace()
        # Seven items of 300 characters and 384 dimensions fit a page of 16 KiB; only one fits a page of 4 KiB and
        # leaves half of it empty.
        for setting in ("page_size = 16384", "journal_mode = WAL", "synchronous = FULL", "secure_delete = OFF"):
            self._db.execute(f"PRAGMA {setting}")
        if not tables or version < FORMAT:
            with self._begin():
                # What an earlier version wrote is a copy: it is filled anew.
                for table in ("replica", "query", "item", "staged"):
                    self._db.execute(f"DROP TABLE IF EXISTS {table}")
                self._create()

    def _create(self) -> None:
        for statement in (*_SCHEMA.split(";"), _CREATE_ITEM, _CREATE_STAGED):
            self._db.execute(statement)
        self._db.execute("INSERT INTO replica VALUES (1, ?, x'', '', NULL, 0, 0, 0)", (self._namespace,))
        self._seal()
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def _check_namespace(self) -> None:
        found = self._db.execute("SELECT namespace FROM replica").fetchone()
        if found is None:
            raise self._damaged("it has no state")
        if found[0] != self._namespace:
            raise InvalidInput.at(
                "path", f"{self._path} is a replica of {found[0]}, not of {self._namespace}; name another one"
            )

    def _claim(self, filter_hash: bytes) -> None:
        """Of another filter, the file holds no whole state."""
        with self._begin():
            _, held_hash, *_ = self._state()
            if held_hash != filter_hash:
                self._db.execute("UPDATE replica SET filter_hash = ?, revision = NULL, items = 0", (filter_hash,))
                self._db.execute("DELETE FROM item")
                self._seal()

    def _state(self) -> tuple[Any, ...]:
        """Namespace, filter, epoch, revision, dimension, the sum over the items; and the checksum of all these."""
        question = "SELECT namespace, filter_hash, epoch, revision, dimension, items, checksum FROM replica"
        found: tuple[Any, ...] | None = self._db.execute(question).fetchone()
        if found is None:
            raise self._damaged("it has no state")
        return found

    def _seal(self) -> None:
        """Write the checksum of the state, after it was changed."""
        *state, _ = self._state()
        self._db.execute("UPDATE replica SET checksum = ?", (_checksum(state),))

    def _checksums(self, rows: Iterable[int]) -> int:
        """The sum of the checksums of the items in these rows. Not all rows have one."""
        question = "SELECT row, item_id, revision, change, embedding FROM item WHERE row = ?"
        found = (self._db.execute(question, (row,)).fetchone() for row in rows)
        return sum(_checksum(item) for item in found if item is not None)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated(), self._begin():
            yield

    @contextlib.contextmanager
    def _begin(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # Python's own: a text that is none
                raise self._damaged(error) from error
            if code == sqlite3.SQLITE_FULL:
                raise Unavailable(
                    f"There is no space for the replica's file {self._path}.",
                    reason="DISK_FULL",
                    retry_delay_seconds=FULL_RETRY_SECONDS,
                ) from error
            if code == sqlite3.SQLITE_BUSY:
                raise Conflict(
                    f"{self._path} is in use by another replica; name another file for each replica."
                ) from error
            raise Broken(
                f"The replica's file {self._path} cannot be used: {error}. Check the disk and the folder."
            ) from error
        except sqlite3.ProgrammingError as error:
            raise Broken(f"The replica's file {self._path} is closed.") from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise InvalidInput.at("path", f"{self._path} is not an SQLite file; name another one") from error
            raise self._damaged(error) from error

    def _damaged(self, error: Exception | str) -> Broken:
        return Broken(f"The replica's file {self._path} is damaged ({error}). Delete it; it will be filled anew.")


def _checksum(values: Iterable[object]) -> int:
    """CRC-32 of what a row holds."""
    found = 0
    for value in values:
        raw = value if isinstance(value, bytes) else repr(value).encode()
        found = zlib.crc32(raw, zlib.crc32(b"%d " % len(raw), found))
    return found
