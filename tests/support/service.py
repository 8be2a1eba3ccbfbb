"""A real service, in a process of its own.

with running_service(tmp_path) as service:
    channel = grpc.insecure_channel(service.address)
    service.kill()      # as power loss does it
    service.restart()   # over the same folder, at the same addresses

It ends with the process that started it, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epistream.services.kafka.child import launched
from tests.support.metrics import page_of

PROGRAM: Final = "epistream.services"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Fail:
    """Where a process is to fail."""

    point: str
    """One of those of `tests.support.failing_service`."""
    at_pass: int
    """When it is passed so often."""


class RunningService:
    """A service process. Nothing of it is in this process.

    Attributes:
        folder: its data.
        address: where gRPC is served, as HOST:PORT; the same after a restart.
        metrics_address: where Prometheus reads.
        health_address: where the health service is alone; empty for nowhere.
        pid: its process.
        log: the file with what it logged, over all restarts.
    """

    def __init__(
        self,
        folder: Path,
        flags: Mapping[str, str | None],
        program: str = PROGRAM,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._program, self._environment = program, environment or {}
        self.address = self.metrics_address = "127.0.0.1:0"
        self.health_address = ""
        self.pid = 0
        self.log = folder.with_name(f"{folder.name}.log")
        self._found = folder.with_name(f"{folder.name}.addresses.json")
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, fail: Fail | None = None) -> None:
        """Start the process and wait until it answers."""
        self.launch(fail)
        deadline = time.monotonic() + START_SECONDS
        while not self._found.exists():
            assert self.is_running(), f"the service ended at once:\n{self.logged()}"
            assert time.monotonic() < deadline, f"the service does not start:\n{self.logged()}"
            time.sleep(0.01)
        addresses = json.loads(self._found.read_text())
        self.address, self.metrics_address, self.pid = (
            addresses["address"],
            addresses["metrics_address"],
            addresses["pid"],
        )
        self.health_address = addresses["health_address"]

    def launch(self, fail: Fail | None = None) -> None:
        """Start the process."""
        self._found.unlink(missing_ok=True)
        flags = {
            "folder": str(self.folder),
            "address": self.address,
            "metrics-address": self.metrics_address,
            "addresses-file": str(self._found),
            **self._flags,
        }
        arguments = [f"--{name}" if value is None else f"--{name}={value}" for name, value in flags.items()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EPISTREAM_")}
        environment |= self._environment
        program = self._program
        if fail is not None:
            program = "tests.support.failing_service"
            environment |= {"FAIL_POINT": fail.point, "FAIL_PASS": str(fail.at_pass)}
        started: Future[subprocess.Popen[bytes]] = Future()
        command = launched([sys.executable, "-m", program, "up", *arguments])
        threading.Thread(target=self._own, args=(command, environment, started), daemon=True).start()
        self._process = started.result()

    def kill(self) -> None:
        """End it as power loss does: at once, with nothing tidied up."""
        process = self._running()
        process.kill()
        process.wait(STOP_SECONDS)

    def signal(self, number: int) -> None:
        """Send it a signal, and return at once."""
        self._running().send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended; its exit code."""
        return self._running().wait(seconds)

    def stop(self) -> int:
        """Ask it to end, wait until it has; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> None:
        """Start it again, stopping it first if it runs, over the same folder and at the same addresses."""
        if self.is_running():
            self.stop()
        self.start()

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def logged(self) -> str:
        """What it logged."""
        return self.log.read_text(errors="replace")

    def metric(
        self, sample: str, default: float | None = None, *, ca: bytes | None = None, token: str | None = None
    ) -> float:
        """The value of a sample, such as `epistream_store_revision{namespace="a"}`.

        When it is not there, `default`; without one the test fails: a name that is wrong would be 0 for ever.
        """
        for line in self.metrics_page(ca=ca, token=token).splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        assert default is not None, f"there is no {sample}"
        return default

    def metrics_page(self, *, ca: bytes | None = None, token: str | None = None) -> str:
        """What Prometheus reads: over HTTPS with this CA, with this bearer token. Raises OSError."""
        return page_of(self.metrics_address, ca=ca, token=token)

    def _own(self, command: list[str], environment: dict[str, str], started: "Future[subprocess.Popen[bytes]]") -> None:
        """In a thread that lives as long as the process does: Linux ends it with the thread that started it."""
        try:
            with self.log.open("ab") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the start gets it
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the service was not started"
        return self._process


@contextmanager
def running_service(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    encoder: str = "none",
    kafka: str | None = None,
    fail: Fail | None = None,
    program: str = PROGRAM,
    environment: Mapping[str, str] | None = None,
    **more: str | None,
) -> Iterator[RunningService]:
    """A service over `folder`, on free ports, which is stopped in the end.

    Args:
        folder: its data; made if there is none.
        settings: settings by their names.
        encoder: as the setting; without one, namespaces need the encoder `none` and bring their own vectors.
        kafka: bootstrap servers.
        fail: where it is to fail, until it is started again.
        program: the module that is run where it is not to fail.
        environment: what its environment has besides this process's.
        more: more settings, by their names; None for a flag that takes no value.
    """
    given = {"encoder": encoder} | ({"kafka": kafka} if kafka else {}) | dict(settings or {}) | more
    flags = {name.replace("_", "-"): value for name, value in given.items()}
    service = RunningService(folder, flags, program, environment)
    try:
        service.start(fail)
        yield service
    finally:
        if service.is_running():
            service.signal(signal.SIGTERM)
            try:
                service.wait()
            except subprocess.TimeoutExpired:
                service.kill()
                raise
