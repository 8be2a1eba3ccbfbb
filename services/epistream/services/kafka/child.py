"""A child process that never outlives this one, not even when this one is killed with -9.

On Linux the kernel sees to that: a few lines of Python ask for it (PR_SET_PDEATHSIG) and then become the program, so
that the child's id is the program's. It is not a `preexec_fn`, which is unsafe beside threads. The kernel acts when the
*thread* that started the child ends, so a thread of its own starts the child and lives until the child has ended. (A
watching process, or a pipe to one, fails when the watcher is killed too or when another child has inherited the pipe.)
On other systems a process that is killed leaves its children behind, unless they read a pipe from it and end with it.

The child has a session of its own: Ctrl-C in the terminal reaches this process only, which stops the child in order.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Final

_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended already")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A started program. Threads may share it."""

    def __init__(
        self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path | None = None
    ) -> None:
        """Starts `command`, whose first part is the path of the program.

        Args:
            command: the program and its arguments.
            folder: where it runs.
            environment: all of its environment.
            log: the file that gets its output and its errors, written anew. When None, `input` and `output` are pipes
                to and from it, and its errors go where this process's go.

        Raises:
            OSError: it cannot be started.
        """
        self._command = launched(command)
        self._folder = folder
        self._environment = environment
        self._log = log
        started: Future[subprocess.Popen[bytes]] = Future()
        name = f"child {Path(command[0]).name}"
        self._owner = threading.Thread(target=self._own, args=(started,), name=name, daemon=True)
        self._owner.start()
        self._process = started.result()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    @property
    def input(self) -> IO[bytes]:
        """What it reads, when there is no log."""
        if self._process.stdin is None:
            raise ValueError("a child with a log has no pipes")
        return self._process.stdin

    @property
    def output(self) -> IO[bytes]:
        """What it writes, when there is no log."""
        if self._process.stdout is None:
            raise ValueError("a child with a log has no pipes")
        return self._process.stdout

    @property
    def exit_code(self) -> int | None:
        """The program's exit code, below zero the signal that ended it; None while it runs."""
        return self._process.returncode

    def wait(self, timeout_seconds: float) -> int | None:
        """Waits until it has ended; its exit code, or None when it still runs."""
        self._owner.join(timeout_seconds)
        return self.exit_code

    def stop(self, grace_seconds: float) -> None:
        """Asks it to end (SIGTERM), kills it when it has not after `grace_seconds`, and waits until it has ended."""
        self._process.send_signal(signal.SIGTERM)
        if self.wait(grace_seconds) is None:
            self.kill()

    def kill(self) -> None:
        """Kills it (SIGKILL) and waits until it has ended."""
        self._process.send_signal(signal.SIGKILL)
        self._owner.join()

    def _own(self, started: "Future[subprocess.Popen[bytes]]") -> None:
        try:
            with contextlib.ExitStack() as stack:
                log = stack.enter_context(self._log.open("wb")) if self._log is not None else None
                process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env=self._environment,
                    stdin=subprocess.PIPE if log is None else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if log is None else log,
                    stderr=None if log is None else subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException as error:  # noqa: BLE001 - whoever waits for the start gets it
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()


def launched(command: Sequence[str]) -> list[str]:
    """The command line that starts `command` bound to the life of this process's thread that starts it, on Linux."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
