"""Which code goes back to which: what comes before a program, and what an update has to run again."""

from epistream.services.execution.dependants import Dependants
from epistream.v1 import knowledge_pb2 as pb


def known(**parents: str) -> Dependants:
    """Items, and the ids of their parents, separated by spaces."""
    made = Dependants()
    for item_id, names in parents.items():
        made.take(change(item_id, names))
    return made


def change(item_id: str, parents: str = "", kind: pb.ChangeKind.ValueType = pb.CHANGE_KIND_ADMITTED) -> pb.Change:
    provenance = pb.Provenance(derived_from=parents.split())
    return pb.Change(item_id=item_id, kind=kind, knowledge=pb.Knowledge(provenance=provenance))


def before(items: Dependants, item_id: str) -> tuple[str, ...]:
    return items.before(item_id, items.parents(item_id))


def test_what_comes_before_stands_after_what_it_needs() -> None:
    items = known(a="", b="a", c="a", d="c b", e="d")
    assert before(items, "e") == ("a", "c", "b", "d")
    assert before(items, "a") == ()


def test_what_is_not_here_comes_before_nothing() -> None:
    items = known(b="a x")
    assert before(items, "b") == ()
    items.take(change("a"))
    assert before(items, "b") == ("a",)


def test_what_goes_back_to_an_item_comes_by_distance() -> None:
    items = known(a="", c="a", b="a", d="b", e="d c")
    assert items.of("a") == ("b", "c", "d", "e")
    assert items.of("e") == ()


def test_a_circle_ends() -> None:
    items = known(a="c", b="a", c="b", d="d")
    assert items.of("a") == ("b", "c")
    assert before(items, "a") == ("b", "c")
    assert before(items, "d") == items.of("d") == ()


def test_a_long_chain_is_no_deep_recursion() -> None:
    length = 5000
    items = known(**{f"i{at}": f"i{at - 1}" for at in range(length)})
    assert before(items, f"i{length - 1}") == tuple(f"i{at}" for at in range(length - 1))
    assert len(items.of("i0")) == length - 1


def test_the_newest_version_says_what_it_is_derived_from() -> None:
    items = known(a="", b="", c="a")
    items.take(change("c", "b"))
    assert (items.of("a"), items.of("b")) == ((), ("c",))
    items.take(change("c", kind=pb.CHANGE_KIND_RETRACTED))
    assert items.of("b") == ()
    items.take(change("b", kind=pb.CHANGE_KIND_LEFT))
    assert items.before("x", ["a", "b"]) == ("a",)
    items.clear()
    assert items.before("x", ["a"]) == ()
