"""Versions with vectors for the index's tests, and the obviously right answer to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epistream.indexer.index import IndexFactory, Neighbour, Row, Searchable, cosines
from epistream.v1 import knowledge_pb2 as pb

ORIGINS = (pb.ORIGIN_CRAWLED, pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC)
MODALITIES = (pb.MODALITY_TEXT, pb.MODALITY_CODE)
PRODUCERS = ("ada", "grace", "linus")


def unit_rows(values: ArrayLike) -> NDArray[np.float32]:
    """The rows scaled to length one."""
    rows = np.asarray(values, dtype=np.float64)
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def random_rows(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Vectors of length one in all directions, many of them twice and many nearly twice."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    rows[1::5] = rows[: len(rows[1::5]) * 5 : 5]
    rows[2::7] = rows[: len(rows[2::7]) * 7 : 7] * (1 + 1e-7 * np.sign(rows[2::7]))
    return unit_rows(rows)


def random_versions(count: int, seed: int, *, first_revision: int = 1) -> list[Row]:
    """Rows with rising revisions, some of them left out."""
    rng = np.random.default_rng(seed)
    revisions = first_revision + np.cumsum(rng.integers(1, 4, count)) - 1
    return [
        Row(
            int(revision),
            ORIGINS[rng.integers(3)],
            MODALITIES[rng.integers(2)],
            PRODUCERS[rng.integers(3)],
            {"lang": ("en", "de", "fr")[rng.integers(3)]} | ({"rare": "yes"} if rng.random() < 0.01 else {}),
        )
        for revision in revisions
    ]


def matches(wanted: pb.Filter | None, row: Row) -> bool:
    """What knowledge.proto says of Filter."""
    return wanted is None or (
        (not wanted.origins or row.origin in wanted.origins)
        and (not wanted.modalities or row.modality in wanted.modalities)
        and (not wanted.producers or row.producer in wanted.producers)
        and all(row.attributes.get(key) == value for key, value in wanted.attributes.items())
    )


@dataclass
class _Version:
    row: Row
    vector: NDArray[np.float32]
    ended_at: int | None = None


class PlainList:
    """What a Searchable must answer, by going through a list."""

    def __init__(self) -> None:
        self.versions: list[_Version] = []
        self.last_revision = 0

    def append(self, rows: Sequence[Row], vectors: NDArray[np.float32], ends: Sequence[tuple[int, int]] = ()) -> None:
        for row, vector in zip(rows, vectors, strict=True):
            self.versions.append(_Version(row, vector))
            self.last_revision = max(self.last_revision, row.revision)
        for revision, at_revision in ends:
            self.last_revision = max(self.last_revision, at_revision)
            for version in self.versions:
                if version.row.revision == revision:
                    version.ended_at = min(at_revision, version.ended_at or at_revision)

    def visible(self, as_of: int | None, wanted: pb.Filter | None) -> list[_Version]:
        point = self.last_revision if as_of is None else as_of
        return [
            version
            for version in self.versions
            if version.row.revision <= point
            and (version.ended_at is None or version.ended_at > point)
            and matches(wanted, version.row)
        ]

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        as_of: int | None = None,
        wanted: pb.Filter | None = None,
        at_least: float = -1.0,
    ) -> list[list[Neighbour]]:
        visible = self.visible(as_of, wanted)
        return [
            sorted(
                (
                    Neighbour(similarity, version.row.revision)
                    for version in visible
                    if (similarity := float(cosines(query, version.vector[np.newaxis])[0])) >= at_least
                ),
                key=lambda neighbour: (-neighbour.similarity, neighbour.revision),
            )[:limit]
            for query in queries
        ]


def versions(count: int, first_revision: int = 1) -> list[Row]:
    """Versions that differ in their revisions only, which follow each other."""
    return [Row(first_revision + n, pb.ORIGIN_EXPERT, pb.MODALITY_TEXT, "ada", {}) for n in range(count)]


def filled(new_index: IndexFactory, vectors: NDArray[np.float32]) -> Searchable:
    """A Searchable with these vectors, as the revisions from 1 on."""
    searchable = Searchable(new_index(vectors.shape[1]))
    searchable.append(versions(len(vectors)), vectors)
    return searchable
