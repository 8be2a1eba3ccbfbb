"""measure: what synthetic knowledge would add to what is known, and whether it looks like knowledge at all.

Two parts, since the second takes the longer and needs no moment: `look` runs beside the writer, against a frozen anchor
window; `Measured` adds the gain beyond all that was accepted before, on the writer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.anchors import Anchor
from epistream.indexer.model import Embedded, Looks
from epistream.indexer.plausibility import doubts, worth
from epistream.indexer.spectrum import Missing
from epistream.v1 import knowledge_pb2 as pb


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of synthetic knowledge."""

    looks: Looks
    gain: float | None
    """Relative, beyond all that was accepted before, 0 to 1; None without a vector."""
    human_gain: float | None
    """The same beyond what people said and what was verified by its tests."""

    @property
    def worth(self) -> float | None:
        """Plausibility times gain, 0 to 1; None where one of them is."""
        plausibility = self.looks.plausibility
        return worth(plausibility, self.gain) if plausibility is not None and self.gain is not None else None


def look(candidates: Sequence[Embedded], anchor: Anchor | Missing) -> list[Looks]:
    """How candidates of one modality look beside its anchor window: where they lie, and how texts are worded.

    The figures of one do not depend on the others.
    """
    if isinstance(anchor, Missing):
        return [Looks("", None, (anchor.reason,)) for _ in candidates]
    vectors = [candidate.vector for candidate in candidates if candidate.vector is not None]
    places = _places(np.stack(vectors), anchor) if vectors else iter(())
    return [_looks(one, anchor, next(places) if one.vector is not None else _NOWHERE) for one in candidates]


_Place: TypeAlias = tuple[float | None, bool | None]
"""The rank of a vector, and whether it lies at random, where that can be told."""
_NOWHERE: Final[_Place] = (None, None)


def _places(vectors: NDArray[np.float32], anchor: Anchor) -> Iterator[_Place]:
    ranks, directions = anchor.neighbourhood.rank(vectors).tolist(), anchor.directions
    at_random = directions.at_random(vectors).tolist() if directions.tell else [None] * len(ranks)
    return zip(ranks, at_random, strict=True)


def _looks(candidate: Embedded, anchor: Anchor, place: _Place) -> Looks:
    (rank, at_random), submission = place, candidate.decoded.submission
    text = submission.modality == pb.MODALITY_TEXT
    worded = anchor.wording.read(submission.content) if text else None
    return Looks(anchor.digest, rank, doubts(rank, worded, at_random=at_random))
