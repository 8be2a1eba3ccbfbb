"""Valid time from a producer to a replica, over real sockets, with the service in a process of its own."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from epistream.clients import (
    Changes,
    KnowledgeClient,
    Position,
    Producer,
    Replica,
    Subscriber,
    submission,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.cli import Ran, epistream
from tests.support.service import RunningService, running_service

ENCODER = ns.Encoder(model="none", dimension=2)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("valid-time") / "data") as service:
        yield service


def chair(namespace: str, who: str, year: int) -> pb.Submission:
    return submission(
        f"{who} is the chair.",
        namespace=namespace,
        producer="almanac",
        origin="EXPERT",
        item_id="chair",
        embedding=[1.0, year / 1000],
        valid_from=datetime(year, 1, 1, tzinfo=UTC),
    )


async def taken(client: Subscriber, until: int) -> list[pb.Change]:
    """The changes up to a revision."""
    found: list[pb.Change] = []
    async for event in client:
        if isinstance(event, Changes):
            found.extend(event.changes)
        if client.position is not None and client.position.revision >= until:
            break
    return found


async def test_a_replica_keeps_its_version_when_another_comes_late(service: RunningService, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        KnowledgeClient(service.address) as client,
        Producer(service.address) as producer,
    ):
        await client.create_namespace("replica", encoder=ENCODER)
        await producer.submit(chair("replica", "Ada", 2023))
        async with Replica.open(tmp_path / "replica", service.address, "replica", "model") as replica:
            await replica.wait_for(1)
            (late,) = await producer.submit(chair("replica", "Grace", 2021))
            assert (late.reason, late.version, late.revision) == (pb.REASON_LATE, 2, 2)
            await replica.wait_for(2)
            (hit,) = await replica.search([1.0, 2.0], limit=9)
            assert (hit.change.knowledge.content, hit.change.revision) == ("Ada is the chair.", 1)
            assert replica.counts.resyncs == 0, "every revision came"
            await producer.submit(chair("replica", "Joan", 2024))
            await replica.wait_for(3)
            change = replica.get("chair")
            assert change is not None
            assert (change.version, change.knowledge.content) == (3, "Joan is the chair.")
        async with Replica.open(tmp_path / "fresh", service.address, "replica", "fresh") as replica:
            await replica.wait_for(3)
            assert [replica.get(name) for name in replica.item_ids()] == [change]


async def test_a_subscriber_is_told_of_what_came_late_where_it_asks(service: RunningService) -> None:
    async with (
        asyncio.timeout(60),
        KnowledgeClient(service.address) as client,
        Producer(service.address) as producer,
    ):
        await client.create_namespace("told", encoder=ENCODER)
        await producer.submit(chair("told", "Ada", 2023), chair("told", "Grace", 2021))
        start = Position("", 0)
        async with Subscriber(service.address, "told", "old", start=start) as old:
            plain = await taken(old, 2)
        async with Subscriber(service.address, "told", "new", start=start, include_late=True) as new:
            told = await taken(new, 2)
    assert [change.kind for change in plain] == [pb.CHANGE_KIND_ADMITTED, pb.CHANGE_KIND_LEFT]
    assert [change.kind for change in told] == [pb.CHANGE_KIND_ADMITTED, pb.CHANGE_KIND_LATE]
    assert told[1].knowledge.content == "Grace is the chair."


async def test_what_held_is_read_by_the_clients_and_the_command_line(service: RunningService) -> None:
    async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
        await client.create_namespace("held", encoder=ENCODER)
        await producer.submit(
            *(chair("held", who, year) for who, year in (("Ada", 2023), ("Joan", 1542), ("Eve", 2021)))
        )
        held = await client.get("held", "chair", valid_time=datetime(2022, 6, 1, tzinfo=UTC))
        assert held.change.knowledge.content == "Eve is the chair."
        as_known = await client.get("held", "chair", as_of=2, valid_time=datetime(2022, 6, 1, tzinfo=UTC))
        assert as_known.change.knowledge.content == "Joan is the chair."
        changes = await client.history("held", "chair", by_valid_time=True, page_entries=1)
        assert [change.version for change in changes] == [2, 3, 1]

    def ran(*arguments: str) -> Ran:
        return epistream(*arguments, EPISTREAM_ADDRESS=service.address, EPISTREAM_NAMESPACE="held")

    got = await asyncio.to_thread(ran, "get", "chair", "--valid-at", "1600-01-01", "--json")
    (answer,) = got.messages(knowledge.GetResponse)
    assert answer.change.knowledge.content == "Joan is the chair."
    shown = (await asyncio.to_thread(ran, "history", "chair", "--by-valid-time")).out
    assert shown.index("1542-01-01") < shown.index("2021-01-01") < shown.index("2023-01-01")
    for time in ("last year", "0001-01-01T00:00:00+14:00"):
        wrong = await asyncio.to_thread(ran, "get", "chair", "--valid-at", time)
        assert wrong.code == 2
        assert "neither a date" in wrong.err
