"""Tests of programs are run in the real sandbox, and the verdict says what came of them."""

import ast
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from epistream.services.execution.isolation import NoIsolation, NoSandbox, find_isolation
from epistream.services.execution.verdict import Limits, Result, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.bubblewrap import find_bubblewrap
from tests.support.code_sample import SAMPLE, sampled
from tests.support.sandbox import real_verifier

SQUARE = "def f(x):\n    return x * x\n"
STRICT = "def f(x):\n    assert x > 2, 'too small'\n    return x * x\n"
AT_ITS_END = (
    "import sys, io, atexit\nsys.stdout = io.StringIO()\n"
    "atexit.register(lambda: sys.__stdout__.write(sys.stdout.getvalue()))\nprint(int(input()) ** 2)\n"
)
POINT = """
class Point:
    def __init__(self, x, y): self.x, self.y = x, y
    def moved(self, by): return Point(self.x + by, self.y)
    def __repr__(self): return f"Point({self.x}, {self.y})"
    def __len__(self): return 2
    def __getitem__(self, at): return (self.x, self.y)[at]
def far(points, least):
    return [repr(p) for p in points if p.x >= least]
"""


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    return real_verifier()


def asserts(*statements: str, setup: str = "") -> pb.Tests:
    return pb.Tests(language="python", asserts=statements, setup=setup)


def cases(*pairs: tuple[str, str], entry_point: str = "") -> pb.Tests:
    made = [pb.TestCase(input=given, output=expected) for given, expected in pairs]
    return pb.Tests(language="python", cases=made, entry_point=entry_point)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample data at {SAMPLE}")
def test_r25_verdicts_agree_with_those_of_published_programs(verifier: Verifier) -> None:
    programs = list(sampled())
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda each: verifier.verify(each.content, each.tests), programs))
    verified = [result.verdict == Verdict.VERIFIED for result in results]
    wrongly = [each.name for each, said in zip(programs, verified, strict=True) if said and not each.verified]
    agreed = sum(said == each.verified for each, said in zip(programs, verified, strict=True))
    assert wrongly == []
    assert agreed >= 0.995 * len(programs), f"{agreed} of {len(programs)}"


