"""The code of the tests, one statement after the other, and the names that each uses. Nothing of it is run here."""

from __future__ import annotations

import types
from _ast import AST, Assert, Module, Name, PyCF_ONLY_AST
from opcode import EXTENDED_ARG, opmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from collections.abc import Iterator
    from typing import Any

_REASON_CHARACTERS = 300
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_READS = {opmap[name] for name in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS") if name in opmap}
_SETS = {opmap[name] for name in ("STORE_NAME", "STORE_GLOBAL", "DELETE_NAME", "DELETE_GLOBAL")}


class Statement:
    """One statement of the tests.

    Args:
        code: it alone, as a module.
        node: the same, as it is parsed.
    """

    __slots__ = ("asserts", "code", "reads", "sets")

    def __init__(self, code: types.CodeType, node: AST) -> None:
        self.code = code
        used = list(_globals_in(code))
        self.reads = {name for operation, name in used if operation in _READS}
        """The names outside of functions that it asks for, also in functions that it makes. Attributes are none."""
        self.sets = {name for operation, name in used if operation in _SETS}
        """Those that it sets or deletes."""
        self.asserts = set(_asserted(node)) & self.reads
        """Those that it asks for within assertions."""


class Compiled:
    """The code of the tests, once for all runs."""

    def __init__(self, tests: dict[str, Any]) -> None:
        self.error = ""
        """Why it is no Python; empty when it is."""
        try:
            self.setup, self.check = (_statements(tests[part], f"<{part}>") for part in ("setup", "check"))
            self.asserts = [_statements(text, f"<asserts[{at}]>") for at, text in enumerate(tests["asserts"])]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.error = f"the tests are no Python: {error}"[:_REASON_CHARACTERS]
            return
        every = (each for part in (self.setup, self.check, *self.asserts) for each in part)
        self.names = {name for each in every for name in each.reads} | {tests["entry_point"]} - {""}
        """All that the program may have to be asked for."""


def _statements(text: str, where: str) -> list[Statement]:
    """Its statements. They are compiled one by one, so that each is judged by the names that it uses itself."""
    module: Any = compile(text, where, "exec", PyCF_ONLY_AST)
    return [Statement(compile(Module(body=[each], type_ignores=[]), where, "exec"), each) for each in module.body]


def _asserted(node: AST) -> Iterator[str]:
    """All names in the assertions of a statement."""
    waiting: list[tuple[Any, bool]] = [(node, False)]
    while waiting:
        each, within = waiting.pop()
        if isinstance(each, list):
            waiting += ((part, within) for part in each)
        elif isinstance(each, Name):
            yield from [each.id] * within
        elif isinstance(each, AST):
            waiting += ((getattr(each, field), within or isinstance(each, Assert)) for field in each._fields)


def _globals_in(code: types.CodeType, depth: int = 0) -> Iterator[tuple[int, str]]:
    """The operations on names of the module, from the bytecode: `co_names` has attributes, too."""
    high = 0
    for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument, high = high | low, 0
        if operation == EXTENDED_ARG:
            high = argument << 8
        elif operation in _READS:
            yield operation, code.co_names[argument >> (operation == _LOAD_GLOBAL)]
        elif operation in _SETS and (not depth or operation == opmap["STORE_GLOBAL"]):
            # The names that a class sets are its attributes.
            yield operation, code.co_names[argument]
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _globals_in(each, depth + 1)
