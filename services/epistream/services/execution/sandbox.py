"""One sandbox from its start to its end, as the service sees it: what it is told, what it answers, what it writes."""

import json
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from epistream.services.execution import filters
from epistream.services.execution.isolation import Isolation, NoIsolation
from epistream.services.execution.verdict import Limits

_ANSWER_BYTES: Final = 1024 * 1024
_END_SECONDS: Final = 1.0
_KILL_SECONDS: Final = 10.0


class OutOfTime(Exception):
    """It did not answer before the deadline."""


class SandboxEnded(Exception):
    """It is gone, or says what is no answer. Its message is what it wrote last."""


class SandboxDied(SandboxEnded):
    """Its first process is gone. That runs nothing of the program, so the machine may be short of something."""


class Sandbox:
    """An interpreter in isolation that forks a process for each run. All that it runs ends with the `with` block.

    Raises:
        NoIsolation: it cannot be started.
    """

    def __init__(self, role: str, isolation: Isolation, limits: Limits) -> None:
        self.written = bytearray()
        """What it wrote to its standard output and error streams, cut."""
        self._most = limits.output_bytes
        self._received = bytearray()
        self._stack = ExitStack()
        with self._stack:
            self.work = isolation.work or self._stack.enter_context(tempfile.TemporaryDirectory(prefix="unsandboxed-"))
            self._start(role, isolation, limits)
            self._stack = self._stack.pop_all()

    def _start(self, role: str, isolation: Isolation, limits: Limits) -> None:
        self._control, its_end = socket.socketpair()
        self._stack.enter_context(self._control)
        self._filter, filter_end = _filled_pipe(filters.starting())
        with its_end, open(self._filter, "rb"), open(os.devnull, "rb") as empty:  # noqa: PTH123 - a descriptor
            os.close(filter_end)
            try:
                self._process = subprocess.Popen(
                    isolation.command(role, limits.work_bytes, self._filter, empty.fileno()),
                    env=isolation.environment(),
                    cwd=None if isolation.work else self.work,
                    stdin=its_end.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self._filter, empty.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                raise NoIsolation(f"The sandbox cannot be started: {error}") from error
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._stdout = self._stack.enter_context(self._process.stdout)
        self.output = self._stdout.fileno()
        """The descriptor of both streams."""
        os.set_blocking(self.output, False)
        self._stack.callback(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        """Its first process ends when the connection does, and takes all others along; one that does not is killed."""
        self._control.close()
        # What fills its output would hold it up.
        self._stdout.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_KILL_SECONDS)

    def tell(self, message: dict[str, Any], deadline: float, *descriptors: int) -> None:
        """Say something, and hand over descriptors. Raises OutOfTime, SandboxEnded."""
        body = json.dumps(message).encode()
        try:
            self._control.settimeout(max(deadline - time.monotonic(), 0.001))
            socket.send_fds(self._control, [len(body).to_bytes(4, "big")], descriptors)
            self._control.sendall(body)
        except TimeoutError as error:
            raise OutOfTime from error
        except OSError as error:
            raise SandboxDied(self.last_words()) from error

    def answer(self, deadline: float, beside: Sequence["Sandbox"] = ()) -> dict[str, Any]:
        """What it says next. Meanwhile what it and those beside it write is read, so that nothing waits for that.

        Raises:
            OutOfTime: nothing by the deadline, a moment of `time.monotonic`.
            SandboxEnded: it is gone, or what it says is no answer.
        """
        poll = select.poll()
        outputs = {each.output: each for each in (self, *beside)}
        for descriptor in (*outputs, self._control.fileno()):
            poll.register(descriptor, select.POLLIN)
        while True:
            whole = self._whole()
            if whole is not None:
                return whole
            ready = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
            if not ready or time.monotonic() > deadline:
                raise OutOfTime
            for descriptor, _ in ready:
                if descriptor == self._control.fileno():
                    self._receive()
                elif not outputs[descriptor].drain():
                    poll.unregister(descriptor)

    def stop_keeping(self) -> None:
        """Keep what it has written, and throw away what it writes from now on."""
        self.drain()
        self._most = len(self.written)

    def last_words(self) -> str:
        """The end of what it wrote: what the tool says when it cannot start."""
        self.drain()
        return bytes(self.written[-500:]).decode("utf-8", "replace").strip()

    def _whole(self) -> dict[str, Any] | None:
        if len(self._received) < 4:
            return None
        length = int.from_bytes(self._received[:4], "big")
        if length > _ANSWER_BYTES:
            raise SandboxEnded("it says more than it may")
        if len(self._received) < 4 + length:
            return None
        body = bytes(self._received[4 : 4 + length])
        del self._received[: 4 + length]
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise SandboxEnded("it says what is no answer") from error
        if not isinstance(answer, dict):
            raise SandboxEnded("it says what is no answer")
        return answer

    def _receive(self) -> None:
        try:
            part = self._control.recv(1 << 16)
        except OSError:
            part = b""
        if not part:
            raise SandboxDied(self.last_words())
        self._received += part

    def drain(self) -> bool:
        """Read what there is of its output without waiting, keep the first. Returns whether more may come."""
        try:
            part = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.written += part[: max(self._most - len(self.written), 0)]
        return bool(part)


def _filled_pipe(held: bytes) -> tuple[int, int]:
    """A pipe that these bytes can be read from, with its other end."""
    readable, writable = os.pipe()
    os.write(writable, held)
    return readable, writable