PASSING = {
    "a comparison": (SQUARE, asserts("assert f(2) == 4", "assert f(3) == 9")),
    "a check": (SQUARE, pb.Tests(language="python", check="def check(c):\n    assert c(3) == 9", entry_point="f")),
    "cases of a function": (SQUARE, cases(("[2]", "4"), ("[-3]", "9"), entry_point="f")),
    "cases of many types": (
        "def f(x):\n    return [x, x == 1, None, {'a': (x + 0.0, str(x))}]\n",
        cases(
            ("[1]", '[1, true, null, {"a": [1, "1"]}]'), ("[2]", '[2.0, false, null, {"a": [2, "2"]}]'), entry_point="f"
        ),
    ),
    "cases of a method": (
        "class Solution:\n    def f(self, x):\n        return x * x\n",
        pb.Tests(
            language="python",
            setup="f = Solution().f",
            entry_point="f",
            cases=[pb.TestCase(input="[2]", output="4"), pb.TestCase(input="[-3]", output="9")],
        ),
    ),
    "cases of a script": (
        "for line in open(0):\n    print(int(line) ** 2, '')\n",
        cases(("2\n3\n", "4\n9"), ("-5\n", "25\n\n")),
    ),
    "a script that ends with exit": ("print(int(input()) ** 2)\nexit()\n", cases(("2", "4"), ("3", "9"))),
    "a script that quits with 0": ("print(int(input()) ** 2)\nquit(0)\n", cases(("2", "4"), ("3", "9"))),
    "a script that writes when it ends": (AT_ITS_END, cases(("2", "4"), ("3", "9"))),
    "a script that writes when it ends early": (f"{AT_ITS_END}raise SystemExit\n", cases(("2", "4"), ("3", "9"))),
    "a script that puts another output before its own": (
        "import sys, io\nprint(int(input()) ** 2)\nsys.stdout = io.StringIO()\n",
        cases(("2", "4"), ("3", "9")),
    ),
    "a script that closes its output": (
        "import sys\nprint(int(input()) ** 2)\nsys.stdout.close()\n",
        cases(("2", "4"), ("3", "9")),
    ),
    "a setup": (SQUARE, asserts("assert isclose(f(0.1), 0.01)", "assert f(2) == 4", setup="from math import isclose")),
    "what the program imports": ("import math\n" + SQUARE, asserts("assert math.isclose(f(0.1), 0.01)")),
    "an exception": (
        "def f(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x + 1\n",
        asserts(
            "assert f(1) == 2",
            "try:\n    f(-1)\nexcept ValueError as e:\n    assert 'neg' in str(e)\nelse:\n    assert 0",
        ),
    ),
    "an assertion of the program's own": (
        STRICT,
        asserts(
            "assert f(3) == 9",
            "try:\n    f(2)\nexcept AssertionError as e:\n    assert 'small' in str(e)\nelse:\n    assert 0",
        ),
    ),
    "objects": (
        POINT,
        asserts(
            "assert Point(1, 2).moved(2).x == 3",
            "assert far([Point(1, 2), Point(5, 6)], 3) == ['Point(5, 6)']",
            "p = Point(1, 2)\np.x = 9\nassert (p.x, len(p), p[0], list(p), str(p)) == (9, 2, 9, [9, 2], 'Point(9, 2)')",
            setup="q = Point(3, 4)\nassert q.y == 4",
        ),
    ),
    "a generator": ("def f(n):\n    for i in range(n): yield i * i\n", asserts("assert list(f(3)) == [0, 1, 4]")),
    "a function handed over": (
        "def f(g, xs):\n    return [g(x) for x in xs]\n",
        asserts("assert f(lambda x: x + 1, (1, 2)) == [2, 3]", "assert f(str, [1]) == ['1']"),
    ),
    "values of many types": (
        (
            "from decimal import Decimal\nfrom fractions import Fraction\nfrom datetime import date, timedelta\n"
            "from collections import Counter, deque, namedtuple\nP = namedtuple('P', 'a b')\n"
            "def f():\n    return [None, 2 ** 70, 1.5, 1j, b'a', {1: (2,)}, {3}, frozenset(), range(3), P(1, 2), "
            "Decimal('0.1'), Fraction(1, 3), date(2024, 1, 2), timedelta(1), Counter('aab'), deque([1])]\n"
        ),
        asserts(
            "assert f() == [None, 2 ** 70, 1.5, 1j, b'a', {1: (2,)}, {3}, frozenset(), range(3), (1, 2), D('0.1'),"
            " F(1, 3), date(2024, 1, 2), timedelta(1), Counter('aab'), deque([1])]",
            setup="from decimal import Decimal as D\nfrom fractions import Fraction as F\n"
            "from datetime import date, timedelta\nfrom collections import Counter, deque",
        ),
    ),
    "what is seen of a dictionary": (
        "def f(xs):\n    return dict.fromkeys(xs, len(xs)).keys()\n",
        asserts("assert f({'a': 1, 'b': 2}.keys()) == {'a', 'b'}", "assert list(f({3: 5}.values())) == [5]"),
    ),
    "what is seen of a dictionary with methods of its own": (
        "class D(dict):\n    __getitem__ = len\ndef f(d):\n    return D(d).items()\n",
        asserts("assert list(f({'a': 5})) == [('a', 5)]"),
    ),
    "a name that only the script has": (
        "def f(xs):\n    return sorted(xs)\nif __name__ == '__main__':\n    list = [3, 1]\n    print(f(list))\n",
        asserts("assert list(f((2, 1))) == [1, 2]"),
    ),
    "a function called like one of Python's": ("def sum(a, b):\n    return a + b\n", asserts("assert sum(1, 2) == 3")),
    "text of every kind": ("def f(s):\n    return s[::-1]\n", asserts(r"assert f('a\ud800\x00é') == 'é\x00\ud800a'")),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_program_that_passes_good_tests_is_verified(verifier: Verifier, name: str) -> None:
    content, tests = PASSING[name]
    result = verifier.verify(content, tests)
    assert result.verdict == Verdict.VERIFIED, result
    assert result.failed == ()
    assert result.kill_rate is not None
    assert result.kill_rate >= 0.5
    assert result.isolation.startswith("bubblewrap")
    assert result.interpreter == sys.version.split()[0]


FAILING = {
    "one assert": (SQUARE, asserts("assert f(2) == 4", "assert f(2) == 5"), Verdict.FAIL, ["asserts[1]"]),
    "a check": (
        SQUARE,
        pb.Tests(language="python", check="def check(c):\n    assert c(3) == 8", entry_point="f"),
        Verdict.FAIL,
        ["check"],
    ),
    "a case": (SQUARE, cases(("[2]", "4"), ("[3]", "8"), entry_point="f"), Verdict.FAIL, ["cases[1]"]),
    "a case of a truth": (
        "def f(x):\n    return x % 2\n",
        cases(("[3]", "true"), entry_point="f"),
        Verdict.FAIL,
        ["cases[0]"],
    ),
    "a case of a number": (
        "def f(x):\n    return x == 3\n",
        cases(("[3]", "1"), entry_point="f"),
        Verdict.FAIL,
        ["cases[0]"],
    ),
    "a case of a truth within": (
        "def f(x):\n    return {'a': [x % 2]}\n",
        cases(("[2]", '{"a": [false]}'), entry_point="f"),
        Verdict.FAIL,
        ["cases[0]"],
    ),
    "a case, with a number too long to be shown": (
        "def f(x):\n    return [10 ** 5000]\n",
        cases(("[2]", "4"), entry_point="f"),
        Verdict.FAIL,
        ["cases[0]"],
    ),
    "a script's case": ("print(input())", cases(("a", "a"), ("b", "c")), Verdict.FAIL, ["cases[1]"]),
    "a script that exits with 1": ("print(4)\nexit(1)", cases(("", "4")), Verdict.ERROR, ["cases[0]"]),
    "a script that fails, and writes when it ends": (
        f"{AT_ITS_END}1 / 0\n",
        cases(("2", "4")),
        Verdict.ERROR,
        ["cases[0]"],
    ),
    "a script that crashes": ("print(4)\n1 / 0", cases(("", "4")), Verdict.ERROR, ["cases[0]"]),
    "an exception": ("def f(x):\n    return 1 / 0\n", asserts("assert f(2) == 4"), Verdict.ERROR, ["asserts[0]"]),
    "an assertion of the program's own": (STRICT, asserts("assert f(2) == 4"), Verdict.ERROR, ["asserts[0]"]),
    "an assertion of its own in an iterator": (
        "def f(n):\n    yield n\n    assert n\n",
        asserts("assert list(f(0)) == [0]"),
        Verdict.ERROR,
        ["asserts[0]"],
    ),
    "an assertion of its own in a case": (STRICT, cases(("[2]", "4"), entry_point="f"), Verdict.ERROR, ["cases[0]"]),
    "an assertion that says something else": (
        STRICT,
        asserts("try:\n    f(2)\nexcept AssertionError as e:\n    assert 'large' in str(e)"),
        Verdict.FAIL,
        ["asserts[0]"],
    ),
    "no such function": ("x = 1\n", asserts("assert f(2) == 4"), Verdict.ERROR, ["asserts[0]"]),
    "no Python": ("def f(:\n", asserts("assert f(2) == 4"), Verdict.ERROR, ["program"]),
    "tests that are no Python": (SQUARE, asserts("assert f(2) = 4"), Verdict.ERROR, ["tests"]),
    "an error while it is loaded": ("1 / 0\n", asserts("assert f(2) == 4"), Verdict.ERROR, ["program"]),
    "a setup that fails": (SQUARE, asserts("assert f(2) == 4", setup="import nothing"), Verdict.ERROR, ["setup"]),
    "tests that end": (SQUARE, asserts("import os\nos._exit(0)"), Verdict.ERROR, ["tests"]),
    "tests that leave": (SQUARE, asserts("raise SystemExit(0)", "assert f(2) == 4"), Verdict.ERROR, ["asserts[0]"]),
    "objects of the program compared": (
        POINT,
        asserts("assert Point(1, 2) == Point(1, 2)"),
        Verdict.ERROR,
        ["program"],
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_program_that_does_not_pass_is_told_which_test_and_why(verifier: Verifier, name: str) -> None:
    content, tests, verdict, failed = FAILING[name]
    result = verifier.verify(content, tests)
    assert result.verdict == verdict, result
    assert [each.test for each in result.failed] == failed
    assert all(each.reason for each in result.failed)
    assert result.mutants == 0


@pytest.mark.parametrize("report", ["{}", "[]", "null", '{"failed": 7}', '{"failed": {}}', "[" * 10000, "no JSON"])
def test_tests_that_report_nonsense_are_an_error(verifier: Verifier, report: str) -> None:
    forged = f"import os\nr = {report!r}.encode()\nos.write(4, len(r).to_bytes(4, 'big') + r)\nos._exit(0)"
    result = verifier.verify(SQUARE, asserts(forged))
    assert (result.verdict, result.failed[0].test) == (Verdict.ERROR, "tests")


def test_tests_that_take_too_long_time_out(verifier: Verifier) -> None:
    result = verifier.verify(SQUARE, asserts("f(2)\nwhile True: pass"), Limits(cpu_seconds=0.3))
    assert result.verdict == Verdict.TIMEOUT


VACUOUS = {
    "nothing asserted": asserts("assert True"),
    "called, and not looked at": asserts("f(2)", "assert True"),
    "true of almost anything": asserts("assert f(2) != 17"),
    "its type": asserts("assert str(f(2))"),
}


@pytest.mark.parametrize("name", VACUOUS)
def test_r27_tests_that_most_wrong_programs_pass_are_vacuous(verifier: Verifier, name: str) -> None:
    result = verifier.verify("def f(x):\n    y = x * x\n    return y + 0\n", VACUOUS[name])
    assert result.verdict == Verdict.VACUOUS, result


GUARD = """
def guard(x):
    if not isinstance(x, int):
        raise TypeError(x)
    if x < 0:
        raise ValueError(x)
    return [x + 0]
def f(x):
    (one,) = guard(x)
"""
"""What is put after it is not changed by any of the six mutants, and four of them make it raise something."""
GUARDED = GUARD + "    return one\n"
DECO = "def deco(g):\n    return lambda *xs: g(*xs)\n"
DECORATED = DECO + GUARDED.replace("def f", "@deco\ndef f")
"""With `deco` emptied `f` is None, as with its result made None. Both are of the six, for two that raise something."""
METHOD = "class Holder:\n    @deco\n    def m(self, x): return f(x)\n"
A_LIST_ITSELF = "class Kept(list):\n    __next__ = list.pop\nclass Holder:\n    __iter__ = lambda self: Kept([5])\n"
RUN_ONLY = {
    "called": (GUARDED, asserts("f(5)")),
    "true whatever comes": (GUARDED, asserts("assert f(5) == 5 or True")),
    "true of almost anything": (GUARDED, asserts("assert f(5) != 17")),
    "its text": (GUARDED, asserts("assert str(f(5))")),
    "compared with nothing": (GUARDED, asserts("x = f(5)\ny = [x, x]", "assert y is y")),
    "kept in a check": (
        GUARDED,
        pb.Tests(language="python", check="def check(c):\n    kept = [c(5)]", entry_point="f"),
    ),
    "called, and what it raises not asked for": (
        GUARDED,
        asserts("f(5)", "try:\n    f(-5)\nexcept ValueError:\n    pass"),
    ),
    "listed": (GUARD + "    yield one\n", asserts("list(f(5))", "tuple(f(5))")),
    "listed, from an iterator that is a list": (f"{GUARD}    return Holder()\n{A_LIST_ITSELF}", asserts("list(f(5))")),
    "called, and decorated": (DECORATED, asserts("f(5)")),
    "called, and decorated, after another": (DECORATED, asserts("guard(5)", "f(5)")),
    "handed over, and decorated": (DECORATED, asserts("list(map(f, [5]))")),
    "a method, called, and decorated": (DECO + GUARDED + METHOD, asserts("Holder().m(5)")),
}


@pytest.mark.parametrize("name", RUN_ONLY)
def test_r27_tests_that_pass_whatever_the_program_answers_are_vacuous(verifier: Verifier, name: str) -> None:
    content, tests = RUN_ONLY[name]
    result = verifier.verify(content, tests)
    assert (result.verdict, result.reason) == (Verdict.VACUOUS, "the tests pass whatever the program answers"), result
    # By the mutants alone they would be good.
    assert (result.mutants, result.killed) == (6, 4)


WHEN_HANDED_BACK = {
    "ends": "import os; os._exit(1)",
    "raises": "raise ValueError(one)",
    "computes": "while True: pass",
    "waits": "import time; time.sleep(60)",
}
"""What a program may do that is handed a value which it never gave."""


@pytest.mark.parametrize("name", WHEN_HANDED_BACK)
def test_r27_a_program_gains_nothing_by_how_it_takes_a_changed_answer(verifier: Verifier, name: str) -> None:
    content = f"{GUARD}    if one != 5:\n        {WHEN_HANDED_BACK[name]}\n    return one\n"
    caught = "try:\n    f(f(5))\nexcept Exception: pass\nexcept BaseException: assert 0"
    for tests in (asserts("f(f(5))"), asserts("f(5)", caught)):
        result = verifier.verify(content, tests, Limits(wall_seconds=3, cpu_seconds=0.5))
        assert (result.verdict, result.killed) == (Verdict.VACUOUS, 4), result


def test_r27_tests_that_end_without_a_report_for_another_answer_have_not_looked(verifier: Verifier) -> None:
    result = verifier.verify(GUARDED, asserts("import os\nif f(5) != 5: os._exit(1)"))
    assert (result.verdict, result.reason) == (Verdict.VACUOUS, "the tests pass whatever the program answers"), result


def test_tests_that_sleep_at_another_answer_end_in_time(verifier: Verifier) -> None:
    """Without the program, too. To be late by the clock is not counted as looking: the machine may be."""
    tests = asserts("import time\nx = f(5)\nwhile x != 5: time.sleep(0.01)")
    result = verifier.verify("def f(x):\n    return x\n", tests, Limits(wall_seconds=5, mutants=1))
    assert (result.verdict, result.mutants, result.killed) == (Verdict.VACUOUS, 1, 1), result


LOOKED_AT = {
    "its value": ("return one", "assert f(5) == 5"),
    "its type": ("return one", "assert isinstance(f(5), int)"),
    "a bound": ("return one", "assert f(5) >= 0"),
    "that it is something": ("return one", "assert f(5) is not None"),
    "that it is nothing": ("return None", "assert f(5) is None"),
    "that it is false": ("return one != 5", "assert not f(5)"),
    "that it is empty": ("return []", "assert f(5) == []"),
    "what is in it": ("return {'a': (one, 2.5)}", "assert f(5)['a'][1] == 2.5"),
    "that it ends": ("yield one", "assert list(f(5)) == [5]"),
    "that it ends at once": ("yield from []", "for each in f(5):\n    assert 0"),
    "the first of many": ("while True: yield one", "for each in f(5):\n    assert each == 5\n    break"),
    "what an object holds": ("import types\n    return types.SimpleNamespace(one=one)", "assert f(5).one == 5"),
    "the text of an object": ("return type('', (), {'__str__': lambda self: str(one)})()", "assert str(f(5)) == '5'"),
    "its length": ("return type('', (), {'__len__': lambda self: one})()", "assert len(f(5)) == 5"),
    "by a loop": ("return one", "while f(5) != 5: pass"),
    "by waiting": ("return one", "import time\nwhile f(5) != 5: time.sleep(0.01)"),
    "by computing on and on": ("return one", "x = f(5)\nwhile x != 5: pass"),
    "that it has an object": (
        "import types\n    return types.SimpleNamespace(g=guard)",
        "assert f(5).g(5) == [5]",
    ),
    "a name of its own": ("return one\nLIMIT = 5", "assert LIMIT == 5\nf(5)"),
    "what it raises": ("if one == 5: raise KeyError(one)", "try:\n    f(5)\nexcept KeyError: pass\nelse: assert 0"),
    "when it raises": (
        "yield one\n    raise KeyError(one)",
        "try:\n    list(f(5))\nexcept KeyError: pass\nelse: assert 0",
    ),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_tests_that_look_at_anything_that_the_program_answers_are_good(verifier: Verifier, name: str) -> None:
    body, test = LOOKED_AT[name]
    result = verifier.verify(f"{GUARD}    {body}\n", asserts(test))
    assert result.verdict == Verdict.VERIFIED, result


@pytest.mark.parametrize("tests", [pb.Tests(language="python"), pb.Tests(language="go", asserts=["f(2) == 4"])])
def test_r27_a_program_without_tests_that_can_be_run_is_not_verified(verifier: Verifier, tests: pb.Tests) -> None:
    result = verifier.verify(SQUARE, tests)
    assert result.verdict == Verdict.NO_TESTS
    assert result.kill_rate is None


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample data at {SAMPLE}")
def test_r27_published_programs_with_their_tests_stripped_are_not_verified(verifier: Verifier) -> None:
    for each in sampled():
        stripped = pb.Tests(language="python", entry_point=each.tests.entry_point)
        assert verifier.verify(each.content, stripped).verdict == Verdict.NO_TESTS, each.name


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample data at {SAMPLE}")
def test_r27_published_programs_with_tests_that_assert_nothing_are_not_verified(verifier: Verifier) -> None:
    programs = [each for each in sampled() if each.verified]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda each: verifier.verify(each.content, asserting_nothing(each.tests)), programs))

    assert {each.name: result.verdict for each, result in zip(programs, results, strict=True)} == {
        each.name: Verdict.VACUOUS for each in programs
    }


def asserting_nothing(tests: pb.Tests) -> pb.Tests:
    """Tests of the same form that every program passes."""
    if tests.check:
        return pb.Tests(language="python", check="def check(c):\n    assert True", entry_point=tests.entry_point)
    return asserts("assert True")


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample data at {SAMPLE}")
@pytest.mark.parametrize("each_nth", [3, pytest.param(1, marks=pytest.mark.robustness)])
def test_r27_published_programs_whose_results_nobody_looks_at_are_not_verified(
    verifier: Verifier, each_nth: int
) -> None:
    """All 84, or a third of them and those half of whose mutants raise an error."""
    passing = [each for each in sampled() if each.verified]
    picked = {*HALF_RAISE, COMPUTED_WITH}
    programs = [each for at, each in enumerate(passing) if at % each_nth == 0 or each.name in picked]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda each: verifier.verify(each.content, looking_at_nothing(each.tests)), programs))

    found = {each.name: result for each, result in zip(programs, results, strict=True)}
    assert {name for name, result in found.items() if result.verdict != Verdict.VACUOUS} <= {COMPUTED_WITH}
    assert {found[name].reason for name in HALF_RAISE} == {"the tests pass whatever the program answers"}
    assert all(result.mutants > 0 for result in results), "the program was used, and its mutants tried"


