"""What is held, and what became of it: questions over the view `held`; and which word puts what waits out of date.

See `catalog`.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import apsw

from epistream.indexer.catalog import Catalog
from epistream.indexer.decode import item_of
from epistream.indexer.journal import Entry
from epistream.indexer.model import UNATTENDED, Held, not_above, valid_us
from epistream.v1 import knowledge_pb2 as pb

UNATTENDED_ROWS: Final = ",".join(map(str, sorted(UNATTENDED)))
"""The reasons of what may come in with no person in between."""
_LACKED: Final = (
    "SELECT 1 FROM held_names p INDEXED BY held_parents WHERE p.namespace = :n AND p.sequence = n.sequence"
    " AND p.parent = 1 AND p.name NOT IN (SELECT value FROM json_each(:known)) AND NOT IFNULL("
    "(SELECT NOT i.retracted FROM items i WHERE i.namespace = :n AND i.item_id = p.name),"
    " IFNULL((SELECT NOT i.retracted FROM aliases a JOIN items i ON i.namespace = a.namespace"
    " AND i.item_id = a.merged_into WHERE a.namespace = :n AND a.item_id = p.name), 0))"
)
"""The parents of what entry `n.sequence` held that are not known."""


def find(catalog: Catalog, namespace: int, sequence: int) -> Held | None:
    """The submission that an entry held, whatever became of it since; None where it held none."""
    row = catalog.connection.execute(
        "SELECT sequence FROM held WHERE namespace = ? AND sequence = ?", (namespace, sequence)
    ).get
    return Held(sequence, catalog.decision(sequence)) if row is not None else None


def pending(
    catalog: Catalog,
    namespace: int,
    *,
    reasons: Collection[int] = (),
    producers: Collection[str] = (),
    modalities: Collection[int] = (),
) -> list[int]:
    """The sequences of the entries whose submission is held now, the oldest first; only of these, where given."""
    wanted = {"reason": reasons, "producer": producers, "modality": modalities}
    given = {column: json.dumps(list(any_of)) for column, any_of in wanted.items() if any_of}
    only = "".join(f" AND {column} IN (SELECT value FROM json_each(:{column}))" for column in given)  # noqa: S608
    rows = catalog.connection.execute(
        "SELECT sequence FROM held INDEXED BY held_pending WHERE namespace = :n AND resolved IS NULL"  # noqa: S608
        f"{only} ORDER BY sequence",
        {"n": namespace, **given},
    )
    return [sequence for (sequence,) in rows]


def waiting(catalog: Catalog, namespace: int, sequences: Iterable[int]) -> set[int]:
    """Those of the entries whose submission is still held."""
    rows = catalog.connection.execute(
        "SELECT h.sequence FROM json_each(?) j CROSS JOIN held h ON h.namespace = ? AND h.sequence = j.value"
        " WHERE h.resolved IS NULL",
        (json.dumps(list(sequences)), namespace),
    )
    return {sequence for (sequence,) in rows}


def ended(catalog: Catalog, namespace: int, sequence: int) -> int | None:
    """The sequence of the entry that ended what another held; None while it is held."""
    row: int | None = catalog.connection.execute(
        "SELECT resolved FROM held WHERE namespace = ? AND sequence = ?", (namespace, sequence)
    ).get
    return row


def oldest(catalog: Catalog, namespace: int) -> list[tuple[pb.Reason.ValueType, int, int]]:
    """Each reason for which something is held now: how many, and when the oldest was, microseconds since 1970."""
    rows = catalog.connection.execute(
        "SELECT reason, COUNT(*), MIN(held_us) FROM held INDEXED BY held_pending WHERE namespace = ?"
        " AND resolved IS NULL GROUP BY reason ORDER BY reason",
        (namespace,),
    )
    return list(rows)


def since(catalog: Catalog, namespace: int, limit: int) -> list[int]:
    """Since when submissions wait for a person, at most `limit`, oldest first; not what goes on by itself."""
    rows = catalog.connection.execute(
        "SELECT held_us FROM held INDEXED BY held_pending WHERE namespace = ? AND resolved IS NULL"
        " AND reason <> ? ORDER BY sequence LIMIT ?",
        (namespace, pb.REASON_DEFERRED, limit),
    )
    return [us for (us,) in rows]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is counted of what waits."""

    sequence: int
    reason: int
    modality: int


