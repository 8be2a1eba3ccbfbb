"""What people say has a lane of its own, over gRPC and over Kafka: a flood of what models make does not hold it up."""

import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from epistream.indexer.model import Arrived, record_of
from epistream.indexer.pipeline import Pipeline
from epistream.services.kafka.backlog import WAITING_RECORDS_MAX
from epistream.services.writer import Prepared
from epistream.v1 import knowledge_pb2 as pb
from tests.support.border import THREADS, Border, submitting
from tests.support.intake import assert_each_once, facts, make_namespace, send, taking
from tests.support.kafka import Kafka
from tests.support.rpc import client_of
from tests.support.waits import until, wait_until


@pytest_asyncio.fixture
async def border(tmp_path: Path) -> AsyncIterator[Border]:
    border = Border(tmp_path)
    await border.start()
    yield border
    await border.stop()


@pytest.mark.parametrize("origin", [pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE])
async def test_a_correction_goes_through_while_all_threads_of_the_others_are_taken(
    border: Border, origin: pb.Origin.ValueType
) -> None:
    gate = border.preparing
    gate.may_go_on.clear()
    async with client_of(border.address) as client:
        flood = [submitting(client, who="other", origin=pb.ORIGIN_SYNTHETIC) for _ in range(3 * THREADS)]
        await until(lambda: gate.begun == THREADS)
        correction = submitting(client, origin=origin)
        await until(lambda: gate.begun == THREADS + 1)
        gate.may_go_on.set()
        for call in (correction, *flood):
            await call
    assert len(border.written) == 3 * THREADS + 1


def test_a_topic_of_people_is_read_on_while_the_backlog_of_the_others_is_full(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    namespace, of_people, of_others = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
    gate, prepare = threading.Event(), Pipeline.prepare

    def held(self: Pipeline, records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:
        position = record_of(records[0]).position
        assert position is not None
        assert {record_of(one).position.topic for one in records} == {position.topic}  # type: ignore[union-attr]
        if position.topic == of_others:
            assert gate.wait(60)
        return prepare(self, records, wait=wait)

    monkeypatch.setattr(Pipeline, "prepare", held)
    flood, corrections = range(2 * WAITING_RECORDS_MAX), range(10_000, 10_020)
    send(kafka, of_others, facts(namespace, flood))
    with taking(folder, kafka.bootstrap, of_others, of_people, people=[of_people]) as process:
        backlog = process.intake._lanes[1].backlog
        wait_until(lambda: not backlog.await_room(0), "a full backlog")
        send(kafka, of_people, facts(namespace, corrections))
        process.await_head(namespace, len(corrections))
        assert process.engine.pipeline.positions()[of_others, 0] == 0
        gate.set()
        process.await_head(namespace, len(flood) + len(corrections))
    assert_each_once(folder, namespace, [*flood, *corrections])
