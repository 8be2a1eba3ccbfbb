"""Going down: in which order the parts end, what becomes of the calls that are open, and of those that come."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.indexer.store import FILE
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import Unavailable
from tests.support.failing_service import HELD_LINE
from tests.support.intake import admitted, send, topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.methods import METHODS
from tests.support.processes import pollers
from tests.support.rpc import PATIENCE_SECONDS, Subscription, client_of, failure_of, revisions, submission
from tests.support.service import Fail, running_service
from tests.support.waits import until, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = sorted({method.containing_service.full_name for method in METHODS.values()})


def stand_still(pid: int) -> list[psutil.Process]:
    """Has what reads Kafka stand still, once it does: one that just ends is begun anew."""

    def standing() -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            reading = pollers(pid)
            for process in reading:
                process.suspend()
            return [process for process in reading if process.status() == psutil.STATUS_STOPPED]
        return []

    wait_until(lambda: standing() == pollers(pid) != [], "what reads Kafka to stand still")
    return pollers(pid)


async def health_ends(watch: Any, ended: list[str]) -> None:
    """Reads NOT_SERVING."""
    assert (await asyncio.wait_for(watch.read(), PATIENCE_SECONDS)).status == NOT_SERVING
    ended.append("health")


async def stream_ends(stream: Subscription, ended: list[str]) -> None:
    """Is told when to come again, and then that all is well."""
    drain = (await stream.next_of("drain")).drain
    assert drain.revision == 2
    assert drain.retry_delay.ToMilliseconds() > 0
    assert await stream.call.read() == grpc.aio.EOF
    assert await stream.call.code() == grpc.StatusCode.OK
    ended.append("stream")


async def intake_ends(reading: list[psutil.Process], ended: list[str]) -> None:
    """Nobody reads Kafka any more."""
    await until(lambda: not any(process.is_running() for process in reading), "the end of the pollers")
    ended.append("intake")


@pytest.mark.slow
async def test_health_first_then_the_streams_and_kafka_then_the_calls_then_the_store(
    kafka: Kafka, tmp_path: Path
) -> None:
    """A Submit is held in the middle, and a process that reads Kafka stands still, so that its end comes late."""
    topic = topic_with_dead_letters(kafka)
    settings = {"drain_seconds": "600", "health_address": "127.0.0.1:0", "kafka_topics": topic}
    held = Fail("commit_held", at_pass=3)
    with running_service(tmp_path / "data", settings, kafka=kafka.bootstrap, fail=held) as service:
        async with client_of(service.address) as client, grpc.aio.insecure_channel(service.health_address) as probes:
            await client.make_namespace("down")
            async with client.subscribe("down", after_revision=0) as stream:
                await stream.next_of("subscribed")
                await client.submit(submission("down", 1))
                await asyncio.to_thread(send, kafka, topic, [submission("down", 2)])
                assert revisions(await stream.changes(1) + await stream.changes(1)) == [1, 2]
                request = ingest_pb.SubmitRequest(submissions=[submission("down", 3)])
                call = asyncio.ensure_future(client.ingest.Submit(request, timeout=250))
                await until(lambda: HELD_LINE in service.logged(), "a call that is being worked on")
                watch = health_pb2_grpc.HealthStub(probes).Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
                assert (await watch.read()).status == SERVING
                reading = stand_still(service.pid)
                ended: list[str] = []
                service.signal(signal.SIGTERM)
                await asyncio.gather(health_ends(watch, ended), stream_ends(stream, ended), intake_ends(reading, ended))
            assert ended.index("intake") == 2, f"{ended}\n{service.logged()}"
            for _ in range(20):  # for longer than what is open is left when it is cut off
                refused = await failure_of(client.submit(submission("down", 4)))
                assert isinstance(refused, Unavailable)
                assert refused.reason == "DRAINING"
                await asyncio.sleep(0.1)
            await asyncio.to_thread(send, kafka, topic, [submission("down", 5)])
            assert not call.done()
            service.signal(signal.SIGUSR1)
            [receipt] = (await call).receipts
            assert (receipt.outcome, receipt.revision) == (pb.OUTCOME_ADMITTED, 3)
        assert await asyncio.to_thread(service.wait) == 0
        wal = tmp_path / "data" / f"{FILE}-wal"
        assert not wal.exists() or wal.stat().st_size == 0, "written back"
        assert admitted(service.folder, "down") == [(1, "s-1"), (2, "s-2"), (3, "s-3")]
        assert "cut off" not in service.logged()
        assert "Traceback" not in service.logged()
        service.restart()
        await until(lambda: service.metric('epistream_store_revision{namespace="down"}') == 4, "what is left in Kafka")
    assert admitted(tmp_path / "data", "down")[3:] == [(4, "s-5")]


async def test_of_calls_that_come_meanwhile_what_is_acknowledged_is_stored(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("down")
            stream = client.ingest.SubmitStream()
            await stream.write(ingest_pb.SubmitStreamRequest(submissions=[submission("down", 0)]))
            await stream.read()
            calls = [asyncio.ensure_future(client.submit(submission("down", n))) for n in range(1, 30)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            service.signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(await failure_of(stream.read()), Unavailable)
        assert service.wait() == 0
        acknowledged = {a[0].submission_id for a in answers if isinstance(a, list)}
        refused = [a for a in answers if isinstance(a, BaseException)]
        assert {a.code() for a in refused if isinstance(a, grpc.aio.AioRpcError)} <= {grpc.StatusCode.UNAVAILABLE}
        assert all(isinstance(a, grpc.aio.AioRpcError) for a in refused)
        service.restart()
        async with client_of(service.address) as client:
            repeated = await client.submit(*(submission("down", n) for n in range(30)))
            stored = {receipt.submission_id for receipt in repeated if receipt.earlier}
        assert stored >= acknowledged | {"s-0"}


async def test_health_watchers_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", drain_seconds="60") as service:
        async with client_of(service.address) as client:
            watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            service.signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            assert await asyncio.to_thread(service.wait, 20) == 0


async def test_while_it_goes_down_no_service_is_serving(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", drain_seconds="60", health_address="127.0.0.1:0") as service:
        async with client_of(service.address) as client, grpc.aio.insecure_channel(service.health_address) as probes:
            await client.make_namespace("down")
            await client.submit_many("down", [1])
            wait = sync_pb.WaitAppliedRequest(namespace="down", revision=1, consumers=["nobody"])
            call = asyncio.ensure_future(client.sync.WaitApplied(wait, timeout=60))
            health = health_pb2_grpc.HealthStub(probes)
            requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", *SERVICES)]
            watch = health.Watch(requests[0])
            assert (await watch.read()).status == SERVING
            service.signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            states = {(await health.Check(request)).status for request in requests}
            assert states == {NOT_SERVING}
            assert service.is_running(), "it waits for the call"
            call.cancel()
            assert await asyncio.to_thread(service.wait, 20) == 0


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", drain_seconds="60") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("twice")
            await client.submit_many("twice", [1])
            wait = sync_pb.WaitAppliedRequest(namespace="twice", revision=1, consumers=["nobody"])
            call = asyncio.ensure_future(client.sync.WaitApplied(wait, timeout=60))
            watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            service.signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            service.signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.wait) == 128 + signal.SIGTERM
            call.cancel()
