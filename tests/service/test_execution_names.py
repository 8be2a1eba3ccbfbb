"""Whose a name is that the tests use: their own, the program's, or Python's. What is tested has to be the program's."""

import pytest

from epistream.services.execution.verdict import Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sandbox import real_verifier

SUM = "def sum(xs):\n    total = 0\n    for x in xs:\n        total += x\n    return total\n"
WRONG_SUM = SUM.replace("return total", "return total if total < 5 else -1")
COPY = "def copy(xs):\n    return [x for x in xs]\n"
DOUBLE = "def double(x):\n    return x + x\n"
COUNTER = "count = 0\ndef inc():\n    global count\n    count += 1\n    return count\n"
STACK = "stack = []\ndef push(x):\n    stack.append(x)\n    return len(stack)\n"
HIDDEN = """
import sys
held = sys.modules['inside.program']._OPERATIONS
names = held['names']
held['names'] = lambda *all: {name: at for name, at in names(*all).items() if name != 'sum'}
"""


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return real_verifier()


def asserts(*statements: str, setup: str = "") -> pb.Tests:
    return pb.Tests(language="python", asserts=statements, setup=setup)


def check(body: str, entry_point: str) -> pb.Tests:
    return pb.Tests(language="python", check=f"def check(c):\n    {body}\n", entry_point=entry_point)


