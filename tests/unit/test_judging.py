"""What a version is run beside: bounded, whatever somebody derives from it."""

from epistream.services.execution.dependants import Dependants
from epistream.services.execution.judging import BEFORE_MOST, DEPENDANTS_MOST, Beside, Survival
from epistream.v1 import knowledge_pb2 as pb


def known(**parents: str) -> Dependants:
    made = Dependants()
    for item_id, names in parents.items():
        provenance = pb.Provenance(derived_from=names.split())
        made.take(pb.Change(item_id=item_id, knowledge=pb.Knowledge(provenance=provenance)))
    return made


def test_each_dependant_comes_with_all_that_is_before_it() -> None:
    beside = Beside.of("b", ["a"], known(a="", b="a", c="b x", d="c"))
    assert beside == Beside(("a",), {"c": ("a", "b"), "d": ("a", "b", "c")}, 0)


def test_the_nearest_dependants_are_run_and_the_others_counted() -> None:
    many = {f"d{at:03}": "a" for at in range(DEPENDANTS_MOST + 7)}
    beside = Beside.of("a", [], known(a="", far="d000", **many))
    assert [*beside.dependants] == sorted(many)[:DEPENDANTS_MOST]
    assert beside.left_out == 8


def test_what_goes_back_to_too_much_is_run_alone() -> None:
    chain = known(**{f"i{at}": f"i{at - 1}" for at in range(BEFORE_MOST + 2)})
    newest = f"i{BEFORE_MOST + 1}"
    assert Beside.of(newest, chain.parents(newest), chain).before == ()
    # Such a dependant is not run, and counted.
    assert Beside.of(f"i{BEFORE_MOST}", chain.parents(f"i{BEFORE_MOST}"), chain).left_out == 1


def test_survival_is_a_share_of_what_passed_before() -> None:
    assert Survival(("a", "b", "c", "d"), {"b": "fail"}).share == 0.75
    assert Survival(mended=("a",)).share is None
