"""What a version is run beside: bounded, whatever somebody derives from it. And what its tests say of it then."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from epistream.services.execution.dependants import Dependants
from epistream.services.execution.isolation import NoIsolation
from epistream.services.execution.judging import BEFORE_MOST, DEPENDANTS_MOST, Beside, Judged, Judging, Read, Survival
from epistream.services.execution.verdict import Limits, Result, Verdict
from epistream.services.execution.verifying import DEFAULT_LIMITS, Verifier
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


class Words:
    """A verifier without a sandbox: tests are words that a program has to have.

    One with the word `wrong` fails; `defect` and `nowhere` are raised.

    Attributes:
        tried: each program that was run, on one line, and how many mutants of it were allowed.
    """

    def __init__(self) -> None:
        self.tried: list[tuple[str, int]] = []

    def verify(self, content: str, tests: pb.Tests, limits: Limits = DEFAULT_LIMITS) -> Result:
        words = content.split()
        self.tried.append((content.replace("\n\n", " | "), limits.mutants))
        if "nowhere" in words:
            raise NoIsolation("no bubblewrap")
        if "defect" in words:
            raise KeyError("ours")
        lacking = [word for word in tests.asserts if word not in words]
        if not tests.asserts:
            return Result(verdict=Verdict.NO_TESTS, reason="it has none")
        if "wrong" in words:
            return Result(verdict=Verdict.FAIL, reason="it says wrong")
        if lacking:
            return Result(verdict=Verdict.ERROR, reason=f"no {lacking[0]}")
        return Result(verdict=Verdict.VERIFIED, reason="all passed")


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def judging(words: Words) -> Iterator[Judging]:
    with ThreadPoolExecutor(1) as threads:
        yield Judging(cast("Verifier", words), threads)


def code(content: str, wants: str = "") -> pb.Knowledge:
    return pb.Knowledge(modality=pb.MODALITY_CODE, content=content, tests=pb.Tests(asserts=wants.split()))


def reading(**live: pb.Knowledge) -> Read:
    async def read(item_id: str) -> pb.Knowledge | None:
        return live.get(item_id)

    return read


async def unread(item_id: str) -> pb.Knowledge | None:
    pytest.fail(f"{item_id} was read")


@pytest.mark.parametrize(
    ("program", "before", "verdict"),
    [
        (code("f", "f"), ["a"], Verdict.VERIFIED),
        (code("f"), ["a"], Verdict.NO_TESTS),
        (code("f", "g"), [], Verdict.ERROR),
        (code("f wrong", "f"), [], Verdict.FAIL),
        (code("defect", "f"), [], Verdict.ERROR),
    ],
)
async def test_a_program_stands_alone_where_it_can(
    words: Words, judging: Judging, program: pb.Knowledge, before: list[str], verdict: Verdict
) -> None:
    judged = await judging.judge(program, before, unread)
    assert (judged.result.verdict, judged.before) == (verdict, ())
    assert words.tried == [(program.content, DEFAULT_LIMITS.mutants)]


async def test_what_it_is_derived_from_stands_before_it_where_its_tests_want_that(
    words: Words, judging: Judging
) -> None:
    prose = pb.Knowledge(modality=pb.MODALITY_TEXT, content="prose")
    read = reading(a=code("one"), b=code("two"), prose=prose)
    before = ("a", "gone", "prose", "b")
    assert await judging.judge(code("f", "f one two"), before, read) == Judged(
        Result(verdict=Verdict.VERIFIED, reason="all passed"), before
    )
    assert words.tried == [("f", DEFAULT_LIMITS.mutants), ("one | two | f", DEFAULT_LIMITS.mutants)]


async def test_of_both_the_one_that_decides_is_told(judging: Judging) -> None:
    """An error of the code before says nothing; a failure does, and comes with what stood before it."""
    told = await judging.judge(code("f", "f three"), ["a"], reading(a=code("one")))
    assert told == Judged(Result(verdict=Verdict.ERROR, reason="no three"))
    told = await judging.judge(code("f", "f three"), ["a"], reading(a=code("defect")))
    assert told == Judged(Result(verdict=Verdict.ERROR, reason="no three"))
    told = await judging.judge(code("f", "f three"), ["a"], reading(a=code("wrong")))
    assert told == Judged(Result(verdict=Verdict.FAIL, reason="it says wrong"), ("a",))


async def test_without_a_sandbox_nothing_is_said(judging: Judging) -> None:
    with pytest.raises(NoIsolation):
        await judging.judge(code("nowhere", "f"), [], unread)
    with pytest.raises(NoIsolation):
        await judging.survival("base", None, "nowhere", Beside((), {"d": ("base",)}), reading(d=code("d", "new")))


async def test_dependants_are_run_with_the_old_and_with_the_new(words: Words, judging: Judging) -> None:
    live = {
        "kept": code("kept", "kept both"),
        "broken": code("broken", "old"),
        "failing": code("failing", "both old"),
        "mended": code("mended", "new"),
        "neither": code("neither", "never"),
        "independent": code("independent", "independent"),
        "far": code("far", "middle old"),
        "middle": code("middle"),
    }
    before = {name: ("middle", "base") if name == "far" else ("base",) for name in (*live, "gone") if name != "middle"}
    found = await judging.survival("base", "both old", "both new", Beside((), before, 3), reading(**live))
    assert found == Survival(
        ("kept", "broken", "failing", "far"),
        dict.fromkeys(("broken", "failing", "far"), "error: no old"),
        ("mended",),
        3,
    )
    assert found.share == 0.25
    of_far = [program for program, _ in words.tried if "far" in program]
    assert of_far == ["far", "middle | both old | far", "middle | both new | far"]
    # What passes without it is not run with it; and nobody asks how good its tests are.
    assert [program for program, _ in words.tried if "independent" in program] == ["independent"]
    assert {mutants for _, mutants in words.tried} == {0}


async def test_a_first_version_mends_and_breaks_nothing(words: Words, judging: Judging) -> None:
    beside = Beside((), {"d": ("base",), "e": ("base",)})
    found = await judging.survival("base", None, "new", beside, reading(d=code("d", "new"), e=code("e", "never")))
    assert found == Survival(mended=("d",))
    assert [program for program, _ in words.tried] == ["d", "d", "new | d", "e", "e", "new | e"]
