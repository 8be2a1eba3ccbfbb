"""What models said and was accepted, and what the collapse watch found of it: views, and the questions over them.

`generated` has each SYNTHETIC submission that was accepted, in the order of each producer: the version that it became
or was merged into, and the head then. `generators` counts them. `alarms` has what is known from the newest window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import apsw

from epistream.indexer.catalog import Catalog
from epistream.indexer.journal import Entry
from epistream.v1 import knowledge_pb2 as pb

SCHEMA: Final = """
CREATE TABLE generators (
    namespace INTEGER NOT NULL,
    producer TEXT NOT NULL,
    modality INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    PRIMARY KEY (namespace, producer, modality)
) WITHOUT ROWID;
CREATE TABLE generated (
    namespace INTEGER NOT NULL,
    producer TEXT NOT NULL,
    modality INTEGER NOT NULL,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    head INTEGER NOT NULL,
    PRIMARY KEY (namespace, producer, modality, number)
) WITHOUT ROWID;
CREATE TABLE alarms (
    namespace INTEGER NOT NULL,
    producer TEXT NOT NULL,
    modality INTEGER NOT NULL,
    raised INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    alarm BLOB NOT NULL,
    PRIMARY KEY (namespace, producer, modality)
) WITHOUT ROWID;
"""

TABLES: Final = ("generators", "generated", "alarms")

_VERSION_OF: Final = (
    "SELECT v.revision, v.modality FROM items i JOIN versions v ON v.namespace = i.namespace AND v.revision ="
    " CASE :v WHEN 1 THEN i.first_revision ELSE (SELECT w.revision FROM versions w INDEXED BY versions_by_item"
    " WHERE w.namespace = :n AND w.item_id = :i AND w.version = :v AND w.version > 1) END"
    " WHERE i.namespace = :n AND i.item_id = :i"
)

_WATCHED: Final = (
    "FROM generators g LEFT JOIN alarms a ON a.namespace = g.namespace AND a.producer = g.producer"
    " AND a.modality = g.modality WHERE g.namespace = :n"
)
"""Every producer of SYNTHETIC knowledge, with its newest window."""

_Row: TypeAlias = tuple[int | str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Unwatched:
    """A producer of SYNTHETIC knowledge, a window of whom is due."""

    producer: str
    modality: pb.Modality.ValueType
    known: pb.CollapseAlarm
    """What is known from the window before; empty at the first."""


def apply(connection: apsw.Connection, number: int, entries: Sequence[Entry], head: int) -> None:
    """Write what entries of a namespace mean here, after their changes are written; `head` is that before them.

    Within a transaction; called by `views.apply` only.
    """
    _count(connection, number, entries, head)
    found = [entry.record.watched for entry in entries if entry.record.WhichOneof("record") == "watched"]
    connection.executemany(
        "INSERT OR REPLACE INTO alarms VALUES (?,?,?,?,?,?,?)", [_alarm_row(number, alarm) for alarm in found]
    )


def _alarm_row(number: int, alarm: pb.CollapseAlarm) -> _Row:
    known = alarm.SerializeToString(deterministic=True)
    return (number, alarm.producer, alarm.modality, int(alarm.on), alarm.accepted, alarm.revision, known)


def _count(connection: apsw.Connection, number: int, entries: Sequence[Entry], head: int) -> None:
    accepted: dict[tuple[str, int], int] = {}
    rows: list[_Row] = []
    for entry in entries:
        head = entry.revision or head
        if not _is_generated(entry):
            continue
        revision, modality = _said(connection, number, entry)
        key = (entry.record.decision.receipt.producer, modality)
        if key not in accepted:
            accepted[key] = _accepted(connection, number, key)
        accepted[key] += 1
        rows.append((number, *key, accepted[key], revision, head))
    connection.executemany("INSERT INTO generated VALUES (?,?,?,?,?,?)", rows)
    connection.executemany(
        "INSERT OR REPLACE INTO generators VALUES (?,?,?,?)", [(number, *key, count) for key, count in accepted.items()]
    )


def _is_generated(entry: Entry) -> bool:
    """Whether an entry accepts what a model said: as a version, or since it is known already."""
    decision = entry.record.decision
    if decision.origin != pb.ORIGIN_SYNTHETIC:
        return False
    if entry.change is not None:
        return entry.change.kind != pb.CHANGE_KIND_RETRACTED
    return decision.receipt.outcome == pb.OUTCOME_MERGED and decision.receipt.reason != pb.REASON_ALREADY_RETRACTED


def _said(connection: apsw.Connection, number: int, entry: Entry) -> tuple[int, int]:
    """The revision that something became or was merged into, and its modality."""
    if entry.change is not None:
        return entry.change.revision, entry.change.knowledge.modality
    receipt = entry.record.decision.receipt
    revision, modality = connection.execute(_VERSION_OF, {"n": number, "i": receipt.item_id, "v": receipt.version}).get
    return revision, modality


def _accepted(connection: apsw.Connection, number: int, key: tuple[str, int]) -> int:
    accepted: int | None = connection.execute(
        "SELECT accepted FROM generators WHERE namespace = ? AND producer = ? AND modality = ?", (number, *key)
    ).get
    return accepted or 0


def alarms(
    catalog: Catalog, namespace: int, *, on: bool = False, producer: str | None = None, limit: int = -1
) -> list[pb.CollapseAlarm]:
    """What is known of the producers of SYNTHETIC knowledge, at most `limit`, all where it is negative.

    First those whose alarm is on, then those whose newest window ended last. With `on` only the first; with
    `producer` only of that one.
    """
    rows = catalog.connection.execute(
        "SELECT alarm FROM alarms WHERE namespace = ?1 AND raised >= ?2 AND producer = IFNULL(?3, producer)"
        " ORDER BY raised DESC, revision DESC, producer, modality LIMIT ?4",
        (namespace, on, producer, limit),
    )
    return [pb.CollapseAlarm.FromString(alarm) for (alarm,) in rows]


def alarm(catalog: Catalog, namespace: int, producer: str, modality: int) -> pb.CollapseAlarm:
    """What is known of one producer; empty where nothing is."""
    alarm = catalog.connection.execute(
        "SELECT alarm FROM alarms WHERE namespace = ? AND producer = ? AND modality = ?",
        (namespace, producer, modality),
    ).get
    return pb.CollapseAlarm.FromString(alarm or b"")


def unwatched(catalog: Catalog, namespace: int, every: int) -> Unwatched | None:
    """A producer of whom a multiple of `every` was accepted since its newest window.

    Of several the one whose newest window ended first.
    """
    row = catalog.connection.execute(
        f"SELECT g.producer, g.modality, a.alarm {_WATCHED}"
        " AND g.accepted / :every > IFNULL(a.accepted, 0) / :every"
        " ORDER BY IFNULL(a.revision, 0), g.producer, g.modality LIMIT 1",
        {"n": namespace, "every": every},
    ).get
    return Unwatched(row[0], row[1], pb.CollapseAlarm.FromString(row[2] or b"")) if row is not None else None


def unwatched_count(catalog: Catalog, namespace: int, every: int) -> int:
    """How many windows of producers are due."""
    due: float = catalog.connection.execute(
        f"SELECT TOTAL(g.accepted / :every - IFNULL(a.accepted, 0) / :every) {_WATCHED}",
        {"n": namespace, "every": every},
    ).get
    return int(due)


def modalities(catalog: Catalog, namespace: int) -> list[pb.Modality.ValueType]:
    """The modalities of what models said."""
    rows = catalog.connection.execute(
        "SELECT DISTINCT modality FROM generators WHERE namespace = ? ORDER BY modality", (namespace,)
    )
    return [modality for (modality,) in rows]


def head_at(catalog: Catalog, namespace: int, producer: str, modality: int, number: int) -> int:
    """The head when so much was accepted of a producer of SYNTHETIC knowledge."""
    head: int = catalog.connection.execute(
        "SELECT head FROM generated WHERE namespace = ? AND producer = ? AND modality = ? AND number = ?",
        (namespace, producer, modality, number),
    ).get
    return head


def newest(catalog: Catalog, namespace: int, producer: str, modality: int, number: int, limit: int) -> list[int]:
    """The newest `limit` of what was accepted of a producer up to its `number`-th, the oldest first.

    Each as the revision that it became or was merged into; so each has a vector, and one may be there twice.
    """
    rows = catalog.connection.execute(
        "SELECT revision FROM generated WHERE namespace = ? AND producer = ? AND modality = ?"
        " AND number > ? AND number <= ? ORDER BY number",
        (namespace, producer, modality, number - limit, number),
    )
    return [revision for (revision,) in rows]
