"""A machine in trouble gives no verdict on a program: neither one that is slow nor one that is short of something."""

from dataclasses import dataclass, field

import pytest

from epistream.services.execution import verifying
from epistream.services.execution.isolation import Isolation, NoIsolation, find_isolation
from epistream.services.execution.verdict import Limits, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.bubblewrap import find_bubblewrap

SQUARE = "def f(x):\n    return x * x\n"
TESTS = pb.Tests(language="python", asserts=["assert f(2) == 4", "assert f(3) == 9"])
NO_FORK = "import os\ndef fork():\n    raise BlockingIOError(11, 'no more processes')\nos.fork = fork\n"
SLOW = "import time\ntime.sleep({seconds})\n"


@dataclass
class Troubled:
    """The real sandbox, some of which run something first.

    Args:
        before: for each sandbox that is started, in turn; after them none does.
    """

    before: list[str]
    sandbox: Isolation = field(default_factory=lambda: find_isolation(find_bubblewrap()))
    started: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        return self.sandbox.description

    @property
    def work(self) -> str | None:
        return self.sandbox.work

    def environment(self) -> dict[str, str]:
        return self.sandbox.environment()

    def command(self, role: str, work_bytes: int, filter_descriptor: int, empty_descriptor: int) -> list[str]:
        *command, program = self.sandbox.command(role, work_bytes, filter_descriptor, empty_descriptor)
        first = self.before[len(self.started)] if len(self.started) < len(self.before) else ""
        self.started.append(role)
        return [*command, first + program]


@pytest.mark.parametrize("before", [[NO_FORK, ""], ["", NO_FORK]], ids=["of the program", "of the tests"])
def test_what_a_sandbox_that_died_was_to_run_is_run_once_again(before: list[str]) -> None:
    troubled = Troubled(before)
    result = Verifier(troubled).verify(SQUARE, TESTS)
    assert result.verdict == Verdict.VERIFIED, result
    assert troubled.started == ["program", "tests"] * 2


def test_one_that_dies_again_is_an_error_and_not_tried_for_ever() -> None:
    troubled = Troubled([NO_FORK] * 100)
    result = Verifier(troubled).verify(SQUARE, TESTS)
    assert result.verdict == Verdict.ERROR
    assert "its sandbox broke" in result.reason
    assert "no more processes" in result.reason
    assert troubled.started == ["program", "tests"] * 2


@pytest.mark.parametrize("slow", [0, 1], ids=["of the program", "of the tests"])
def test_a_sandbox_that_does_not_start_in_time_gives_no_verdict(slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_START_SECONDS", 0.5)
    troubled = Troubled([SLOW.format(seconds=60) if at == slow else "" for at in range(2)])
    with pytest.raises(NoIsolation, match="does not start in") as raised:
        Verifier(troubled).verify(SQUARE, TESTS)
    assert raised.value.reason == "NO_ISOLATION"


def test_the_time_that_a_sandbox_takes_to_start_is_not_the_program_s() -> None:
    troubled = Troubled([SLOW.format(seconds=1.5), ""])
    result = Verifier(troubled).verify(SQUARE, TESTS, Limits(wall_seconds=1.4))
    assert result.verdict == Verdict.VERIFIED, result
