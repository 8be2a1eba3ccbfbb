"""Conflicts: items, and what is held, that say different things of what seems the same. Their views, and questions.

A conflict is named by the sequence of the entry that opened it: one that admitted something though items near by say
something else, or one that held a submission since it contradicts an expert. Its parties are that item or submission,
and the items near by. An example:

    3  held: 50 mg, against the item `limit`       conflict 3: held 3, limit
    5  an expert lets it in as the item `k-x`      conflict 3: k-x, limit          both are answered, marked
    6  `limit` is retracted                        conflict 3: k-x; it is over

A party is gone when its item is retracted, when another version of it contradicts none of the other items that are
left, and when what was held is rejected or merged. With fewer than two left it is over; and when somebody resolves it.
What was let in is a party of the conflict in which it was held: it opens none beside it. Nor does another version of an
item: else what was resolved would be asked at each of them again. What was taken back and is said again does: its
conflicts ended when it was taken back.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import apsw

from epistream.indexer.catalog import Catalog
from epistream.indexer.journal import Entry
from epistream.indexer.paging import REVISION_MAX
from epistream.v1 import knowledge_pb2 as pb

SCHEMA: Final = """
CREATE TABLE conflicts (
    namespace INTEGER NOT NULL,
    conflict INTEGER NOT NULL,
    opened INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    ended INTEGER,
    ended_by INTEGER,
    PRIMARY KEY (namespace, conflict)
) WITHOUT ROWID;
CREATE INDEX conflicts_open ON conflicts (namespace, conflict, opened_us) WHERE ended IS NULL;
CREATE TABLE parties (
    namespace INTEGER NOT NULL,
    conflict INTEGER NOT NULL,
    place INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    held INTEGER NOT NULL,
    since INTEGER NOT NULL,
    gone INTEGER,
    PRIMARY KEY (namespace, conflict, place)
) WITHOUT ROWID;
CREATE INDEX parties_by_item ON parties (namespace, item_id, conflict) WHERE item_id <> '';
CREATE INDEX parties_by_held ON parties (namespace, held) WHERE held > 0;
"""
"""`opened`, `ended`, `since` and `gone` are the head at that time: an answer for a revision shows the marks that it had
last. Of what is held `item_id` is empty until it is let in: from then on, `since`, it is a party by name."""

TABLES: Final = ("conflicts", "parties")

OF_ITEM_MAX: Final = 20
"""How many of an item's open conflicts are told."""

_Row: TypeAlias = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Party:
    """One side."""

    item_id: str
    """Empty for what is held."""
    held: int
    """The sequence of the entry that held it; 0 for what never was."""
    gone: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """One conflict."""

    conflict: int
    opened_us: int
    ended_by: int | None
    """The sequence of the entry that ended it; None while it is open."""
    parties: tuple[Party, ...]
    """First what opened it."""


def apply(
    connection: apsw.Connection,
    number: int,
    entries: Sequence[Entry],
    head: int,
    ended: Mapping[int, Sequence[int]],
    repeated: Collection[int],
) -> None:
    """Write what entries mean for conflicts, in their order. Within a transaction; called by `views.apply` only.

    Args:
        connection: the writing one.
        number: of the namespace.
        entries: of it.
        head: before the first of them.
        ended: the sequences of what is held no more, by the sequence of the entry that ended it.
        repeated: the revisions of versions with the content of the one before.
    """
    writing = _Writing(connection, number, head, repeated)
    for entry in entries:
        kind = entry.record.WhichOneof("record")
        if kind == "resolution":
            writing.end(entry.record.resolution.conflict, entry.sequence)
        elif kind == "decision":
            writing.decided(entry, ended.get(entry.sequence, ()))
    writing.flush()


