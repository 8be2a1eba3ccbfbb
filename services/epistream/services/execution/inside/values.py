"""How values go between the process of the tests and that of the program: as plain data, in JSON with tags.

Only the built-in types go, by what they hold: of an object of a subclass of `int` its number goes, and none of its
own methods is called. Whatever else the program makes stays where it is, and a handle goes instead. So nothing that
the program wrote ever runs beside the tests.
"""

from __future__ import annotations

import json
import marshal
import os
import types
from collections import Counter, OrderedDict, deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Callable
    from typing import Any

    Keep = Callable[[Any], list[Any]]
    """Makes a tagged handle of what is not plain data, or raises TypeError."""
    Find = Callable[[str, Any], Any]
    """What a tag that only one side knows means."""

MESSAGE_BYTES = 8 * 1024 * 1024
"""The longest message."""
_EXACT = 2**53
"""Integers up to here are the same in every reader of JSON."""
_BY_TEXT = ("decimal.Decimal", "fractions.Fraction")
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
_BY_ISO = ("datetime.datetime", "datetime.date", "datetime.time")


def pack(value: Any, keep: Keep) -> Any:
    """Value in a form for JSON.

    Raises:
        TypeError: `keep` does not want it.
        RecursionError: it is nested too deeply, or holds itself.
    """
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if issubclass(kind, int) and kind is not bool:
        number = int.__pos__(value)
        return number if -_EXACT < number < _EXACT else ["i", hex(number)]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    return _pack_many(value, kind, keep)


def _pack_many(value: Any, kind: type, keep: Keep) -> Any:
    if issubclass(kind, list):
        return ["l", [pack(each, keep) for each in list.__iter__(value)]]
    if issubclass(kind, tuple):
        return ["t", [pack(each, keep) for each in tuple.__iter__(value)]]
    if issubclass(kind, dict):
        tag = {Counter: "dc", OrderedDict: "do"}.get(kind, "d")
        return [tag, [[pack(key, keep), pack(each, keep)] for key, each in dict.items(value)]]
    if issubclass(kind, set):
        return ["s", [pack(each, keep) for each in set.__iter__(value)]]
    if issubclass(kind, frozenset):
        return ["sf", [pack(each, keep) for each in frozenset.__iter__(value)]]
    if kind in (bytes, bytearray, complex, range, deque):
        return _pack_exact(value, kind, keep)
    if kind in _VIEWS:
        # Not by its dictionary, which may have methods of its own: a view does not ask them.
        return ["w", [_VIEWS[kind], [pack(each, keep) for each in value]]]
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _BY_TEXT:
        return ["x", name, str(value)]
    if name in _BY_ISO:
        return ["x", name, value.isoformat()]
    if name == "datetime.timedelta":
        return ["x", name, [value.days, value.seconds, value.microseconds]]
    return keep(value)


def _pack_exact(value: Any, kind: type, keep: Keep) -> Any:
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", [pack(each, keep) for each in (value.start, value.stop, value.step)]]
    if kind is deque:
        return ["q", [pack(each, keep) for each in value], value.maxlen]
    return ["b" if kind is bytes else "ba", value.hex()]


def unpack(value: Any, find: Find) -> Any:
    """The value that `pack` made this of.

    Raises:
        ValueError: it is nothing that `pack` makes, or TypeError, LookupError, OverflowError or RecursionError.
    """
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise TypeError("no such form")
        return value
    tag, held = value[0], value[1]
    if tag in ("l", "t", "s", "sf"):
        return _MANY[tag](unpack(each, find) for each in held)
    if tag in ("d", "dc", "do"):
        return _MANY[tag]({unpack(key, find): unpack(each, find) for key, each in held})
    if tag == "i":
        return int(held, 16)
    if tag in ("b", "ba"):
        return _MANY[tag](bytes.fromhex(held))
    if tag == "c":
        return complex(value[1], value[2])
    if tag == "r":
        return range(*(unpack(each, find) for each in held))
    if tag == "q":
        return deque((unpack(each, find) for each in held), value[2])
    if tag == "x":
        return _unpack_library(held, value[2])
    if tag == "w":
        return _VIEWED[held[0]](unpack(each, find) for each in held[1])
    return find(tag, held)


_VIEWED: dict[str, Callable[[Any], Any]] = {
    "keys": lambda held: dict.fromkeys(held).keys(),
    "values": lambda held: dict(enumerate(held)).values(),
    "items": lambda held: dict(held).items(),
}
_MANY: dict[str, Callable[[Any], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "sf": frozenset,
    "d": dict,
    "dc": Counter,
    "do": OrderedDict,
    "b": bytes,
    "ba": bytearray,
}


def _unpack_library(name: str, held: Any) -> Any:
    if name in _BY_ISO:
        import datetime as dt

        return getattr(dt, name.partition(".")[2]).fromisoformat(held)
    if name == "datetime.timedelta":
        import datetime as dt

        return dt.timedelta(*held)
    if name == "decimal.Decimal":
        import decimal

        return decimal.Decimal(held)
    if name == "fractions.Fraction":
        import fractions

        return fractions.Fraction(held)
    raise ValueError("no such type")


def pack_function(function: types.FunctionType) -> list[Any]:
    """A function of the tests that stands alone, such as a lambda, as the program's process makes it anew.

    Raises:
        TypeError: it holds variables of the tests.
    """
    if function.__closure__ or function.__code__.co_freevars:
        raise TypeError("a function that uses variables of the tests")
    return ["f", marshal.dumps(function.__code__).hex()]


def unpack_function(held: str) -> types.FunctionType:
    """The function again. Only for what comes from the tests: a program may not send any."""
    return types.FunctionType(marshal.loads(bytes.fromhex(held)), {})  # noqa: S302 - made by our own process


class Channel:
    """Messages over a file descriptor: each is its length in four bytes, and JSON."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read, self._write = os.read, os.write

    def send(self, message: Any) -> None:
        """Send it. Raises OSError when nobody reads, ValueError when it is too long."""
        body = json.dumps(message).encode()
        if len(body) > MESSAGE_BYTES:
            raise ValueError("more than can be handed over")
        rest = memoryview(len(body).to_bytes(4, "big") + body)
        while rest:
            rest = rest[self._write(self._descriptor, rest) :]

    def receive(self) -> Any:
        """The next message. Raises EOFError at the end, ValueError for what is none."""
        return self.receive_after(self._exactly(4))

    def receive_after(self, head: bytes) -> Any:
        """The message that begins with these bytes, four at most, as `receive`."""
        if not head:
            raise EOFError
        length = int.from_bytes(head + self._exactly(4 - len(head)), "big")
        if length > MESSAGE_BYTES:
            raise ValueError("a message that is too long")
        return json.loads(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._read(self._descriptor, min(count, 1 << 16))
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
