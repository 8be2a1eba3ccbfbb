"""Runs a program's tests in two sandboxes, one for the program and one for the tests, and says what came of it."""

import compileall
import json
import logging
import platform
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from epistream.services.execution import filters
from epistream.services.execution.inside.mutants import chosen
from epistream.services.execution.inside.probing import CHANGES
from epistream.services.execution.inside.values import MESSAGE_BYTES
from epistream.services.execution.isolation import INSIDE, Isolation, NoIsolation, NoSandbox, find_isolation
from epistream.services.execution.sandbox import OutOfTime, Sandbox, SandboxDied, SandboxEnded
from epistream.services.execution.verdict import Failed, Limits, Result, Verdict
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.printable import printable

LEAST_KILL_RATE: Final = 0.5
"""Tests that notice fewer of the mutants are vacuous."""
DEFAULT_LIMITS: Final = Limits()
_START_SECONDS: Final = 10.0
"""It takes a twentieth of one, of a machine that has anything left."""
_RULES: Final = 4
"""Counted up when the same program and tests may get another verdict than before."""
_log = logging.getLogger(__name__)
_DEFINED: Final = re.compile(r"\b(?:def|class)\s+(\w+)")
_WORD: Final = re.compile(r"[^\W\d]\w*")
_FAILED_MOST: Final = 100
_BYTES_MOST: Final = 1024 * 1024
_TOLD_MOST: Final = MESSAGE_BYTES - _BYTES_MOST
"""Of JSON, beside what else is in the message: empty cases are many for their bytes."""
_OUT_OF_CPU: Final = (-27, -24)
"""SIGPROF and SIGXCPU."""
_VERDICTS: Final = {"fail": Verdict.FAIL, "error": Verdict.ERROR}


