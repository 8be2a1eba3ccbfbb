"""measure: what synthetic knowledge would add to what is known, and whether it looks like knowledge at all.

Two parts, since the second takes the longer and needs no moment: `look` runs beside the writer, against a frozen anchor
window; `Measured` adds the gain beyond all that was accepted before, on the writer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    ranks = iter(anchor.neighbourhood.rank(np.stack(vectors)).tolist() if vectors else ())
    return [
        _looks(candidate, anchor, next(ranks) if candidate.vector is not None else None) for candidate in candidates
    ]


def _looks(candidate: Embedded, anchor: Anchor, rank: float | None) -> Looks:
    submission = candidate.decoded.submission
    text = submission.modality == pb.MODALITY_TEXT
    worded = anchor.wording.read(submission.content) if text else None
    return Looks(anchor.digest, rank, doubts(rank, worded))
