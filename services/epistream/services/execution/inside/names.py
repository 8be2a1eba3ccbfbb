"""The names that the tests see: their own, those of the program, and Python's where both have one.

What the tests set is here as in any dictionary. All else they get by `__missing__`, or Python's own from where Python
looks next: so what the program has changed meanwhile is what they see.
"""

from __future__ import annotations

import builtins
import sys
import types

from .remote import Remote
from .values import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from typing import Any

    from .compiled import Statement
    from .remote import Program

_FIXED = (type(None), bool, int, float, complex, str, bytes, range, types.ModuleType, types.BuiltinFunctionType)
"""What holds nothing that can be changed."""


class Names(dict[str, "Any"]):
    """The variables of the tests.

    A name that the program has, too, and that Python or its library has, is in doubt. It is the program's where a
    statement uses no other name of the program's, nor a variable in which something of another one may be. Elsewhere
    nobody can say which is meant: Python's, as in `all(f(x) for x in xs)`, or the program's, as in `max(f(1), f(2))`.
    What the program imports from the library is the library's but in assertions about nothing else of the program.

    Args:
        program: the other end.
        imported: what the program's text takes from other modules, as `imports.imported`.
        entry_point: the function that the tests test: the program's, wherever it has it from.
    """

    def __init__(self, program: Program, imported: dict[str, Any], entry_point: str) -> None:
        super().__init__(__name__="tests")
        self._program = program
        self._imported = imported
        self._entry_point = entry_point
        self._own: dict[str, Remote | None] = {}
        """What the program has; None for what was data, which it may change."""
        self._doubtful: set[str] = set()
        self._withheld: dict[str, str] = {}
        """What nobody can have, and why."""
        self._library: dict[str, Any] = {}
        """What is the library's in the tests, since the program's text imports it."""
        self._behind: dict[str, set[str]] = {}
        """The names of the program by which something may have come into each variable of the tests."""
        self._lent: dict[str, tuple[int, Any, Any]] = {}
        """Of data of the program the turn in which it was asked for, the copy, and the form that the copy had then."""
        self._alone = ""
        """The name in doubt that is the program's now."""
        self._in_check = False

    def bind(self, wanted: set[str]) -> None:
        """Make those of these names known that the program has. It could say that it has `__builtins__`, too."""
        said = self._program.ask("names", sorted(wanted))
        found = said if isinstance(said, dict) else {}
        for name, origin in found.items():
            if name in wanted and not name.startswith("__"):
                self._bind(name, origin)
        # Else it would be Python's.
        hidden = (wanted & self._imported["names"].keys() & vars(builtins).keys()) - found.keys()
        self._withheld.update(dict.fromkeys(hidden, "the program's by its text, and the program does not have it"))

    def _bind(self, name: str, origin: Any) -> None:
        library = None
        if name != self._entry_point and _is_of_library(origin):
            library = _imported(name, self._imported)
            if library is None and _from_library(name, *origin) is not None:
                # Its text does not say so, and what the program says of it proves nothing.
                self._withheld[name] = "the library's by the program's word alone, and not by its text"
                return
        if library is not None:
            self[name] = self._library[name] = library
            return
        own = self._program.ask("get", None, name)
        self._own[name] = own if type(own) is Remote else None
        if name in vars(builtins) or name in sys.stdlib_module_names:
            self._doubtful.add(name)
        elif type(own) is Remote:
            self[name] = own

    def __missing__(self, name: str) -> Any:
        if name in self._withheld:
            raise self._program.refuse(f"`{name}` is {self._withheld[name]}")
        if name not in self._own:
            raise KeyError(name)
        if name in self._doubtful and name != self._alone:
            if self._in_check and name in vars(builtins):
                raise KeyError(name)
            raise self._program.refuse(f"`{name}` may be the program's here, or Python's")
        return self._own[name] or self._asked_for(name)

    def candidate(self) -> Any:
        """What is behind `entry_point`. Raises NameError."""
        name = self._entry_point
        if name in self:
            return self[name]
        if name not in self._own:
            raise NameError(f"name '{name}' is not defined")
        return self._own[name] or self._asked_for(name)

    def run(self, statement: Statement) -> None:
        """Run a statement of the tests. Raises what it raises, and Undecidable."""
        meant: set[str] = set()
        if self._doubtful or self._library:
            meant = {own for name in statement.reads for own in self._used_by(name)}
        self._alone = next(iter(meant)) if len(meant) == 1 else ""
        tested = {} if meant else self._tested_by(statement)
        self.update(tested)
        before = {name: _form(self[name]) for name in statement.reads if meant and name in self}
        try:
            exec(statement.code, self)  # noqa: S102 - it is what the sandbox is for
        except Exception as error:
            if tested:
                raise self._program.refuse(f"what it imports as {sorted(tested)} is not as the tests say") from error
            raise
        finally:
            self._alone = ""
            self.update({name: self._library[name] for name in tested})
            changed = {name for name, form in before.items() if name in self and _form(self[name]) != form}
            for name in changed | statement.sets if meant else ():
                self._behind[name] = self._behind.get(name, set()) | meant
            self._look_at_lent()

    def check(self) -> None:
        """Call the tests' `check` with the candidate: there Python's own names are Python's. Raises as `run`."""
        check, candidate = self.get("check"), self.candidate()
        if check is None or type(check) is Remote:
            raise NameError("name 'check' is not defined by the tests")
        self._in_check = True
        try:
            check(candidate)
        finally:
            self._in_check = False
            self._look_at_lent()

    def _tested_by(self, statement: Statement) -> dict[str, Remote]:
        """What the program imports, as the program has it, where the statement asserts something of that alone.

        By its text the program has it from the library, and may have put something else in its place meanwhile.
        """
        names = [name for name in statement.asserts if self._is_library(name)]
        parts = [name for name in names if not isinstance(self._library[name], types.ModuleType)]
        asked = {name: self._program.ask("get", None, name) for name in parts}
        return {name: own for name, own in asked.items() if type(own) is Remote}

    def _is_library(self, name: str) -> bool:
        return name in self._library and self.get(name) is self._library[name]

    def _used_by(self, name: str) -> set[str]:
        """The names of the program that are used where this one is."""
        if name in self:
            own = self._own.get(name)
            return {name} if own is not None and self[name] is own else self._behind.get(name, set())
        return {name} if name in self._own else set()

    def _asked_for(self, name: str) -> Any:
        """Data of the program under a name of it: as it is now, if anything was done there since it was asked for."""
        if name in self._lent:
            turn, value, _ = self._lent[name]
            if turn == self._program.turns:
                return value
            self._look_at(name)
        value = self._program.ask("get", None, name)
        self._lent[name] = self._program.turns, value, _form(value)
        return value

    def _look_at_lent(self) -> None:
        for name in self._lent:
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        """Refuse where the tests have changed what is only a copy: the program does not know of it."""
        _, value, form = self._lent[name]
        if _form(value) != form:
            raise self._program.refuse(f"the tests change `{name}` of the program's, of which they have a copy")


