"""The clients against the service itself, in a process of its own."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.clients import (
    Changes,
    Conflict,
    InvalidInput,
    KnowledgeClient,
    NotFound,
    Position,
    Producer,
    Replica,
    Resync,
    Start,
    Subscriber,
    SyncKnowledgeClient,
    SyncProducer,
    SyncReplica,
    SyncSubscriber,
    submission,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.service import RunningService, running_service
from tests.support.waits import until

DIMENSION = 16
ENCODER = ns.Encoder(model="none", dimension=DIMENSION)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One that no test stops."""
    with running_service(tmp_path_factory.mktemp("clients") / "data") as service:
        yield service


def a_vector(seed: object) -> NDArray[np.float32]:
    rng = random.Random(str(seed))
    return np.array([rng.gauss(0, 1) for _ in range(DIMENSION)], np.float32)


def a_fact(namespace: str, number: int, version: int = 1, *, colour: str = "red") -> pb.Submission:
    return submission(
        f"fact {number} in its version {version}",
        namespace=namespace,
        producer="ada",
        origin="EXPERT",
        item_id=f"item-{number}",
        submission_id=f"s-{number}-{version}",
        attributes={"colour": colour},
        embedding=a_vector((number, version)),
    )


def everything(replica: Replica | SyncReplica) -> dict[str, pb.Change | None]:
    return {item_id: replica.get(item_id) for item_id in replica.item_ids()}


async def everything_at(client: KnowledgeClient, namespace: str, only: pb.Filter | None = None) -> dict[str, pb.Change]:
    """What the service answers with now, by a search for more than there is."""
    answer = await client.search(namespace, a_vector("any"), limit=1000, filter=only)
    return {hit.change.item_id: hit.change for hit in answer.hits}


def assert_same_hits(ours: Sequence[knowledge.Hit], theirs: Sequence[knowledge.Hit]) -> None:
    """The service rounds the vector of a query to float32 before it compares, a replica does not."""
    assert [hit.change for hit in ours] == [hit.change for hit in theirs]
    assert [hit.similarity for hit in ours] == pytest.approx([hit.similarity for hit in theirs], abs=1e-6)


@contextlib.asynccontextmanager
async def replica_of(path: Path, service: RunningService, namespace: str) -> AsyncIterator[Replica]:
    async with Replica.open(
        path / "replica", service.address, namespace, "model", progress_interval_seconds=0.2
    ) as replica:
        yield replica


async def test_what_a_producer_submits_is_in_the_replica_and_both_answer_the_same(
    shared: RunningService, tmp_path: Path
) -> None:
    name = "same-answers"
    async with KnowledgeClient(shared.address) as client, Producer(shared.address) as producer:
        made = await client.create_namespace(name, encoder=ENCODER)
        assert made == await client.namespace(name)
        assert name in [each.name for each in await client.namespaces()]
        async with replica_of(tmp_path, shared, name) as replica:
            receipts = await producer.submit(*(a_fact(name, number) for number in range(200)))
            assert {receipt.outcome for receipt in receipts} == {pb.OUTCOME_ADMITTED}
            (revised,) = await producer.submit(a_fact(name, 7, 2))
            assert (revised.outcome, revised.version) == (pb.OUTCOME_REVISED, 2)
            gone = await producer.retract(name, "item-3", producer="ada", origin="EXPERT")
            await replica.wait_for(gone.revision)
            assert everything(replica) == await everything_at(client, name)
            assert "item-3" not in replica.item_ids()
            for seed in range(10):
                query = a_vector(("query", seed))
                answer = await client.search(name, query, limit=25)
                assert_same_hits(await replica.search(query, limit=25), answer.hits)
            assert await client.wait_applied(name, gone.revision, ["model"]) == ["model"]
            (consumer,) = (await client.consumers(name)).consumers
            assert (consumer.consumer, consumer.applied_revision, consumer.lag_revisions) == ("model", gone.revision, 0)
        history = await client.history(name, "item-7")
        assert [change.version for change in history] == [1, 2]
        assert (await client.get(name, "item-7", as_of=200)).change == history[0]
        entries = (await client.diff(name, 200)).entries
        assert [entry.item_id for entry in entries] == ["item-7", "item-3"]


