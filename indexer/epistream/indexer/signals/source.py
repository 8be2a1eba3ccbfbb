"""Python sources as signals read them: the program in an item, its tree, its imports, its undefined names.

Nothing is run. Other languages are not read: their items count in no figure that needs a tree.
"""

import ast
import builtins
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from epistream.v1 import knowledge_pb2 as pb

PARSED_CHARACTERS_MAX: Final = 64 * 1024
_FENCED: Final = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON: Final = frozenset(("python", "python3", "py"))
_BRANCHES: Final = (ast.If, ast.IfExp, ast.match_case, ast.ExceptHandler, ast.Assert, ast.Raise)
_LOOPS: Final = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
_OPERATORS: Final = (ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.AugAssign)
_LOGIC: Final = (ast.Call, *_BRANCHES, *_LOOPS, *_OPERATORS)
_KNOWN: Final = frozenset([*dir(builtins), "__file__", "__path__", "__builtins__", "__annotations__"])
_BLOB: Final = re.compile(r"/?blob/[^/]+/|@[0-9a-f]+$")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A program, and its tree."""

    text: str
    tree: ast.Module | None
    """None where it is no Python that parses."""


def language(knowledge: pb.Knowledge) -> str:
    """In small letters; empty where nobody says."""
    named = knowledge.attributes.get("language", "") or knowledge.tests.language
    fenced = _FENCED.search(knowledge.content)
    return (named or (fenced[1] if fenced else "")).lower()


def parse(knowledge: pb.Knowledge) -> Parsed | None:
    """The program of an item of code; None where it is not Python, or too long to be read."""
    if language(knowledge) not in _PYTHON or len(knowledge.content) > PARSED_CHARACTERS_MAX:
        return None
    blocks = [block for _, block in _FENCED.findall(knowledge.content)]
    text = "\n".join(blocks) if blocks else knowledge.content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler thinks of others' code is not ours to tell
            return Parsed(text, ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Parsed(text, None)


def lines(text: str) -> list[str]:
    """The lines that are not blank, without the white space at their ends."""
    return [stripped for line in text.splitlines() if (stripped := line.strip())]


def logic_nodes(tree: ast.Module) -> int:
    """How many calls, branches, loops and operators there are."""
    return sum(isinstance(node, _LOGIC) for node in ast.walk(tree))


def undefined(tree: ast.Module) -> set[str] | None:
    """The names that are read and nowhere bound, whatever the scope; None where a star import may bind anything."""
    bound: set[str] = set(_KNOWN)
    read: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
            if "*" in names:
                return None
            bound.update(names)
        else:
            bound.update(_binds(node))
    return read - bound


def _binds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        if isinstance(node, ast.ClassDef):
            yield from ("__class__", "__qualname__")
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names


def path_in(repository: str, change: pb.Change) -> str:
    """The path of a file in its repository: what the item's id or source has behind the repository's name; or empty."""
    for named in (change.item_id, change.knowledge.provenance.source):
        _, found, rest = named.partition(f"{repository}/")
        if found:
            return _BLOB.sub("", rest)
    return ""


class Imported(NamedTuple):
    """What a file imports."""

    base: str
    """A module, absolute, with dots; empty for what stands at the top."""
    name: str
    """Of `from a import b` the name, which may be a module too."""
    relative: bool


def imported(tree: ast.Module, path: str) -> Iterator[Imported]:
    """What a file imports. `path` is its own, `a/b.py`, against which relative imports are resolved.

    One that leads out of the folder that all is in imports nothing.
    """
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, "", relative=False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(package) + 1:
                continue
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else ())])
            yield from (Imported(base, alias.name, node.level > 0) for alias in node.names)


def module_of(path: str) -> str:
    """The module that a file is: `a.b` of `a/b.py`, `a` of `a/__init__.py`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
