"""Which changes of a program are tried against its tests."""

import ast
from collections import Counter

from epistream.services.execution.inside.mutants import EACH_MOST, changes, chosen, locate


def kinds(text: str, *named: str) -> list[str]:
    return [kind for kind, _ in changes(ast.parse(text), named)]


def test_they_are_found_in_the_order_of_the_text() -> None:
    text = "def f(x=1):\n    'text'\n    if x:\n        return x + 2\n    return f'{x < 3}'\n"
    text += "def g():\n    return 'a' < x\n"
    assert kinds(text, "f") == ["body", "condition", "result", "operator", "number", "result"]
    assert kinds(text, "g") == ["body", "result", "comparison", "constant"]
    assert kinds(text) == kinds(text, "f") + kinds(text, "g")


def test_each_of_them_can_be_compiled() -> None:
    text = (
        "def f(x):\n    if not x: return -x\n    y = lambda: x in [1, 'a', b'b', True]\n    return y() and x ** 2 < 5\n"
    )
    found = changes(ast.parse(text), ["f"])
    seen = set()
    for at in range(len(found)):
        tree = ast.parse(text)
        changes(tree, ["f"])[at][1]()
        locate(tree)
        compile(tree, "<mutant>", "exec")
        seen.add(ast.unparse(tree))
    assert len(seen) == len(found) == 15
    assert ast.unparse(ast.parse(text)) not in seen


def test_of_each_kind_no_more_are_found_than_can_be_tried() -> None:
    found = kinds("x = [" + "1 + 1, " * 1000 + "'a']")
    assert Counter(found) == {"number": EACH_MOST, "operator": EACH_MOST, "constant": 1}
    assert len(chosen(found, 6)) == 6


def test_depth_is_no_matter() -> None:
    assert len(kinds("x = " + " + ".join(["y"] * 2000))) == EACH_MOST