async def test_submitting_again_is_answered_with_the_earlier_receipts(shared: RunningService) -> None:
    name = "again"
    async with KnowledgeClient(shared.address) as client, Producer(shared.address) as producer:
        await client.create_namespace(name, encoder=ENCODER)
        facts = [a_fact(name, number) for number in range(1500)]
        first = await producer.submit(*facts)
        assert [receipt.revision for receipt in first] == list(range(1, 1501))
        for receipts in (await producer.submit(*facts), [receipt async for receipt in producer.stream(_source(facts))]):
            assert all(receipt.earlier for receipt in receipts)
            assert [receipt.revision for receipt in receipts] == list(range(1, 1501))


async def _source(facts: list[pb.Submission]) -> AsyncIterator[pb.Submission]:
    for fact in facts:
        yield fact


async def test_refusals_are_receipts_and_errors_are_typed(shared: RunningService) -> None:
    name = "refusals"
    async with KnowledgeClient(shared.address) as client, Producer(shared.address) as producer:
        await client.create_namespace(name, encoder=ENCODER)
        good, bad = a_fact(name, 1), a_fact(name, 2)
        bad.content = ""
        admitted, refused = await producer.submit(good, bad)
        assert (admitted.outcome, refused.outcome) == (pb.OUTCOME_ADMITTED, pb.OUTCOME_REFUSED)
        assert refused.violations[0].field == "content"
        with pytest.raises(InvalidInput) as caught:
            await producer.submit(a_fact(name, 3), bad, atomic=True)
        assert caught.value.violations[0].field.startswith("submissions[1]")
        with pytest.raises(NotFound):
            await client.get(name, "item-3")
        with pytest.raises(NotFound):
            await client.history("nowhere", "item-1")
        with pytest.raises(Conflict):
            await client.create_namespace(name, encoder=ns.Encoder(model="none", dimension=3))
        with pytest.raises(Resync) as beyond:
            await client.get(name, "item-1", as_of=99)
        assert (beyond.value.reason, beyond.value.state.head_revision) == ("FUTURE_REVISION", 1)
        async with Subscriber(shared.address, "nowhere", "model") as subscriber:
            with pytest.raises(NotFound):
                await anext(subscriber)


async def test_a_filtered_replica_follows_what_comes_and_goes(shared: RunningService, tmp_path: Path) -> None:
    name = "colours"
    only = pb.Filter(attributes={"colour": "red"})
    rng = random.Random(1)
    async with KnowledgeClient(shared.address) as client, Producer(shared.address) as producer:
        await client.create_namespace(name, encoder=ENCODER)
        async with Replica.open(tmp_path / "r", shared.address, name, "model", filter=only) as replica:
            for version in range(1, 6):
                receipts = await producer.submit(
                    *(a_fact(name, n, version, colour=rng.choice(("red", "blue"))) for n in range(30))
                )
                await replica.wait_for(receipts[-1].revision)
                assert everything(replica) == await everything_at(client, name, only)