class Verifier:
    """Runs tests. May be used by several threads at once: each verification has sandboxes of its own.

    Args:
        isolation: how programs are kept away from this machine.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        if isinstance(isolation, NoSandbox):
            _log.warning("Code is run WITHOUT A SANDBOX, as the settings ask: a program can read this machine's files")
        # Compiled once here: a sandbox cannot keep what it compiles.
        compileall.compile_dir(INSIDE, quiet=2)

    @property
    def version(self) -> str:
        """What the verdicts depend on beside a program and its tests: our rules, the sandbox, the interpreter."""
        return f"rules {_RULES}, {self._isolation.description}, Python {platform.python_version()}"

    @classmethod
    def find(cls, bubblewrap: Path | None = None, *, allow_none: bool = False) -> "Verifier":
        """One with the isolation that this machine has. Raises NoIsolation as `find_isolation`."""
        return cls(find_isolation(bubblewrap, allow_none=allow_none))

    def verify(self, content: str, tests: pb.Tests, limits: Limits = DEFAULT_LIMITS) -> Result:
        """Run the tests of a program.

        Blocks for up to `limits.wall_seconds` and about a second, and 10 s before that where the sandboxes are slow to
        start; twice as long where one of them died, since it is done again then.

        Args:
            content: the program.
            tests: its tests.
            limits: what it may use.

        Raises:
            NoIsolation: the sandbox cannot be started, or not in time. That says nothing about the program.
        """
        began = time.monotonic()
        result = _without_running(content, tests) or self._run(content, tests, limits)
        return replace(result, seconds=time.monotonic() - began, isolation=self._isolation.description)

    def _run(self, content: str, tests: pb.Tests, limits: Limits) -> Result:
        result, died = self._once(content, tests, limits)
        if died:
            # For want of memory or of processes, it may be: then the machine is to blame, and not the program.
            _log.warning("A sandbox died, and what it was to run is run once again: %s", printable(result.reason))
            result, _ = self._once(content, tests, limits)
        return result

    def _once(self, content: str, tests: pb.Tests, limits: Limits) -> tuple[Result, bool]:
        """What came of it, and whether that is for a sandbox that died."""
        died = False
        with (
            Sandbox("program", self._isolation, limits) as program,
            Sandbox("tests", self._isolation, limits) as judge,
        ):
            runs = _Runs(program, judge, tests, limits)
            try:
                result = runs.started(content) or runs.verdict()
            except OutOfTime as late:
                if not runs.python:
                    raise NoIsolation(f"The sandbox does not start in {_START_SECONDS:g} s") from late
                result = Result(verdict=Verdict.TIMEOUT, reason=f"not done in {limits.wall_seconds:g} s")
            except SandboxEnded as ended:
                if not runs.python:
                    raise NoIsolation(f"The sandbox does not start: {ended}") from ended
                died = isinstance(ended, SandboxDied)
                result = Result(verdict=Verdict.ERROR, reason=f"its sandbox broke: {ended}")
            program.drain()
            output = bytes(program.written).decode("utf-8", "replace")
            return replace(result, output=output, interpreter=runs.python), died


def _without_running(content: str, tests: pb.Tests) -> Result | None:
    if not (tests.asserts or tests.check or tests.cases):
        return Result(verdict=Verdict.NO_TESTS, reason="it has no tests")
    if tests.language.lower() != "python":
        return Result(verdict=Verdict.NO_TESTS, reason=f"tests in {tests.language or 'no language'} are not run here")
    if len(content.encode("utf-8", "surrogatepass")) + tests.ByteSize() > _BYTES_MOST:
        return Result(verdict=Verdict.ERROR, reason=f"the program and its tests are longer than {_BYTES_MOST} bytes")
    if max(len(json.dumps(content)), len(json.dumps(_as_data(tests)))) > _TOLD_MOST:
        return Result(verdict=Verdict.ERROR, reason="the program, or its tests, are more than a sandbox can be told")
    return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of all tests came to."""

    failed: tuple[Failed, ...] = ()
    calls: int = 0
    seconds: float = 0.0
    looked: bool = False
    """Whether a test failed at what the program answers, not only at what it raised or at how it ended."""
    busy: bool = False
    """Whether the tests' own process used up its CPU time."""
    objects: tuple[str, ...] = ()
    """The names under which the program had nothing but objects of its own, such as functions."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What the tests are run on. Without anything said, the program as it is."""

    mutant: int | None = None
    """The program's mutant of this number."""
    answers: str = ""
    """One of `CHANGES`, by which the tests hear other answers than the program's; none by itself."""


_AS_IT_IS: Final = _Subject()


