"""Disputes: items that raters are at odds about. Their views, and questions.

A vote is a rater's newest score for an item by BINARY or RATING, as a place on its scale from 0 to 1; a ballot is all
votes of one kind, aspect and scale. A dispute opens with the vote that is APART from another one of its ballot, and is
named by the sequence of that entry. Executors have no vote: what tests leave open is in their verdicts. An example:

    5  `limit` is made, version 1
    6  ada says yes
    7  bob says no                                  dispute 7 is open
    8  a reviewer lets `limit` stand                it is over, and 6 and 7 count no more
    9  ada says yes again                           nothing: bob's vote was settled

It is over when somebody settles it, and with the item's next version or its retraction, since what raters said was
about the version before. Votes may come before their item does. So whether the item is in answers is asked when it is
read, and not when it opens.
"""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from epistream.indexer.catalog import Catalog
from epistream.indexer.journal import Entry
from epistream.indexer.model import Held
from epistream.indexer.recall import of_change
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

SCHEMA: Final = """
CREATE TABLE votes (
    namespace INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    rater TEXT NOT NULL,
    ballot TEXT NOT NULL,
    place REAL NOT NULL,
    PRIMARY KEY (namespace, item_id, rater)
) WITHOUT ROWID;
CREATE INDEX votes_by_place ON votes (namespace, item_id, ballot, place);
CREATE TABLE disputes (
    namespace INTEGER NOT NULL,
    dispute INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    opened_us INTEGER NOT NULL,
    ended INTEGER,
    PRIMARY KEY (namespace, dispute)
) WITHOUT ROWID;
CREATE INDEX disputes_open ON disputes (namespace, item_id, dispute, opened_us) WHERE ended IS NULL;
"""
"""`rater` is who votes on which ballot, by which producer: two of them may know two people by one name."""

TABLES: Final = ("votes", "disputes")

APART: Final = 0.5
"""Two votes that lie half their scale apart are at odds: one says rather yes, the other rather no. For yes and no, and
for three words in a row, that is all that is not unanimous (R30 of the gate's requirements). 4 and 5 of 5 are not."""
_ROUNDING: Final = 1e-9
"""Less than any scale has steps: 7 of 0 to 10 is 0.4999… above 2."""

_OF_BALLOT: Final = "FROM votes INDEXED BY votes_by_place WHERE namespace = :n AND item_id = :i AND ballot = :b"

