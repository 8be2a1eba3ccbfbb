"""The process of the tests: runs them against the program, which is in another process, and says how each went."""

from __future__ import annotations

import builtins
import json
import sys
import types

from .remote import OF_PROGRAM, Program, ProgramEnded, Remote, Undecidable

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Iterable
    from typing import Any

_REASON_CHARACTERS = 300
_OUTPUT_BYTES = 1024 * 1024


class Compiled:
    """The code of the tests, once for all runs. Nothing of it is run here."""

    def __init__(self, tests: dict[str, Any]) -> None:
        self.error = ""
        """Why it is no Python; empty when it is."""
        try:
            self.setup, self.check = (compile(tests[part], f"<{part}>", "exec") for part in ("setup", "check"))
            self.asserts = [compile(text, f"<asserts[{at}]>", "exec") for at, text in enumerate(tests["asserts"])]
            codes = (self.setup, self.check, *self.asserts)
            self.names = {name for code in codes for name in _names_in(code)} | {tests["entry_point"]} - {""}
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.error = f"the tests are no Python: {error}"[:_REASON_CHARACTERS]


def judge_functions(
    tests: dict[str, Any], compiled: Compiled, program: Program, objects: Iterable[str]
) -> dict[str, Any]:
    """Run the asserts, the check and the cases of a function. Returns what was found, as plain data.

    Args:
        tests: as the service tells them.
        compiled: their code.
        program: the other end.
        objects: of a mutant the names under which the program as it is has nothing but objects.
    """
    failed: list[list[str]] = []
    run = _Tests(tests, compiled, program, objects)
    try:
        program.loaded()
        if program.load_error is None:
            failed = run.run()
    except ProgramEnded:
        pass
    load_error = None if program.load_error is None else ": ".join(program.load_error)[:_REASON_CHARACTERS]
    return {
        "failed": failed,
        "looked": run.looked,
        "calls": program.calls,
        "objects": sorted(program.objects - program.data),
        "ended": program.ended,
        "undecidable": program.undecidable,
        "load_error": load_error,
    }


class _Tests:
    """The names that the tests see, and the tests."""

    def __init__(self, tests: dict[str, Any], compiled: Compiled, program: Program, objects: Iterable[str]) -> None:
        self.looked = False
        """Whether a test failed by what the tests raised themselves: what the program answers is not what it takes."""
        self._objects = objects
        self._tests = tests
        self._compiled = compiled
        self._program = program
        self._failed: list[list[str]] = []
        self._names: dict[str, Any] = {"__name__": "tests"}
        self._shadows: dict[str, Remote] = {}

    def run(self) -> list[list[str]]:
        """The tests that failed: the name, `fail` or `error`, and the reason. Raises ProgramEnded."""
        tests, compiled = self._tests, self._compiled
        if compiled.error:
            return [["tests", "error", compiled.error]]
        self._bind(compiled.names)
        if not self._try("setup", lambda: self._execute(compiled.setup)):
            return self._failed
        for at, code in enumerate(compiled.asserts):
            self._try(f"asserts[{at}]", lambda code=code: self._execute(code))
        if tests["check"]:
            self._try("check", lambda: self._check(compiled.check))
        if tests["entry_point"]:
            for at, case in enumerate(tests["cases"]):
                self._try(f"cases[{at}]", lambda case=case: self._case(case))
        return self._failed

    def _bind(self, wanted: set[str]) -> None:
        """Make the program's names known, but those of Python itself: they are Python's, whatever the program says.

        It could say that it has others than were asked for, `__builtins__` for one.
        """
        found = self._program.ask("names", sorted(wanted))
        for name, origin in found.items() if isinstance(found, dict) else ():
            if name not in wanted or name.startswith("__"):
                continue
            library = _from_library(name, *origin)
            if library is None and _of_python(name):
                self._shadows[name] = self._program.ask("get", None, name)
            elif name not in vars(builtins):
                self._names[name] = self._program.ask("get", None, name) if library is None else library

    def _execute(self, code: types.CodeType) -> None:
        """Run statements. Where the program's `sum` is all that one uses it is what is tested, else it is Python's.

        A name of the tests may hold a result of the program: `all(results)` has to be Python's, too.
        """
        used = _names_in(code)
        shadows = {name: held for name, held in self._shadows.items() if name in used}
        if len(shadows) > 1 or not used <= vars(builtins).keys() | shadows.keys():
            shadows = {}
        self._names.update(shadows)
        try:
            exec(code, self._names)  # noqa: S102 - it is what the sandbox is for
        finally:
            for name in shadows:
                self._names.pop(name, None)

    def _check(self, code: types.CodeType) -> None:
        self._execute(code)
        self._names["check"](self._candidate())

    def _case(self, case: dict[str, str]) -> None:
        arguments, expected = json.loads(case["input"]), json.loads(case["output"])
        found = _as_json(self._candidate()(*arguments))
        if found != expected:
            raise AssertionError(f"{found!r} instead of {expected!r}")

    def _candidate(self) -> Any:
        name = self._tests["entry_point"]
        names = self._shadows if name in self._shadows else self._names
        if name not in names:
            raise NameError(f"name '{name}' is not defined")
        return names[name]

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


def _names_in(code: types.CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _of_python(name: str) -> bool:
    return name in vars(builtins) or name in sys.stdlib_module_names


def _from_library(name: str, module: str, part: str) -> Any:
    """What the program took from Python's library, taken from there again by the same name; None if it did not.

    A module may be taken by another name, but not by that of another module.
    """
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        __import__(module)
        found = getattr(sys.modules[module], name) if part else sys.modules[module]
    except (ImportError, AttributeError, ValueError, KeyError):
        return None
    if name not in sys.stdlib_module_names:
        return found
    own = sys.modules.get(name)
    return found if found is own or found is getattr(own, name, own) else None


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(key): _as_json(each) for key, each in value.items()}
    return value


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