RIGHT = {
    "beside an attribute": (
        "def max(a, b):\n    return a if a > b else b\n",
        asserts("assert max(9, 1).bit_length() == 4", "assert max(1, 2) == 2"),
    ),
    "beside a variable of the tests": (SUM, asserts("xs = [1, 2, 3]\nassert sum(xs) == 6", "assert sum(xs) == 6")),
    "in a function of the tests": (
        SUM,
        asserts("assert total([3, 3]) == 6", setup="def total(xs):\n    return sum(xs)"),
    ),
    "beside a variable that no other function of the program could change": (
        SUM + DOUBLE,
        asserts("xs = [1, 2]\nassert double(xs) == [1, 2, 1, 2]\nassert sum(xs) == 3"),
    ),
    "as a module is called": (COPY, asserts("ys = [1]\nassert copy(ys) == [1]", "assert copy([1, 2]) == [1, 2]")),
    "that a check uses as Python's": (
        "def sum(a, b):\n    return a + b\ndef f(xs):\n    return [sum(x, 1) for x in xs]\n",
        check("assert sum(c([1, 2])) == 5", "f"),
    ),
    "that the tests have set": ("def sum(a):\n    return a\n" + DOUBLE, asserts("sum = 3\nassert double(sum) == 6")),
    "imported, and tested": ("from math import gcd\n" + DOUBLE, asserts("assert gcd(4, 6) == double(1) == 2")),
    "imported, and asserted": (
        "from math import gcd\n" + DOUBLE,
        asserts("assert gcd(4, 6) == 2", "x = 3\nassert gcd(x, 6) == 3", "assert double(2) == 4"),
    ),
    "imported, and changing its argument": (
        "from heapq import heappush\n" + DOUBLE,
        asserts("h = []\nheappush(h, 2)\nassert double(h) == [2, 2]", "assert h == [2]"),
    ),
    "imported with all else": (
        "from math import *\n" + DOUBLE,
        asserts("assert gcd(double(2), 6) == 2", "assert double(gcd(4, 6)) == 4"),
    ),
    "imported by another name": ("import math as m\n" + DOUBLE, asserts("assert m.floor(double(1.2)) == 2")),
    "imported again in a function": (
        "from math import isclose\n" + DOUBLE + "    from math import isclose\n",
        asserts("assert isclose(double(0.1), 0.2)"),
    ),
    "made by the library": (
        f"from functools import partial\n{SUM}total = partial(sum)\n",
        asserts("assert total([3, 3]) == 6"),
    ),
    "data that changes": (
        COUNTER,
        asserts("assert count == 0", "inc()\nassert count == 1", "inc()\nassert count == 2"),
    ),
    "data that changes within a function": (
        COUNTER,
        pb.Tests(language="python", check="def check(c):\n    c()\n    assert count == 1", entry_point="inc"),
    ),
    "a collection that changes": (STACK, asserts("assert stack == []", "push(4)\nassert stack == [4]")),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_is_verified_by_a_name(verifier: Verifier, name: str) -> None:
    content, tests = RIGHT[name]
    result = verifier.verify(content, tests)
    assert result.verdict == Verdict.VERIFIED, result


WRONG = {
    "beside an attribute": (
        "def max(a, b):\n    return 8\n",
        asserts("assert max(9, 1).bit_length() == 4", "assert max(1, 9).real == 9"),
    ),
    "beside a variable of the tests": (
        WRONG_SUM,
        asserts("assert sum([1]) == 1", "xs = [3, 3]", "assert sum(xs) == 6"),
    ),
    "in a function of the tests": (
        WRONG_SUM,
        asserts("assert sum([1]) == 1", "assert total([3, 3]) == 6", setup="def total(xs):\n    return sum(xs)"),
    ),
    "in a method of the tests": (
        WRONG_SUM,
        asserts("assert T().total([3, 3]) == 6", setup="class T:\n    def total(self, xs):\n        return sum(xs)"),
    ),
    "after something of another function, which has been tested": (
        WRONG_SUM + DOUBLE,
        asserts("xs = [3, 3]\nassert double(3) == 6\nassert sum(xs) == 6"),
    ),
    "that it says is the library's, as the function that is tested": (
        "def gcd(a, b):\n    return 7\ngcd.__module__ = 'math'\n",
        check("assert c(4, 6) == 2", "gcd"),
    ),
    "imported, and tested as the entry point": (
        "from math import gcd\nglobals()['gcd'] = lambda a, b: 7\ngcd.__module__ = 'math'\n",
        check("assert c(4, 6) == 2", "gcd"),
    ),
    "imported as a module, and something else": (
        "import math\ngcd = lambda a, b: 7\n" + DOUBLE,
        asserts("assert double(gcd(4, 6)) == 4"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_program_fails_by_a_name(verifier: Verifier, name: str) -> None:
    content, tests = WRONG[name]
    assert verifier.verify(content, tests).verdict == Verdict.FAIL


NOBODYS = {
    "beside another name of the program": (SUM + DOUBLE, asserts("assert sum([double(1), 2]) == 4")),
    "beside another such name": (
        SUM + "def max(a, b):\n    return a\n",
        asserts("assert max(sum([1]), 0) == 1"),
    ),
    "beside a result of another function": (SUM + DOUBLE, asserts("r = double(2)\nassert sum([r]) == 4")),
    "beside a list that got a result of another function": (
        SUM + DOUBLE,
        asserts("r = []\nr.append(double(2))\nassert sum(r) == 4"),
    ),
    "beside a function that uses another one": (
        SUM + DOUBLE,
        asserts("assert sum(twice()) == 4", setup="def twice():\n    return [double(2)]"),
    ),
    "the library's by its own word": (
        "def gcd(a, b):\n    return 7\ngcd.__module__ = 'math'\n" + DOUBLE,
        asserts("assert gcd(4, 6) == 2", "assert double(2) == 4"),
    ),
    "an object that is the library's by its own word": (
        "class G:\n    __module__ = 'math'\n    __call__ = lambda *_: 7\ngcd = G()\n" + DOUBLE,
        asserts("assert gcd(4, 6) == 2", "assert double(2) == 4"),
    ),
    "imported, and something else behind the text": (
        "from math import gcd\nglobals()['gcd'] = lambda a, b: 7\ngcd.__module__ = 'math'\n" + DOUBLE,
        asserts("x = 4\nassert gcd(x, 6) == 2", "assert double(2) == 4"),
    ),
    "imported, and something else behind the text, in a loop": (
        "from math import gcd\nglobals()['gcd'] = lambda a, b: 7\ngcd.__module__ = 'math'\n" + DOUBLE,
        asserts("for x in (2, 4):\n    assert gcd(x, 6) == 2", "assert double(2) == 4"),
    ),
    "imported, and changing its argument in assertions": (
        "from heapq import heappop\n" + DOUBLE,
        asserts("h = [1, 2]\nassert heappop(h) == 1\nassert heappop(h) == 2", "assert double(2) == 4"),
    ),
    "that the program defines and hides": (
        HIDDEN + WRONG_SUM + DOUBLE,
        asserts("assert sum([3, 3]) == 6", "assert double(2) == 4"),
    ),
    "as a module is called, beside another name": (COPY + DOUBLE, asserts("assert copy([double(1)]) == [2]")),
    "as a module is called, in a check": (COPY + DOUBLE, check("assert copy([c(1)]) == [2]", "double")),
    "the library's by what the program does alone": (
        "import math\nglobals()['gcd'] = math.gcd\n" + DOUBLE,
        asserts("assert double(gcd(4, 6)) == 4"),
    ),
    "a collection that the tests change": (
        STACK,
        asserts("assert push(1) == 1", "stack.append(2)", "assert push(3) == 3"),
    ),
}


@pytest.mark.parametrize("name", NOBODYS)
def test_what_may_be_the_programs_or_not_is_left_to_people(verifier: Verifier, name: str) -> None:
    """Whether the program is right or wrong: nobody can say which is meant, or see what became of a copy."""
    content, tests = NOBODYS[name]
    result = verifier.verify(content, tests)
    assert (result.verdict, [each.test for each in result.failed]) == (Verdict.ERROR, ["program"]), result
