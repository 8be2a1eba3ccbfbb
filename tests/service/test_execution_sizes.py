"""Programs and tests that are long, deep or many: a verdict on them, and no defect of ours."""

import pytest

from epistream.services.execution.verdict import Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sandbox import real_verifier

SQUARE = "def f(x):\n    return x * x\n"
GOOD = pb.Tests(language="python", asserts=["assert f(2) == 4", "assert f(3) == 9"])
MANY_BRANCHES = "    elif x == {0}: y = {0} * {0}\n"


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return real_verifier()


def branches(number: int) -> str:
    """A program that decides as many times in a row."""
    rest = "".join(MANY_BRANCHES.format(each) for each in range(number))
    return f"def f(x):\n    if x < 0: y = 0\n{rest}    return y\n"


def summed(number: int) -> str:
    return f"def f(x):\n    return x * (x + {' + '.join(['x'] * number)}) // {number + 1}\n"


@pytest.mark.parametrize("content", [branches(1200), summed(1200)], ids=["branches", "a sum"])
def test_a_deep_program_is_verified(verifier: Verifier, content: str) -> None:
    result = verifier.verify(content, GOOD)
    assert (result.verdict, result.mutants) == (Verdict.VERIFIED, 6), result


@pytest.mark.parametrize("content", [branches(2940), summed(2960)], ids=["branches", "a sum"])
def test_one_whose_mutants_are_too_deep_passes_without_any(verifier: Verifier, content: str) -> None:
    """Python runs it. Nothing can be said of its tests, where this Python cannot change it."""
    result = verifier.verify(content, GOOD)
    assert (result.verdict, result.mutants) in ((Verdict.VACUOUS, 0), (Verdict.VERIFIED, 6)), result


@pytest.mark.parametrize("content", [branches(5000), "x = " + "(" * 1000], ids=["branches", "brackets"])
def test_what_python_cannot_run_is_an_error(verifier: Verifier, content: str) -> None:
    result = verifier.verify(content, GOOD)
    assert (result.verdict, result.failed[0].test) == (Verdict.ERROR, "program")


TOO_LONG = {
    "a program": (SQUARE + "#" * 1024 * 1024, GOOD),
    "a program, by its bytes": (SQUARE + "#" + "\N{GRINNING FACE}" * 720_000, GOOD),
    "tests": (SQUARE, pb.Tests(language="python", asserts=["assert f(2) == 4", "#" * 1024 * 1024])),
    "many cases of nothing": (SQUARE, pb.Tests(language="python", entry_point="f", cases=[pb.TestCase()] * 400_000)),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_is_too_long_is_not_run(verifier: Verifier, name: str) -> None:
    result = verifier.verify(*TOO_LONG[name])
    assert (result.verdict, result.interpreter) == (Verdict.ERROR, ""), result


@pytest.mark.parametrize("each", ["\N{GRINNING FACE}", "\x01", "é", "\\"])
def test_what_is_nearly_too_long_is_run(verifier: Verifier, each: str) -> None:
    content = f"{SQUARE}text = r'''{each * ((1024 * 1024 - 300) // len(each.encode()) - 1)} '''\n"
    assert verifier.verify(content, GOOD).verdict == Verdict.VERIFIED


def test_of_many_tests_that_fail_the_first_are_told(verifier: Verifier) -> None:
    failing = f"assert f(2) == 5, '{'long' * 80}'"
    tests = pb.Tests(language="python", asserts=["def g():\n    " + failing, *["g()"] * 40_000])
    result = verifier.verify(SQUARE, tests)
    assert (result.verdict, len(result.failed)) == (Verdict.FAIL, 100), result.reason
