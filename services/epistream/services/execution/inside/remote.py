"""The program as its tests see it: functions and other objects that are in another process.

Functions of the program are here as `Remote`: a call hands plain data over and gets plain data back, and the tests
compare that here. What is not plain data stays with the program; such a `Remote` equals nothing but itself.
"""

from __future__ import annotations

import builtins
import types

from .raised import is_raised, told_of, unpack_raised
from .values import Channel, pack, pack_function, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Iterable, Iterator
    from typing import Any

ITERATED = ("iter", "next")
"""The operations that read an iterator."""


class ProgramEnded(BaseException):
    """The program's process is gone, or says what is no answer: nothing more can be asked."""


class Undecidable(BaseException):
    """The tests ask for what would have to be believed of the program's own objects."""


class Program:
    """The other end: what is asked of the program, and what became of it."""

    def __init__(self, descriptor: int) -> None:
        self._channel = Channel(descriptor)
        self.calls = 0
        self.turns = 0
        """How often it was asked for something that may change what it has."""
        self.ahead: dict[int, list[Any]] = {}
        """What was read of its iterators, by their handles, and not yet taken, the next one last."""
        self.objects: set[str] = set()
        """The names under which it was found to have an object of its own, such as a function."""
        self.data: set[str] = set()
        """Those under which it was found to have data."""
        self.ended = ""
        self.undecidable = ""
        self.load_error: str | None = None

    def loaded(self) -> None:
        """Wait until it is loaded. Raises ProgramEnded; `load_error` says what it raised."""
        answer = self._answer()
        self.load_error = told_of(answer[1:]) if answer[0] == "e" else None

    def ask(self, operation: str, *arguments: Any) -> Any:
        """What it answers. Raises what it raised, ProgramEnded, and Undecidable for what cannot be handed over."""
        self.turns += not (operation == "get" and arguments[0] is None)
        hand = self._hand if operation in ITERATED else self._hand_whole
        try:
            message = [operation, *(pack(each, hand) for each in arguments)]
            self._channel.send(message)
        except OSError as error:
            raise self._end("its process ended") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise self.refuse(f"the tests hand over {error}") from error
        answer = self._answer()
        try:
            raised = unpack_raised(answer[1:], self._find) if answer[0] == "e" else None
            value = unpack(answer[1], self._find) if raised is None else None
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
            raise self._end("its answer cannot be read") from error
        if raised is not None:
            raise raised
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

    def _hand_whole(self, value: Any) -> list[Any]:
        if type(value) is Remote and self.ahead.get(_HANDLE.__get__(value)):
            raise TypeError("an iterator that is read further than they have taken of it")
        return self._hand(value)

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
        ahead = program.ahead.setdefault(_HANDLE.__get__(iterator), [])
        while ahead or (values := program.ask("next", iterator)):
            if not ahead:
                ahead += reversed(values)
            yield ahead.pop()
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
    return bool(answer) and answer[0] == "e" and is_raised(answer[1:])


def _text(value: Any) -> str:
    return value if type(value) is str else ""
