"""The process of the tests: runs them against the program, which is in another process, and says how each went.

Functions of the program are here as `Remote`: a call hands plain data over and gets plain data back, and the tests
compare that here. What is not plain data stays with the program; such a `Remote` equals nothing but itself.
"""

from __future__ import annotations

import builtins
import json
import sys
import types

from .values import Channel, pack, pack_function, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Iterable, Iterator
    from typing import Any

_MAY_PASS = frozenset(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, StopIteration | StopAsyncIteration)
)
"""What a program raises is raised here as the same. One that ends an iteration would make `all(map(f, xs))` true."""
_OF_PROGRAM = "_of_program"
"""Marks what a program raised: its own AssertionError is not that of a test."""
_REASON_CHARACTERS = 300
_OUTPUT_BYTES = 1024 * 1024


class ProgramEnded(BaseException):
    """The program's process is gone, or says what is no answer: nothing more can be asked."""


class Undecidable(BaseException):
    """The tests ask for what would have to be believed of the program's own objects."""


class ProgramRaised(Exception):
    """The program raised something of its own, or what would end the tests."""


class Program:
    """The other end: what is asked of the program, and what became of it."""

    def __init__(self, descriptor: int) -> None:
        self._channel = Channel(descriptor)
        self.calls = 0
        self.objects: set[str] = set()
        """The names under which it was found to have an object of its own, such as a function."""
        self.data: set[str] = set()
        """Those under which it was found to have data."""
        self.ended = ""
        self.undecidable = ""
        self.load_error: list[str] | None = None

    def loaded(self) -> None:
        """Wait until it is loaded. Raises ProgramEnded; `load_error` says what it raised."""
        answer = self._answer()
        self.load_error = answer[1:] if answer[0] == "e" else None

    def ask(self, operation: str, *arguments: Any) -> Any:
        """What it answers. Raises what it raised, ProgramEnded, and Undecidable for what cannot be handed over."""
        try:
            message = [operation, *(pack(each, self._hand) for each in arguments)]
            self._channel.send(message)
        except OSError as error:
            raise self._end("its process ended") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise self.refuse(f"the tests hand over {error}") from error
        answer = self._answer()
        if answer[0] == "e":
            raise _as_raised(*answer[1:])
        try:
            value = unpack(answer[1], self._find)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
            raise self._end("its answer cannot be read") from error
        if operation == "get":
            found = self.objects if type(value) is Remote else self.data
            found.add(arguments[1])
        return value

    def beyond(self) -> Iterable[Any]:
        """What comes after the last value of an iterator of the program: nothing."""
        return ()

    def refuse(self, why: str) -> Undecidable:
        """Note that it cannot be decided, however the tests take it."""
        self.undecidable = self.undecidable or why
        return Undecidable(why)

    def _answer(self) -> list[Any]:
        if self.ended:
            raise ProgramEnded(self.ended)
        try:
            answer = self._channel.receive()
        except EOFError as error:
            raise self._end("its process ended") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._end("its answer cannot be read") from error
        if not isinstance(answer, list) or not _is_answer(answer):
            raise self._end("its answer cannot be read")
        return answer

    def _end(self, why: str) -> ProgramEnded:
        self.ended = self.ended or why
        return ProgramEnded(why)

    def _hand(self, value: Any) -> list[Any]:
        if type(value) is Remote:
            return ["h", _HANDLE.__get__(value)]
        if isinstance(value, types.FunctionType):
            return pack_function(value)
        name = getattr(value, "__name__", "") if isinstance(value, type | types.BuiltinFunctionType) else ""
        if name and vars(builtins).get(name) is value:
            return ["n", name]
        raise TypeError(f"an object of {type(value).__name__}")

    def _find(self, tag: str, held: Any) -> Any:
        if tag != "h" or not isinstance(held, int):
            raise ValueError("no such form")
        return Remote(self, held)


class Remote:
    """An object of the program, by its handle."""

    __slots__ = ("_handle", "_program")

    def __init__(self, program: Program, handle: int) -> None:
        _PROGRAM.__set__(self, program)
        _HANDLE.__set__(self, handle)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it there, with copies of the arguments."""
        program = _PROGRAM.__get__(self)
        program.calls += 1
        return program.ask("call", self, list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        """Its attribute there."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return _PROGRAM.__get__(self).ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _PROGRAM.__get__(self).ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return _PROGRAM.__get__(self).ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _PROGRAM.__get__(self).ask("put", self, key, value)

    def __contains__(self, value: Any) -> bool:
        # By its values: asked for this one, it could always say yes.
        return any(each == value for each in self)

    def __len__(self) -> int:
        length = _PROGRAM.__get__(self).ask("len", self)
        if type(length) is int and length >= 0:
            return length
        # As of what has none: `list` asks for a length too, and does without.
        raise TypeError("an object of the program has no such length")

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        program = _PROGRAM.__get__(self)
        iterator = program.ask("iter", self)
        if type(iterator) is not Remote:
            yield from iterator
            return
        while values := program.ask("next", iterator):
            yield from values
        yield from program.beyond()

    def __next__(self) -> Any:
        program = _PROGRAM.__get__(self)
        raise program.refuse("`next` of an iterator of the program: the tests should make a list of it")

    def __str__(self) -> str:
        return _text(_PROGRAM.__get__(self).ask("str", self))

    def __repr__(self) -> str:
        return _text(_PROGRAM.__get__(self).ask("repr", self))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is Remote:
            raise _PROGRAM.__get__(self).refuse("both sides of a comparison are objects of the program")
        return False

    def __hash__(self) -> int:
        return object.__hash__(self)


_PROGRAM: Any = Remote.__dict__["_program"]
_HANDLE: Any = Remote.__dict__["_handle"]


def _is_answer(answer: list[Any]) -> bool:
    if len(answer) == 2:
        return bool(answer[0] == "v")
    return len(answer) == 3 and answer[0] == "e" and all(isinstance(each, str) for each in answer)


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _as_raised(kind: str, text: str) -> Exception:
    raised = _of_python_s_own(kind, text) or ProgramRaised(f"{kind}: {text}")
    vars(raised)[_OF_PROGRAM] = True
    return raised


def _of_python_s_own(kind: str, text: str) -> Exception | None:
    if kind not in _MAY_PASS:
        return None
    made: type[Exception] = getattr(builtins, kind)
    try:
        return made(text)
    except TypeError:
        return None


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
            own = _OF_PROGRAM not in vars(error)
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