class _Writing:
    """Writes the conflicts of a namespace. Many open and few end, so what opens is written together."""

    def __init__(self, connection: apsw.Connection, number: int, head: int, repeated: Collection[int]) -> None:
        self._connection, self._number, self._head, self._repeated = connection, number, head, repeated
        self._opened: list[_Row] = []
        self._parties: list[_Row] = []
        self._any = connection.execute(
            "SELECT 1 FROM conflicts INDEXED BY conflicts_open WHERE namespace = ? AND ended IS NULL LIMIT 1", (number,)
        ).get

    def decided(self, entry: Entry, released: Sequence[int]) -> None:
        """An entry that decided something, and ended that these were held."""
        change, receipt = entry.change, entry.record.decision.receipt
        if change is not None:
            self._head = change.revision
            if change.replaced_revision and not self._says_the_same(change):
                self._item_gone(change, entry.sequence)
        known = False
        for held in released:
            known |= self._held_gone(held, entry)
        opens = change is not None and (not change.replaced_revision or change.revision in self._repeated)
        if change is not None and change.conflicts and opens and not known:
            items = [change.item_id, *change.conflicts]
            self._open(entry.sequence, receipt, [(item_id, 0) for item_id in items])
        elif receipt.reason == pb.REASON_CONFLICT_WITH_EXPERT and receipt.outcome == pb.OUTCOME_HELD:
            self._open(entry.sequence, receipt, [("", entry.sequence), (receipt.figures.item_id, 0)])

    def end(self, conflict: int, sequence: int) -> None:
        """It is over, by an entry."""
        self.flush()
        self._connection.execute(
            "UPDATE conflicts SET ended = ?, ended_by = ? WHERE namespace = ? AND conflict = ? AND ended IS NULL",
            (self._head, sequence, self._number, conflict),
        )

    def flush(self) -> None:
        """Write what has opened."""
        self._connection.executemany("INSERT INTO conflicts VALUES (?,?,?,?,NULL,NULL)", self._opened)
        self._connection.executemany("INSERT INTO parties VALUES (?,?,?,?,?,?,NULL)", self._parties)
        self._opened.clear()
        self._parties.clear()

    def _says_the_same(self, change: pb.Change) -> bool:
        """Whether a new version says what the one before said: the same content, or the same claim."""
        if change.kind == pb.CHANGE_KIND_RETRACTED:
            return False
        return change.revision in self._repeated or change.figures.HasField("similarity")

    def _open(self, conflict: int, receipt: pb.Receipt, parties: Sequence[tuple[str, int]]) -> None:
        self._any = True
        self._opened.append((self._number, conflict, self._head, receipt.time.ToMicroseconds()))
        self._parties.extend((self._number, conflict, place, *party, self._head) for place, party in enumerate(parties))

    def _item_gone(self, change: pb.Change, sequence: int) -> None:
        """An item does not say any more what it said: it is gone from where it contradicts nobody now."""
        if not self._any:
            return
        self.flush()
        rows = self._connection.execute(
            "SELECT p.conflict, p.place FROM parties p INDEXED BY parties_by_item JOIN conflicts c"
            " ON c.namespace = p.namespace AND c.conflict = p.conflict WHERE p.namespace = ? AND p.item_id = ?"
            " AND p.item_id <> '' AND p.gone IS NULL AND c.ended IS NULL ORDER BY p.conflict",
            (self._number, change.item_id),
        )
        for conflict, place in list(rows):
            left = {party.item_id for party in _parties(self._connection, self._number, conflict) if not party.gone}
            if left.isdisjoint(change.conflicts):
                self._party_gone(conflict, place, sequence)

    def _held_gone(self, held: int, entry: Entry) -> bool:
        """What was held is so no more. Returns whether the conflict of it says what its change contradicts."""
        self.flush()
        row = self._connection.execute(
            "SELECT p.conflict, p.place, c.ended FROM parties p INDEXED BY parties_by_held JOIN conflicts c"
            " ON c.namespace = p.namespace AND c.conflict = p.conflict"
            " WHERE p.namespace = ? AND p.held = ? AND p.held > 0 AND p.item_id = ''",
            (self._number, held),
        ).get
        if row is None:
            return False
        conflict, place, ended = row
        change = entry.change
        if change is None or not (change.conflicts or ended):
            if ended is None:
                self._party_gone(conflict, place, entry.sequence)
            return False
        self._connection.execute(
            "UPDATE parties SET item_id = ?, since = ? WHERE namespace = ? AND conflict = ? AND place = ?",
            (change.item_id, self._head, self._number, conflict, place),
        )
        parties = _parties(self._connection, self._number, conflict)
        items = {party.item_id for party in parties if not party.gone}
        others = [item_id for item_id in change.conflicts if item_id not in items]
        if ended is None:
            self._parties.extend(
                (self._number, conflict, len(parties) + n, item_id, 0, self._head) for n, item_id in enumerate(others)
            )
            self.flush()
        return ended is None or not others

    def _party_gone(self, conflict: int, place: int, sequence: int) -> None:
        self._connection.execute(
            "UPDATE parties SET gone = ? WHERE namespace = ? AND conflict = ? AND place = ?",
            (self._head, self._number, conflict, place),
        )
        left = [party for party in _parties(self._connection, self._number, conflict) if not party.gone]
        if len(left) < 2:
            self.end(conflict, sequence)


def open_of(
    connection: apsw.Connection, namespace: int, item_ids: Iterable[str], at: int
) -> dict[str, list[tuple[int, list[str]]]]:
    """The conflicts that items were parties of at a revision and that were open, at most OF_ITEM_MAX, the newest first.

    Each with its other items. Only of items that had any.
    """
    found = {}
    for item_id in _disputed(connection, namespace, item_ids):
        rows = connection.execute(
            "SELECT c.conflict FROM parties p INDEXED BY parties_by_item JOIN conflicts c ON c.namespace = p.namespace"
            " AND c.conflict = p.conflict WHERE p.namespace = :n AND p.item_id = :i AND p.item_id <> ''"
            " AND c.opened <= :at AND (c.ended IS NULL OR c.ended > :at)"
            " AND p.since <= :at AND (p.gone IS NULL OR p.gone > :at)"
            " ORDER BY p.conflict DESC LIMIT :max",
            {"n": namespace, "i": item_id, "at": at, "max": OF_ITEM_MAX},
        )
        if conflicts := [row[0] for row in rows]:
            found[item_id] = [(one, _others(connection, namespace, one, item_id, at)) for one in conflicts]
    return found