async def test_a_service_that_is_killed_while_a_stream_is_sent_loses_and_repeats_nothing(tmp_path: Path) -> None:
    name = "killed"
    facts = [a_fact(name, number % 300, 1 + number // 300) for number in range(6000)]
    with running_service(tmp_path / "data") as service:
        async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
            await client.create_namespace(name, encoder=ENCODER)
            async with replica_of(tmp_path, service, name) as replica:
                received: list[int] = []
                async with Subscriber(service.address, name, "log", start=Start.BEGINNING) as subscriber:

                    async def listen() -> None:
                        async for event in subscriber:
                            if isinstance(event, Changes):
                                received.extend(change.revision for change in event.changes)

                    listening = asyncio.create_task(listen())
                    receipts: list[pb.Receipt] = []
                    async for receipt in producer.stream(_source(facts)):
                        receipts.append(receipt)
                        if len(receipts) in (500, 2500, 4500):
                            await asyncio.to_thread(service.kill)
                            await asyncio.to_thread(service.restart)
                    assert [receipt.submission_id for receipt in receipts] == [fact.submission_id for fact in facts]
                    assert [receipt.revision for receipt in receipts] == list(range(1, 6001))
                    await replica.wait_for(6000)
                    assert everything(replica) == await everything_at(client, name)
                    await until(lambda: len(received) == 6000)
                    assert received == list(range(1, 6001))
                    assert subscriber.counts.faults == replica.counts.faults == replica.counts.resyncs == 0
                await listening


async def test_a_service_that_goes_down_in_good_order_is_followed_through_it(tmp_path: Path) -> None:
    name = "drained"
    with running_service(tmp_path / "data") as service:
        async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
            await client.create_namespace(name, encoder=ENCODER)
            async with replica_of(tmp_path, service, name) as replica:
                for round_ in range(2):
                    receipts = await producer.submit(*(a_fact(name, n, round_ + 1) for n in range(50)))
                    await replica.wait_for(receipts[-1].revision)
                    await asyncio.to_thread(service.restart)
                assert everything(replica) == await everything_at(client, name)
                await until(lambda: replica.counts.reconnects >= 2)
                assert replica.counts.faults == replica.counts.resyncs == 0


async def test_a_replica_that_was_away_too_long_takes_a_snapshot(shared: RunningService, tmp_path: Path) -> None:
    name = "compacted"
    async with KnowledgeClient(shared.address) as client, Producer(shared.address) as producer:
        await client.create_namespace(name, encoder=ENCODER, policy=ns.Policy(retained_revisions=20))
        await producer.submit(*(a_fact(name, number) for number in range(30)))
        async with replica_of(tmp_path, shared, name) as replica:
            await replica.wait_for(30)
        await producer.submit(*(a_fact(name, number, 2) for number in range(30)))
        async with Subscriber(shared.address, name, "log", start=Start.BEGINNING) as subscriber:
            with pytest.raises(Resync) as caught:
                await anext(subscriber)
            assert caught.value.reason == "COMPACTED"
        async with Subscriber(shared.address, name, "log", start=Position("", 999)) as subscriber:
            with pytest.raises(Resync) as caught:
                await anext(subscriber)
            assert caught.value.reason == "FUTURE_REVISION"
        async with replica_of(tmp_path, shared, name) as replica:
            await replica.wait_for(60)
            assert everything(replica) == await everything_at(client, name)


async def test_a_replica_of_a_store_that_was_replaced_takes_a_snapshot(tmp_path: Path) -> None:
    name = "replaced"
    with running_service(tmp_path / "data") as service:
        async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
            await client.create_namespace(name, encoder=ENCODER)
            await producer.submit(*(a_fact(name, number) for number in range(30)))
            async with replica_of(tmp_path, service, name) as replica:
                await replica.wait_for(30)
                epoch = replica.epoch
            await asyncio.to_thread(service.stop)
            shutil.rmtree(service.folder)
            await asyncio.to_thread(service.start)
            await client.create_namespace(name, encoder=ENCODER)
            await producer.submit(*(a_fact(name, number) for number in range(100, 140)))
            async with replica_of(tmp_path, service, name) as replica:
                await until(lambda: replica.epoch != epoch)
                await replica.wait_for(40)
                assert replica.counts.resyncs == 1
                assert everything(replica) == await everything_at(client, name)


def test_the_blocking_clients_work_on_the_service_too(shared: RunningService, tmp_path: Path) -> None:
    name = "blocking"
    with SyncKnowledgeClient(shared.address) as client, SyncProducer(shared.address) as producer:
        client.create_namespace(name, encoder=ENCODER)
        receipts = list(producer.stream(a_fact(name, number) for number in range(100)))
        assert receipts[-1].revision == 100
        with SyncReplica(tmp_path / "r", shared.address, name, "model") as replica:
            replica.wait_current()
            query = a_vector("query")
            assert_same_hits(replica.search(query, limit=5), client.search(name, query, limit=5).hits)
            assert client.wait_applied(name, 100, ["model"]) == ["model"]
        with SyncSubscriber(shared.address, name, "log", start=Start.BEGINNING) as subscriber:
            received: list[int] = []
            for event in subscriber:
                if isinstance(event, Changes):
                    received.extend(change.revision for change in event.changes)
                if len(received) == 100:
                    break
        assert received == list(range(1, 101))
