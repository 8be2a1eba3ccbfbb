"""A full disk: writes are refused and say so, all else goes on, and when there is space nothing is lost or doubled."""

import asyncio
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from tests.support.intake import findings
from tests.support.kafka import Kafka
from tests.support.rpc import Client, client_of, delay_told_by, submission, told_by, vector
from tests.support.service import RunningService, running_service
from tests.support.small_disk import small_disk
from tests.support.waits import until

NAMESPACE = "full"
SERVICES = [f"epistream.v1.{name}Service" for name in ("Ingest", "Knowledge", "Namespace", "Sync", "Admin", "Review")]
STATES = health_pb2.HealthCheckResponse
DISK_BYTES = 16 << 20
RECORDS = range(5000, 5040)
"""What comes over Kafka while the disk is full."""


@dataclass(frozen=True, slots=True)
class Limited:
    """A service whose space can be taken and given back."""

    service: RunningService
    topic: str
    fill: Callable[[], None]
    clear: Callable[[], None]


@pytest.fixture(params=["small disk", "limit on files"])
def limited(request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka) -> Iterator[Limited]:
    topic, folder = kafka.new_topic("full"), tmp_path / "data"
    if request.param == "small disk":
        with small_disk(folder, DISK_BYTES) as disk:
            with running_service(folder, kafka=kafka.bootstrap, kafka_topics=topic) as service:
                yield Limited(service, topic, disk.fill, disk.clear)
                assert service.stop() == 0
            assert findings(folder) == []
        return
    with running_service(folder, kafka=kafka.bootstrap, kafka_topics=topic) as service:
        hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)[1]

        def limit(size_bytes: int) -> None:
            resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))

        wal = folder / "store.sqlite-wal"
        yield Limited(service, topic, lambda: limit(wal.stat().st_size), lambda: limit(hard))
        assert service.stop() == 0
    assert findings(folder) == []


async def test_a_full_disk_refuses_writes_and_nothing_else(limited: Limited, kafka: Kafka) -> None:
    service = limited.service
    async with client_of(service.address) as client:
        await client.make_namespace(NAMESPACE)
        kafka.produce(limited.topic, [submission(NAMESPACE, 1).SerializeToString()])
        async with client.subscribe(NAMESPACE, after_revision=0) as stream:
            await stream.next_of("subscribed")
            await stream.changes(1)
            limited.fill()
            taken, refused = await submit_until_refused(client, 2)
            assert refused == "DISK_FULL"
            head = 1 + taken
            assert [change.revision for change in await stream.changes(taken)] == list(range(2, head + 1))
            kafka.produce(limited.topic, [submission(NAMESPACE, n).SerializeToString() for n in RECORDS])
            await until(lambda: service.metric('epistream_ingest_retries_total{stage="commit"}', 0) > 2)
            assert service.metric("epistream_store_full") == 1
            await all_but_writing_goes_on(client, head)

            limited.clear()
            changes = await stream.changes(len(RECORDS))
            assert [change.item_id for change in changes] == [f"item-{n}" for n in RECORDS]
            assert changes[-1].revision == head + len(RECORDS)
            [again] = await client.submit(submission(NAMESPACE, head + 1))
            assert (again.outcome, again.earlier, again.revision) == (
                pb.OUTCOME_ADMITTED,
                False,
                head + len(RECORDS) + 1,
            )
        assert service.metric("epistream_store_full") == 0
        assert service.metric("epistream_ingest_given_up_total") == 0
    assert service.logged().count("Nothing is written for now") == 1, "said once, not for each write"


async def test_on_a_full_disk_ingest_alone_is_not_serving_until_there_is_space_though_nobody_writes(
    limited: Limited,
) -> None:
    async with client_of(limited.service.address) as client:
        health = health_pb2_grpc.HealthStub(client.channel)

        async def not_serving() -> list[str]:
            states = {name: await health.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", *SERVICES)}
            serving = health_pb2.HealthCheckResponse.SERVING
            return [name for name, answer in states.items() if answer.status != serving]

        async def all_serve() -> bool:
            return not await not_serving()

        async def some_do_not() -> bool:
            return bool(await not_serving())

        await client.make_namespace(NAMESPACE)
        assert await all_serve()
        limited.fill()
        await submit_until_refused(client, 1)
        await until(some_do_not, "a service that tells")
        assert await not_serving() == ["epistream.v1.IngestService"]
        limited.clear()
        await until(all_serve, "all services")
        assert limited.service.metric("epistream_store_full") == 0
        [receipt] = await client.submit(submission(NAMESPACE, 4000))
        assert receipt.outcome == pb.OUTCOME_ADMITTED


async def test_a_disk_with_room_for_a_little_does_not_serve_ingest(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with small_disk(folder, DISK_BYTES) as disk, running_service(folder) as service:
        async with client_of(service.address) as client:
            health = health_pb2_grpc.HealthStub(client.channel)
            ingest = health_pb2.HealthCheckRequest(service="epistream.v1.IngestService")

            async def follow() -> None:
                async for answer in health.Watch(ingest):
                    states.append(answer.status)  # noqa: PERF401 - read while it grows

            states: list[int] = []
            following = asyncio.create_task(follow())
            await client.make_namespace(NAMESPACE)
            disk.fill()
            await submit_until_refused(client, 1)
            await until(lambda: states[-1:] == [STATES.NOT_SERVING], "a service that tells")
            disk.fill(but_bytes=DISK_BYTES // 40)
            await until(lambda: service.metric("epistream_store_full") == 0, "a page that is written")
            for number in range(4000, 4005):
                await client.submit(submission(NAMESPACE, number))
                await asyncio.sleep(0.3)  # the service looks once a second
            assert states == [STATES.SERVING, STATES.NOT_SERVING]
            disk.clear()
            await until(lambda: states == [STATES.SERVING, STATES.NOT_SERVING, STATES.SERVING], "a service that serves")
            following.cancel()


async def submit_until_refused(client: Client, first: int) -> tuple[int, str]:
    """Use up what is left of the space. How many submissions were taken, and for which reason the next one was not."""
    taken = 0
    error: grpc.aio.AioRpcError | None = None
    while error is None:
        try:
            await client.submit(submission(NAMESPACE, first + taken))
            taken += 1
        except grpc.aio.AioRpcError as caught:
            error = caught
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert delay_told_by(error) > 0
    return taken, told_by(error).reason


async def all_but_writing_goes_on(client: Client, head: int) -> None:
    """Every kind of question, and a subscription that is new, answer with all that was taken."""
    got = await client.knowledge.Get(knowledge_pb.GetRequest(namespace=NAMESPACE, item_id="item-1"))
    assert (got.change.item_id, got.revision) == ("item-1", head)
    query = pb.Embedding(float32=vector(1))
    found = await client.knowledge.Search(knowledge_pb.SearchRequest(namespace=NAMESPACE, vector=query, limit=1))
    assert (found.hits[0].change.item_id, found.revision) == ("item-1", head)
    async with client.subscribe(NAMESPACE, after_revision=0) as late:
        await late.next_of("subscribed")
        assert [change.revision for change in await late.changes(head)] == list(range(1, head + 1))
    async with client.subscribe(NAMESPACE, snapshot=True) as copying:
        await copying.next_of("subscribed")
        begin = await copying.next_of("snapshot_begin")
        assert begin.snapshot_begin.revision == head
