"""What stands in a namespace when a submission is decided, beside the catalog: gains, real shares, what was put off.

All of it is a function of the journal, in the order of its entries, so that another process decides alike. A batch goes
on with a branch of it, which takes its place when the batch is durable and else is dropped.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from epistream.indexer import holding
from epistream.indexer.ahead import Keyed
from epistream.indexer.catalog import Catalog
from epistream.indexer.collapse import FLOOR_WINDOW, RealShares, has_room
from epistream.indexer.gain import Gains
from epistream.indexer.journal import Entry
from epistream.indexer.measure import Measured
from epistream.indexer.model import Embedded, Looks, answered
from epistream.indexer.sealed import keep, kept, seal
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken

GAIN_DIMENSION_MAX: Final = 1536
"""Of the vectors whose gain is measured: two posteriors of that size take 75 MiB, of 384 dimensions 5.4 MiB."""

_STATE: Final = 2


@dataclass(slots=True)
class Standing:
    """Of one namespace. Only the writer thread; any thread reads the shares and the drift of one that took its place.

    It changes no more: a batch goes on with a branch.
    """

    gains: Gains | None
    """None where the vectors are so long that a matrix of their products would take too much: GAIN_DIMENSION_MAX."""
    shares: RealShares
    put_off: Counter[int]
    """How many submissions wait with REASON_DEFERRED, by modality."""
    orphans: int
    """How many submissions are held since a parent of theirs is not known."""
    unverified: int
    """How many are held until their tests were run."""
    revision: int
    """Of the newest change that is taken in."""
    heard: list[tuple[bytes, bool]] = field(default_factory=list)
    """Vectors that `gains` are still to observe, and whether they are `anchored`: all at once costs a third less."""

    @property
    def unattended(self) -> int:
        """How many are held that may come in with no person in between."""
        return self.put_off.total() + self.orphans + self.unverified

    def with_room(self, floor: float) -> list[int]:
        """The modalities of which something was put off, and there is room for one more."""
        waiting = [modality for modality, count in self.put_off.items() if count > 0]
        return [modality for modality in waiting if has_room(self.shares.after_one_more(modality), floor)]

    def branch(self) -> "Standing":
        """What goes on from here by itself."""
        gains = self.gains.branch() if self.gains is not None else None
        shares, put_off = self.shares.branch(), self.put_off.copy()
        return replace(self, gains=gains, shares=shares, put_off=put_off, heard=list(self.heard))

    def expect(self, candidates: Sequence[Embedded]) -> None:
        """Say that these are about to be decided, in this order: they are measured much quicker then."""
        vectors = [one.vector for one in candidates if one.vector is not None]
        if self.gains is not None and vectors:
            submissions = [one.decoded.submission for one in candidates if one.vector is not None]
            self.gains.expect(np.stack(vectors), [one.origin != pb.ORIGIN_SYNTHETIC for one in submissions])

    def rest(self) -> None:
        """All that was to be decided is."""
        self.observe()
        if self.gains is not None:
            self.gains.rest()

    def measured(self, candidate: Embedded, looks: Looks) -> Measured:
        """What a candidate would add."""
        if candidate.vector is None or self.gains is None:
            return Measured(looks, None, None)
        self.observe()
        known, human = self.gains.score(candidate.vector)
        return Measured(looks, known, human)

    def take(self, entry: Entry) -> None:
        """Take in what an entry says. In the order of the journal."""
        change = entry.change
        if entry.record.decision.receipt.reason == pb.REASON_DEFERRED:
            self.put_off[entry.record.decision.held.modality] += 1
        if entry.record.decision.receipt.reason == pb.REASON_UNKNOWN_PARENT:
            self.orphans += 1
        if entry.record.decision.receipt.reason == pb.REASON_UNVERIFIED:
            self.unverified += 1
        if change is None:
            return
        self.revision = change.revision
        if answered(change):
            synthetic = change.knowledge.origin == pb.ORIGIN_SYNTHETIC
            self.shares.deliver(change.knowledge.modality, synthetic=synthetic)
            if entry.embedding is not None and self.gains is not None:
                self.heard.append((entry.embedding, anchored(change)))

    def observe(self) -> None:
        """Have `gains` observe what was heard."""
        if self.gains is not None:
            for embedding, is_anchored in self.heard:
                self.gains.observe(Keyed.read(embedding), anchored=is_anchored)
        self.heard.clear()


def anchored(change: pb.Change) -> bool:
    """Whether a version is from people, or was let in since its tests pass: see `gain.Gains`.

    A verdict that came as feedback does not count: anybody may submit one, while to decide takes a reviewer's role.
    """
    return change.knowledge.origin != pb.ORIGIN_SYNTHETIC or bool(change.verified_by)


def fresh(dimension: int) -> Standing:
    """Of a namespace in which nothing was said yet."""
    return Standing(Gains(dimension) if dimension <= GAIN_DIMENSION_MAX else None, RealShares(), Counter(), 0, 0, 0)


def load(folder: Path, catalog: Catalog, number: int, dimension: int, *, epoch: str) -> Standing:
    """What stands in a namespace now: from its file, if that is of this store, and what the journal has beyond it.

    Blocks: 30 µs for each vector that the file lacks.
    """
    standing, head = fresh(dimension), catalog.counts(number).head
    if standing.gains is not None:
        found = _read(_file(folder, number), epoch, head)
        try:
            standing.gains = _observed(*(found or (standing.gains, 0)), catalog, number)
        except Broken:
            if found is None:
                raise
            # What was written was damaged by less than its reader sees.
            standing.gains = _observed(Gains(dimension), 0, catalog, number)
    standing.shares = _shares(catalog, number)
    held = Counter({reason: count for reason, count, _ in holding.oldest(catalog, number)})
    standing.put_off = holding.put_off(catalog, number)
    standing.orphans, standing.unverified = held[pb.REASON_UNKNOWN_PARENT], held[pb.REASON_UNVERIFIED]
    standing.revision = head
    return standing


def _observed(gains: Gains, after: int, catalog: Catalog, number: int) -> Gains:
    """With what the journal has after a revision. Raises Broken: see `Posterior.observe`."""
    for row in catalog.index_rows(number, after):
        # Only what is SYNTHETIC need be read for that.
        known = row.origin != pb.ORIGIN_SYNTHETIC or anchored(pb.Change.FromString(row.change))
        gains.observe(Keyed.read(row.embedding), anchored=known)
    return gains


def save(standing: Standing, folder: Path, number: int, *, epoch: str) -> None:
    """Write what cannot be read from the catalog at once. Blocks. A file that is lost or damaged is made anew.

    Raises:
        Broken: it cannot be written.
    """
    if standing.gains is None or not standing.revision:
        return
    figures = {"epoch": epoch, "revision": standing.revision}
    state = seal("standing", _STATE, figures, {"gains": np.frombuffer(standing.gains.to_bytes(), np.uint8)})
    keep(_file(folder, number), state)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.gains"


def _read(file: Path, epoch: str, head: int) -> tuple[Gains, int] | None:
    """The gains in a file, and the revision that they are of; None where it is not of this store, or no file."""
    found = kept("standing", _STATE, file)
    if found is None or found[0]["epoch"] != epoch or found[0]["revision"] > head:
        return None
    try:
        return Gains.from_bytes(found[1]["gains"].tobytes()), found[0]["revision"]
    except Broken:  # of another version's gains, or damaged before they were written
        return None


def _shares(catalog: Catalog, number: int) -> RealShares:
    def delivered(modality: pb.Modality.ValueType | None = None) -> Iterator[bool]:
        return (origin == pb.ORIGIN_SYNTHETIC for origin in catalog.newest_origins(number, FLOOR_WINDOW, modality))

    return RealShares(delivered(), {modality: delivered(modality) for modality in pb.Modality.values()[1:]})