def _form(value: Any) -> Any:
    """What can be compared later to see whether the value was changed; of what cannot be told, never the same."""
    if isinstance(value, _FIXED) or (isinstance(value, type) and value.__module__ != "tests"):
        return None
    try:
        return pack(value, _keep)
    except (TypeError, ValueError, RecursionError, MemoryError):
        return object()


def _keep(value: Any) -> list[Any]:
    if isinstance(value, Remote | types.FunctionType):
        return ["h", id(value)]
    raise TypeError


def _is_of_library(origin: Any) -> bool:
    """Whether the program says that it has something from Python's library."""
    if not (isinstance(origin, list) and len(origin) == 2 and all(isinstance(each, str) for each in origin)):
        return False
    return origin[0].partition(".")[0] in sys.stdlib_module_names


def _imported(name: str, imported: dict[str, Any]) -> Any:
    """What the program's text imports from the library by this name, and by no other way; None if it does not."""
    sources = imported["names"].get(name)
    if sources is None:
        sources = [[module, name] for module in imported["stars"] if _is_public(name, module)]
    found = [_from_library(name, *source) for source in sources]
    usable = [each for each in found if each is not None]
    return usable[0] if usable and all(each is usable[0] for each in usable) else None


def _is_public(name: str, module: str) -> bool:
    """Whether an import of all that a module of the library has brings this name."""
    found = _from_library(module, module, "")
    return name in getattr(found, "__all__", () if name.startswith("_") else (name,))


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
