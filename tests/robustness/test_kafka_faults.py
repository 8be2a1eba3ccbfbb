"""Faults between a service and its Kafka: nothing is lost, nothing comes twice, and no process grows without bound.

Kafka killed under load, poison records, and a partition that cannot be read on: tests/service/test_kafka_intake.py and
test_bad_input.py.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from bench.parts import stopped
from epistream.clients import KafkaProducer, SyncKnowledgeClient, SyncProducer
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.topics import CHANGES
from tests.support.intake import admitted, facts
from tests.support.kafka import Kafka
from tests.support.knowing import DIMENSION
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

TAIL_LINES = 60
GROWTH_BYTES_MAX = 64 * 2**20
SUBMISSIONS = 2_000
"""What comes over gRPC while Kafka is away, however long that is: knowledge itself takes memory, too."""


def tail(log: Path) -> list[str]:
    """The last lines of a file."""
    return log.read_text(errors="replace").splitlines()[-TAIL_LINES:]


@dataclass(frozen=True)
class Running:
    """A service and its Kafka."""

    broker: LocalKafka
    service: RunningService
    client: SyncKnowledgeClient

    def make_namespace(self, name: str) -> str:
        self.client.create_namespace(name, encoder=ns.Encoder(model="none", dimension=DIMENSION))
        return name

    def head(self, namespace: str) -> int:
        return int(self.client.namespace(namespace).head_revision)

    def state(self) -> str:
        """What one needs to find out why publishing does not go on."""
        kinds = ("epistream_outbox", "epistream_ingest_lag", "epistream_ingest_stopped", "epistream_consumer")
        metrics = [line for line in self.service.metrics_page().splitlines() if line.startswith(kinds)]
        service = psutil.Process(self.service.pid)
        processes = [
            f"{process.cmdline()[:3]}: {process.status()}, {process.num_threads()} threads, {process.cpu_times()}"
            for process in (service, *service.children(recursive=True))
        ]
        logs = [line for log in (self.service.log, self.broker.log) for line in ("", f"{log.name}:", *tail(log))]
        return "\n".join([f"load of the machine: {os.getloadavg()}", *processes, *metrics, *logs])

    def assert_each_once(self, namespace: str, count: int) -> None:
        """So many submissions made a change each, and Kafka was told each of them."""
        changes = admitted(self.service.folder, namespace)
        assert [revision for revision, _ in changes] == [*range(1, count + 1)]
        assert sorted(Counter(id_ for _, id_ in changes).items()) == sorted((f"s-{n}", 1) for n in range(count))
        try:
            wait_until(lambda: not self.service.metric("epistream_outbox_pending"), "an empty outbox", 300)
        except AssertionError as error:
            error.add_note(self.state())
            raise
        told = [r for r in Kafka(self.broker.bootstrap).read(CHANGES) if r.key == namespace.encode()]
        assert {pb.Change.FromString(record.value or b"").revision for record in told} == {*range(1, count + 1)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("faults")
    with LocalKafka(folder / "kafka") as broker:
        ensure_topics(broker.bootstrap)
        with (
            running_service(folder / "store", kafka=broker.bootstrap) as service,
            SyncKnowledgeClient(service.address) as client,
        ):
            yield Running(broker, service, client)


@dataclass
class Load:
    """Submissions that come over Kafka all the time."""

    sent: int = 0
    failures: list[BaseException] = field(default_factory=list)


@contextmanager
def load_over_kafka(bootstrap: str, namespace: str) -> Iterator[Load]:
    """Facts, 0 and up, as long as the block; in the end Kafka has acknowledged all of them."""
    load, stop = Load(), threading.Event()

    def produce() -> None:
        try:
            with KafkaProducer(bootstrap) as producer:
                while not stop.wait(0.005):
                    producer.send(facts(namespace, [load.sent])[0])
                    load.sent += 1
        except BaseException as error:  # noqa: BLE001 - told below
            load.failures.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()
    assert load.failures == []


def beside(service: RunningService) -> dict[str, psutil.Process]:
    """The service's processes by their names: service, publisher, and a poller for each lane."""
    found = {"service": psutil.Process(service.pid)}
    for child in found["service"].children(recursive=True):
        for name in ("poller", "publisher"):
            if any(part.endswith(f".{name}") for part in child.cmdline()):
                found[f"{name} {len(found)}"] = child
    assert sorted(name.split()[0] for name in found) == ["poller", "poller", "publisher", "service"]
    return found


@pytest.mark.parametrize(
    ("seconds", "which"),
    [
        (7, "all"),
        pytest.param(60, "all", marks=pytest.mark.robustness),
        pytest.param(60, "service", marks=pytest.mark.robustness),
        pytest.param(60, "poller", marks=pytest.mark.robustness),
    ],
)
@pytest.mark.timeout(900)
def test_processes_that_stood_still_past_every_timeout_go_on_and_do_nothing_twice(
    running: Running, seconds: float, which: str
) -> None:
    """Seven seconds are past the five of a request, sixty past the 45 after which Kafka takes a member for gone."""
    namespace = running.make_namespace(f"still-{seconds}-{which}")
    with load_over_kafka(running.broker.bootstrap, namespace) as load:
        wait_until(lambda: running.head(namespace) > 50, "some changes")
        pollers = [one.pid for name, one in beside(running.service).items() if name.startswith("poller")]
        begin = time.monotonic()
        with stopped(*(pollers if which == "poller" else [running.service.pid]), alone=which != "all"):
            if which != "poller":
                assert_a_second_one_is_refused(running.service)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
        meanwhile = load.sent
        wait_until(lambda: running.head(namespace) > meanwhile, "more changes")
    wait_until(lambda: running.head(namespace) == load.sent, "all changes")
    running.assert_each_once(namespace, load.sent)


