"""What the demonstration says and checks where not all is there, or an earlier run has done it already."""

import asyncio
import contextlib
import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from epistream.clients.cli.exits import Wrong
from epistream.clients.demo import demo, flood
from epistream.clients.demo.demo import DemoOptions
from epistream.clients.demo.flood import Flood
from epistream.clients.demo.report import Report
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Unavailable
from tests.support.cli import epistream


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def report(printed: io.StringIO) -> Report:
    return Report(Console(file=printed, width=200))


def answers(answer: object) -> Callable[..., Any]:
    async def answered(*_: object, **__: object) -> object:
        return answer

    return answered


@pytest.mark.parametrize("fresh", [True, False])
def test_without_kafka_a_fresh_demonstration_fails_and_another_goes_on_over_grpc(
    fresh: bool, report: Report, printed: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_kafka(*_: object) -> str:
        raise Unavailable("its jars cannot be had")

    monkeypatch.setattr(demo, "Child", lambda *_: SimpleNamespace(stop=answers(0)))
    monkeypatch.setattr(demo, "kafka_ready", no_kafka)

    async def started() -> object:
        options = DemoOptions(keep=not fresh, fresh=fresh, items=50, kafka="", data=tmp_path, address="127.0.0.1:0")
        async with contextlib.AsyncExitStack() as stack:
            return await demo._start_kafka(options, report, tmp_path, stack)

    assert asyncio.run(started()) is None
    assert report.failed == (["Knowledge goes in over Kafka: there is none"] if fresh else [])
    assert "Knowledge goes in over gRPC instead." in printed.getvalue()


@pytest.mark.parametrize("address", ["7443", "localhost:", ":7443", "localhost:no", "localhost:70000"])
def test_what_is_no_address_is_said_to_be_none(address: str, tmp_path: Path) -> None:
    ran = epistream("demo", f"--address={address}", f"--data={tmp_path}")
    assert ran.code == 2
    assert "is no address: expected HOST:PORT" in ran.err


def test_only_an_address_that_somebody_has_is_called_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Wrong, match="is taken on this machine"):
            demo._require_free(taken)
    demo._require_free(taken)
    with pytest.raises(Wrong, match=r"Nothing can listen at 192\.0\.2\.1:7443"):  # nobody's: RFC 5737
        demo._require_free("192.0.2.1:7443")


def test_what_to_try_next_is_a_command_that_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "epistream"
    command.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(command), "demo"])
    monkeypatch.setenv("PATH", os.devnull)
    assert demo.own_command() == str(command)
    monkeypatch.chdir(tmp_path)
    assert demo.own_command() == "bin/epistream"
    monkeypatch.setenv("PATH", str(command.parent))
    assert demo.own_command() == "epistream"
    monkeypatch.setattr(sys, "argv", ["main.py", "demo"])
    assert demo.own_command() == "epistream"


def flooded(report: Report, **parts: object) -> Flood:
    given: Any = {"client": None, "producer": None, "replica": None, **parts}
    return Flood(report, **given)


def test_an_alarm_of_an_earlier_run_is_told_and_shows_nothing(report: Report, printed: io.StringIO) -> None:
    alarm = pb.CollapseAlarm(producer=flood.PRODUCER, on=True, windows=3)
    client = SimpleNamespace(list_alarms=answers([alarm]))
    asyncio.run(flooded(report, client=client, replica=SimpleNamespace(alarms=[alarm]))._noticed())
    assert "is on since an earlier run" in printed.getvalue()
    assert (report.passed, report.failed) == (0, [])


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_flood_that_ended_before_the_correction_is_a_failure(
    goes_on: bool, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not goes_on:
        monkeypatch.setattr(flood, "_WAIT_SECONDS", 0.2)
    sent: list[pb.Submission] = []

    async def submit(one: pb.Submission) -> list[pb.Receipt]:
        sent.append(one)
        return [pb.Receipt(outcome=pb.OUTCOME_REVISED, revision=2)]

    tested = flooded(
        report,
        client=SimpleNamespace(history=answers([pb.Change(version=1)])),
        producer=SimpleNamespace(submit=submit),
        replica=SimpleNamespace(
            wait_for=answers(None), get=lambda _: pb.Change(knowledge=pb.Knowledge(content=sent[0].content))
        ),
    )

    async def corrected() -> None:
        correcting = asyncio.create_task(tested._correct())
        await asyncio.sleep(0.05)
        if goes_on:
            tested.receipts.append(pb.Receipt())
        await correcting

    asyncio.run(corrected())
    assert report.failed == ([] if goes_on else ["The flood went on after it: no more of it was decided"])
