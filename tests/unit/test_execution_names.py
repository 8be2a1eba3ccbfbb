"""What of a program's names is imported by its text, and which names the statements of its tests use."""

import ast
import symtable
from typing import Any

import pytest

from epistream.services.execution.inside.compiled import Compiled
from epistream.services.execution.inside.imports import NAMES_MOST, imported

MATH, GCD = ["math", ""], ["math", "gcd"]

BOUND = {
    "import math": {"math": [MATH]},
    "import math as m": {"m": [MATH]},
    "import os.path": {"os": [["os", ""]]},
    "import os.path as p": {"p": [["os.path", ""]]},
    "from math import gcd": {"gcd": [GCD]},
    "from math import gcd as g": {"g": []},
    "from math import gcd, gcd as g": {"gcd": [GCD], "g": []},
    "from math import gcd as gcd": {"gcd": [GCD]},
    "from math import gcd\nfrom operator import mul as gcd": {"gcd": []},
    "from .math import gcd": {"gcd": []},
    "if x:\n    from math import gcd\nelse:\n    from fractions import gcd": {"gcd": [GCD, ["fractions", "gcd"]]},
    "from math import gcd\ndef gcd(a, b): pass": {"gcd": []},
    "from math import gcd\nclass gcd: pass": {"gcd": []},
    "from math import gcd\ngcd = 1": {"gcd": []},
    "from math import gcd\ndel gcd": {"gcd": []},
    "from math import gcd\n[gcd := 1]": {"gcd": []},
    "from math import gcd\ndef f(x=(gcd := 1)): pass": {"gcd": [], "f": []},
    "from math import gcd\nfor gcd in x: pass": {"gcd": []},
    "from math import gcd\nwith x as (gcd, y): pass": {"gcd": [], "y": []},
    "from math import gcd\ntry: pass\nexcept E as gcd: pass": {"gcd": []},
    "from math import gcd\nmatch x:\n    case [gcd, *y]: pass\n    case {**z}: pass": {"gcd": [], "y": [], "z": []},
    "from math import gcd\ndef f():\n    def g():\n        global gcd\n        gcd = 1": {"gcd": [], "f": []},
    "from math import gcd\ndef f(gcd): return gcd": {"gcd": [GCD], "f": []},
    "from math import gcd\ndef f():\n    gcd = 1": {"gcd": [GCD], "f": []},
    "from math import gcd\nclass C:\n    gcd = 1": {"gcd": [GCD], "C": []},
    "from math import gcd\nx.gcd = 1": {"gcd": [GCD]},
    "def f():\n    from math import gcd": {"f": []},
    "from math import gcd\nif __name__ == '__main__':\n    gcd = 1\nelse:\n    b = 1": {"gcd": [GCD], "b": []},
    "from math import gcd\n{gcd: 1 for gcd, b in x if (c := gcd)}": {"gcd": [GCD], "c": []},
}


@pytest.mark.parametrize("text", BOUND)
def test_a_name_is_imported_where_nothing_else_binds_it(text: str) -> None:
    found = imported(ast.parse(text))
    assert {name: sorted(sources, reverse=True) for name, sources in found["names"].items()} == BOUND[text]
    assert found["stars"] == []


def test_the_modules_of_which_all_is_imported_are_told() -> None:
    found = imported(ast.parse("from math import *\nfrom .own import *\nfrom os import *"))
    assert found == {"names": {}, "stars": ["math", "os"]}


def test_more_names_than_can_be_told_are_none() -> None:
    assert len(imported(ast.parse("\n".join(f"a{n} = 1" for n in range(NAMES_MOST))))["names"]) == NAMES_MOST
    for text in ("a = 1\n" + "\n".join(f"a{n} = 1" for n in range(NAMES_MOST)), "import " + "a," * NAMES_MOST + "a"):
        with pytest.raises(ValueError, match="10000 names"):
            imported(ast.parse(text))
    assert imported(ast.parse(f"from {'a' * 300} import b"))["names"] == {"b": []}


def compiled(*asserts: str) -> Compiled:
    made = Compiled({"setup": "", "check": "", "asserts": list(asserts), "entry_point": "f"})
    assert made.error == ""
    return made


USED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "assert f(x).y == z": ({"f", "x", "z"}, set(), {"f", "x", "z"}),
    "x = f(y)": ({"f", "y"}, {"x"}, set()),
    "import a.b as c": (set(), {"c"}, set()),
    "def g(a, b=c):\n    d = a\n    assert f(d)": ({"c", "f"}, {"g"}, {"f"}),
    "def g():\n    global x\n    x = [f(a) for a in y]": ({"f", "y"}, {"g", "x"}, set()),
    "class G:\n    a = f\n    def b(self): return self.c + d": ({"__name__", "f", "d"}, {"G"}, set()),
    "for x in f(): assert x == g, h": ({"f", "x", "g", "h"}, {"x"}, {"x", "g", "h"}),
    "assert (lambda a: a + b)(c)": ({"b", "c"}, set(), {"b", "c"}),
    "del x": (set(), {"x"}, set()),
}
"""By the statement what it reads, what it sets, and what it reads in assertions."""


@pytest.mark.parametrize("text", USED)
def test_a_statement_uses_names_and_not_attributes_or_variables_of_functions(text: str) -> None:
    ((statement,),) = compiled(text).asserts
    assert (statement.reads, statement.sets, statement.asserts - {"AssertionError"}) == USED[text]


def test_each_statement_is_told_apart_and_all_names_are_asked_for() -> None:
    made = compiled("x = g(1); assert x", "assert h")
    assert [[each.reads for each in part] for part in made.asserts] == [[{"g"}, {"x"}], [{"h"}]]
    assert made.names == {"f", "g", "x", "h"}


def test_it_finds_what_python_itself_finds() -> None:
    """Also where there are more names than an operation has room for."""
    text = "def g():\n" + "".join(f"    name{n}(a{n % 7}.b)\n" for n in range(700))
    ((statement,),) = compiled(text).asserts
    function: Any = symtable.symtable(text, "", "exec").get_children()[0]
    assert statement.reads == {each.get_name() for each in function.get_symbols() if each.is_global()}
    assert len(statement.reads) == 707
