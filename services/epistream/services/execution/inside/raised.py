"""How what a program raises goes to its tests: by its kinds, its arguments and its text, and never as a class.

The tests get an exception of the first kinds of its that are Python's own or its library's, with its name and what it
holds. None of the program's code is in it.
"""

from __future__ import annotations

import json
import sys

from .values import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from typing import Any

    from .values import Find, Keep

OF_PROGRAM = "_of_program"
"""Marks what a program raised: its own AssertionError is not that of a test."""
_TEXT_CHARACTERS = 64 * 1024
_HELD_BYTES = 1024 * 1024
_KINDS_MOST = 100


class ProgramRaised(Exception):
    """The program raised what would end the tests, or what cannot be made again."""


def pack_raised(error: BaseException, keep: Keep) -> list[Any]:
    """What was raised, for JSON: its kinds, the arguments that make it again, its attributes, and its text."""
    try:
        text = str(error)[:_TEXT_CHARACTERS]
    except BaseException:  # noqa: BLE001 - a message may be a program too
        text = ""
    kinds = [[str(kind.__module__), str(kind.__qualname__)[:100]] for kind in type(error).__mro__]
    return [kinds[:_KINDS_MOST], *_held_by(error, text, keep), text]


def _held_by(error: BaseException, text: str, keep: Keep) -> list[Any]:
    """The arguments and the attributes. The text instead where they cannot be handed over."""
    try:
        made: Any = error.__reduce__()
        attributes = made[2] if len(made) > 2 else None
        held = [pack(list(made[1]), keep), pack(dict(attributes or {}), keep)]
        if len(json.dumps(held)) <= _HELD_BYTES:
            return held
    except BaseException:  # noqa: BLE001, S110 - as its message
        pass
    return [["l", [text]], ["d", []]]


def is_raised(said: list[Any]) -> bool:
    """Whether it has the form that `pack_raised` makes, as far as that is not for `unpack_raised` to see."""
    if len(said) != 4 or not isinstance(said[3], str) or not isinstance(said[0], list) or not said[0]:
        return False
    return all(
        isinstance(kind, list) and len(kind) == 2 and all(isinstance(each, str) for each in kind) for kind in said[0]
    )


def told_of(said: list[Any]) -> str:
    """What was raised, for people."""
    return f"{_name(said)}: {said[3]}"


def unpack_raised(said: list[Any], find: Find) -> Exception:
    """An exception to raise in the tests.

    Raises:
        ValueError: it is nothing that `pack_raised` makes, or what `unpack` raises.
    """
    handles: list[Any] = []

    def found(tag: str, held: Any) -> Any:
        handles.append(find(tag, held))
        return handles[-1]

    arguments, attributes = unpack(said[1], found), unpack(said[2], found)
    if type(arguments) is not list or type(attributes) is not dict:
        raise ValueError("no such form")
    # The text of an object of the program's would have to be asked for.
    raised = _made(said, arguments, None if handles else said[3])
    for name, value in attributes.items():
        if type(name) is str and (not name.startswith("__") or name == "__notes__"):
            _set(raised, name, value)
    vars(raised)[OF_PROGRAM] = True
    return raised


def _name(said: list[Any]) -> str:
    return str(said[0][0][1]).rpartition(".")[2] or "?"


def _set(raised: Exception, name: str, value: Any) -> None:
    try:
        setattr(raised, name, value)
    except (TypeError, AttributeError, ValueError):
        # One of Python's own, which it is made with.
        return


def _made(said: list[Any], arguments: list[Any], text: str | None) -> Exception:
    """One of the kinds that may pass: of all of them, else of the first that can be made of these arguments."""
    known = [kind for kind in (_known(*each) for each in said[0]) if kind]
    nearest = [kind for at, kind in enumerate(known) if not any(issubclass(each, kind) for each in known[:at])]
    for bases in [tuple(nearest), *((kind,) for kind in known)] if known else []:
        try:
            exact: Any = bases[0] if _known(*said[0][0]) is bases[0] else type(_name(said), bases, {})
            raised: Exception = exact(*arguments)
            if text is not None and str(raised)[:_TEXT_CHARACTERS] == text:
                return raised
            raised = type(_name(said), (exact,), {"__str__": lambda _: said[3]})(*arguments)
        except Exception:  # noqa: BLE001, S112 - whatever it is that these arguments do not fit
            continue
        return raised
    return ProgramRaised(told_of(said))


def _known(module: str, name: str) -> type[Exception] | None:
    """The class of Python's own, or of a part of its library that the tests have loaded; None if it may not pass.

    What ends an iteration would make `all(map(f, xs))` true.
    """
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    kind = getattr(sys.modules.get(module), name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    return None if issubclass(kind, StopIteration | StopAsyncIteration) else kind