def came(connection: apsw.Connection, namespace: int, sequence: int) -> int:
    """The entry that held a submission first, of one that held it."""
    first: int = connection.execute(
        "SELECT came FROM held WHERE namespace = ? AND sequence = ?", (namespace, sequence)
    ).get
    return first


def contents(connection: apsw.Connection, namespace: int, fingerprints: Iterable[bytes]) -> set[bytes]:
    """Those of some contents with which something is held now."""
    rows = connection.execute(
        "SELECT unhex(j.value) FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM held h INDEXED BY held_by_fingerprint"
        " WHERE h.namespace = ? AND h.fingerprint = unhex(j.value) AND h.resolved IS NULL)",
        (json.dumps([fingerprint.hex() for fingerprint in fingerprints]), namespace),
    )
    return {fingerprint for (fingerprint,) in rows}


def named(catalog: Catalog, namespace: int, names: Iterable[str]) -> set[str]:
    """Those of some items that something names which was held, as its own or as a parent, whatever became of it."""
    rows = catalog.connection.execute(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM held_names n"
        " WHERE n.namespace = ? AND n.name = j.value)",
        (json.dumps(list(names)), namespace),
    )
    return {name for (name,) in rows}


def said_by(connection: apsw.Connection, namespace: int, change: pb.Change, sequence: int, came: int) -> list[Waiting]:
    """What is held before an entry and ends with its version, which says the same (`model.says`), the oldest first.

    On no higher authority: else anybody could end what waits for a person. And of what goes on by itself and names the
    item only what came before that was first decided, in the entry `came`: the word that came last stands.
    """
    origins = not_above(change.knowledge.origin)
    of = ",".join("?" * len(origins))  # by json_each it took longer
    rows = connection.execute(
        "SELECT sequence, reason, modality FROM held INDEXED BY held_by_fingerprint WHERE namespace = ?"  # noqa: S608
        " AND fingerprint = ? AND item_id IN ('', ?) AND resolved IS NULL AND (item_id = '' OR valid_us IS ?)"
        f" AND origin IN ({of}) AND sequence < ? AND (item_id = '' OR reason NOT IN ({UNATTENDED_ROWS}) OR came < ?)"
        " ORDER BY sequence",
        (namespace, change.fingerprint, change.item_id, valid_us(change.knowledge), *origins, sequence, came),
    )
    return [Waiting(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Word:
    """What was said of items, as far as what waits of them asks."""

    names: frozenset[str]
    """Of the items that it set, or whose words it said again."""
    came: int
    """The sequence of the entry that first decided it."""
    origin: pb.Origin.ValueType
    valid_us: int | None
    late: bool
    """It holds from an earlier time on than the head."""

    def ends(self, waits: pb.Submission, came: int) -> bool:
        """Whether what waits of one of the items, and first came in an entry, is out of date by it.

        What came later, or on a higher authority, is not. Nor is what holds from another time on, where both say when.
        """
        times = valid_us(waits), self.valid_us
        same_time = times[0] == times[1] or (None in times and not self.late)
        return came < self.came and same_time and waits.origin in not_above(self.origin)


def word_of(entry: Entry, came: int) -> Word | None:
    """What an entry says of items; None where it sets none."""
    decision, change = entry.record.decision, entry.change
    if change is not None:
        names = {change.item_id, decision.alias}
        late = change.kind == pb.CHANGE_KIND_LATE
        return Word(frozenset(names - {""}), came, change.knowledge.origin, valid_us(change.knowledge), late)
    if decision.receipt.outcome != pb.OUTCOME_MERGED:
        return None
    merged = decision.merged
    name = merged.item_id or decision.alias  # what was merged before `merged` was kept is known to name an alias only
    if not name:
        return None
    from_us = merged.valid_from.ToMicroseconds() if merged.HasField("valid_from") else None
    return Word(frozenset([name]), came, decision.origin, from_us, merged.late)


def items(connection: apsw.Connection, namespace: int, names: Iterable[str]) -> set[str]:
    """Those of some items of which something is held now that names them and is not marked."""
    rows = connection.execute(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM held h INDEXED BY held_by_item"
        " WHERE h.namespace = ? AND h.item_id = j.value AND h.item_id <> '' AND h.resolved IS NULL"
        " AND h.newer IS NULL)",
        (json.dumps(list(names)), namespace),
    )
    return {name for (name,) in rows}


def out_of_date(catalog: Catalog, namespace: int, sequence: int) -> bool:
    """Whether what an entry held was marked."""
    row: int | None = catalog.connection.execute(
        "SELECT newer FROM held WHERE namespace = ? AND sequence = ?", (namespace, sequence)
    ).get
    return row is not None


def put_off(catalog: Catalog, namespace: int) -> Counter[int]:
    """How many submissions wait for the real share to allow them, by modality."""
    rows = catalog.connection.execute(
        "SELECT modality, COUNT(*) FROM held INDEXED BY held_put_off WHERE namespace = ? AND resolved IS NULL"  # noqa: S608
        f" AND reason = {pb.REASON_DEFERRED} GROUP BY modality",
        (namespace,),
    )
    return Counter(dict(rows))


def next_put_off(
    catalog: Catalog, namespace: int, modality: int, after: int, limit: int
) -> list[tuple[Held, bytes | None]]:
    """At most `limit` of a modality's after a sequence, the oldest first, each with its vector as <f4 bytes."""
    rows = list(
        catalog.connection.execute(
            "SELECT h.sequence, j.embedding FROM held h INDEXED BY held_put_off JOIN journal j"  # noqa: S608
            " ON j.sequence = h.sequence WHERE h.namespace = ? AND h.sequence > ? AND h.resolved IS NULL"
            f" AND h.reason = {pb.REASON_DEFERRED} AND h.modality = ? ORDER BY h.sequence LIMIT ?",
            (namespace, after, modality, limit),
        )
    )
    return [(Held(sequence, catalog.decision(sequence)), embedding) for sequence, embedding in rows]


def unattended(catalog: Catalog, namespace: int, item_id: str) -> list[Held]:
    """What may come in with no person in between and is about an item, the oldest first."""
    rows = catalog.connection.execute(
        "SELECT n.sequence FROM held_names n JOIN held h ON h.namespace = n.namespace"  # noqa: S608 - constants
        " AND h.sequence = n.sequence WHERE n.namespace = ? AND n.name = ? AND h.resolved IS NULL"
        f" AND h.reason IN ({UNATTENDED_ROWS}) ORDER BY n.sequence",
        (namespace, item_id),
    )
    found = [Held(sequence, catalog.decision(sequence)) for (sequence,) in list(rows)]
    return [held for held in found if item_of(held.decision.held) == item_id]


def wanted(catalog: Catalog, namespace: int, names: Iterable[str]) -> list[str]:
    """Those of some names that something was held for want of, whatever became of it since."""
    rows = catalog.connection.execute(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM held_names n"
        " WHERE n.namespace = ? AND n.name = j.value AND n.parent = 1)",
        (json.dumps(list(names)), namespace),
    )
    return [name for (name,) in rows]


def whole_orphans(
    catalog: Catalog, namespace: int, name: str, known: Iterable[str], after: int, limit: int
) -> list[Held]:
    """At most `limit` after a sequence that lacked a parent, name an item as one and lack none now; the oldest first.

    Only those with a vector. `known`: names that are known beside those of the catalog. However many lack another
    parent, they are passed over: 0.7 µs each of two parents, 17 µs of 62 (measured, 3,000).
    """
    rows = catalog.connection.execute(
        "SELECT n.sequence FROM held_names n JOIN held h ON h.namespace = n.namespace AND h.sequence = n.sequence"  # noqa: S608 - constants
        " JOIN journal j ON j.sequence = n.sequence WHERE n.namespace = :n AND n.name = :name AND n.parent = 1"
        f" AND n.sequence > :after AND h.resolved IS NULL AND h.reason = {pb.REASON_UNKNOWN_PARENT}"
        f" AND NOT EXISTS ({_LACKED}) AND j.embedding IS NOT NULL ORDER BY n.sequence LIMIT :limit",
        {"n": namespace, "name": name, "known": json.dumps(list(known)), "after": after, "limit": limit},
    )
    return [Held(sequence, catalog.decision(sequence)) for (sequence,) in list(rows)]


def with_vectors(catalog: Catalog, sequences: Iterable[int]) -> list[tuple[Held, bytes | None]]:
    """What entries held, in their order, each with its vector as little-endian float32."""
    rows = catalog.connection.execute(
        "SELECT j.sequence, j.embedding FROM json_each(?) s CROSS JOIN journal j ON j.sequence = s.value",
        (json.dumps(list(sequences)),),
    )
    return [(Held(sequence, catalog.decision(sequence)), embedding) for sequence, embedding in list(rows)]
