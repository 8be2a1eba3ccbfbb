"""What a program's answers become for tests that may look at none of them."""

import socket
from collections import Counter
from typing import Any

import pytest

from epistream.services.execution.inside.probing import CHANGES, Misquoted, Unending, other
from epistream.services.execution.inside.values import Channel

SAME_KIND = [
    *(True, False, 0, -1, 2**70, 1j, "", "a", b"", b"a"),
    *(0.0, -0.5, -1.0, 1e300, -1e300, float("inf"), float("-inf")),
    *([], [1], [[]], [None], (), ("a", 1), {}, {"*": 1}, {True: None}, set(), {"*", "**"}, {True, False}),
    *(frozenset(), frozenset({None})),
]


@pytest.mark.parametrize("value", SAME_KIND, ids=[f"{n} {type(value).__name__}" for n, value in enumerate(SAME_KIND)])
def test_it_becomes_another_of_its_type_that_is_no_shorter(value: Any) -> None:
    kept = repr(value)
    changed = other(value)
    assert changed != value
    assert type(changed) is type(value)
    assert not hasattr(value, "__len__") or len(changed) > len(value)
    assert repr(value) == kept, "a copy is changed"


def test_what_is_no_number_becomes_one_and_nothing_something() -> None:
    assert other(float("nan")) == 0
    assert other(None) is not None


@pytest.mark.parametrize("value", [Counter("a"), range(3), object()])
def test_what_is_of_another_type_becomes_nothing(value: object) -> None:
    assert other(value) is None
    assert CHANGES["nothing"](value) is None


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_what_cannot_be_copied_becomes_nothing(error: type[Exception]) -> None:
    def failing(_: object) -> None:
        raise error

    ours, its = socket.socketpair()
    with ours, its:
        Channel(its.fileno()).send(["v", ["l", [1, 2]]])
        assert Misquoted(ours.fileno(), failing, 0).ask("call", "f", [], {}) is None


def test_tests_that_call_on_and_on_are_broken_off() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        program = Misquoted(ours.fileno(), other, 10)
        program.calls = 100
        Channel(its.fileno()).send(["v", 5])
        assert program.ask("call", "f", [], {}) == 6
        program.calls = 101
        with pytest.raises(Unending):
            program.ask("call", "f", [], {})