def assert_a_second_one_is_refused(service: RunningService) -> None:
    """A service that stands still holds its store: nobody writes to it until it goes on."""
    arguments = [f"--folder={service.folder}", "--address=127.0.0.1:0", "--metrics-address=", "--encoder=none"]
    second = subprocess.run(
        [sys.executable, "-m", "epistream.services", "up", *arguments], capture_output=True, text=True, check=False
    )
    assert second.returncode == 3, second.stderr
    assert "in use" in second.stderr


def not_serving(service: RunningService) -> list[str]:
    """The services that say of themselves that they do not do their work; empty for the process as such."""
    names = [f"epistream.v1.{name}Service" for name in ("Ingest", "Knowledge", "Namespace", "Sync", "Admin", "Review")]
    with grpc.insecure_channel(service.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        states = {name: check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", *names)}
    return [name for name, state in states.items() if state != health_pb2.HealthCheckResponse.SERVING]


def test_without_kafka_every_service_is_healthy(running: Running) -> None:
    """A restart would not bring it back, and all that does not need it goes on."""
    namespace = running.make_namespace("healthy")
    said = running.service.logged().count("Kafka does not answer")
    running.broker.kill()
    try:
        wait_until(lambda: running.service.logged().count("Kafka does not answer") > said, "that it is noticed")
        assert not_serving(running.service) == []
        age = "epistream_consumer_poll_age_seconds"
        wait_until(lambda: running.service.metric(age) > 2, "what EpistreamKafkaUnreachable looks at")
        with SyncProducer(running.service.address) as producer:
            producer.submit(*facts(namespace, range(3)))
        assert not_serving(running.service) == []
    finally:
        running.broker.start()
    running.assert_each_once(namespace, 3)
    wait_until(lambda: running.service.metric(age) < 1, "a Kafka that is polled again")


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(20, marks=pytest.mark.robustness),
        pytest.param(900, marks=[pytest.mark.robustness, pytest.mark.timeout(1500)], id="15 minutes"),
    ],
)
def test_a_kafka_that_cannot_be_reached_costs_bounded_memory_and_is_found_again(
    running: Running, seconds: float, record_property: Any
) -> None:
    """For half of the time it takes what is sent and answers nothing; for the other half nobody is there."""
    kafka, namespace = Kafka(running.broker.bootstrap), running.make_namespace(f"away-{seconds}")
    topic = kafka.new_topic()
    command = [sys.executable, "-m", "tests.support.endless_producer", kafka.bootstrap, topic]
    producer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert producer.stdin
    assert producer.stdout
    try:
        assert producer.stdout.readline() == "sending\n"
        wait_until(lambda: kafka.read(topic), "the first records")
        processes = beside(running.service) | {"producer": psutil.Process(producer.pid)}
        before = {name: process.memory_info().rss for name, process in processes.items()}
        os.kill(running.broker.pid, signal.SIGSTOP)
        half = SUBMISSIONS // 2
        first = submit_slowly(running, namespace, range(half), seconds / 2, processes)
        running.broker.kill()
        second = submit_slowly(running, namespace, range(half, SUBMISSIONS), seconds / 2, processes)
        running.broker.start()
        back = time.monotonic()
        with KafkaProducer(kafka.bootstrap) as more:
            for one in facts(namespace, range(SUBMISSIONS, SUBMISSIONS + 10)):
                more.send(one)
        wait_until(lambda: running.head(namespace) == SUBMISSIONS + 10, "what came over Kafka again")
        found_again = time.monotonic() - back
        said = json.loads(producer.communicate(timeout=150)[0])
    finally:
        producer.kill()
    grew = {name: max(0, first[name] - size, second[name] - size) for name, size in before.items()}
    record_property("grew_bytes", grew)
    record_property("found_again_seconds", found_again)
    print({name: f"{size / 2**20:.1f} MiB more" for name, size in grew.items()}, f"back after {found_again:.1f} s")
    assert {name: size for name, size in grew.items() if size > GROWTH_BYTES_MAX} == {}
    assert said["refused"] > 0
    values = Counter(int(record.value or b"") for record in kafka.read(topic))
    assert {*said["acknowledged"]} <= values.keys()
    assert max(values.values()) == 1
    running.assert_each_once(namespace, SUBMISSIONS + 10)


def submit_slowly(
    running: Running, namespace: str, numbers: range, seconds: float, processes: dict[str, psutil.Process]
) -> dict[str, int]:
    """Submit over gRPC at a pace; the most memory that each process had meanwhile. The service takes all at once."""
    most = dict.fromkeys(processes, 0)
    begin = time.monotonic()
    with SyncProducer(running.service.address) as producer:
        for number in range(numbers.start, numbers.stop, 20):
            receipts = producer.submit(*facts(namespace, range(number, number + 20)))
            assert {receipt.outcome for receipt in receipts} == {pb.OUTCOME_ADMITTED}
            assert not_serving(running.service) == []
            for name, process in processes.items():
                most[name] = max(most[name], process.memory_info().rss)
            due = begin + seconds * (number + 20 - numbers.start) / len(numbers)
            time.sleep(max(0.0, due - time.monotonic()))
    return most
