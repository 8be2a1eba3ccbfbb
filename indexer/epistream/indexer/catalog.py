"""The questions that are asked of a store's tables, over one connection, in one moment.

Where SQLite's planner would walk a whole namespace (it prefers the primary key of a table without row ids), the index
is named.

What is read of the journal is checked against its chain, so that a damaged entry is told instead of answered.

A revision's version is *in answers* at R when it was made at or before R, had not ended by R, and is not a retraction.
One that came late had ended when it was made.
"""

import json
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apsw

from epistream.indexer import journal
from epistream.indexer.model import AUTHORITY
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken

OF_ITEM: Final = (
    "SELECT 1 AS version, first_revision AS revision FROM items"
    " WHERE namespace = :n AND item_id = :i AND :after < 1 UNION ALL"
    " SELECT version, revision FROM versions INDEXED BY versions_by_item"
    " WHERE namespace = :n AND item_id = :i AND version > 1 AND version > :after"
)
"""The versions of an item that come after one (`:n`, `:i`, `:after`), by number and revision."""

_IN_ANSWERS: Final = f"revision <= :at AND (ended IS NULL OR ended > :at) AND kind <> {pb.CHANGE_KIND_RETRACTED}"

_HEAD: Final = "item_id, version, revision, origin, retracted, fingerprint, generation, newest_version, valid_us"
_HEAD_OF_ITEM: Final = ", ".join(f"i.{column}" for column in _HEAD.split(", "))
"""The columns of a `Head`."""

_CHAINED: Final = (
    "j.revision, j.change, j.embedding, j.record, j.digest,"
    " (SELECT p.digest FROM journal p WHERE p.sequence = j.sequence - 1)"
)
"""What is needed of a journal entry to check it; see `_committed`."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of an item."""

    item_id: str
    version: int
    revision: int
    origin: int
    """Of a retracted item: on whose authority it was taken back."""
    retracted: bool
    fingerprint: bytes
    """Of a retracted item: of the content that was taken back."""
    generation: int = 0
    """Of how many models in a row it is the work."""
    newest_version: int = 0
    """The number of the item's newest version: a larger one where others came late."""
    valid_us: int | None = None
    """From when on it holds, microseconds since 1970; None where its producer did not say."""


class Written(NamedTuple):
    """A journal entry, without its vector."""

    sequence: int
    namespace: int
    """The number of its namespace."""
    revision: int | None
    """None where it changed nothing."""
    change: bytes | None
    record: bytes


def comes_first(head: Head) -> tuple[bool, int, int]:
    """Which of the items with one content stands for it, as a key: one in answers before a retracted one.

    Then the one that the highest authority took back, since that binds the others; then the oldest.
    """
    return head.retracted, -AUTHORITY[head.origin] if head.retracted else 0, head.revision


