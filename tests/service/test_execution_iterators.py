"""What a program yields is taken as the tests take it, and not much further."""

import pytest

from epistream.services.execution.verdict import Limits, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sandbox import real_verifier

LOOK_AND_SAY = """
from itertools import groupby
def f():
    term = '1'
    while True:
        yield term
        term = ''.join(str(len(list(run))) + digit for digit, run in groupby(term))
"""
BREAKS = "def f():\n    yield 1\n    yield 2\n    raise ValueError('no more')\n"
SAME_LIST = "def f():\n    held = []\n    while len(held) < 2:\n        held.append(len(held))\n        yield held\n"
COUNT = "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1\ndef g(xs):\n    return next(xs)\n"


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return real_verifier()


def asserts(*statements: str) -> pb.Tests:
    return pb.Tests(language="python", asserts=statements, setup="from itertools import islice")


YIELDED = {
    "an endless one, slower each time": (
        LOOK_AND_SAY,
        asserts("assert list(islice(f(), 5)) == ['1', '11', '21', '1211', '111221']"),
    ),
    "one that raises later": (BREAKS, asserts("assert list(islice(f(), 2)) == [1, 2]")),
    "one that raises in the middle of what is read": (
        BREAKS,
        asserts(
            "xs = []\ntry:\n    for x in f(): xs.append(x)\nexcept ValueError: xs.append(3)\nassert xs == [1, 2, 3]"
        ),
    ),
    "one that goes on where it was left": (
        COUNT,
        asserts("xs = f()", "assert list(islice(xs, 4)) == [0, 1, 2, 3]", "assert list(islice(xs, 4)) == [4, 5, 6, 7]"),
    ),
    "many values": (
        "def f():\n    for n in range(5000): yield n\n",
        asserts("assert list(f()) == list(range(5000))", "assert sum(1 for _ in f()) == 5000"),
    ),
    "one list again, as it was": (
        "def f():\n    row = [1, 2]\n    for _ in range(3): yield row\n",
        asserts("assert list(f()) == [[1, 2]] * 3"),
    ),
    "handed back as it was read": (
        COUNT,
        asserts("xs = f()", "assert list(islice(xs, 1)) == [0]", "assert g(xs) == 1"),
    ),
}


@pytest.mark.parametrize("name", YIELDED)
def test_a_right_program_is_verified_by_what_it_yields(verifier: Verifier, name: str) -> None:
    content, tests = YIELDED[name]
    result = verifier.verify(content, tests, Limits(cpu_seconds=2))
    assert result.verdict == Verdict.VERIFIED, result


UNTOLD = {
    "one list again, changed": (SAME_LIST, asserts("assert list(f()) == [[0], [0, 1]]")),
    "handed back when more was read": (
        COUNT,
        asserts("xs = f()", "assert list(islice(xs, 2)) == [0, 1]", "assert g(xs) == 2"),
    ),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_cannot_be_told_of_what_it_yields_is_no_verdict_on_it(verifier: Verifier, name: str) -> None:
    content, tests = UNTOLD[name]
    assert verifier.verify(content, tests).verdict == Verdict.ERROR