def _disputed(connection: apsw.Connection, namespace: int, item_ids: Iterable[str]) -> list[str]:
    """Those of the items that were ever parties: few are, and a statement for each took a tenth of a search."""
    rows = connection.execute(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM parties p INDEXED BY parties_by_item"
        " WHERE p.namespace = ? AND p.item_id = j.value AND p.item_id <> '')",
        (json.dumps(list(item_ids)), namespace),
    )
    return [row[0] for row in rows]


def open_with(connection: apsw.Connection, namespace: int, held: Iterable[int]) -> dict[int, int]:
    """The open conflict that each of these is a party of while it is held; only of those that are."""
    rows = connection.execute(
        "SELECT p.held, p.conflict FROM json_each(?) j CROSS JOIN parties p INDEXED BY parties_by_held"
        " ON p.namespace = ? AND p.held = j.value AND p.held > 0 JOIN conflicts c ON c.namespace = p.namespace"
        " AND c.conflict = p.conflict WHERE p.item_id = '' AND c.ended IS NULL",
        (json.dumps(list(held)), namespace),
    )
    return dict(rows)


def read(connection: apsw.Connection, namespace: int, conflict: int) -> Conflict | None:
    """One conflict; None where that entry opened none, or there can be none."""
    if conflict > REVISION_MAX:
        return None
    row = connection.execute(
        "SELECT opened_us, ended_by FROM conflicts WHERE namespace = ? AND conflict = ?", (namespace, conflict)
    ).get
    if row is None:
        return None
    opened_us, ended_by = row
    return Conflict(conflict, opened_us, ended_by, tuple(_parties(connection, namespace, conflict)))


def sides(catalog: Catalog, namespace: int, conflict: Conflict) -> tuple[tuple[Party, int], ...]:
    """Its parties, each with the newest version of its item; 0 for what is held."""
    heads = catalog.heads(namespace, {party.item_id for party in conflict.parties if party.item_id})
    return tuple((party, heads[party.item_id].version if party.item_id in heads else 0) for party in conflict.parties)


def listed(
    connection: apsw.Connection, namespace: int, *, is_open: bool | None, item_id: str, after: int, limit: int
) -> list[Conflict]:
    """At most `limit` conflicts after one, the oldest first: those that are open, those that are over, or any (None).

    Of one item, where one is named.
    """
    source = "conflicts c INDEXED BY conflicts_open" if is_open else "conflicts c"
    where = {True: "c.ended IS NULL", False: "c.ended IS NOT NULL", None: "1"}[is_open]
    if item_id:
        source = (
            "parties p INDEXED BY parties_by_item JOIN conflicts c"
            " ON c.namespace = p.namespace AND c.conflict = p.conflict"
        )
        where += " AND p.namespace = c.namespace AND p.item_id = :i AND p.item_id <> ''"
    rows = connection.execute(
        f"SELECT c.conflict FROM {source} WHERE c.namespace = :n AND c.conflict > :after AND {where}"  # noqa: S608
        " ORDER BY c.conflict LIMIT :limit",
        {"n": namespace, "after": after, "limit": limit} | ({"i": item_id} if item_id else {}),
    )
    found = (read(connection, namespace, conflict) for (conflict,) in list(rows))
    return [conflict for conflict in found if conflict is not None]


def figures(connection: apsw.Connection, namespace: int) -> tuple[int, int | None]:
    """How many are open, and when the oldest of them opened, microseconds since 1970; None where there is none."""
    count, oldest_us = connection.execute(
        "SELECT COUNT(*), MIN(opened_us) FROM conflicts INDEXED BY conflicts_open"
        " WHERE namespace = ? AND ended IS NULL",
        (namespace,),
    ).get
    return count, oldest_us


def _others(connection: apsw.Connection, namespace: int, conflict: int, item_id: str, at: int) -> list[str]:
    rows = connection.execute(
        "SELECT item_id FROM parties WHERE namespace = ? AND conflict = ? AND item_id NOT IN ('', ?)"
        " AND since <= ? AND (gone IS NULL OR gone > ?) ORDER BY place",
        (namespace, conflict, item_id, at, at),
    )
    return [other for (other,) in rows]


def _parties(connection: apsw.Connection, namespace: int, conflict: int) -> list[Party]:
    rows = connection.execute(
        "SELECT item_id, held, gone IS NOT NULL FROM parties WHERE namespace = ? AND conflict = ? ORDER BY place",
        (namespace, conflict),
    )
    return [Party(item_id, held, bool(gone)) for item_id, held, gone in rows]
