"""The views: what the journal says, in tables that questions are asked of. `apply` is the only code that writes them.

`apply` is deterministic: the same entries in the same order make the same rows, which is how a store is rebuilt,
checked and copied.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import apsw

from epistream.indexer import comments, conflicts, disputes, generated, holding
from epistream.indexer.decode import item_of
from epistream.indexer.journal import Entry
from epistream.indexer.model import answered, not_above, valid_us
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

_SCHEMA: Final = """
CREATE TABLE namespaces (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    namespace BLOB NOT NULL
);
CREATE TABLE policies (
    namespace INTEGER NOT NULL,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, version)
) WITHOUT ROWID;
CREATE TABLE items (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    retracted INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    first_revision INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    newest_version INTEGER NOT NULL,
    valid_us INTEGER,
    PRIMARY KEY (namespace, item_id)
) WITHOUT ROWID;
CREATE INDEX items_by_fingerprint ON items (namespace, fingerprint);
CREATE TABLE versions (
    namespace INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    ended INTEGER,
    commit_us INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    modality INTEGER NOT NULL,
    producer TEXT NOT NULL,
    valid_us INTEGER,
    PRIMARY KEY (namespace, revision)
) WITHOUT ROWID;
CREATE INDEX versions_by_item ON versions (namespace, item_id, version) WHERE version > 1;
CREATE INDEX versions_by_valid_time ON versions (namespace, item_id, valid_us, revision) WHERE valid_us IS NOT NULL;
CREATE INDEX versions_by_time ON versions (namespace, commit_us, revision);
CREATE TABLE attributes (
    namespace INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (namespace, revision, name)
) WITHOUT ROWID;
CREATE TABLE submissions (
    namespace INTEGER NOT NULL,
    producer TEXT NOT NULL,
    submission_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, producer, submission_id)
) WITHOUT ROWID;
CREATE TABLE corroborations (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (namespace, item_id, sequence)
) WITHOUT ROWID;
CREATE TABLE aliases (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    merged_into TEXT NOT NULL,
    PRIMARY KEY (namespace, item_id)
) WITHOUT ROWID;
CREATE INDEX aliases_by_item ON aliases (namespace, merged_into);
CREATE TABLE parents (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    parent TEXT NOT NULL,
    PRIMARY KEY (namespace, item_id, parent)
) WITHOUT ROWID;
CREATE TABLE held (
    namespace INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    item_id TEXT NOT NULL,
    origin INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    producer TEXT NOT NULL,
    modality INTEGER NOT NULL,
    held_us INTEGER NOT NULL,
    resolved INTEGER,
    came INTEGER NOT NULL,
    valid_us INTEGER,
    newer INTEGER,
    PRIMARY KEY (namespace, sequence)
) WITHOUT ROWID;
CREATE INDEX held_by_fingerprint ON held (namespace, fingerprint, item_id) WHERE resolved IS NULL;
CREATE INDEX held_by_item ON held (namespace, item_id) WHERE resolved IS NULL AND newer IS NULL AND item_id <> '';
CREATE INDEX held_put_off ON held (namespace, modality, sequence) WHERE resolved IS NULL AND reason = 26;
CREATE INDEX held_pending ON held (namespace, sequence, reason, held_us) WHERE resolved IS NULL;
CREATE TABLE held_names (
    namespace INTEGER NOT NULL,
    name TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    PRIMARY KEY (namespace, name, sequence)
) WITHOUT ROWID;
CREATE INDEX held_parents ON held_names (namespace, sequence) WHERE parent = 1;
CREATE TABLE feedback (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (namespace, item_id, sequence)
) WITHOUT ROWID;
CREATE TABLE counts (
    namespace INTEGER PRIMARY KEY,
    head INTEGER NOT NULL,
    items INTEGER NOT NULL,
    held INTEGER NOT NULL,
    merged INTEGER NOT NULL,
    feedback INTEGER NOT NULL,
    rejected INTEGER NOT NULL
);
"""
"""Item ids and fingerprints are spread over their trees, so each new item writes a page of each: what a commit writes
is mostly that. A version that is its item's only one, as most are, is therefore found by the item, not by an index.
`held.item_id` is the item that a submission names, if any, `held.came` the entry that first held it, `held.newer` one
that puts it out of date. `held_names` has the item of what may come in with no person in between, and all parents of
what lacked one, whatever became of it since."""

SCHEMA: Final = _SCHEMA + conflicts.SCHEMA + comments.SCHEMA + disputes.SCHEMA + generated.SCHEMA

TABLES: Final = (
    "namespaces",
    "policies",
    "items",
    "versions",
    "attributes",
    "submissions",
    "corroborations",
    "aliases",
    "parents",
    "held",
    "held_names",
    "feedback",
    "counts",
    *conflicts.TABLES,
    *comments.TABLES,
    *disputes.TABLES,
    *generated.TABLES,
)
"""The views, in the order of a dump."""

_Row: TypeAlias = tuple[int | str | bytes | None, ...]


def apply(connection: apsw.Connection, entries: Sequence[Entry]) -> None:
    """Write what entries mean into the views, in their order. Within a transaction.

    However a journal is cut into calls, the rows are the same. Rows are written table by table, since one statement for
    many rows costs a third of many statements.
    """
    numbers = dict.fromkeys(entry.namespace for entry in entries)
    for number in numbers:
        of_namespace = [entry for entry in entries if entry.namespace == number]
        for entry in of_namespace:
            if entry.record.WhichOneof("record") == "namespace":
                _apply_namespace(connection, number, entry)
        head = connection.execute("SELECT head FROM counts WHERE namespace = ?", (number,)).get
        decided = [entry for entry in of_namespace if entry.record.WhichOneof("record") == "decision"]
        repeated = _repeated(connection, number, decided)
        ended = _apply_decisions(connection, number, decided) if decided else {}
        conflicts.apply(connection, number, of_namespace, head, ended, repeated)
        comments.apply(connection, number, of_namespace)
        disputes.apply(connection, number, of_namespace)
        generated.apply(connection, number, of_namespace, head)


def _apply_namespace(connection: apsw.Connection, number: int, entry: Entry) -> None:
    made = entry.record.namespace
    connection.execute(
        "INSERT INTO namespaces VALUES (?1,?2,?3) ON CONFLICT (number) DO UPDATE SET namespace = ?3",
        (number, made.name, made.SerializeToString(deterministic=True)),
    )
    connection.execute("INSERT OR REPLACE INTO policies VALUES (?,?,?)", (number, made.policy_version, entry.sequence))
    connection.execute("INSERT INTO counts VALUES (?,0,0,0,0,0,0) ON CONFLICT DO NOTHING", (number,))


def _repeated(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> set[int]:
    """The revisions of versions with the content of the one before. Asked before these are written."""
    found: set[int] = set()
    newest: dict[str, bytes] = {}
    for change in (entry.change for entry in entries if entry.change is not None):
        if change.replaced_revision:
            before = (
                newest.get(change.item_id)
                or connection.execute(
                    "SELECT fingerprint FROM items WHERE namespace = ? AND item_id = ?", (number, change.item_id)
                ).get
            )
            if before == change.fingerprint:
                found.add(change.revision)
        if change.kind != pb.CHANGE_KIND_LATE:
            newest[change.item_id] = change.fingerprint
    return found


def _apply_decisions(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> Mapping[int, Sequence[int]]:
    """Write decisions. Returns the sequences of what is held no more, by the sequence of the entry that ended it."""
    head, items, held, merged, recorded, rejected = connection.execute(
        "SELECT head, items, held, merged, feedback, rejected FROM counts WHERE namespace = ?", (number,)
    ).get
    submissions: list[_Row] = []
    newer: list[_Row] = []
    corroborations: list[_Row] = []
    aliases: list[_Row] = []
    holdings: list[_Row] = []
    came: dict[int, int] = {}
    named: list[_Row] = []
    judged: list[_Row] = []
    changes: list[Entry] = []
    for entry in entries:
        decision = entry.record.decision
        receipt = decision.receipt
        sender = (number, receipt.producer, receipt.submission_id)
        if decision.releases:
            newer.append((entry.sequence, *sender))
        else:
            submissions.append((*sender, decision.submission_digest, entry.sequence))
        if decision.alias:
            aliases.append((number, decision.alias, receipt.item_id))
        if entry.change is not None:
            changes.append(entry)
            head = entry.change.revision
        elif receipt.outcome == pb.OUTCOME_MERGED:
            corroborations.append((number, receipt.item_id, entry.sequence, head))
        elif receipt.outcome == pb.OUTCOME_HELD:
            before = decision.releases
            first = (came.get(before) or holding.came(connection, number, before)) if before else entry.sequence
            came[entry.sequence] = first
            holdings.append(_held_row(number, entry, first))
            named.extend((number, name, entry.sequence, parent) for name, parent in _held_names(decision))
        elif receipt.outcome == pb.OUTCOME_REJECTED:
            rejected += 1
        elif receipt.outcome == pb.OUTCOME_RECORDED:
            recorded += 1
            said = decision.recorded.feedback
            names = {one.item_id for one in said.judged}
            judged.extend((number, name, entry.sequence, said.kind) for name in sorted(names))
    connection.executemany("INSERT INTO submissions VALUES (?,?,?,?,?)", submissions)
    connection.executemany("INSERT INTO corroborations VALUES (?,?,?,?)", corroborations)
    connection.executemany("INSERT OR REPLACE INTO aliases VALUES (?,?,?)", aliases)
    connection.executemany(
        "UPDATE submissions SET sequence = ? WHERE namespace = ? AND producer = ? AND submission_id = ?", newer
    )
    connection.executemany("INSERT INTO held VALUES (?,?,?,?,?,?,?,?,?,NULL,?,?,NULL)", holdings)
    connection.executemany("INSERT INTO held_names VALUES (?,?,?,?)", named)
    connection.executemany("INSERT INTO feedback VALUES (?,?,?,?)", judged)
    items += _apply_changes(connection, number, changes)
    held += len(holdings)
    ended = _resolve_held(connection, number, entries) if held else {}
    held -= sum(map(len, ended.values()))
    connection.execute(
        "UPDATE counts SET head = ?, items = ?, held = ?, merged = ?, feedback = ?, rejected = ? WHERE namespace = ?",
        (head, items, held, merged + len(corroborations), recorded, rejected, number),
    )
    return ended


def _apply_changes(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> int:
    """Write new versions and heads. Returns by how many the items in answers have grown."""
    versions = [entry.change for entry in entries if entry.change is not None]
    changes = [change for change in versions if change.kind != pb.CHANGE_KIND_LATE]
    before = {
        change.item_id: connection.execute(
            "SELECT NOT retracted FROM items WHERE namespace = ? AND item_id = ?", (number, change.item_id)
        ).get
        for change in changes
        if change.replaced_revision
    }
    after = {change.item_id: change.kind != pb.CHANGE_KIND_RETRACTED for change in changes}
    connection.executemany(
        "INSERT INTO versions VALUES (?,?,?,?,?,?,?,?,?,?,?)", [_version_row(number, change) for change in versions]
    )
    connection.executemany(
        "UPDATE versions SET ended = ? WHERE namespace = ? AND revision = ?",
        [(change.revision, number, change.replaced_revision) for change in changes if change.replaced_revision],
    )
    connection.executemany(
        "INSERT INTO items VALUES (?1,?2,?3,?4,?5,?6,?7,?4,?8,?3,?9) ON CONFLICT (namespace, item_id) DO UPDATE"
        " SET version = ?3, revision = ?4, origin = ?5, retracted = ?6, fingerprint = ?7, generation = ?8,"
        " newest_version = ?3, valid_us = ?9",
        [_item_row(number, change) for change in changes],
    )
    connection.executemany(
        "UPDATE items SET newest_version = max(newest_version, ?) WHERE namespace = ? AND item_id = ?",
        [(change.version, number, change.item_id) for change in versions if change.kind == pb.CHANGE_KIND_LATE],
    )
    _apply_parents(connection, number, changes)
    connection.executemany(
        "INSERT INTO attributes VALUES (?,?,?,?)",
        [(number, c.revision, name, value) for c in versions for name, value in sorted(c.knowledge.attributes.items())],
    )
    return sum(after.values()) - sum(bool(there) for there in before.values())


def _apply_parents(connection: apsw.Connection, number: int, changes: Sequence[pb.Change]) -> None:
    """Write what the newest version of each item was derived from."""
    newest = {change.item_id: change for change in changes}
    connection.executemany(
        "DELETE FROM parents WHERE namespace = ? AND item_id = ?",
        [(number, name) for name, change in newest.items() if change.replaced_revision],
    )
    connection.executemany(
        "INSERT INTO parents VALUES (?,?,?)",
        [
            (number, name, parent)
            for name, change in newest.items()
            for parent in sorted(set(change.knowledge.provenance.derived_from))
        ],
    )


def _resolve_held(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> Mapping[int, Sequence[int]]:
    """Mark what was held before and is decided now, or said by a version. Returns as `_apply_decisions`."""
    resolved: defaultdict[int, list[int]] = defaultdict(list)
    said_now = {entry.change.fingerprint for entry in entries if entry.change is not None and answered(entry.change)}
    said_and_held = holding.contents(connection, number, said_now)
    words = {entry.sequence: word for entry in entries if (word := _word(connection, number, entry)) is not None}
    set_and_held = holding.items(connection, number, {name for word in words.values() for name in word.names})
    for entry in entries:
        change, releases, word = entry.change, entry.record.decision.releases, words.get(entry.sequence)
        if releases:
            rows = connection.execute(
                "UPDATE held SET resolved = ? WHERE namespace = ? AND sequence = ? AND resolved IS NULL"
                " RETURNING sequence",
                (entry.sequence, number, releases),
            )
            resolved[entry.sequence].extend(sequence for (sequence,) in rows)
        if word is None:
            continue
        if change is not None and answered(change) and change.fingerprint in said_and_held:
            said = [one.sequence for one in holding.said_by(connection, number, change, entry.sequence, word.came)]
            connection.executemany(
                "UPDATE held SET resolved = ? WHERE namespace = ? AND sequence = ?",
                [(entry.sequence, number, sequence) for sequence in said],
            )
            resolved[entry.sequence].extend(said)
        if word.names & set_and_held:
            _mark(connection, number, word, entry.sequence)
    return resolved


def _word(connection: apsw.Connection, number: int, entry: Entry) -> holding.Word | None:
    decision = entry.record.decision
    if entry.change is None and decision.receipt.outcome != pb.OUTCOME_MERGED:
        return None
    before = decision.releases
    return holding.word_of(entry, holding.came(connection, number, before) if before else entry.sequence)


def _mark(connection: apsw.Connection, number: int, word: holding.Word, sequence: int) -> None:
    """Write to what waits and goes on by itself that an entry puts it out of date: `holding.Word.ends`, as SQL."""
    origins = not_above(word.origin)
    of = ",".join("?" * len(origins))
    connection.executemany(
        "UPDATE held INDEXED BY held_by_item SET newer = ? WHERE namespace = ? AND item_id = ? AND item_id <> ''"  # noqa: S608
        f" AND resolved IS NULL AND newer IS NULL AND reason IN ({holding.UNATTENDED_ROWS}) AND sequence < ?"
        f" AND came < ? AND origin IN ({of}) AND (valid_us IS ? OR (? AND (valid_us IS NULL OR ? IS NULL)))",
        [
            (sequence, number, name, sequence, word.came, *origins, word.valid_us, not word.late, word.valid_us)
            for name in sorted(word.names)
        ],
    )


def _held_row(number: int, entry: Entry, came: int) -> _Row:
    decision = entry.record.decision
    receipt, submission = decision.receipt, decision.held
    return (
        number,
        entry.sequence,
        decision.fingerprint,
        submission.item_id,
        submission.origin,
        receipt.reason,
        receipt.producer,
        submission.modality,
        receipt.time.ToMicroseconds(),
        came,
        valid_us(submission),
    )


def _held_names(decision: journal_pb2.Decision) -> list[tuple[str, bool]]:
    """The items by which something held is found, and whether it is a parent: its own, and all parents of an orphan."""
    match decision.receipt.reason:
        case pb.REASON_DEFERRED | pb.REASON_UNVERIFIED:
            return [(item_of(decision.held), False)]
        case pb.REASON_UNKNOWN_PARENT:
            parents = set(decision.held.provenance.derived_from)
            return [(name, name in parents) for name in sorted({item_of(decision.held), *parents})]
    return []


def _version_row(number: int, change: pb.Change) -> _Row:
    knowledge = change.knowledge
    return (
        number,
        change.revision,
        change.item_id,
        change.version,
        change.kind,
        change.revision if change.kind == pb.CHANGE_KIND_LATE else None,
        change.commit_time.ToMicroseconds(),
        knowledge.origin,
        knowledge.modality,
        knowledge.provenance.producer,
        valid_us(knowledge),
    )


def _item_row(number: int, change: pb.Change) -> _Row:
    retracted = int(change.kind == pb.CHANGE_KIND_RETRACTED)
    origin = change.knowledge.origin
    fingerprint, generation, valid = change.fingerprint, change.generation, valid_us(change.knowledge)
    return (number, change.item_id, change.version, change.revision, origin, retracted, fingerprint, generation, valid)
