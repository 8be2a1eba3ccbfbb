"""What people said of what is held, and of conflicts: a view of the journal, and the question of it."""

from collections.abc import Sequence
from typing import Final

import apsw

from epistream.indexer.catalog import Catalog
from epistream.indexer.journal import Entry
from epistream.v1 import journal_pb2

SCHEMA: Final = """
CREATE TABLE comments (
    namespace INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, subject, sequence)
) WITHOUT ROWID;
"""
TABLES: Final = ("comments",)

TOLD_MAX: Final = 100
"""How many of a subject's comments are told."""


def apply(connection: apsw.Connection, number: int, entries: Sequence[Entry]) -> None:
    """Write the comments among a namespace's entries. Within a transaction; called by `views.apply` only."""
    rows = [
        (number, entry.record.comment.subject, entry.sequence)
        for entry in entries
        if entry.record.WhichOneof("record") == "comment"
    ]
    connection.executemany("INSERT INTO comments VALUES (?,?,?)", rows)


def read(catalog: Catalog, namespace: int, subject: int) -> list[journal_pb2.Comment]:
    """The newest TOLD_MAX comments on an entry, the oldest of them first."""
    rows = catalog.connection.execute(
        "SELECT sequence FROM comments WHERE namespace = ? AND subject = ? ORDER BY sequence DESC LIMIT ?",
        (namespace, subject, TOLD_MAX),
    )
    return [catalog.record(sequence).comment for (sequence,) in rows][::-1]
