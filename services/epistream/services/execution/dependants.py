"""Which items of code were derived from which, as the executor has followed them. Pure: no sockets, nothing is run."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from epistream.v1 import knowledge_pb2 as pb


class Dependants:
    """The heads of a namespace's code, and what each names in `provenance.derived_from`. One thread at a time."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, ...]] = {}
        self._children: defaultdict[str, set[str]] = defaultdict(set)

    def take(self, change: pb.Change) -> None:
        """Note the newest version of an item, or that it is not here any more."""
        self._forget(change.item_id)
        if change.kind not in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LEFT):
            parents = tuple(dict.fromkeys(change.knowledge.provenance.derived_from))
            self._parents[change.item_id] = parents
            for parent in parents:
                self._children[parent].add(change.item_id)

    def clear(self) -> None:
        """Forget everything: another state follows."""
        self._parents.clear()
        self._children.clear()

    def before(self, item_id: str, parents: Iterable[str]) -> tuple[str, ...]:
        """What comes before an item with these parents: all the code that it goes back to, each after what it needs.

        Without what is not here, and without the item itself, where it goes back to itself.
        """
        found: dict[str, None] = {}
        # A stack, not recursion: a chain may be long. What is met again comes after its own parents.
        waiting = [(name, False) for name in reversed(tuple(parents))]
        entered = {item_id}
        while waiting:
            name, parents_are_there = waiting.pop()
            if parents_are_there:
                found[name] = None
            elif name in self._parents and name not in entered:
                entered.add(name)
                waiting.append((name, True))
                waiting += [(parent, False) for parent in reversed(self._parents[name])]
        return tuple(found)

    def of(self, item_id: str) -> tuple[str, ...]:
        """All that goes back to an item, the nearest first, of equal distance by their names."""
        return _reached(item_id, lambda name: sorted(self._children.get(name, ())))

    def parents(self, item_id: str) -> tuple[str, ...]:
        """What an item names; nothing where it is not here."""
        return self._parents.get(item_id, ())

    def _forget(self, item_id: str) -> None:
        for parent in self._parents.pop(item_id, ()):
            self._children[parent].discard(item_id)
            if not self._children[parent]:
                del self._children[parent]


def _reached(start: str, following: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    waiting = deque([start])
    while waiting:
        for name in following(waiting.popleft()):
            if name != start and name not in found:
                found[name] = None
                waiting.append(name)
    return tuple(found)
