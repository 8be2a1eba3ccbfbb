"""Kafka and the service as child processes of the demonstration, started by the same commands as anybody would use.

Each child has a session of its own, so that Ctrl-C reaches the demonstration only, which stops its children in order.
On Linux the kernel ends a child when the demonstration is killed: a few lines of Python ask for that (PR_SET_PDEATHSIG)
and then become the program.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from epistream.wire.errors import Unavailable

Ready = TypeVar("Ready")

KAFKA_START_SECONDS: Final = 300.0
"""With the download of its jars over a slow network."""
SERVICE_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_LOG_TAIL_LINES: Final = 15
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended already")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
_KAFKA_READY: Final = re.compile(r"Kafka is ready at (\S+)")
_JARS: Final = re.compile(r"(\d+) of (\d+) jars fetched")
_DESCRIBED: Final = re.compile(r"^(gRPC|metrics|security|store|namespaces|encoder|Kafka) +(.*)$", re.MULTILINE)


class Child:
    """`python -m epistream.services …` as a child process."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        """Starts it; its output goes to `log`. Only the main thread may, since the kernel watches over that one."""
        self.name = name
        self.log = log
        module = ["-m", "epistream.services", *arguments]
        command = [sys.executable, *module]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *module]
        # What is set for the command line's own use must not set the child's settings.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EPISTREAM_")}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "500"},
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def output_tail(self) -> str:
        """The end of what it has printed."""
        lines = self.output().strip().splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in lines)])

    async def until(self, ready: Callable[[str], Ready | None], seconds: float) -> Ready:
        """What `ready` makes of the output, as soon as it makes something of it.

        Raises:
            Unavailable: the child has ended, or was not ready in time; the end of its output is in the message.
        """
        deadline = time.monotonic() + seconds
        while (found := ready(self.output())) is None:
            if self.exit_code is not None:
                raise Unavailable(f"{self.name} ended with code {self.exit_code} while starting. {self.output_tail()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.name} was not ready after {seconds:g} seconds. {self.output_tail()}")
            await asyncio.sleep(_POLL_SECONDS)
        return found

    async def stop(self) -> int:
        """Asks it to end, kills it when it does not, and waits until it has ended; its exit code."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)


async def kafka_ready(child: Child, jars: Callable[[int, int], None]) -> str:
    """The address of Kafka, once it is ready. `jars` is told how many of its jars are here, of how many.

    Raises:
        Unavailable: it cannot be had.
    """

    def ready(output: str) -> str | None:
        if fetched := _JARS.findall(output):
            jars(int(fetched[-1][0]), int(fetched[-1][1]))
        found = _KAFKA_READY.search(output)
        return found[1] if found else None

    return await child.until(ready, KAFKA_START_SECONDS)


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Where a service is, and what it says of itself."""

    address: str
    metrics_address: str
    description: tuple[tuple[str, str], ...]
    """Names and values: store, encoder, Kafka, security."""


async def service_ready(child: Child, addresses_file: Path) -> ServiceAddresses:
    """Where the service answers, once it does.

    Raises:
        Unavailable: it does not start.
    """

    def ready(output: str) -> ServiceAddresses | None:
        described = tuple(_DESCRIBED.findall(output))
        if "Kafka" not in dict(described):  # the last line, printed after the file was written
            return None
        addresses = json.loads(addresses_file.read_text())
        return ServiceAddresses(addresses["address"], addresses["metrics_address"], described)

    return await child.until(ready, SERVICE_START_SECONDS)