_IN_ANSWERS: Final = (
    "FROM disputes d INDEXED BY disputes_open CROSS JOIN items i ON i.namespace = d.namespace AND i.item_id = d.item_id"
    " CROSS JOIN versions v ON v.namespace = i.namespace AND v.revision = i.revision"
    " WHERE d.namespace = :n AND d.ended IS NULL AND NOT i.retracted"
)


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute."""

    dispute: int
    item_id: str
    opened_us: int
    ended: int | None
    """The sequence of the entry that ended it; None while it is open."""


def apply(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> None:
    """Write what entries mean for disputes, in their order. Within a transaction; called by `views.apply` only."""
    voted = connection.execute("SELECT 1 FROM votes WHERE namespace = ? LIMIT 1", (number,)).get is not None
    for entry in entries:
        match entry.record.WhichOneof("record"):
            case "settled":
                known = _find(connection, number, entry.record.settled.dispute)
                if known is not None:
                    _settle(connection, number, known.item_id, entry.sequence)
            case "decision" if entry.change is not None:
                change = entry.change
                let_in = bool(entry.record.decision.decided_by) and not change.verified_by
                by_reviewer = let_in and change.kind != pb.CHANGE_KIND_LATE
                if voted and (change.replaced_revision or by_reviewer):
                    _settle(connection, number, change.item_id, entry.sequence)
            case "decision" if entry.record.decision.receipt.outcome == pb.OUTCOME_RECORDED:
                voted |= _vote(connection, number, entry)


def pending(
    catalog: Catalog, namespace: int, *, producers: Collection[str] = (), modalities: Collection[int] = ()
) -> list[int]:
    """The open disputes about items in answers, the oldest first; only of versions of these, where given."""
    wanted = {"producer": producers, "modality": modalities}
    given = {column: json.dumps(list(any_of)) for column, any_of in wanted.items() if any_of}
    only = "".join(f" AND v.{column} IN (SELECT value FROM json_each(:{column}))" for column in given)  # noqa: S608
    rows = catalog.connection.execute(
        f"SELECT d.dispute {_IN_ANSWERS}{only} ORDER BY d.dispute",
        {"n": namespace, **given},
    )
    return [dispute for (dispute,) in rows]


def figures(catalog: Catalog, namespace: int) -> tuple[int, int | None]:
    """How many items in answers are in dispute, and since when the oldest is, microseconds since 1970."""
    count, oldest = catalog.connection.execute(
        f"SELECT COUNT(*), MIN(d.opened_us) {_IN_ANSWERS}",
        {"n": namespace},
    ).get
    return count, oldest


def read(catalog: Catalog, namespace: int, dispute: int) -> Dispute | None:
    """One dispute, open or not; None where there is none, or its item never came."""
    known = _find(catalog.connection, namespace, dispute)
    return known if known is not None and catalog.head(namespace, known.item_id) is not None else None


def as_held(catalog: Catalog, namespace: int, known: Dispute) -> Held:
    """What is disputed, as what is held is told: what the item says; of a retracted one, what it said."""
    head = catalog.head(namespace, known.item_id)
    assert head is not None  # noqa: S101 - `read` found it
    change = pb.Change.FromString(catalog.committed(namespace, head.revision).change)
    while change.kind == pb.CHANGE_KIND_RETRACTED:
        change = pb.Change.FromString(catalog.committed(namespace, change.replaced_revision).change)
    receipt = pb.Receipt(
        namespace=change.namespace,
        producer=change.knowledge.provenance.producer,
        submission_id=change.knowledge.submission_id,
        outcome=pb.OUTCOME_REVISED if change.version > 1 else pb.OUTCOME_ADMITTED,
        reason=pb.REASON_DISPUTED,
        figures=change.figures,
        item_id=change.item_id,
        version=change.version,
        revision=change.revision,
    )
    receipt.time.FromMicroseconds(known.opened_us)
    submission = of_change(change, journal_pb2.Decision(receipt=receipt))
    submission.item_id = change.item_id
    decision = journal_pb2.Decision(receipt=receipt, fingerprint=change.fingerprint, held=submission)
    return Held(known.dispute, decision)


def _vote(connection: apsw.Connection, number: int, entry: Entry) -> bool:
    """Take in feedback; open a dispute where it is at odds with what others said. Returns whether it is a vote."""
    decision = entry.record.decision
    feedback = decision.recorded.feedback
    kinds = (pb.FEEDBACK_KIND_BINARY, pb.FEEDBACK_KIND_RATING)
    if feedback.kind not in kinds or feedback.rater_type == pb.RATER_TYPE_EXECUTOR:
        return False
    binary = feedback.kind == pb.FEEDBACK_KIND_BINARY
    low, high = (0.0, 1.0) if binary else (feedback.scale_min, feedback.scale_max)
    (judged,) = feedback.judged
    if not math.isfinite(high - low):
        return False  # it was taken once
    place = (judged.score - low) / (high - low)
    ballot = json.dumps([feedback.kind, feedback.aspect, low, high])
    connection.execute(
        "INSERT OR REPLACE INTO votes VALUES (?,?,?,?,?)",
        (number, judged.item_id, json.dumps([ballot, decision.receipt.producer, feedback.rater]), ballot, place),
    )
    # The farthest vote is the lowest or the highest one: an item may have any number of votes.
    connection.execute(
        f"INSERT INTO disputes SELECT :n, :s, :i, :t, NULL WHERE (:p - (SELECT MIN(place) {_OF_BALLOT}) >= :apart"  # noqa: S608 - constants
        f" OR (SELECT MAX(place) {_OF_BALLOT}) - :p >= :apart) AND NOT EXISTS (SELECT 1 FROM disputes"
        " INDEXED BY disputes_open WHERE namespace = :n AND item_id = :i AND ended IS NULL)",
        {
            "n": number,
            "s": entry.sequence,
            "i": judged.item_id,
            "t": decision.receipt.time.ToMicroseconds(),
            "b": ballot,
            "p": place,
            "apart": APART - _ROUNDING,
        },
    )
    return True


def _settle(connection: apsw.Connection, number: int, item_id: str, sequence: int) -> None:
    """End what is open about an item, by an entry; the votes on it count no more."""
    connection.execute(
        "UPDATE disputes INDEXED BY disputes_open SET ended = ? WHERE namespace = ? AND item_id = ? AND ended IS NULL",
        (sequence, number, item_id),
    )
    connection.execute("DELETE FROM votes WHERE namespace = ? AND item_id = ?", (number, item_id))


def _find(connection: apsw.Connection, namespace: int, dispute: int) -> Dispute | None:
    row = connection.execute(
        "SELECT dispute, item_id, opened_us, ended FROM disputes WHERE namespace = ? AND dispute = ?",
        (namespace, dispute),
    ).get
    return Dispute(*row) if row is not None else None
