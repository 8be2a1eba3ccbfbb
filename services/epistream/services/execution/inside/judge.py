"""The process of the tests: runs them against the program, which is in another process, and says how each went."""

from __future__ import annotations

import json

from .names import Names
from .raised import OF_PROGRAM
from .remote import Program, ProgramEnded, Undecidable

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Iterable
    from typing import Any

    from .compiled import Compiled, Statement

_REASON_CHARACTERS = 300
_FAILED_MOST = 100
"""So many are told of: of all there may be more than a message has room for."""
_OUTPUT_BYTES = 1024 * 1024


def judge_functions(
    tests: dict[str, Any], compiled: Compiled, program: Program, told: dict[str, Any]
) -> dict[str, Any]:
    """Run the asserts, the check and the cases of a function. Returns what was found, as plain data.

    Args:
        tests: as the service tells them.
        compiled: their code.
        program: the other end.
        told: `imported`, what the program's text takes from other modules, and `objects`, of a mutant the names under
            which the program as it is has nothing but objects.
    """
    failed: list[list[str]] = []
    run = _Tests(tests, compiled, program, told)
    try:
        program.loaded()
        if program.load_error is None:
            failed = run.run()
    except ProgramEnded:
        pass
    load_error = None if program.load_error is None else program.load_error[:_REASON_CHARACTERS]
    return {
        "failed": failed[:_FAILED_MOST],
        "looked": run.looked,
        "calls": program.calls,
        "objects": sorted(program.objects - program.data),
        "ended": program.ended,
        "undecidable": program.undecidable,
        "load_error": load_error,
    }


class _Tests:
    """The tests, and what of them failed."""

    def __init__(self, tests: dict[str, Any], compiled: Compiled, program: Program, told: dict[str, Any]) -> None:
        self.looked = False
        """Whether a test failed by what the tests raised themselves: what the program answers is not what it takes."""
        self._objects = told["objects"]
        self._tests = tests
        self._compiled = compiled
        self._program = program
        self._failed: list[list[str]] = []
        self._names = Names(program, told["imported"], tests["entry_point"])

    def run(self) -> list[list[str]]:
        """The tests that failed: the name, `fail` or `error`, and the reason. Raises ProgramEnded."""
        tests, compiled = self._tests, self._compiled
        if compiled.error:
            return [["tests", "error", compiled.error]]
        self._names.bind(compiled.names)
        if not self._try("setup", lambda: self._execute(compiled.setup)):
            return self._failed
        for at, statements in enumerate(compiled.asserts):
            self._try(f"asserts[{at}]", lambda statements=statements: self._execute(statements))
        if tests["check"]:
            self._try("check", lambda: self._check(compiled.check))
        if tests["entry_point"]:
            for at, case in enumerate(tests["cases"]):
                self._try(f"cases[{at}]", lambda case=case: self._case(case))
        return self._failed

    def _execute(self, statements: Iterable[Statement]) -> None:
        for each in statements:
            self._names.run(each)

    def _check(self, statements: Iterable[Statement]) -> None:
        self._execute(statements)
        self._names.check()

    def _case(self, case: dict[str, str]) -> None:
        arguments, expected = json.loads(case["input"]), json.loads(case["output"])
        found = _as_json(self._names.candidate()(*arguments))
        if not _are_same(found, expected):
            raise AssertionError(f"{_shown(found)} instead of {_shown(expected)}")

    def _try(self, name: str, test: Any) -> bool:
        try:
            test()
        except (ProgramEnded, Undecidable):
            pass
        except BaseException as error:  # noqa: BLE001 - also a test that ends the process has not passed
            own = OF_PROGRAM not in vars(error)
            self.looked |= own and self._can_look(error)
            fails = own and isinstance(error, AssertionError)
            self._failed.append([name, "fail" if fails else "error", _reason(error)])
        else:
            return not (self._program.ended or self._program.undecidable)
        return False

    def _can_look(self, error: BaseException) -> bool:
        """Whether a failure of the tests' own is one at an answer.

        A name that is missing is none, nor is what cannot be called any more, as where the decorator of a function is
        emptied. What comes after the program's end comes of that.
        """
        if self._program.ended or self._program.undecidable:
            return False
        lost = self._program.data.intersection(self._objects)
        return not isinstance(error, NameError | TypeError | AttributeError if lost else NameError)


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(key): _as_json(each) for key, each in value.items()}
    return value


def _are_same(found: Any, expected: Any) -> bool:
    """Whether they are the same in JSON, where 1 is 1.0 and no truth."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_are_same, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_are_same(found[key], expected[key]) for key in expected)
    return bool(found == expected)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python does not write numbers of more than 4300 digits.
        return f"a {type(value).__name__} too long to be shown"


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]
    except BaseException:  # noqa: BLE001 - a message may be a program too
        return type(error).__name__


def judge_script(case: dict[str, str], name: str, descriptor: int) -> dict[str, Any]:
    """Give a script its input, and compare what it writes. Returns what was found, as plain data."""
    found, whole = _exchange(case["input"].encode("utf-8", "surrogatepass"), descriptor)
    failed = []
    if not whole:
        failed.append([name, "fail", f"it writes more than {_OUTPUT_BYTES} bytes"])
    elif _lines(found.decode("utf-8", "replace")) != _lines(case["output"]):
        failed.append([name, "fail", f"{found[:100]!r} is not the output"[:_REASON_CHARACTERS]])
    return {"failed": failed, "looked": True, "calls": 1, "ended": "", "undecidable": "", "load_error": None}


def _exchange(sent: bytes, descriptor: int) -> tuple[bytes, bool]:
    """Write and read at the same time, so that neither waits for the other."""
    import os
    import select
    from _socket import SHUT_WR, socket

    end = socket(fileno=descriptor)
    parts: list[bytes] = []
    length, rest = 0, memoryview(sent)
    if not rest:
        end.shutdown(SHUT_WR)
    while length <= _OUTPUT_BYTES:
        readable, writable, _ = select.select([descriptor], [descriptor] if rest else [], [])
        if writable:
            try:
                rest = rest[os.write(descriptor, rest[:4096]) :]
            except ConnectionError:
                rest = memoryview(b"")
            if not rest:
                end.shutdown(SHUT_WR)
        if readable:
            try:
                part = os.read(descriptor, 1 << 16)
            except ConnectionError:
                part = b""
            if not part:
                return b"".join(parts), True
            parts.append(part)
            length += len(part)
    return b"", False


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
