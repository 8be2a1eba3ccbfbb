"""Small wrong variants of a program. Tests that do not notice them show nothing.

Only what the tests can reach is changed: the functions and classes that they name, and what these name in turn.
"""

import ast
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice, zip_longest
from typing import Final

_SWAPPED: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

EACH_MOST: Final = 100
_PLACE: Final = ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)

Change = tuple[str, Callable[[], None]]
"""The kind of change, and what makes it in the tree that it was found in."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def changes(tree: ast.Module, named: Collection[str]) -> list[Change]:
    """The changes that can be made, in the order of the text; everywhere where the tests name nothing of the program.

    Of each kind the first `EACH_MOST`: no more are ever tried.
    """
    found: list[Change] = []
    counts: Counter[str] = Counter()
    for statement in _reachable(tree, named):
        for change in _changes_in(statement):
            counts[change[0]] += 1
            if counts[change[0]] <= EACH_MOST:
                found.append(change)
    return found


def locate(tree: ast.Module) -> None:
    """Give what a change has put into the tree a place in the text, without which it cannot be compiled."""
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt) and not hasattr(node, "lineno"):
            ast.copy_location(node, _PLACE)


def chosen(kinds: Sequence[str], most: int) -> list[int]:
    """Which of these changes to try, by their places: at most `most`, the same each time, of every kind in turn.

    What a program has most of are numbers, and a wrong number is what the fewest tests notice.
    """
    by_kind: dict[str, list[int]] = {}
    for at, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(at)
    rounds = zip_longest(*by_kind.values())
    return sorted(islice((at for each in rounds for at in each if at is not None), most))


def _reachable(tree: ast.Module, named: Collection[str]) -> list[ast.stmt]:
    """The statements of the module that define what is named, and what that uses, and those that define nothing."""
    body = [statement for statement in tree.body if not _is_text(statement) and not _is_import(statement)]
    defined = {each.name: each for each in body if isinstance(each, _Function | ast.ClassDef)}
    if not defined.keys() & set(named):
        return body
    waiting = [name for name in named if name in defined]
    waiting += [name for each in body if each not in defined.values() for name in _names_in(each)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in defined and name not in reached:
            reached.add(name)
            waiting += _names_in(defined[name])
    return [each for each in body if not isinstance(each, _Function | ast.ClassDef) or each.name in reached]


def _names_in(node: ast.AST) -> list[str]:
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _changes_in(statement: ast.AST) -> Iterator[Change]:
    # Not by recursion: long chains of `elif`, or of sums, are deeper than Python's own stack.
    waiting = [statement]
    while waiting:
        node = waiting.pop()
        if _is_text(node) or _is_import(node) or isinstance(node, ast.JoinedStr):
            continue
        yield from _changes_of(node)
        # Nor are the decorators and the defaults of a function changed.
        inner = node.body if isinstance(node, _Function) else list(ast.iter_child_nodes(node))
        waiting += reversed(inner)


def _changes_of(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, _Function):
        yield "body", lambda: _empty(node)
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in _SWAPPED:
        yield "operator", lambda: setattr(node, "op", _SWAPPED[type(node.op)]())
    elif isinstance(node, ast.Compare):
        yield "comparison", lambda: node.ops.__setitem__(0, _swapped(node.ops[0]))
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare):
        yield "condition", lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Return | ast.Lambda):
        yield from _of_result(node)
    elif isinstance(node, ast.Constant):
        number = isinstance(node.value, int | float | complex) and not isinstance(node.value, bool)
        yield "number" if number else "constant", lambda: setattr(node, "value", _other(node.value))


def _of_result(node: ast.Return | ast.Lambda) -> Iterator[Change]:
    part = "value" if isinstance(node, ast.Return) else "body"
    result = getattr(node, part)
    if result is not None and not (isinstance(result, ast.Constant) and result.value is None):
        yield "result", lambda: setattr(node, part, ast.Constant(None))


def _swapped(operator: ast.cmpop) -> ast.cmpop:
    made = _SWAPPED[type(operator)]()
    assert isinstance(made, ast.cmpop)  # noqa: S101 - the table says so
    return made


def _empty(function: _Function) -> None:
    function.body = [ast.Return(ast.Constant(None))]


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float | complex):
        return value + 1
    if isinstance(value, str):
        return value + "*"
    if isinstance(value, bytes):
        return value + b"*"
    return 1
