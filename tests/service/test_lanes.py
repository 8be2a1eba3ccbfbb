"""What people say has a lane of its own, over gRPC and over Kafka: a flood of what models make does not hold it up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from epistream.indexer.model import Arrived, record_of
from epistream.indexer.pipeline import Pipeline
from epistream.services import ingest
from epistream.services.kafka.backlog import WAITING_RECORDS_MAX
from epistream.services.writer import Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Unavailable
from tests.support.border import THREADS, Border, request_of, streaming, submitting
from tests.support.intake import assert_each_once, facts, make_namespace, send, taking
from tests.support.kafka import Kafka
from tests.support.rpc import Client, client_of, failure_of
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


SYNTHETIC = pb.ORIGIN_SYNTHETIC


def origins(border: Border) -> list[str]:
    """Of what was written, in its order."""
    return [pb.Origin.Name(pb.Submission.FromString(one).origin)[7:] for one in border.written]


async def queued(border: Border, client: Client, calls: int) -> list[Any]:
    """So many synthetic calls, of which one is being written and the others wait for that."""
    border.committing.may_go_on.clear()
    flood = [submitting(client, who="other", origin=SYNTHETIC)]
    await until(lambda: border.committing.begun == 1)
    for _ in range(calls - 1):
        waiting = border.writer.waiting_bytes
        flood.append(submitting(client, who="other", origin=SYNTHETIC))
        await until(lambda waiting=waiting: border.writer.waiting_bytes > waiting)  # type: ignore[misc]
    return flood


@pytest.mark.parametrize("streams", [False, True], ids=["a call", "a stream"])
async def test_a_correction_is_written_before_what_waits_to_be_written(border: Border, streams: bool) -> None:
    async with client_of(border.address) as client:
        flood = await queued(border, client, 4)
        waiting = border.writer.waiting_bytes
        correction = await streaming(client, request_of()) if streams else submitting(client)
        await until(lambda: border.writer.waiting_bytes > waiting)
        border.committing.may_go_on.set()
        await (correction.read() if streams else correction)
        for call in flood:
            await call
    assert origins(border) == ["SYNTHETIC", "EXPERT", *["SYNTHETIC"] * 3]


async def test_a_stream_is_written_in_its_order_whoever_speaks_in_it(border: Border) -> None:
    """Also when the turn is the others', as it is after a commit of what went ahead."""
    sent = [pb.ORIGIN_EXPERT, pb.ORIGIN_EXPERT, SYNTHETIC, pb.ORIGIN_EXPERT, SYNTHETIC, pb.ORIGIN_COLLABORATIVE]
    border.committing.may_go_on.clear()
    async with client_of(border.address) as client:
        first = submitting(client, who="other")
        await until(lambda: border.committing.begun == 1)
        stream = await streaming(client, *(request_of(number + 2, origin) for number, origin in enumerate(sent)))
        await asyncio.sleep(0.2)  # for what would overtake to do so
        border.committing.may_go_on.set()
        for _ in sent:
            await stream.read()
        await first
    assert [len(pb.Submission.FromString(one).content) for one in border.written] == [1, 2, 3, 4, 5, 6, 7]


async def test_the_others_leave_room_for_people_and_so_does_a_stream_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "IN_HAND_BYTES_MAX", 100_000)
    border = Border(tmp_path)
    await border.start()
    border.preparing.may_go_on.clear()
    async with client_of(border.address) as client:
        stream = await streaming(client, request_of(1, SYNTHETIC), request_of(80_000))
        await until(lambda: border.preparing.begun >= 1)
        errors: list[Unavailable] = []

        async def refused() -> bool:  # as soon as the second batch of the stream has its room
            call = submitting(client, 40_000, who="other", origin=SYNTHETIC)
            await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.2)
            if call.done():
                errors.append(await failure_of(call))  # type: ignore[arg-type]
            call.cancel()
            return bool(errors)

        await until(refused, "a call that is refused")
        assert errors[0].reason == "OVERLOADED"
        correction = submitting(client, 80_000, who="other")
        await asyncio.sleep(0.1)
        assert not correction.done(), "it has room, and waits for the encoder"
        border.preparing.may_go_on.set()
        await correction
        stream.cancel()
    await border.stop()


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

    ahead = set[tuple[str, bool]]()
    submit = Writer.submit_batch

    def noticed(self: Writer, prepared: Sequence[Prepared], **how: Any) -> Any:
        position = record_of(prepared[0]).position
        assert position is not None
        ahead.add((position.topic, how["ahead"]))
        return submit(self, prepared, **how)

    monkeypatch.setattr(Pipeline, "prepare", held)
    monkeypatch.setattr(Writer, "submit_batch", noticed)
    flood, corrections = range(2 * WAITING_RECORDS_MAX), range(10_000, 10_020)
    send(kafka, of_others, facts(namespace, flood))
    with taking(folder, kafka.bootstrap, of_others, of_people, people=[of_people]) as process:
        backlog = process.intake._lanes[1].backlog
        wait_until(lambda: not backlog.await_room(0), "a full backlog")
        send(kafka, of_people, facts(namespace, corrections))
        process.await_head(namespace, len(corrections))
        assert process.engine.pipeline.positions()[of_others, 0].offset == 0
        gate.set()
        process.await_head(namespace, len(flood) + len(corrections))
    assert_each_once(folder, namespace, [*flood, *corrections])
    assert ahead == {(of_people, True), (of_others, False)}


def test_a_lane_that_has_nothing_to_read_makes_no_other_seem_dead(kafka: Kafka, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    namespace, topic = make_namespace(folder), kafka.new_topic()
    with taking(folder, kafka.bootstrap, topic, "there.is.none", people=["there.is.none"]) as process:
        send(kafka, topic, facts(namespace, range(3)))
        process.await_head(namespace, 3)
        of_people, _ = process.intake._lanes
        of_people.polling._alive_at -= 1e6
        assert of_people.polling.poll_age_seconds() >= 1e6
        assert process.intake._poll_age_seconds() < 1e5


def test_lanes_end_beside_each_other(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    namespace, of_people, of_others = make_namespace(folder), kafka.new_topic(), kafka.new_topic()
    gate, entered, prepare = threading.Event(), threading.Event(), Pipeline.prepare

    def held(self: Pipeline, records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:
        position = record_of(records[0]).position
        if position is not None and position.topic == of_people:
            entered.set()
            assert gate.wait(60)
        return prepare(self, records, wait=wait)

    monkeypatch.setattr(Pipeline, "prepare", held)
    with taking(folder, kafka.bootstrap, of_others, of_people, people=[of_people]) as process:
        send(kafka, of_people, facts(namespace, range(3)))
        assert entered.wait(60)
        people, others = process.intake._lanes
        stopping = threading.Thread(target=process.intake.stop)
        stopping.start()
        wait_until(lambda: not others.taker._thread.is_alive(), "the end of the lane that nothing holds up")
        assert people.taker._thread.is_alive()
        gate.set()
        stopping.join()
        assert not people.taker._thread.is_alive()