HALF_RAISE = {"code-c293d1df7853", "code-069f9771d623", "code-dcf0ee668b2b"}
COMPUTED_WITH = "code-e02b2f4865f9"
"""Its asserts subtract from the result, so they look at it: what is no number fails them."""


def looking_at_nothing(tests: pb.Tests) -> pb.Tests:
    """The same tests, each of whose asserts holds whatever comes out."""
    if tests.check:
        return pb.Tests(language="python", check=always_true(tests.check), entry_point=tests.entry_point)
    return asserts(*map(always_true, tests.asserts), setup=tests.setup)


def always_true(source: str) -> str:
    module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.Assert):
            node.test = ast.BoolOp(ast.Or(), [node.test, ast.Constant(True)])
    return ast.unparse(ast.fix_missing_locations(module))


def test_a_program_that_takes_too_long_times_out(verifier: Verifier) -> None:
    loops = "def f(x):\n    while True: pass\n"
    burnt = verifier.verify(loops, asserts("assert f(2) == 4"), Limits(cpu_seconds=0.3))
    waited = verifier.verify(
        "import time\n" + loops.replace("pass", "time.sleep(1)"), asserts("f(2)"), Limits(wall_seconds=1)
    )
    assert (burnt.verdict, waited.verdict) == (Verdict.TIMEOUT, Verdict.TIMEOUT)


