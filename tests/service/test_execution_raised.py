"""What a program raises is what its tests catch, with what it holds."""

import pytest

from epistream.services.execution.verdict import Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.sandbox import real_verifier

OWN = """
class Bad(ValueError):
    def __init__(self, text, code):
        super().__init__(text + '!')
        self.code, self.at = code, {1: [2]}
class Two(KeyError, ZeroDivisionError):
    def __str__(self): return 'two ' + self.args[0]
def g(x):
    return x
def f():
"""


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return real_verifier()


def caught(kind: str, *asserts: str, setup: str = "") -> pb.Tests:
    lines = "".join(f"    assert {each}\n" for each in asserts)
    test = f"try:\n    f()\nexcept {kind} as e:\n{lines}    assert isinstance(e, Exception)\nelse:\n    assert 0"
    return pb.Tests(language="python", asserts=["assert g(1) == 1", test], setup=setup)


RAISED = {
    "a key": ("return {}['a']", caught("KeyError", "e.args == ('a',)", "str(e) == repr('a')", "type(e) is KeyError")),
    "of the system": (
        "return open('/nowhere')",
        caught("OSError", "(e.errno, e.filename) == (2, '/nowhere')", "type(e) is FileNotFoundError"),
    ),
    "of five arguments": (
        r"return b'\xff'.decode()",
        caught("UnicodeDecodeError", "(e.start, e.object) == (0, b'\\xff')", "isinstance(e, ValueError)"),
    ),
    "of the library": (
        "import json\n    json.loads('{')",
        caught("ValueError", "'line 1' in str(e)", "type(e).__name__ == 'JSONDecodeError'"),
    ),
    "of the library, which the tests have, too": (
        "import json\n    json.loads('{')",
        caught("json.JSONDecodeError", "e.pos == 1", setup="import json"),
    ),
    "of its own": (
        "raise Bad('x', 3)",
        caught("ValueError", "str(e) == 'x!'", "(e.code, e.at) == (3, {1: [2]})", "type(e).__name__ == 'Bad'"),
    ),
    "of two kinds, with a text of its own": (
        "raise Two('x')",
        caught("LookupError", "str(e) == 'two x'", "isinstance(e, ArithmeticError)", "e.args == ('x',)"),
    ),
    "with a long text": ("raise ValueError('a' * 2000)", caught("ValueError", "str(e) == 'a' * 2000")),
    "with what is too long": ("raise ValueError('a' * 9_000_000)", caught("ValueError", "str(e)[:9] == 'a' * 9")),
    "with itself": ("l = []\n    l.append(l)\n    raise ValueError(l)", caught("ValueError", "str(e) == '[[...]]'")),
    "with an object of its own": ("raise ValueError(g)", caught("ValueError", "str(e)[:11] == '<function g'")),
    "that would end an iteration": ("raise StopIteration", caught("Exception")),
    "that would end a process": ("raise SystemExit(0)", caught("Exception", "'SystemExit' in str(e)")),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_a_program_raises_is_caught_as_what_it_is(verifier: Verifier, name: str) -> None:
    body, tests = RAISED[name]
    result = verifier.verify(f"{OWN}    {body}\n", tests)
    assert (result.verdict, result.failed) in ((Verdict.VERIFIED, ()), (Verdict.VACUOUS, ())), result


def test_what_the_tests_do_not_expect_is_told(verifier: Verifier) -> None:
    for body, said in (("raise Bad('x', 3)", "Bad: x!"), ("raise SystemExit(0)", "ProgramRaised: SystemExit: 0")):
        result = verifier.verify(f"{OWN}    {body}\n", pb.Tests(language="python", asserts=["f()"]))
        assert (result.verdict, result.reason) == (Verdict.ERROR, f"asserts[0]: {said}")
    result = verifier.verify("raise ValueError('x')", pb.Tests(language="python", asserts=["f()"]))
    assert (result.verdict, result.reason) == (Verdict.ERROR, "program: ValueError: x")


def test_a_class_of_the_programs_cannot_be_told_by_the_tests(verifier: Verifier) -> None:
    """So it is no failure of the program's."""
    for tests in (caught("Bad"), caught("Exception", "isinstance(e, Bad)")):
        assert verifier.verify(f"{OWN}    raise Bad('x', 3)\n", tests).verdict == Verdict.ERROR
