"""What was said of items beside their versions: what raters think of them, and what was merged into them.

Each is read from its entry of the journal, which is checked against the chain. All functions raise Broken where one is
missing, or is not what was written.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from epistream.indexer.catalog import Catalog
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

KINDS: Final = pb.FeedbackKind.values()[1:]
"""All ways of judging."""
BYTES_MAX: Final = 16 * 2**20
"""Of feedback that is looked at together: ten thousand of the usual kind take 3 MiB, a ranking up to one."""


def feedback(
    catalog: Catalog, namespace: int, item_id: str, after: int, limit: int
) -> Iterator[tuple[int, journal_pb2.Decision]]:
    """What raters said about an item after a sequence, the oldest first, at most `limit`, each with its sequence."""
    rows = catalog.connection.execute(
        "SELECT sequence FROM feedback WHERE namespace = ? AND item_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (namespace, item_id, after, limit),
    )
    return ((sequence, catalog.decision(sequence)) for (sequence,) in rows)


def newest_feedback(
    catalog: Catalog,
    namespace: int,
    item_ids: Iterable[str],
    limit: int,
    *,
    kinds: Collection[pb.FeedbackKind.ValueType] = KINDS,
    bytes_max: int = BYTES_MAX,
) -> list[journal_pb2.Decision]:
    """What raters said about any of these items in these ways, the newest, the oldest of them first, each once.

    At most `limit`, and so many as are at most so large together.
    """
    rows = catalog.connection.execute(
        "SELECT DISTINCT f.sequence FROM json_each(?) i CROSS JOIN feedback f ON f.namespace = ?"
        " AND f.item_id = i.value AND f.kind IN (SELECT value FROM json_each(?)) ORDER BY f.sequence DESC LIMIT ?",
        (json.dumps(list(item_ids)), namespace, json.dumps(list(kinds)), limit),
    )
    found, left = list[journal_pb2.Decision](), bytes_max
    for (sequence,) in rows:
        one = catalog.decision(sequence)
        left -= one.recorded.ByteSize()
        if left < 0:
            break
        found.append(one)
    return found[::-1]


def merged_into(catalog: Catalog, namespace: int, item_ids: Iterable[str], limit: int) -> list[journal_pb2.Decision]:
    """The newest `limit` submissions that were merged into any of these items, the newest first."""
    rows = catalog.connection.execute(
        "SELECT c.sequence FROM json_each(?) i CROSS JOIN corroborations c ON c.namespace = ? AND c.item_id = i.value"
        " ORDER BY c.sequence DESC LIMIT ?",
        (json.dumps(list(item_ids)), namespace, limit),
    )
    return [catalog.decision(sequence) for (sequence,) in rows]


def corroborations(
    catalog: Catalog, namespace: int, item_id: str, at: int, limit: int
) -> tuple[int, list[journal_pb2.Decision]]:
    """How many submissions were merged into an item while the head was at or below `at`, and the newest of them."""
    of_item = "FROM corroborations WHERE namespace = ? AND item_id = ? AND revision <= ?"
    count = catalog.connection.execute(f"SELECT COUNT(*) {of_item}", (namespace, item_id, at)).get
    rows = catalog.connection.execute(
        f"SELECT sequence {of_item} ORDER BY sequence DESC LIMIT ?",
        (namespace, item_id, at, limit),
    )
    return count, [catalog.decision(sequence) for (sequence,) in rows]
