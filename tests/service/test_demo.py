"""The demonstration as a person runs it: with the real encoder, and Apache Kafka itself.

It checks every one of its steps, and its exit code says whether each showed what it should; what is tested here is
that it passes, that it tells what it uses, that it goes on with earlier data, and that it leaves nothing behind.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from epistream.services.kafka.local import free_ports
from tests.support.cli import COMMAND, clean_environment, epistream
from tests.support.kafka import ADDRESS_VARIABLE
from tests.support.processes import is_running
from tests.support.waits import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEP_SECONDS = 600.0
GROUPED = re.compile(r"^\d+\. (\w+)", re.MULTILINE)


class Demo:
    """A demonstration that runs."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "demo.out"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "demo", *options],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=clean_environment({"TMPDIR": str(folder)}),
            )

    def told(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str) -> None:
        def said() -> bool:
            ended = self.process.poll() is not None
            told = self.told()
            assert words in told or not ended, told
            return words in told

        wait_until(said, repr(words), STEP_SECONDS)

    def ended(self) -> int:
        return self.process.wait(STEP_SECONDS)


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Demo]:
    """A demonstration that is ended with the block, in order if it can be."""
    running = Demo(folder, *options)
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.ended()
        finally:
            running.process.kill()


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def kept(folder: Path, address: str) -> list[str]:
    """Options for a small demonstration over `folder`, at `address`, without Kafka."""
    folder.mkdir(exist_ok=True)
    (folder / "kafka").touch()  # where Kafka's folder would be made
    return ["--keep", "--items=60", f"--data={folder}", f"--address={address}"]


def test_on_a_fresh_store_every_step_shows_what_it_should(tmp_path: Path) -> None:
    given = os.environ.get(ADDRESS_VARIABLE)
    with demo(tmp_path, "--fresh", "--items=150", *([f"--kafka={given}"] if given else [])) as running:
        code = running.ended()
        told = running.told()
    assert code == 0, told
    assert GROUPED.findall(told) == ["Start", "Publish", "Publish", "Correct", "Take", "Look", "Flood"]
    assert "over Kafka" in told
    assert "encoder all-MiniLM-L6-v2" in told
    assert re.search(r"Submitted → applied in the replica: +\d+ ms", told)
    assert re.search(r"All \d+ checks passed\.", told)
    assert not list(tmp_path.glob("epistream-demo-*")), "its folder is removed"


def test_it_stays_up_keeps_its_address_and_another_run_goes_on_with_its_data(tmp_path: Path, address: str) -> None:
    data = tmp_path / "data"
    heads = []
    for _ in range(2):
        with demo(tmp_path, *kept(data, address)) as running:
            running.wait_for("The service stays up until Ctrl-C.")
            found = epistream("search", "How do I shorten a text to a given width?", "-n", "python-docs", "-a", address)
            assert found.code == 0
            assert "python:textwrap.shorten" in found.out
            assert "There is no Kafka" in running.told()
            assert "Knowledge goes in over gRPC instead." in running.told()
            second = epistream("demo", *kept(data, address))
            assert second.code == 2
            assert f"{address} is taken on this machine" in second.err, "which is said at once"
            heads.append(re.findall(r"has applied revision (\d+)", running.told())[-1])
            running.process.send_signal(signal.SIGINT)
            assert running.ended() == 0, running.told()
    assert "It was made by an earlier run and goes on" in running.told()
    assert "All of it was decided by an earlier run, and nothing changed." in running.told()
    assert int(heads[1]) == int(heads[0]) + 3, "a correction, something wrong, its retraction"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_demonstration_that_is_ended_early_leaves_no_process_behind(
    tmp_path: Path, address: str, number: signal.Signals
) -> None:
    data = tmp_path / "data"
    with demo(tmp_path, *kept(data, address)) as running:
        running.wait_for("store ")
        service = json.loads((data / "addresses.json").read_text())["pid"]
        started = [child.pid for child in psutil.Process(running.process.pid).children(recursive=True)]
        assert service in started
        running.process.send_signal(number)
        code = running.ended()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), running.told()
    wait_until(lambda: not any(map(is_running, started)), "the end of all that it started")
