"""The collapse watch of a real service: whom it tells of an alarm, and what a kill does to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import duration_pb2

from epistream.clients import KnowledgeClient, Replica
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, collapse, kinds, texts
from tests.support.rpc import Client, Subscription, client_of
from tests.support.service import Fail, RunningService, running_service
from tests.support.waits import until

SELDOM = duration_pb2.Duration(seconds=60)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("watched") / "data") as service:
        yield service


async def alarms(client: Client, namespace: str, **wanted: object) -> list[pb.CollapseAlarm]:
    request = knowledge_pb.ListAlarmsRequest(namespace=namespace, **wanted)  # type: ignore[arg-type]
    return list((await client.knowledge.ListAlarms(request)).alarms)


async def looked(client: Client, namespace: str, windows: int) -> pb.CollapseAlarm:
    """What is known of the producer `gpt` when so many of its windows were compared."""
    found: list[pb.CollapseAlarm] = []

    async def there() -> bool:
        found[:] = await alarms(client, namespace, producer="gpt")
        return bool(found) and found[0].windows >= windows

    await until(there)
    return found[0]


async def next_progress(stream: Subscription) -> sync_pb.Progress:
    while (message := await stream.next()).WhichOneof("message") != "progress":
        pass
    return message.progress


async def test_an_alarm_is_listed_with_its_figures(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "listed")
        found = await looked(client, "listed", 2)
        listed = await alarms(client, "listed")
        on = await alarms(client, "listed", on=True)

        assert found.on
        assert found.ratios[1].high < 0.95
        assert found.since_time.ToMicroseconds() > 0
        assert {one.producer for one in listed} == {"gpt", ""}
        assert found in on
        async with KnowledgeClient(service.address) as clients_own:
            assert await clients_own.list_alarms("listed", producer="gpt") == [found]


async def test_a_subscription_hears_at_once_that_an_alarm_is_raised_and_that_it_is_cleared(
    service: RunningService,
) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "pushed")
        await looked(client, "pushed", 2)
        async with client.subscribe("pushed", head=True, progress_interval=SELDOM) as stream:
            raised = (await next_progress(stream)).alarms
            assert "gpt" in {one.producer for one in raised}
            assert all(one.on for one in raised)

            await client.submit(*texts(kinds(ALL_KINDS, 5 * EVERY, 3), "All kinds again", namespace="pushed"))

            while "gpt" in {one.producer for one in (await next_progress(stream)).alarms}:
                pass


async def test_a_new_alarm_is_pushed_within_the_progress_interval(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "raised")
        async with client.subscribe("raised", after_revision=0, progress_interval=SELDOM) as stream:
            while "gpt" not in {one.producer for one in (await next_progress(stream)).alarms}:
                pass


async def test_a_replica_knows_whose_alarm_is_on(service: RunningService, tmp_path: Path) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "copied")
        async with Replica.open(tmp_path / "replica", service.address, "copied", "model") as replica:
            await until(lambda: "gpt" in {one.producer for one in replica.alarms})


async def test_the_metrics_tell_the_alarm_and_the_ratios(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "measured")
        found = await looked(client, "measured", 2)
    of = 'modality="text",namespace="measured",producer="gpt"'
    assert service.metric(f"epistream_collapse_alarm{{{of}}}") == 1
    of_order = 'modality="text",namespace="measured",order="1",producer="gpt"'
    assert service.metric(f"epistream_collapse_ratio{{{of_order}}}") == pytest.approx(found.ratios[1].ratio)
    assert service.metric('epistream_collapse_windows_total{result="compared"}') >= 2


async def test_with_hold_what_comes_next_is_held(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await collapse(client, "held", on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
        await looked(client, "held", 1)
        (receipt,) = await client.submit(*texts(kinds(FEW_KINDS, 1, 8), "Too late", namespace="held"))
    assert receipt.reason == pb.REASON_COLLAPSE


@pytest.mark.parametrize("point", ["window_compared", "window_kept"])
async def test_a_kill_between_a_window_and_its_record_loses_nothing(tmp_path: Path, point: str) -> None:
    with running_service(tmp_path / "data") as service:
        service.kill()
        service.start(Fail(point, 2))
        async with client_of(service.address) as client:
            await collapse(client, "killed")
        await until(lambda: not service.is_running())
        service.start()
        async with client_of(service.address) as client:
            found = await looked(client, "killed", 2)
            assert found.on
            assert (found.accepted, found.windows, len(found.recent)) == (2 * EVERY, 2, 2)
