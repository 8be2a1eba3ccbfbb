"""Real knowledge that every machine with Python has: the documentation of its own standard library.

Each module, class, function, method and property with a docstring of its own becomes one text:

    os.path.join(a, *p): Join two or more pathname components, inserting '/' as needed. If any component …

An object that is reachable under several names is taken once, under the shortest: `asyncio.Queue`, not
`asyncio.queues.Queue`. The order, and on one Python also every text, is always the same.
"""

import contextlib
import hashlib
import importlib
import inspect
import io
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final

from epistream.clients.producer import submission
from epistream.v1 import knowledge_pb2 as pb

PRODUCER: Final = "python-docs"
TEXT_CHARACTERS_MAX: Final = 400
"""About what the default encoder reads of a text: 256 word pieces."""

_SKIPPED: Final = frozenset(
    [
        "antigravity",
        "this",
        "idlelib",
        "tkinter",
        "turtle",
        "turtledemo",
        "readline",
        "rlcompleter",
        "genericpath",
        "ntpath",
        "posixpath",
        "test",
        "lib2to3",
        "distutils",
        "ensurepip",
        "encodings",
        "pydoc_data",
        "xxlimited",
        "xxlimited_35",
        "xxsubtype",
    ]
)
"""Top-level modules that open something when imported, need a screen, set up the terminal, are `os.path` by another
name, or hold nothing worth knowing."""
_SKIPPED_SUBMODULES: Final = frozenset({"test", "tests"})
_SIGNATURE_CHARACTERS_MAX: Final = 160
_DEFAULT_CHARACTERS_MAX: Final = 30
_DOCTEST: Final = re.compile(r"^\s*>>>", re.MULTILINE)
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s+[A-Z`'\"(]|\s*$)")


class _Dots:
    """Stands for a default value that is not told."""

    def __repr__(self) -> str:
        return "..."


_DOTS: Final = _Dots()


@dataclass(frozen=True, slots=True)
class Fact:
    """One documented object."""

    name: str
    """Its qualified name, such as `os.path.join`."""
    kind: str
    """module, class, function, method or property."""
    module: str
    """The module that it was found in."""
    text: str
    """Its name, its signature where it has one, and its documentation up to TEXT_CHARACTERS_MAX."""

    @property
    def item_id(self) -> str:
        """Such as `python:os.path.join`."""
        return f"python:{self.name}"


def read_corpus() -> list[Fact]:
    """All facts. Imports some 400 modules in about a second; one that cannot be imported is left out.

    Not for a process with other threads: while it runs, warnings and the standard output are turned off for all.
    """
    seen: set[int] = set()
    facts: dict[str, Fact] = {}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        # Shallow modules first: what a package offers itself is not taken from its parts.
        for name, module in sorted(_modules(), key=lambda pair: (pair[0].count("."), pair[0])):
            if id(module) not in seen:
                seen.add(id(module))
                for fact in _module_facts(name, module, seen):
                    facts.setdefault(fact.name, fact)  # `unittest.main` is a class and a module
    return list(facts.values())


def choose(facts: Iterable[Fact], count: int, always: Collection[str] = ()) -> list[Fact]:
    """At most `count` of the facts, spread evenly and the same each time, in their order.

    Those whose names are in `always` come first to be chosen.
    """
    ordered = list(facts)
    ranks = sorted(range(len(ordered)), key=lambda i: (ordered[i].name not in always, _digest(ordered[i].name)))
    return [ordered[i] for i in sorted(ranks[:count])]


def as_submission(fact: Fact, namespace: str) -> pb.Submission:
    """The fact as expert knowledge: its authors answer for it."""
    return submission(
        fact.text,
        namespace=namespace,
        producer=PRODUCER,
        origin="EXPERT",
        item_id=fact.item_id,
        source=f"{platform.python_implementation()} {platform.python_version()}, standard library",
        licence="PSF-2.0",
        attributes={"module": fact.module, "kind": fact.kind},
    )


def _modules() -> Iterator[tuple[str, ModuleType]]:
    """The importable modules of the standard library by name, packages before their parts."""
    waiting = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in _SKIPPED)
    while waiting:
        name = waiting.pop(0)
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit):  # noqa: BLE001, S112 -- one that is not for this system may fail in any way
            continue
        if not _is_ours(module):
            continue
        yield name, module
        waiting += (
            f"{name}.{part.name}"
            for part in iter_modules(getattr(module, "__path__", ()))
            if not part.name.startswith("_") and part.name not in _SKIPPED_SUBMODULES
        )
    yield "os.path", importlib.import_module("os.path")


def _is_ours(module: ModuleType) -> bool:
    """Whether Python brought the module: some other of its name may stand before it on the path."""
    file = getattr(module, "__file__", None)
    if file is None:
        return True
    folders = (Path(sysconfig.get_path(scheme)) for scheme in ("stdlib", "platstdlib"))
    return "site-packages" not in file and any(Path(file).is_relative_to(folder) for folder in folders)


def _module_facts(name: str, module: ModuleType, seen: set[int]) -> Iterator[Fact]:
    documentation = _documentation(module.__doc__)
    if documentation:
        yield Fact(name, "module", name, _bounded(f"The module {name}: {documentation}"))
    for member_name, member in _public_members(name, module):
        if id(member) in seen or not (inspect.isclass(member) or inspect.isroutine(member)):
            continue
        seen.add(id(member))
        kind = "class" if inspect.isclass(member) else "function"
        yield from _described(f"{name}.{member_name}", kind, name, member)
        if inspect.isclass(member):
            yield from _class_facts(f"{name}.{member_name}", name, member)


def _public_members(name: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What the module says that it offers; when it does not say, what was made in it."""
    listed = getattr(module, "__all__", None)
    names = sorted(set(listed if listed is not None else vars(module)))
    for member_name in names:
        member = getattr(module, member_name, None)
        if member_name.startswith("_") or member is None:
            continue
        if listed is not None or getattr(member, "__module__", None) in (name, f"_{name}"):
            yield member_name, member


def _class_facts(name: str, module: str, owner: type) -> Iterator[Fact]:
    """The class's own public methods and properties, not those that it inherits."""
    for member_name, raw in sorted(vars(owner).items()):
        if member_name.startswith("_"):
            continue
        member = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        if isinstance(member, property):
            yield from _described(f"{name}.{member_name}", "property", module, member)
        elif inspect.isroutine(member):
            yield from _described(f"{name}.{member_name}", "method", module, member)


def _described(name: str, kind: str, module: str, member: Any) -> Iterator[Fact]:
    own = vars(member).get("__doc__") if inspect.isclass(member) else getattr(member, "__doc__", None)
    documentation = _documentation(own)
    if not documentation:
        return
    called = name.removeprefix("builtins.")
    signature = _signature(member, is_method=kind == "method") if kind in ("function", "method") else ""
    yield Fact(called, kind, module, _bounded(f"{called}{signature}: {documentation}"))


def _documentation(text: object) -> str:
    """A docstring as running text, up to its first example; empty when there is none."""
    if not isinstance(text, str):
        return ""
    return " ".join(_DOCTEST.split(inspect.cleandoc(text), 1)[0].split())


def _signature(member: Any, *, is_method: bool) -> str:
    """The parameters in parentheses, without annotations; empty when Python does not know them or they are many."""
    try:
        parameters = list(inspect.signature(member).parameters.values())
    except Exception:  # noqa: BLE001 -- of a function in C it is read from a text, whose parts are evaluated
        return ""
    if is_method and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    plain = [p.replace(annotation=inspect.Parameter.empty, default=_default(p.default)) for p in parameters]
    try:
        text = str(inspect.Signature(plain))
    except ValueError:  # a method that is positional-only but for its first parameter
        return ""
    return text if len(text) <= _SIGNATURE_CHARACTERS_MAX else "(...)"


def _default(value: Any) -> Any:
    """The default value where it says something of itself, else dots.

    Others tell of this machine, as addresses in memory and the environment do.
    """
    if value is inspect.Parameter.empty:
        return value
    plain = isinstance(value, (bool, int, float, str, bytes, type(None))) or value in ((), [], {})
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return value if plain and not is_path and len(repr(value)) <= _DEFAULT_CHARACTERS_MAX else _DOTS


def _bounded(text: str) -> str:
    """At most TEXT_CHARACTERS_MAX of the text, up to the end of a sentence where one ends in the second half."""
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= TEXT_CHARACTERS_MAX]
    if ends and ends[-1] > TEXT_CHARACTERS_MAX // 2:
        return text[: ends[-1]]
    return text[: text.rindex(" ", 0, TEXT_CHARACTERS_MAX)].rstrip(" ,;:") + " …"


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