def test_the_verdict_is_the_same_each_time_and_in_each_thread(verifier: Verifier) -> None:
    tests = asserts("assert f({'b', 'a', 'c'}) == 'abc'", "assert f({'z'}) == 'z'")
    content = "def f(s):\n    out = ''\n    for each in sorted(s):\n        out = out + each\n    return out\n"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: verifier.verify(content, tests), range(8)))
    assert {(result.verdict, result.killed, result.mutants) for result in results} == {
        (Verdict.VERIFIED, results[0].killed, results[0].mutants)
    }


def test_what_it_writes_is_kept_up_to_a_bound(verifier: Verifier) -> None:
    result = verifier.verify(
        "print('héllo' + 'x' * 100000)\n" + SQUARE, asserts("assert f(2) == 4", "assert f(3) == 9")
    )
    assert result.output.startswith("héllo")
    assert len(result.output.encode()) <= Limits().output_bytes


def test_nothing_is_run_without_isolation_unless_that_is_asked_for(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bubblewrap 0.8.0\ntest $1 = --version || { echo no namespaces >&2; exit 1; }\n")
    broken.chmod(0o755)
    for program, said in ((broken, "no namespaces"), (tmp_path / "none", "is no bubblewrap")):
        with pytest.raises(NoIsolation, match=f"(?s){said}.*Install bubblewrap") as raised:
            find_isolation(program)
        assert raised.value.reason == "NO_ISOLATION"
        assert find_isolation(program, allow_none=True) == NoSandbox()


def test_elsewhere_nothing_is_run_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(NoIsolation, match="Linux only"):
        find_isolation(allow_none=True)


def test_without_a_sandbox_it_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    result: Result = Verifier(NoSandbox()).verify(SQUARE, asserts("assert f(2) == 4", "assert f(3) == 9"))
    assert result.verdict == Verdict.VERIFIED
    assert "NONE: no sandbox" in result.isolation
    assert "WITHOUT A SANDBOX" in caplog.text


def run_verify(file: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epistream.services", "verify", str(file), "--bubblewrap", str(find_bubblewrap())]
    return subprocess.run([*command, *flags], check=False, capture_output=True, text=True, timeout=60)


def test_the_command_line_verifies_a_submission(tmp_path: Path) -> None:
    file = tmp_path / "submission.json"
    tests = {"language": "python", "asserts": ["assert f(2) == 4", "assert f(3) == 9"]}
    file.write_text(json.dumps({"modality": "MODALITY_CODE", "content": SQUARE, "tests": tests}))
    done = run_verify(file, "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "verified")

    file.write_text(json.dumps({"modality": "MODALITY_CODE", "content": "def f(x):\n    return x\n", "tests": tests}))
    done = run_verify(file)
    assert done.returncode == 1
    assert done.stdout.startswith("fail: asserts[0]")

    commands = "print('\\x1b]0;mine\\x07')\n"
    file.write_text(json.dumps({"modality": "MODALITY_CODE", "content": commands + SQUARE, "tests": tests}))
    done = run_verify(file)
    assert "]0;mine" in done.stdout
    assert "\x1b" not in done.stdout

    file.write_text(json.dumps({"modality": "MODALITY_TEXT", "content": "no code"}))
    assert run_verify(file).returncode == 2
