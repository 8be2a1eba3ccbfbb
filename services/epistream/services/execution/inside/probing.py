"""A program whose answers are changed on their way to the tests. Tests that pass all the same look at none of them.

They are changed in the tests' process: the program is not told, and cannot behave otherwise than in any other run.
"""

from __future__ import annotations

from .judge import Program, Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Callable, Iterator
    from typing import Any

_NOT_ANSWERS = ("names", "set", "put")
"""What the tests get of these they did not ask the program for."""
_ITERATED = ("iter", "next")


class Misquoted(Program):
    """The other end, each of whose answers arrives as something else, also what is raised.

    An object of the program stays what it is, and what is read of it is changed.

    Args:
        descriptor: as that of a `Program`.
        change: what a value becomes, such as `other`.
    """

    def __init__(self, descriptor: int, change: Callable[[Any], Any]) -> None:
        super().__init__(descriptor)
        self._change = change

    def ask(self, operation: str, *arguments: Any) -> Any:
        """As `Program.ask`, but for the answer. Raises nothing that the program raised."""
        try:
            value = super().ask(operation, *arguments)
        except Exception:  # noqa: BLE001 - whatever it raises is its answer
            # An iteration that is broken off ends, and all else has some value.
            return [] if operation in _ITERATED else self._changed(None)
        if operation in _NOT_ANSWERS:
            return value
        if operation == "next" and isinstance(value, list):
            return [self._changed(each) for each in value]
        return self._changed(value)

    def beyond(self) -> Iterator[Any]:
        """One value more than an iterator of the program has."""
        yield self._changed(None)

    def _changed(self, value: Any) -> Any:
        return value if type(value) is Remote else self._change(value)


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
