"""A program of ours in a process of its own, kept running; and, in that process, the way back to the service.

Python runs one thread at a time, so what costs much Python and touches no state of the service runs beside it
(docs/decisions/0011-processes-beside-the-service.md). Both send each other messages through the process's standard
input and output: values of plain types, pickled. The end of its input means that it has to end.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from epistream.services.kafka.child import Child

_LOG: Final = logging.getLogger(__name__)

_RESTART_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_END_SECONDS: Final = 1.0
"""A process that has closed its output has so long to end."""
_MESSAGE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Nothing of ours is so large: what claims to be is no message, but was printed before `Service` took over."""
_PIPE_BYTES: Final = 1024 * 1024
"""What fits into a pipe from the process: a message of 500 records comes in one piece, not in 16. The kernel's limit
for everyone."""


class Keeper:
    """A program's process, started anew whenever it ends, and a thread that takes in what it tells."""

    def __init__(
        self,
        program: ModuleType,
        arguments: Sequence[str],
        take: Callable[[Mapping[str, Any]], bool],
        ended: Callable[[], None],
        *,
        first: Callable[[], object] | None = None,
        patient: bool,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            program: the module, with a `main` that runs when Python is given it by `-m`.
            arguments: its command line.
            take: called with each message, on the thread; whether by this the program has done something of use. May
                block. If it raises, the process is ended, and another begins.
            ended: called, on the thread, when another process is begun, whatever was the matter with the one before.
            first: what each new process is sent first; nothing when None.
            patient: whether `send` waits for a process that does not read. Else the message is dropped.
        """
        self._name: Final = program.__name__.rpartition(".")[2]
        self._log = logging.getLogger(program.__name__)
        self._command = [sys.executable, "-m", program.__name__, *arguments]
        self._take, self._ended, self._first, self._patient = take, ended, first, patient
        self._child: Child | None = None
        self._sending = threading.Lock()
        self._to: Connection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{self._name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    def start(self) -> None:
        """Start the thread, and by it the process."""
        self._thread.start()

    def send(self, message: object) -> None:
        """Send the process something, if there is one. Any thread."""
        with self._sending, contextlib.suppress(BlockingIOError, BrokenPipeError):
            if self._to is not None:
                self._to.send(message)

    def stop(self, timeout_seconds: float) -> bool:
        """Have the process end; kill it when half of the time is over. Whether it and the thread have ended in time."""
        begun = time.monotonic()
        self._stopping.set()
        self._close_input(timeout_seconds / 2)
        self._thread.join(max(0.0, begun + timeout_seconds / 2 - time.monotonic()))
        if self._thread.is_alive() and (child := self._child) is not None:
            _LOG.warning("The Kafka %s did not end in time; it is killed", self._name)
            child.kill()
        self._thread.join(max(0.0, begun + timeout_seconds - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            was_of_use = self._run_once()
            failures = 0 if was_of_use else failures + 1
            self._stopping.wait(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])

    def _run_once(self) -> bool:
        """One process, from its start to its end. Whether it was of use."""
        was_of_use = False
        try:
            child = Child(self._command, folder=Path.cwd(), environment=os.environ)
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the service; what fails is tried again
            why = f"could not be started: {error!r}"
        else:
            was_of_use = self._follow(child)
            if child.wait(_END_SECONDS) is None:
                child.kill()  # it has nothing more to tell, or is not listened to any more
            why = f"ended with code {child.exit_code}"
        self._close_input()
        self._child = None
        if not self._stopping.is_set():
            _LOG.error("The Kafka %s %s; starting it anew", self._name, why)
            self._ended()
        return was_of_use

    def _follow(self, child: Child) -> bool:
        """Take in what the process tells, until it ends or that cannot be taken in. Whether it was of use."""
        was_of_use = False
        try:
            with child.output as output, _reading(output.fileno()) as told:
                self._open_input(child)
                for message in _messages(told):
                    was_of_use = self._taken(message) or was_of_use
        except Exception as error:  # noqa: BLE001 - a new process begins after what was taken in
            _LOG.error("What the Kafka %s tells cannot be taken in", self._name, exc_info=error)
        return was_of_use

    def _open_input(self, child: Child) -> None:
        with child.input as pipe, self._sending:
            os.set_blocking(pipe.fileno(), self._patient)
            self._child, self._to = child, Connection(os.dup(pipe.fileno()), readable=False)
        if self._first is not None:
            self.send(self._first())
        if self._stopping.is_set():
            self._close_input()

    def _close_input(self, timeout_seconds: float = -1) -> None:
        """Have the process end, if there is one; or give up when somebody sends to one that does not read."""
        if self._sending.acquire(timeout=timeout_seconds):
            try:
                if self._to is not None:
                    self._to.close()
                    self._to = None
            finally:
                self._sending.release()

    def _taken(self, message: Mapping[str, Any]) -> bool:
        match message:
            case {"log": [level, text]}:
                self._log.log(level, "%s", text)
                return False
            case _:
                return self._take(message)


class Service(logging.Handler):
    """The service, seen from the process that it keeps: one for each process.

    What is logged in the process, it logs. SIGTERM and SIGINT are meant for it: it then ends our input.
    """

    def __init__(self) -> None:
        """Takes over standard input, standard output, the two signals, and logging."""
        super().__init__()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self._from = Connection(os.dup(sys.stdin.fileno()), writable=False)
        self._to = Connection(os.dup(sys.stdout.fileno()), readable=False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what a library prints is no message
        self._telling = threading.Lock()
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[self])
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it reports each attempt; we say it once

    def tell(self, **message: object) -> None:
        """Send the service a message; waits while it is busy. Any thread."""
        # Whoever closes this pipe closes the other, too.
        with self._telling, contextlib.suppress(BrokenPipeError):
            self._to.send(message)

    def heard(self) -> Iterator[Any]:
        """What the service sends, until it wants this process to end."""
        return _messages(self._from)

    def emit(self, record: logging.LogRecord) -> None:
        """Have the service log what is logged here."""
        self.tell(log=[record.levelno, self.format(record)])


def _messages(connection: Connection) -> Iterator[Any]:
    """What comes, until the other end is closed, be it in the middle of a message: an OSError."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield ForkingPickler.loads(connection.recv_bytes(_MESSAGE_BYTES_MAX))  # what `recv` does, but bounded


def _reading(descriptor: int) -> Connection:
    """A connection to read from, over a copy of a pipe's end."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return Connection(os.dup(descriptor), writable=False)
