"""What a program raises goes to its tests as data, and is an exception of Python's there."""

import json
import sys
from typing import Any

import pytest

from epistream.services.execution.inside.raised import (
    OF_PROGRAM,
    ProgramRaised,
    is_raised,
    pack_raised,
    told_of,
    unpack_raised,
)


def no_handle(*_: Any) -> Any:
    raise AssertionError("there is none")


def there_and_back(error: BaseException) -> Exception:
    said = json.loads(json.dumps(pack_raised(error, no_handle)))
    assert is_raised(said)
    return unpack_raised(said, no_handle)


NOTED = ValueError("noted")
NOTED.add_note("a note")

SAME = [KeyError("a"), ValueError(), OSError(2, "no", "file"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), NOTED]
SAME += [AssertionError("own"), ImportError("no", name="it"), json.JSONDecodeError("no", "{", 1), SyntaxError("no")]


@pytest.mark.parametrize("error", SAME, ids=repr)
def test_it_is_the_same_again(error: Exception) -> None:
    made = there_and_back(error)
    assert type(made) is type(error)
    assert (made.args, str(made)) == (error.args, str(error))
    assert vars(made) == {**vars(error), OF_PROGRAM: True}


def test_one_of_a_class_of_its_own_is_of_the_first_that_python_has() -> None:
    class Bad(KeyError, OSError):
        def __str__(self) -> str:
            return "its own"

    made = there_and_back(Bad("x"))
    assert isinstance(made, KeyError)
    assert isinstance(made, OSError)
    assert (type(made).__name__, str(made), made.args) == ("Bad", "its own", ("x",))
    assert type(made).__str__ is not Bad.__str__


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_tests_is_raised_as_another(error: BaseException) -> None:
    made = there_and_back(error)
    assert type(made) is ProgramRaised
    assert str(made).startswith(type(error).__name__)


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration()])
def test_what_would_end_an_iteration_is_no_such(error: Exception) -> None:
    assert not isinstance(there_and_back(error), StopIteration | StopAsyncIteration)


def test_a_class_of_a_module_that_is_not_loaded_is_not_looked_for() -> None:
    assert "antigravity" not in sys.modules
    made = unpack_raised([[["antigravity", "Error"]], ["l", ["x"]], ["d", []], "x"], no_handle)
    assert (type(made), str(made)) == (ProgramRaised, "Error: x")
    assert "antigravity" not in sys.modules


FORGED = [
    [["os", "system"]],
    [["builtins", "eval"]],
    [["builtins", "object"]],
    [["epistream.services.execution.inside.remote", "ProgramEnded"]],
    [["", ""]],
]


@pytest.mark.parametrize("kinds", FORGED)
def test_what_is_no_exception_is_not_called(kinds: list[list[str]]) -> None:
    made = unpack_raised([kinds, ["l", ["exit()"]], ["d", [["__class__", 1], ["args", 1], [1, 2]]], "text"], no_handle)
    assert type(made) is ProgramRaised


@pytest.mark.parametrize(
    "said", [[], [[], 1, 2, ""], [[["a"]], 1, 2, ""], [[["a", 1]], 1, 2, ""], ["ab", 1, 2, ""], [[["a", "b"]], 1, 2, 3]]
)
def test_what_is_none_is_told(said: list[Any]) -> None:
    assert not is_raised(said)


@pytest.mark.parametrize("held", [[1, ["d", []]], [["l", []], 1], [["l", []], ["l", []]], [["d", []], ["d", []]]])
def test_what_does_not_fit_is_told(held: list[Any]) -> None:
    said = [[["builtins", "ValueError"]], *held, "text"]
    assert told_of(said) == "ValueError: text"
    with pytest.raises(ValueError, match="no such form"):
        unpack_raised(said, no_handle)
