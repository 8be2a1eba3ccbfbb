"""Makes the window of a namespace, as its store is now. Blocks for the disk; changes nothing."""

from collections import defaultdict
from dataclasses import astuple
from typing import Final

import numpy as np

from epistream.indexer import conflicts, holding, sayings
from epistream.indexer.catalog import Catalog
from epistream.indexer.signals.window import Said, Window
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb

RECORDS_MAX: Final = 10_000
"""How many records are looked at: the newest in answers."""
BYTES_MAX: Final = 64 * 2**20
"""Their changes are at most so large together; of larger ones fewer are looked at."""


def mark(catalog: Catalog, number: int) -> tuple[int, ...]:
    """Of a namespace: equal at two moments only where nothing was decided in between, and no conflict resolved."""
    return (*astuple(catalog.counts(number)), conflicts.figures(catalog.connection, number)[0])


def collect(catalog: Catalog, number: int, recorded: ns_pb.Namespace, records_max: int = RECORDS_MAX) -> Window:
    """The newest records of the namespace with this number, and what was said of them.

    Raises:
        Broken: the journal is damaged.
    """
    changes, embeddings = _newest(catalog, number, records_max)
    vectors = np.zeros((len(changes), recorded.encoder.dimension), np.float32)
    for row, embedding in enumerate(embeddings):
        if embedding is not None:
            vectors[row] = np.frombuffer(embedding, "<f4")
    items = [change.item_id for change in changes]
    merged: defaultdict[str, set[str]] = defaultdict(set)
    for decision in sayings.merged_into(catalog, number, items, records_max):
        merged[decision.receipt.item_id].add(decision.receipt.producer)
    said = [
        Said(one.recorded, _us(one.receipt)) for one in sayings.newest_feedback(catalog, number, items, records_max)
    ]
    held_us = holding.since(catalog, number, records_max)
    committed_us = [change.commit_time.ToMicroseconds() for change in changes]
    return Window(
        changes=changes,
        vectors=vectors,
        threshold=recorded.policy.near_duplicate_threshold,
        said=said,
        corroborations=merged,
        conflicts=conflicts.listed(catalog.connection, number, is_open=True, item_id="", after=0, limit=records_max),
        held_us=held_us,
        end_us=max([*committed_us, *held_us, *(one.time_us for one in said)], default=0),
    )


def _newest(catalog: Catalog, number: int, records_max: int) -> tuple[list[pb.Change], list[bytes | None]]:
    """Changes and their vectors, oldest first."""
    changes: list[pb.Change] = []
    embeddings: list[bytes | None] = []
    room = BYTES_MAX
    for committed in catalog.newest(number, records_max):
        room -= len(committed.change)
        if room < 0:
            break
        changes.append(pb.Change.FromString(committed.change))
        embeddings.append(committed.embedding)
    return changes[::-1], embeddings[::-1]


def _us(receipt: pb.Receipt) -> int:
    return receipt.time.ToMicroseconds()