class _Runs:
    """The runs of one verification: the program's, and its mutants'."""

    def __init__(self, program: Sandbox, judge: Sandbox, tests: pb.Tests, limits: Limits) -> None:
        self.python = ""
        """The version of the interpreter, once both run."""
        self._program, self._judge = program, judge
        self._tests, self._limits = tests, limits
        self._deadline = time.monotonic() + _START_SECONDS
        """Until both run, of that; then of all else."""
        self._changes: list[str] = []
        self._imported: dict[str, Any] = {}
        """What of the names in the tests the program's text takes from other modules."""
        self._plain = _Outcome()
        """What the program as it is came to."""

    def started(self, content: str) -> Result | None:
        """Start both. Returns the result when the program is none. Raises OutOfTime, SandboxEnded."""
        python = self._program.answer(self._deadline)["python"]
        self._judge.answer(self._deadline, [self._program])
        # How long that took says nothing of the program.
        self.python, self._deadline = python, time.monotonic() + self._limits.wall_seconds
        told = {"filter": filters.running().hex(), "limits": _process_limits(self._limits)}
        words = set(_WORD.findall("\n".join(_code(self._tests))))
        # All that the program's sandbox is told of the tests before they run.
        named = sorted(words & set(_DEFINED.findall(content)))
        self._program.tell({**told, "content": content, "named": named, "work": self._program.work}, self._deadline)
        self._judge.tell({**told, "tests": _as_data(self._tests)}, self._deadline)
        ready = self._program.answer(self._deadline, [self._judge])
        self._judge.answer(self._deadline, [self._program])
        if ready["error"]:
            failed = Failed("program", Verdict.ERROR, ready["error"])
            return Result(verdict=Verdict.ERROR, reason=f"program: {failed.reason}", failed=(failed,))
        self._changes = ready["changes"]
        names = ready["imported"]["names"]
        self._imported = {**ready["imported"], "names": {name: names[name] for name in words & names.keys()}}
        return None

    def verdict(self) -> Result:
        """Run the program; when it passes, its mutants. Raises OutOfTime, SandboxEnded."""
        outcome = self._plain = self._outcome(_AS_IT_IS, self._limits.cpu_seconds, self._deadline)
        # What its mutants write says nothing.
        self._program.stop_keeping()
        if outcome.failed:
            first = outcome.failed[0]
            return Result(verdict=first.verdict, reason=f"{first.test}: {first.reason}", failed=outcome.failed)
        if not outcome.calls:
            return Result(verdict=Verdict.VACUOUS, reason="the tests use nothing of the program")
        tried = chosen(self._changes, self._limits.mutants)
        noticed = [found for mutant in tried if (found := self._tried(mutant)).failed]
        counted = Result(
            verdict=Verdict.VACUOUS,
            reason=f"every test passes, and {len(noticed)} of {len(tried)} mutants are noticed",
            mutants=len(tried),
            killed=len(noticed),
        )
        if not tried or len(noticed) < LEAST_KILL_RATE * len(tried):
            return counted
        if not self._look(noticed):
            return replace(counted, reason="the tests pass whatever the program answers")
        return replace(counted, verdict=Verdict.VERIFIED)

    def _look(self, noticed: Sequence[_Outcome]) -> bool:
        """Whether the tests look at what the program answers. Mutants may be noticed for what they raise alone.

        Where no mutant has shown it, the program is run again, and told to the tests by other answers than its own.
        """
        # Cases are compared with what is expected whatever comes.
        return (
            bool(self._tests.cases) or any(each.looked for each in noticed) or any(self._seen(each) for each in CHANGES)
        )

    def _seen(self, answers: str) -> bool:
        """Whether the tests themselves take other answers otherwise: by failing, or by computing on and on.

        Nothing else is a sign of that. The program may end, or wait, when tests hand it what it never gave. A machine
        may stand still: to be late by the clock decides nothing, and leaves time for what comes then.
        """
        now = time.monotonic()
        deadline = now + (self._deadline - now) / 2
        found = self._outcome(_Subject(answers=answers), 1.0 + 4 * self._plain.seconds, deadline)
        return found.looked or found.busy

    def _tried(self, mutant: int) -> _Outcome:
        """What the tests say of a mutant: to take several times as long fails them, too."""
        deadline = min(self._deadline, time.monotonic() + 1.0 + 8 * self._plain.seconds)
        return self._outcome(_Subject(mutant), 0.05 + 4 * self._plain.seconds, deadline)

    def _outcome(self, subject: _Subject, cpu_seconds: float, deadline: float) -> _Outcome:
        """Run all tests; of anything but the program as it is, up to the first process in which one fails."""
        began = time.monotonic()
        parts: list[_Outcome] = []
        failed: list[Failed] = []
        for case in self._parts():
            parts.append(self._part(subject, case, cpu_seconds, deadline))
            failed += parts[-1].failed
            if failed and (subject != _AS_IT_IS or len(failed) >= _FAILED_MOST):
                break
        return _Outcome(
            failed=tuple(failed[:_FAILED_MOST]),
            calls=sum(part.calls for part in parts),
            seconds=time.monotonic() - began,
            looked=any(part.looked for part in parts),
            busy=any(part.busy for part in parts),
            objects=tuple(name for part in parts for name in part.objects),
        )

    def _parts(self) -> Iterator[int | None]:
        """What needs a process of its own: each case of a script by its number, and None for all other tests."""
        if self._tests.asserts or self._tests.check or self._tests.entry_point:
            yield None
        if not self._tests.entry_point:
            yield from range(len(self._tests.cases))

    def _part(self, subject: _Subject, case: int | None, cpu_seconds: float, deadline: float) -> _Outcome:
        objects = () if subject.answers else self._plain.objects
        told = {"case": case, "answers": subject.answers, "calls": self._plain.calls, "objects": objects}
        of_tests = {"do": "run", "cpu_seconds": cpu_seconds, "imported": self._imported, **told}
        # That it is misquoted the program must not know, and not by its time either: it could answer otherwise.
        its_seconds = self._limits.cpu_seconds if subject.answers else cpu_seconds
        of_program = {"do": "run", "cpu_seconds": its_seconds, "mutant": subject.mutant, "script": case is not None}
        its_end, tests_end = socket.socketpair()
        with its_end, tests_end:
            self._program.tell(of_program, self._deadline, its_end.fileno())
            self._judge.tell(of_tests, self._deadline, tests_end.fileno())
        both = [self._program, self._judge]
        self._program.answer(self._deadline, both)
        try:
            report = self._judge.answer(deadline, both)
        except OutOfTime:
            if deadline >= self._deadline:
                raise
            # A mutant that waits, or tests that wait for another answer.
            report = self._stop_tests()
        stopped = self._stop()
        if not stopped["clean"]:
            raise SandboxEnded("it left files that cannot be removed")
        return _read(report, stopped["status"], case)

    def _stop_tests(self) -> dict[str, Any]:
        """End them, with or without the program. Returns what they report, nothing unless they were just done."""
        self._judge.tell({"do": "stop"}, self._deadline)
        report = self._judge.answer(self._deadline, [self._program])
        self._judge.answer(self._deadline, [self._program])
        return report

    def _stop(self) -> dict[str, Any]:
        self._program.tell({"do": "stop"}, self._deadline)
        return self._program.answer(self._deadline, [self._judge])


