"""lineage: of how many models in a row synthetic knowledge is the work.

    generation = 0 for what no model made; for SYNTHETIC 1 and the largest of its parents'

A model that learns from copies of copies forgets what is rare (Shumailov et al., Nature 631:755, 2024), so a policy
caps the generation. It is counted when a submission is decided, from the heads that its parents have then, and kept
with the version: a parent that is revised later changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from epistream.indexer.catalog import Head
from epistream.v1 import knowledge_pb2 as pb

UNKNOWN_MAX: Final = 16
"""How many unknown parents are named."""
_ANCESTORS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a submission comes from."""

    generation: int = 0
    unknown: tuple[str, ...] = ()
    """Parents that are not known, or were retracted."""
    cycle: bool = False
    """It would be derived from itself, or from so many items that nobody can tell."""


NO_MODEL: Final = Lineage()
"""Of what no model made."""


class KnownParents(Protocol):
    """What `trace` asks of what is known."""

    def parent(self, item_id: str) -> Head | None:
        """The newest version of an item, or of the one that it was merged into."""

    def parents(self, item_id: str) -> Sequence[str]:
        """What an item's newest version was derived from."""


def trace(submission: pb.Submission, item: Head | None, known: KnownParents) -> Lineage:
    """The lineage of a submission about an item; None: about one that is new. Only SYNTHETIC knowledge has one."""
    if submission.origin != pb.ORIGIN_SYNTHETIC or submission.retraction:
        return NO_MODEL
    heads = {name: known.parent(name) for name in submission.provenance.derived_from}
    unknown = tuple(name for name, head in heads.items() if not is_known(head))
    generation = 1 + max((head.generation for head in heads.values() if head is not None), default=0)
    # What does not exist yet cannot have been derived from.
    parents = [head.item_id for head in heads.values() if head is not None]
    cycle = bool(parents) and item is not None and _descends(parents, item.item_id, known)
    return Lineage(generation, unknown[:UNKNOWN_MAX], cycle)


def is_known(parent: Head | None) -> bool:
    """Whether something may be derived from an item that has this head."""
    return parent is not None and not parent.retracted


def _descends(parents: Sequence[str], item_id: str, known: KnownParents) -> bool:
    """Whether `item_id` is among the parents or their ancestors. Looks at each once."""
    seen, left = set[str](), list(parents)
    while left:
        ancestor = left.pop()
        if ancestor == item_id or len(seen) >= _ANCESTORS_MAX:
            return True
        if ancestor not in seen:
            seen.add(ancestor)
            left.extend(known.parents(ancestor))
    return False