@dataclass(frozen=True, slots=True)
class Committed:
    """A change as the journal keeps it."""

    revision: int
    change: bytes
    """The encoded `epistream.v1.Change`, without its embedding."""
    embedding: bytes | None
    """Little-endian float32."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The figures of a namespace."""

    head: int
    items: int
    held: int
    merged: int
    feedback: int
    rejected: int


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What the index keeps of a version."""

    revision: int
    origin: int
    modality: int
    producer: str
    embedding: bytes
    change: bytes
    """The encoded `epistream.v1.Change`."""


class Catalog:
    """The questions. Each raises Broken when a row that must exist does not, or is not what was written."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def epoch(self) -> str:
        """The store's epoch."""
        return str(self.connection.execute("SELECT value FROM meta WHERE key = 'epoch'").get)

    def namespaces(self) -> Iterator[tuple[int, ns_pb.Namespace]]:
        """All namespaces, by number, as they were last recorded."""
        for number, row in self.connection.execute("SELECT number, namespace FROM namespaces ORDER BY number"):
            yield number, ns_pb.Namespace.FromString(row)

    def policies(self, namespace: int, before: int, limit: int) -> list[ns_pb.Namespace]:
        """A namespace as it was recorded with each version of its policy, the newest first; those before a version."""
        rows = self.connection.execute(
            "SELECT sequence FROM policies WHERE namespace = ? AND version < ? ORDER BY version DESC LIMIT ?",
            (namespace, before, limit),
        )
        return [self.record(sequence).namespace for (sequence,) in list(rows)]

    def counts(self, namespace: int) -> Counts:
        """The figures of a namespace now."""
        row = self.connection.execute(
            "SELECT head, items, held, merged, feedback, rejected FROM counts WHERE namespace = ?", (namespace,)
        ).get
        return Counts(*row)

    def submissions(self, namespace: int, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[bytes, int]]:
        """The digest of each submission and the sequence of its decision, of those that were decided before.

        A submission is named by producer and submission id.

        One statement for a batch: each statement lets other threads run, and its thread then waits for its turn.
        """
        rows = self.connection.execute(
            "SELECT s.producer, s.submission_id, s.digest, s.sequence FROM json_each(?) j CROSS JOIN submissions s"
            " ON s.namespace = ? AND s.producer = j.value ->> 0 AND s.submission_id = j.value ->> 1",
            (json.dumps(list(pairs)), namespace),
        )
        return {(producer, submission_id): (digest, sequence) for producer, submission_id, digest, sequence in rows}

    def decision(self, sequence: int) -> journal_pb2.Decision:
        """The decision that the journal has under `sequence`."""
        return self.record(sequence).decision

    def record(self, sequence: int) -> journal_pb2.JournalRecord:
        """What the journal has under `sequence`."""
        row = self.connection.execute(
            f"SELECT j.namespace, {_CHAINED} FROM journal j WHERE j.sequence = ?",  # noqa: S608 - constants
            (sequence,),
        ).get
        if row is None:
            raise Broken(f"journal entry {sequence} is missing", reason="CORRUPT")
        _committed(*row)
        return journal_pb2.JournalRecord.FromString(row[4])

    def newest_origins(self, namespace: int, limit: int, modality: pb.Modality.ValueType | None = None) -> list[int]:
        """The origins of the newest versions that became a head, at most `limit`, the oldest first; of a modality.

        Reads all versions where there are fewer of that modality: 0.1 s for a million in the page cache.
        """
        only = "" if modality is None else " AND modality = :modality"
        rows = self.connection.execute(
            "SELECT origin FROM versions WHERE namespace = :namespace AND kind NOT IN (:retracted, :late)"  # noqa: S608
            f"{only} ORDER BY revision DESC LIMIT :limit",
            {
                "namespace": namespace,
                "retracted": pb.CHANGE_KIND_RETRACTED,
                "late": pb.CHANGE_KIND_LATE,
                "limit": limit,
                "modality": modality,
            },
        )
        return [origin for (origin,) in rows][::-1]

    def head(self, namespace: int, item_id: str) -> Head | None:
        """The newest version of an item, retracted or not."""
        row = self.connection.execute(
            f"SELECT {_HEAD} FROM items WHERE namespace = ? AND item_id = ?",  # noqa: S608 - constants
            (namespace, item_id),
        ).get
        return _head(row) if row is not None else None

    def heads(self, namespace: int, item_ids: Iterable[str]) -> dict[str, Head]:
        """As `head`, of many at once; those that exist."""
        rows = self.connection.execute(
            f"SELECT {_HEAD_OF_ITEM} FROM json_each(?) j"  # noqa: S608 - constants
            " CROSS JOIN items i ON i.namespace = ? AND i.item_id = j.value",
            (json.dumps(list(item_ids)), namespace),
        )
        return {row[0]: _head(row) for row in rows}

    def first_heads_with(self, namespace: int, fingerprints: Iterable[bytes]) -> dict[bytes, Head]:
        """The first of `heads_with`, of many contents at once; those that there are."""
        found: dict[bytes, Head] = {}
        rows = self.connection.execute(
            f"SELECT {_HEAD_OF_ITEM}"  # noqa: S608 - constants
            " FROM json_each(?) j CROSS JOIN items i INDEXED BY items_by_fingerprint"
            " ON i.namespace = ? AND i.fingerprint = unhex(j.value)",
            (json.dumps([fingerprint.hex() for fingerprint in fingerprints]), namespace),
        )
        for head in map(_head, rows):
            found[head.fingerprint] = min(head, found.get(head.fingerprint, head), key=comes_first)
        return found

    def heads_with(self, namespace: int, fingerprint: bytes) -> list[Head]:
        """Items whose head has this content, by `comes_first`."""
        rows = self.connection.execute(
            f"SELECT {_HEAD} FROM items INDEXED BY items_by_fingerprint"  # noqa: S608 - constants
            " WHERE namespace = ? AND fingerprint = ?",
            (namespace, fingerprint),
        )
        return sorted(map(_head, rows), key=comes_first)

    def heads_of(self, namespace: int, revisions: Iterable[int]) -> dict[int, Head]:
        """The newest version of the item that each revision made a version of. Raises Broken if one has none."""
        wanted = list(revisions)
        rows = self.connection.execute(
            f"SELECT j.value, {_HEAD_OF_ITEM}"  # noqa: S608 - constants
            " FROM json_each(?) j CROSS JOIN versions v ON v.namespace = ?2 AND v.revision = j.value"
            " CROSS JOIN items i ON i.namespace = ?2 AND i.item_id = v.item_id",
            (json.dumps(wanted), namespace),
        )
        heads = {row[0]: _head(row[1:]) for row in rows}
        _demand(wanted, heads, namespace)
        return heads

    def aliases(self, namespace: int, item_ids: Iterable[str]) -> dict[str, str]:
        """The items that submissions about these were merged into or have promoted, of those that did."""
        rows = self.connection.execute(
            "SELECT a.item_id, a.merged_into FROM json_each(?) j"
            " CROSS JOIN aliases a ON a.namespace = ? AND a.item_id = j.value",
            (json.dumps(list(item_ids)), namespace),
        )
        return dict(rows)

    def other_names(self, namespace: int, item_id: str) -> list[str]:
        """The other names of an item: of what was merged into it."""
        rows = self.connection.execute(
            "SELECT item_id FROM aliases INDEXED BY aliases_by_item WHERE namespace = ? AND merged_into = ?"
            " ORDER BY item_id",
            (namespace, item_id),
        )
        return [name for (name,) in rows]

    def parents(self, namespace: int, item_ids: Iterable[str]) -> dict[str, list[str]]:
        """What the newest versions of items were derived from, by name, in order; of those that were."""
        found: dict[str, list[str]] = {}
        rows = self.connection.execute(
            "SELECT p.item_id, p.parent FROM json_each(?) j"
            " CROSS JOIN parents p ON p.namespace = ? AND p.item_id = j.value",
            (json.dumps(list(item_ids)), namespace),
        )
        for item_id, parent in rows:
            found.setdefault(item_id, []).append(parent)
        return found

    def revision_at(self, namespace: int, time_us: int) -> int:
        """The newest revision committed at or before a time; 0 when there is none."""
        row = self.connection.execute(
            "SELECT revision FROM versions WHERE namespace = ? AND commit_us <= ?"
            " ORDER BY commit_us DESC, revision DESC LIMIT 1",
            (namespace, time_us),
        ).get
        return row or 0

    def newest_commit_us(self, namespace: int) -> int:
        """When the newest change was committed; 0 when there is none."""
        return self.connection.execute("SELECT MAX(commit_us) FROM versions WHERE namespace = ?", (namespace,)).get or 0

    def version_at(self, namespace: int, item_id: str, at: int) -> int | None:
        """The revision that made the version of an item that is in answers at a revision."""
        row: int | None = self.connection.execute(
            "SELECT revision FROM versions WHERE namespace = :n"  # noqa: S608 - constants
            f" AND revision IN (SELECT revision FROM ({OF_ITEM})) AND {_IN_ANSWERS}",
            {"n": namespace, "i": item_id, "after": 0, "at": at},
        ).get
        return row

    def versions(self, namespace: int, item_id: str, after_version: int, limit: int) -> list[int]:
        """The revisions of an item's versions, retractions among them, the oldest first."""
        rows = self.connection.execute(
            f"{OF_ITEM} ORDER BY version LIMIT :limit",
            {"n": namespace, "i": item_id, "after": after_version, "limit": limit},
        )
        return [revision for _, revision in rows]

    def committed(self, namespace: int, revision: int) -> Committed:
        """One change."""
        row = self.connection.execute(
            f"SELECT {_CHAINED} FROM journal j WHERE j.namespace = ? AND j.revision = ?",  # noqa: S608 - constants
            (namespace, revision),
        ).get
        if row is None:
            raise Broken(f"revision {revision} of namespace {namespace} is missing", reason="CORRUPT")
        return _committed(namespace, *row)

    def contents(self, namespace: int, revisions: Iterable[int]) -> dict[int, bytes]:
        """The encoded changes of many revisions. Raises Broken if one is missing."""
        return {one.revision: one.change for one in self.chosen(namespace, revisions)}

    def chosen(self, namespace: int, revisions: Iterable[int]) -> Generator[Committed, None, None]:
        """The changes of many revisions, in their order, each read when it is asked for.

        Close it before the connection's transaction ends. Raises Broken if one is missing.
        """
        wanted = list(revisions)
        rows = self.connection.execute(
            f"SELECT {_CHAINED} FROM json_each(?) r CROSS JOIN journal j INDEXED BY journal_by_revision"  # noqa: S608
            " ON j.namespace = ? AND j.revision = r.value",
            (json.dumps(wanted), namespace),
        )
        for revision in wanted:
            row: tuple[Any, ...] = next(rows, (None,))
            _demand([revision], row[:1], namespace)
            yield _committed(namespace, *row)

    def changes(self, namespace: int, after: int, until: int, limit: int) -> Generator[Committed, None, None]:
        """At most `limit` changes above `after` and not above `until`, in order, each read when it is asked for.

        Close it before the connection's transaction ends. Raises Broken if one is missing, at the end, too.
        """
        last = min(until, after + limit, self.counts(namespace).head)
        expected = after
        for row in self.connection.execute(
            f"SELECT {_CHAINED} FROM journal j WHERE j.namespace = ? AND j.revision > ? AND j.revision <= ?"  # noqa: S608
            " ORDER BY j.revision LIMIT ?",
            (namespace, after, until, limit),
        ):
            expected += 1
            _demand([expected], row[:1], namespace)
            yield _committed(namespace, *row)
        _demand(range(expected + 1, last + 1), (), namespace)

    def entries(self, after: int, limit: int) -> Generator[Written, None, None]:
        """At most `limit` journal entries above the sequence `after`, in order."""
        rows = self.connection.execute(
            f"SELECT j.sequence, j.namespace, {_CHAINED} FROM journal j"  # noqa: S608 - constants
            " WHERE j.sequence > ? ORDER BY j.sequence LIMIT ?",
            (after, limit),
        )
        for sequence, namespace, *entry in rows:
            _committed(namespace, *entry)
            revision, change, _, record, *_ = entry
            yield Written(sequence, namespace, revision, change, record)

    def live(self, namespace: int, at: int, after: int, limit: int) -> Generator[Committed, None, None]:
        """At most `limit` versions that are in answers at a revision and were made above `after`, in order.

        As `changes`: the order is that of the versions, since SQLite would sort by the journal's, and read all for it.
        """
        for revision, *row in self.connection.execute(
            f"SELECT v.revision, {_CHAINED} FROM (SELECT namespace, revision FROM versions"  # noqa: S608
            f" WHERE namespace = :n AND revision > :after AND {_IN_ANSWERS} ORDER BY revision LIMIT :limit) v"
            " LEFT JOIN journal j ON j.namespace = v.namespace AND j.revision = v.revision ORDER BY v.revision",
            {"n": namespace, "at": at, "after": after, "limit": limit},
        ):
            _demand([revision], row[:1], namespace)
            yield _committed(namespace, *row)

    def changed_items(self, namespace: int, after: int, until: int, end: int, limit: int) -> list[tuple[int, str]]:
        """At most `limit` items whose newest change not above `end` is above `after` and not above `until`, with it.

        In the order of these revisions. Looks at no change beyond `until`.
        """
        rows = self.connection.execute(
            "SELECT v.revision, v.item_id FROM versions v"
            " WHERE v.namespace = :n AND v.revision > :after AND v.revision <= :until"
            " AND NOT EXISTS (SELECT 1 FROM versions w INDEXED BY versions_by_item WHERE w.namespace = v.namespace"
            " AND w.item_id = v.item_id AND w.version = v.version + 1 AND w.version > 1 AND w.revision <= :end)"
            " ORDER BY v.revision LIMIT :limit",
            {"n": namespace, "after": after, "until": until, "end": end, "limit": limit},
        )
        return list(rows)

    def newest(self, namespace: int, limit: int) -> Iterator[Committed]:
        """At most `limit` versions that are in answers now, the newest first."""
        for revision, *row in self.connection.execute(
            f"SELECT v.revision, {_CHAINED} FROM versions v LEFT JOIN journal j INDEXED BY journal_by_revision"  # noqa: S608
            " ON j.namespace = v.namespace AND j.revision = v.revision WHERE v.namespace = ? AND v.ended IS NULL"
            f" AND v.kind <> {pb.CHANGE_KIND_RETRACTED} ORDER BY v.revision DESC LIMIT ?",
            (namespace, limit),
        ):
            _demand([revision], row[:1], namespace)
            yield _committed(namespace, *row)

    def attributes(self, namespace: int, after: int) -> dict[int, dict[str, str]]:
        """The attributes of every version made above `after`, by revision."""
        found: dict[int, dict[str, str]] = {}
        for revision, name, value in self.connection.execute(
            "SELECT revision, name, value FROM attributes WHERE namespace = ? AND revision > ?", (namespace, after)
        ):
            found.setdefault(revision, {})[name] = value
        return found

    def index_rows(self, namespace: int, after: int) -> Iterator[IndexRow]:
        """What the index keeps of every version with a vector made above `after` that became a head, in order."""
        for revision, origin, modality, producer, *entry in self.connection.execute(
            f"SELECT v.revision, v.origin, v.modality, v.producer, {_CHAINED} FROM versions v LEFT JOIN journal j"  # noqa: S608
            " ON j.namespace = v.namespace AND j.revision = v.revision"
            " WHERE v.namespace = ? AND v.revision > ? AND v.kind <> ? ORDER BY v.revision",
            (namespace, after, pb.CHANGE_KIND_LATE),
        ):
            _demand([revision], entry[:1], namespace)
            committed = _committed(namespace, *entry)
            if committed.embedding is not None:
                yield IndexRow(revision, origin, modality, producer, committed.embedding, committed.change)

    def said_by_people(
        self, namespace: int, modality: pb.Modality.ValueType, after: int, until: int
    ) -> Iterator[tuple[int, str]]:
        """Revision and item of every version that is not SYNTHETIC, above `after` and not above `until`, in order.

        Without retractions; so each has a vector.
        """
        return self.connection.execute(
            "SELECT revision, item_id FROM versions WHERE namespace = ? AND revision > ? AND revision <= ?"  # noqa: S608
            f" AND modality = ? AND origin <> {pb.ORIGIN_SYNTHETIC} AND kind <> {pb.CHANGE_KIND_RETRACTED}"
            " ORDER BY revision",
            (namespace, after, until, modality),
        )

    def in_answers(self, namespace: int, modality: int, at: int) -> list[int]:
        """The versions of a modality that are in answers at a revision, the oldest first."""
        rows = self.connection.execute(
            f"SELECT revision FROM versions WHERE namespace = :n AND modality = :m AND {_IN_ANSWERS} ORDER BY revision",  # noqa: S608
            {"n": namespace, "m": modality, "at": at},
        )
        return [revision for (revision,) in rows]

    def ends(self, namespace: int, after: int) -> list[tuple[int, int]]:
        """Versions that ended above `after`, each with the revision that ended it, in the order of their ends.

        Without those that came late: they never began.
        """
        rows = self.connection.execute(
            "SELECT revision, ended FROM versions WHERE namespace = ? AND ended > ? AND ended <> revision"
            " ORDER BY ended",
            (namespace, after),
        )
        return [(revision, ended) for revision, ended in rows]


def _committed(
    namespace: int,
    revision: int,
    change: bytes,
    embedding: bytes | None,
    record: bytes,
    digest: bytes,
    previous: bytes | None,
) -> Committed:
    """The change of a journal entry. Raises Broken if it is not what was written.

    Whether the entry before is well does not matter: only its digest is taken.
    """
    before = previous if previous is not None else journal.FIRST_DIGEST
    if digest != journal.chain(before, namespace, revision or 0, change, embedding, record):
        text = f"revision {revision} of namespace {namespace} is not what was written: run `epistream fsck`"
        raise Broken(text, reason="CORRUPT")
    return Committed(revision, change, embedding)


def _demand(wanted: Iterable[int], found: Collection[int], namespace: int) -> None:
    """Raise Broken if what must be there is not."""
    missing = [revision for revision in wanted if revision not in found]
    if missing:
        raise Broken(f"revision {missing[0]} of namespace {namespace} is missing", reason="CORRUPT")


def _head(row: tuple[str, int, int, int, int, bytes, int, int, int | None]) -> Head:
    item_id, version, revision, origin, retracted, fingerprint, generation, newest, valid_us = row
    return Head(item_id, version, revision, origin, bool(retracted), fingerprint, generation, newest, valid_us)