def _process_limits(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_CPU": int(limits.cpu_seconds) + 2,
        "RLIMIT_FSIZE": limits.work_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }


def _code(tests: pb.Tests) -> list[str]:
    """All in the tests that may have names of the program."""
    return [tests.setup, *tests.asserts, tests.check, tests.entry_point]


def _as_data(tests: pb.Tests) -> dict[str, Any]:
    return {
        "setup": tests.setup,
        "asserts": list(tests.asserts),
        "check": tests.check,
        "entry_point": tests.entry_point,
        "cases": [{"input": case.input, "output": case.output} for case in tests.cases],
    }


def _read(answer: dict[str, Any], status: int, case: int | None) -> _Outcome:
    """What the tests' process reports. It ran what is not trusted: nothing but the expected form is taken."""
    said = answer.get("report")
    report = said if isinstance(said, dict) else {}
    name = "tests" if case is None else f"cases[{case}]"
    listed = report.get("failed")
    if not isinstance(listed, list):
        late = answer.get("status") in _OUT_OF_CPU
        verdict, reason = (
            (Verdict.TIMEOUT, "used up their CPU time") if late else (Verdict.ERROR, "end without a report")
        )
        return _Outcome((Failed(name, verdict, f"the tests {reason}"),), busy=late)
    failed = [
        Failed(str(each[0])[:100], _VERDICTS.get(str(each[1]), Verdict.ERROR), str(each[2])[:500])
        for each in listed
        if isinstance(each, list) and len(each) == 3
    ]
    told = [report[kind] for kind in ("load_error", "ended", "undecidable") if report.get(kind)]
    failed += [Failed("program", Verdict.ERROR, str(each)[:500]) for each in told]
    if status in _OUT_OF_CPU:
        failed.insert(0, Failed("program", Verdict.TIMEOUT, "it used up its CPU time"))
    elif case is not None and status:
        failed.insert(0, Failed(name, Verdict.ERROR, f"it ends with {status}"))
    calls, objects = report.get("calls"), report.get("objects")
    return _Outcome(
        failed=tuple(failed),
        calls=calls if isinstance(calls, int) else 0,
        looked=report.get("looked") is True,
        objects=tuple(str(name) for name in objects) if isinstance(objects, list) else (),
    )
