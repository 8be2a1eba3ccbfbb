"""The first process of the tests' sandbox: it forks a process for each run of them."""

from __future__ import annotations

import gc
import os
import select
import signal

from . import judge, remote
from .compiled import Compiled
from .forked import TALK, Confinement
from .values import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from typing import Any, NoReturn

_REPORT = 4
"""The descriptor that the tests' process reports to."""


class Judges:
    """The sandbox of the tests."""

    def __init__(self, told: dict[str, Any], control: int) -> None:
        self._control = control
        self._confinement = Confinement(bytes.fromhex(told["filter"]))
        self._tests = told["tests"]
        self._compiled = Compiled(self._tests)

    def ready(self) -> dict[str, Any]:
        """Nothing but that it is."""
        gc.freeze()
        gc.enable()
        return {}

    def stop(self) -> int:
        """Nothing runs between two things that it is told."""
        return 0

    def do(self, asked: dict[str, Any], descriptor: int) -> dict[str, Any]:
        """Run the tests in a process of their own. Returns what they report, `None` when they end without.

        Asked to stop meanwhile it ends them, and answers twice: for the run, and for that.
        """
        if asked["do"] == "stop":
            return {}
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            self._confinement.enter({TALK: descriptor, _REPORT: writable}, asked["cpu_seconds"])
            self._run(asked)
        os.close(descriptor)
        os.close(writable)
        # When the service says something, or closes the connection, the tests are ended.
        ready, _, _ = select.select([readable, self._control], [], [])
        report = None
        if readable in ready:
            report = _read(readable)
        os.close(readable)
        os.kill(child, signal.SIGKILL)
        return {"report": report, "status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

    def _run(self, asked: dict[str, Any]) -> NoReturn:
        try:
            case = asked["case"]
            if case is None:
                report = judge.judge_functions(self._tests, self._compiled, _program(asked), asked)
            else:
                report = judge.judge_script(self._tests["cases"][case], f"cases[{case}]", TALK)
            Channel(_REPORT).send(report)
        finally:
            os._exit(0)


def _program(asked: dict[str, Any]) -> remote.Program:
    """The other end; where `answers` names a change of them, one that is misquoted."""
    if not asked["answers"]:
        return remote.Program(TALK)
    from .probing import CHANGES, Misquoted

    return Misquoted(TALK, CHANGES[asked["answers"]], asked["calls"])


def _read(descriptor: int) -> Any:
    """The report; None when there is none."""
    try:
        return Channel(descriptor).receive()
    except (EOFError, ValueError, RecursionError):
        return None
