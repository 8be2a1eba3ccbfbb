"""A program whose answers are changed on their way to the tests. Tests that pass all the same look at none of them.

They are changed in the tests' process: the program is not told, and cannot behave otherwise than in any other run.
"""

from __future__ import annotations

from .remote import ITERATED, Program, Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Callable, Iterator
    from typing import Any

_NOT_ANSWERS = ("names", "set", "put")
"""What the tests get of these they did not ask the program for."""
_TIMES, _MORE = 8, 20
"""Tests that call a misquoted program so many times as often, and so many times more, call it on and on."""


class Unending(BaseException):
    """The tests call a misquoted program on and on: they wait for an answer that does not come."""


class Misquoted(Program):
    """The other end, each of whose answers arrives as something else, also what is raised.

    An object of the program stays what it is, and what is read of it is changed.

    Args:
        descriptor: as that of a `Program`.
        change: what a value becomes, such as `other`.
        calls: how often the tests call the program as it is.
    """

    def __init__(self, descriptor: int, change: Callable[[Any], Any], calls: int) -> None:
        super().__init__(descriptor)
        self._change = change
        self._calls_most = _TIMES * calls + _MORE

    def ask(self, operation: str, *arguments: Any) -> Any:
        """As `Program.ask`, but for the answer. Raises nothing that the program raised, and Unending."""
        if self.calls > self._calls_most:
            raise Unending
        try:
            value = super().ask(operation, *arguments)
        except Exception:  # noqa: BLE001 - whatever it raises is its answer
            # An iteration that is broken off ends, and all else has some value.
            return [] if operation in ITERATED else self._changed(None)
        if operation in _NOT_ANSWERS:
            return value
        if operation in ITERATED and type(value) is not Remote:
            # An iterator that is a list, too, comes as the list.
            return [self._changed(each) for each in value]
        return self._changed(value)

    def beyond(self) -> Iterator[Any]:
        """One value more than an iterator of the program has."""
        yield self._changed(None)

    def _changed(self, value: Any) -> Any:
        if type(value) is Remote:
            return value
        try:
            return self._change(value)
        except (RecursionError, MemoryError):
            # It is too deep or too long to be copied, which is not for the tests to raise.
            return None


def other(value: Any) -> Any:
    """Another value of the same type, not a shorter one; None for what is neither number, text nor collection."""
    change = _OTHERS.get(type(value))
    return change(value) if change else None


def nothing(_: Any) -> None:
    """None, whatever it was."""


def _other_float(value: float) -> float:
    moved = value + 1 + abs(value)
    # Infinity, and what is no number, stay what they are under addition.
    return moved if value < moved else 0.0


def _added(value: Any) -> str:
    """A text that is not in it."""
    text = "*"
    while text in value:
        text += "*"
    return text


_OTHERS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda _: 1,
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: _other_float,
    complex: lambda value: value + 1,
    str: lambda value: value + "*",
    bytes: lambda value: value + b"*",
    list: lambda value: [*value, other(value[-1]) if value else 1],
    tuple: lambda value: (*value, other(value[-1]) if value else 1),
    set: lambda value: value | {_added(value)},
    frozenset: lambda value: value | {_added(value)},
    dict: lambda value: {**value, _added(value): 1},
}

CHANGES: dict[str, Callable[[Any], Any]] = {"other": other, "nothing": nothing}
"""By the name that the service asks for them."""
