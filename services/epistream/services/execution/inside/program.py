"""The process of one program: loads it, and does with its functions what the tests' process asks for.

It knows nothing of what the tests expect: it is told arguments, and tells results. The program shares this process and
may change whatever is here: all that comes out of it is data that the tests' process judges.
"""

import atexit
import builtins
import io
import os
import sys
import types
from _sitebuiltins import Quitter
from itertools import islice
from typing import Any, Final

from .raised import pack_raised
from .values import Channel, pack, unpack, unpack_function

STREAM_CHUNK: Final = 1000
"""At most so many values of an iterator go in one message."""
_CHANGEABLE: Final = (list, dict, set, bytearray)


def run_script(code: types.CodeType, descriptor: int) -> None:
    """Run it as a script whose standard input and output are the descriptor."""
    os.dup2(descriptor, 0)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    module = _module("__main__")
    try:
        exec(code, module.__dict__)  # noqa: S102 - it is what the sandbox is for
    finally:
        _finish()


def _finish() -> None:
    """What an interpreter does at its end, and `os._exit` leaves out: what was put off until then, and the last words.

    A program may have put something else in the place of `sys.stdout`, and write the rest past it.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()


def serve(code: types.CodeType, descriptor: int) -> None:
    """Load it, and answer until the other side closes."""
    channel = Channel(descriptor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What it has written is kept however it ends.
        sys.stdout.reconfigure(line_buffering=True)
    module = _module("program")
    served = Served(module)
    try:
        exec(code, module.__dict__)  # noqa: S102 - it is what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - whatever it raises is its answer
        channel.send(served.raised(error))
    else:
        channel.send(["v", None])
    while True:
        try:
            asked = channel.receive()
        except EOFError:
            return
        channel.send(served.answer(asked))


def make_quitters() -> None:
    """Make `exit` and `quit`, as `site` does, without which the interpreter is started."""
    builtins.exit, builtins.quit = (Quitter(name, "Ctrl-D (i.e. EOF)") for name in ("exit", "quit"))


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


class Served:
    """The objects of the program that the tests' process has handles of."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._kept: list[Any] = []
        self._places: dict[int, int] = {}
        """By the identity of what is kept where it is: one object has one handle."""
        self._streams: dict[int, _Stream] = {}

    def answer(self, asked: list[Any]) -> list[Any]:
        """`["v", value]`, or `["e", …]` with the parts of what was raised."""
        try:
            done = _OPERATIONS[asked[0]](self, *(unpack(each, self._find) for each in asked[1:]))
            return ["v", pack(done, self._keep)]
        except BaseException as error:  # noqa: BLE001 - whatever it raises is its answer
            return self.raised(error)

    def raised(self, error: BaseException) -> list[Any]:
        """The answer that is an exception."""
        return ["e", *pack_raised(error, self._keep)]

    def _keep(self, value: Any) -> list[Any]:
        place = self._places.setdefault(id(value), len(self._kept))
        if place == len(self._kept):
            self._kept.append(value)
        return ["h", place, callable(value)]

    def _find(self, tag: str, held: Any) -> Any:
        if tag == "f":
            return unpack_function(held)
        if tag == "n":
            return getattr(builtins, held)
        return self._kept[held]

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """Of these names those that the program has, and where each comes from."""
        found = {name: self._module.__dict__[name] for name in wanted if name in self._module.__dict__}
        return {name: _origin(value) for name, value in found.items()}

    def get(self, owner: Any, name: str) -> Any:
        """An attribute; without an owner, a name of the program."""
        return self._module.__dict__[name] if owner is None else getattr(owner, name)

    def call(self, function: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """What it returns."""
        return function(*arguments, **named)

    def next(self, iterator: Any) -> list[Any]:
        """The next values of an iterator, none at its end."""
        return self._streams.setdefault(id(iterator), _Stream()).take(iterator, self._keep)


class _Stream:
    """How far an iterator is read: a little further each time, since the next value may take for ever."""

    def __init__(self) -> None:
        self._size = 1
        self._raised: BaseException | None = None
        self._last: tuple[Any, Any] = (None, None)

    def take(self, iterator: Any, keep: Any) -> list[Any]:
        """The next values. What it raises after some of them is raised the next time."""
        if self._raised is not None:
            error, self._raised = self._raised, None
            raise error
        values: list[Any] = []
        try:
            for value in islice(iterator, self._size):
                self._look_at(value, keep)
                values.append(value)
        except BaseException as error:
            if not values:
                raise
            self._raised = error
        self._size = min(2 * self._size, STREAM_CHUNK)
        return values

    def _look_at(self, value: Any, keep: Any) -> None:
        """Raise where it is the last one again, changed: a list of all would hold it twice as it is at the end."""
        if type(value) in _CHANGEABLE:
            form = pack(value, keep)
            if value is self._last[0] and form != self._last[1]:
                raise RuntimeError("one object again and again, changed each time: its values cannot be told")
            self._last = value, form


def _origin(value: Any) -> list[str]:
    """The module that it is, or the one of Python's library that it is a part of, and whether it is a part."""
    if isinstance(value, types.ModuleType):
        return [value.__name__, ""]
    module = getattr(value, "__module__", None)
    return [module, "part"] if isinstance(module, str) and module in sys.stdlib_module_names else ["", ""]


def _set(_: Served, owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _put(_: Served, owner: Any, key: Any, value: Any) -> None:
    owner[key] = value


_OPERATIONS: Final[dict[str, Any]] = {
    "names": Served.names,
    "get": Served.get,
    "call": Served.call,
    "next": Served.next,
    "set": _set,
    "put": _put,
    "item": lambda _, owner, key: owner[key],
    "len": lambda _, owner: len(owner),
    "iter": lambda _, owner: iter(owner),
    "str": lambda _, owner: str(owner),
    "repr": lambda _, owner: repr(owner),
}
