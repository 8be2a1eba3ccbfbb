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
        """What an item's newest version was derived from, each by the name that it gives, in their order."""


def trace(submission: pb.Submission, own: str, item: Head | None, known: KnownParents) -> Lineage:
    """The lineage of a submission that goes by its `own` name, about an item; None: about one that is new.

    Only SYNTHETIC knowledge has one.
    """
    if submission.origin != pb.ORIGIN_SYNTHETIC or submission.retraction:
        return NO_MODEL
    named = tuple(submission.provenance.derived_from)
    heads = {name: known.parent(name) for name in named}
    unknown = tuple(name for name, head in heads.items() if not is_known(head))
    generation = 1 + max((head.generation for head in heads.values() if head is not None), default=0)
    return Lineage(generation, unknown[:UNKNOWN_MAX], _cycle(named, own, item, known))


def is_known(parent: Head | None) -> bool:
    """Whether something may be derived from an item that has this head."""
    return parent is not None and not parent.retracted


def _cycle(named: Sequence[str], own: str, item: Head | None, known: KnownParents) -> bool:
    """Whether a submission is among what it names or their ancestors. Looks at each once.

    Somebody may have named what does not exist yet: while it was another item's name, or since a person answered for
    it. Among too many ancestors that is not looked for to the end: only what exists is held for their number.
    """
    itself = {own} if item is None else {own, item.item_id}
    seen, left = set[str](), list(named)
    while left:
        name = left.pop()
        head = known.parent(name)
        ancestor = head.item_id if head is not None else name
        if name in itself or ancestor in itself:
            return True
        if ancestor in seen:
            continue
        if len(seen) >= _ANCESTORS_MAX:
            return item is not None
        seen.add(ancestor)
        left.extend(known.parents(ancestor))
    return False
