"""The signals of a real service: measured beside it, answered, printed, and read by Prometheus."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
import pytest_asyncio

from epistream.clients import KnowledgeClient
from epistream.indexer.signals import CELLS
from epistream.services import measurer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.wire.errors import NotFound
from tests.support.cli import epistream
from tests.support.metrics import documented, labels_of, served
from tests.support.rpc import Client, client_of, failure_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("signals") / "data", signals_interval_seconds="0.2") as running:
        yield running


@pytest_asyncio.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service.address) as client:
        yield client


async def measured(client: Client, namespace: str, revision: int) -> know_pb.ListSignalsResponse:
    """The signals as of a revision, once they are measured."""
    answer = know_pb.ListSignalsResponse()

    async def asked() -> bool:
        answer.CopyFrom(await client.knowledge.ListSignals(know_pb.ListSignalsRequest(namespace=namespace)))
        return answer.revision >= revision

    await until(asked)
    return answer


def signal(answer: know_pb.ListSignalsResponse, name: str) -> know_pb.Signal:
    [found] = [one for cell in answer.cells for one in cell.signals if one.name == name]
    return found


async def test_what_was_decided_is_measured_by_itself(client: Client) -> None:
    await client.make_namespace("measured")
    crawled = [submission("measured", n, origin=pb.ORIGIN_CRAWLED) for n in range(1, 6)]
    await client.submit(*crawled)
    answer = await measured(client, "measured", 5)
    assert (answer.revision, answer.records, answer.model) == (5, 5, "none")
    assert 0 < signal(answer, "relative_gain").value < 1
    assert signal(answer, "parse_share").missing
    program = submission("measured", 6, content="def one():\n    return 1\n", origin=pb.ORIGIN_CRAWLED)
    program.modality = pb.MODALITY_CODE
    program.attributes["language"] = "python"
    await client.submit(program)
    assert signal(await measured(client, "measured", 6), "parse_share").value == 1.0


async def test_before_it_is_measured_and_where_there_is_none(client: Client) -> None:
    await client.make_namespace("empty")
    answer = await client.knowledge.ListSignals(know_pb.ListSignalsRequest(namespace="empty"))
    assert all(one.missing and not one.HasField("value") for cell in answer.cells for one in cell.signals)
    asked = client.knowledge.ListSignals(know_pb.ListSignalsRequest(namespace="nowhere"))
    assert isinstance(await failure_of(asked), NotFound)


async def test_the_sdk_the_command_line_and_prometheus_say_the_same(service: RunningService, client: Client) -> None:
    await client.make_namespace("shown")
    await client.submit(*(submission("shown", n, origin=pb.ORIGIN_CRAWLED) for n in range(1, 4)))
    answer = await measured(client, "shown", 3)
    async with KnowledgeClient(service.address) as sdk:
        assert await sdk.list_signals("shown") == answer
    command = ("signals", "-n", "shown", "-a", service.address)
    printed = await asyncio.to_thread(epistream, *command, "--json")
    assert printed.messages(know_pb.ListSignalsResponse) == [answer]
    assert json.loads(printed.out)["revision"] == "3"
    table = await asyncio.to_thread(epistream, *command)
    assert table.code == 0
    assert "CRAWLED TEXT" in table.out
    assert "no crawled Python in the window" in table.out
    assert "before" not in table.out
    gain = signal(answer, "relative_gain").value
    sample = 'epistream_signal{cell="I text",namespace="shown",signal="relative_gain"}'
    assert service.metric(sample) == pytest.approx(gain)
    without = sum(all(s.name != name or not s.HasField("value") for s in told.signals) for told, name in _names(answer))
    assert service.metric('epistream_signals_missing{namespace="shown"}') == without > 0
    assert service.metric('epistream_signals_timestamp_seconds{namespace="shown"}') == pytest.approx(
        answer.time.ToMicroseconds() / 1e6
    )
    families = served(service.metrics_address)
    for name in ("epistream_signal", "epistream_signals_missing", "epistream_signals_alarming"):
        assert labels_of(families[name]) == set(documented()[name].labels)


async def test_the_sdk_and_the_command_line_say_how_a_signal_went(service: RunningService, client: Client) -> None:
    await client.make_namespace("went")
    for n in (1, 2):
        await client.submit(submission("went", n, origin=pb.ORIGIN_CRAWLED))
        answer = await measured(client, "went", n)
    async with KnowledgeClient(service.address) as sdk:
        [before] = (await sdk.list_signals("went", history=5)).history
    assert (before.revision, before.records) == (1, 1)
    [gain] = [one.value for one in before.signals if one.name == "relative_gain"]
    assert gain == pytest.approx(1.0), "the first text of a namespace"
    assert signal(answer, "relative_gain").value < gain
    table = await asyncio.to_thread(epistream, "signals", "-n", "went", "-a", service.address, "--history", "5")
    assert "before" in table.out
    refused = await asyncio.to_thread(epistream, "signals", "-n", "went", "-a", service.address, "--history", "31")
    assert refused.code == 2


def _names(answer: know_pb.ListSignalsResponse) -> Iterator[tuple[know_pb.SignalCell, str]]:
    for cell, told in zip(CELLS, answer.cells, strict=True):
        yield from ((told, one.name) for one in cell.signals)


async def test_what_was_measured_is_there_after_a_restart_and_a_stopped_service_leaves_no_measurer(
    service: RunningService, client: Client
) -> None:
    await client.make_namespace("kept")
    await client.submit(submission("kept", 1))
    before = await measured(client, "kept", 1)
    assert service.stop() == 0
    running = [p for p in psutil.process_iter(["cmdline"]) if measurer.__name__ in (p.info["cmdline"] or ())]
    assert [p for p in running if str(service.folder.resolve()) in p.info["cmdline"]] == []
    service.start()
    async with client_of(service.address) as again:
        answer = await again.knowledge.ListSignals(know_pb.ListSignalsRequest(namespace="kept"))
        assert answer == before
