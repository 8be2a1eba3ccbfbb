"""What a program's text takes from other modules: what the program itself says of its names proves nothing."""

import ast
from collections.abc import Iterator
from typing import Any

NAMES_MOST = 10_000
_MODULE_CHARACTERS = 200
"""No module of the library has a longer name."""

_AS_A_SCRIPT = ("__name__ == '__main__'", "'__main__' == __name__")
"""Where a program is called by its own name, it is not this that is run."""

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def imported(tree: ast.Module) -> dict[str, Any]:
    """What the names of the module are bound to.

    Returns:
        `names`: by each name of the module where it is imported from, a list of module and part, the part empty for
        the module itself. The list is empty for a name that is bound otherwise, too. `stars`: the modules of which all
        is imported. Nothing is in the order of the text.

    Raises:
        ValueError: there are more than can be told.
    """
    names: dict[str, list[list[str]]] = {}
    stars: set[str] = set()
    others = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    for node in _in_module(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                names.setdefault(alias.asname or module, []).append([module, ""])
        elif isinstance(node, ast.ImportFrom):
            module = "" if node.level or len(node.module or "") > _MODULE_CHARACTERS else node.module or ""
            stars |= {module for alias in node.names if alias.name == "*"} - {""}
            for alias in node.names:
                as_it_is = module and alias.asname in (None, alias.name)
                names.setdefault(alias.asname or alias.name, []).append([module, alias.name] if as_it_is else ["", ""])
        else:
            others.update(_bound_by(node))
    others |= {name for name, sources in names.items() if ["", ""] in sources}
    names = {**names, **{name: [] for name in others}}
    names.pop("*", None)
    if sum(1 + len(sources) for sources in names.values()) + len(stars) > NAMES_MOST:
        raise ValueError(f"it has more than {NAMES_MOST} names")
    return {"names": names, "stars": sorted(stars)}


def _in_module(tree: ast.Module) -> Iterator[ast.AST]:
    """All that is run in the module itself: no function, class, comprehension's variable, nor what a script does."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        inner: set[ast.AST] = set()
        if isinstance(node, _Scope) or (isinstance(node, ast.If) and ast.unparse(node.test) in _AS_A_SCRIPT):
            inner = {*node.body}
        elif isinstance(node, ast.comprehension):
            inner = {node.target}
        waiting += [each for each in ast.iter_child_nodes(node) if each not in inner]


def _bound_by(node: ast.AST) -> Iterator[str]:
    """The names that it sets or deletes by itself, whatever it is."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, _Scope | ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
