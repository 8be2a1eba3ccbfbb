"""A stream that is paced (docs/decisions/0016), and one whose client says too much. What waits, waits an hour here."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import pytest

from epistream.indexer.engine import Engine
from epistream.services import subscription
from epistream.services.calls import Call, Context
from epistream.services.consumers import Consumers
from epistream.services.metrics import Metrics
from epistream.services.security.access import NO_LIMITS
from epistream.services.security.limits import Allowance
from epistream.services.subscription import Parts, Subscription, Wanted
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as api
from tests.support import knowing
from tests.support.knowing import NAMESPACE, HandClock
from tests.support.waits import PATIENCE_SECONDS, until


class Consumer:
    """Reads, and never says a word."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[api.SubscribeResponse] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def read(self) -> bytes | None:
        await self.gone.wait()
        return None

    async def write(self, message: bytes) -> None:
        self.received.put_nowait(api.SubscribeResponse.FromString(message))

    async def next_of(self, kind: str) -> api.SubscribeResponse:
        """The next message, which must be of that kind."""
        message = await asyncio.wait_for(self.received.get(), PATIENCE_SECONDS)
        assert message.WhichOneof("message") == kind
        return message


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(knowing.open_engine(tmp_path)) as engine:
        yield engine


def commit(engine: Engine, number: int, topic: str = "a") -> None:
    knowing.commit(engine, knowing.submission(f"Fact {number}.", id=str(number), attributes={"topic": topic}))


@asynccontextmanager
async def opened(
    engine: Engine, consumer: Consumer, progress_seconds: float = 3600.0, *, busy: threading.Event | None = None
) -> AsyncIterator[Subscription]:
    """A stream of the changes with the topic `a`. The block begins when it is told that it has subscribed.

    With `busy` it begins with a snapshot, and the only thread that reads has other work until that is set.
    """
    request = api.Subscription(namespace=NAMESPACE, consumer="model", filter=pb.Filter(attributes={"topic": "a"}))
    snapshot = busy is not None
    after = engine.feed.head(NAMESPACE) if snapshot else 0
    wanted = Wanted(
        request, knowing.DIMENSION, after, snapshot=snapshot, compacted=False, interval_seconds=progress_seconds
    )
    call = SimpleNamespace(caller=SimpleNamespace(allowance=Allowance(NO_LIMITS, time.monotonic)))
    with ThreadPoolExecutor(1) as readers:
        if busy is not None:
            readers.submit(busy.wait)
        parts = Parts(engine.feed, engine.epoch, Consumers(), Metrics(), HandClock(), readers)
        stream = Subscription(parts, cast("Context", consumer), cast("Call", call), wanted)
        running = asyncio.create_task(stream.run())
        try:
            await consumer.next_of("subscribed")
            yield stream
        finally:
            stream.drain()
            await asyncio.wait_for(running, PATIENCE_SECONDS)
            consumer.gone.set()


@asynccontextmanager
async def silent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, progress_seconds: float
) -> AsyncIterator[tuple[Subscription, Consumer]]:
    """One whose consumer owes so many acknowledgements that it is paced."""
    monkeypatch.setattr(subscription, "_PACE_SECONDS", (3600.0, 3600.0))
    consumer = Consumer()
    async with opened(engine, consumer, progress_seconds) as stream:
        stream.stream.unacknowledged.extend([(0, 0)] * 64)
        yield stream, consumer


async def test_a_stream_that_is_paced_is_told_how_far_it_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with silent(engine, monkeypatch, progress_seconds=0.1) as (stream, consumer):
        commit(engine, 1)
        stream.committed()
        assert (await consumer.next_of("changes")).changes.changes[0].revision == 1
        assert (await consumer.next_of("progress")).progress.revision == 1


async def test_what_a_filter_leaves_out_paces_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with silent(engine, monkeypatch, progress_seconds=3600.0) as (stream, consumer):
        for revision in (1, 2):
            commit(engine, revision, topic="b")
            stream.committed()
            await until(lambda revision=revision: stream.stream.passed_revision == revision)  # type: ignore[misc]
        assert (await consumer.next_of("progress")).progress.revision == 1
        commit(engine, 3)
        stream.committed()
        assert (await consumer.next_of("changes")).changes.changes[0].revision == 3


async def test_a_snapshot_that_waits_for_its_turn_is_told_that_its_stream_lives(engine: Engine) -> None:
    """Whoever hears nothing for ten seconds begins anew, and then waits behind those who wait."""
    commit(engine, 1)
    consumer, busy = Consumer(), threading.Event()
    async with opened(engine, consumer, progress_seconds=0.1, busy=busy):
        try:
            await consumer.next_of("snapshot_begin")
            for _ in range(3):
                assert (await consumer.next_of("progress")).progress.head_revision == 1
        finally:
            busy.set()
        while (message := await consumer.received.get()).WhichOneof("message") == "progress":
            pass
        assert [change.revision for change in message.snapshot.changes] == [1]


ACKNOWLEDGEMENT: Final = api.SubscribeRequest(acknowledge=api.Acknowledgement()).SerializeToString()
OF_A_LATER_VERSION: Final = b"\x7a\x00"


class Talker(Consumer):
    """Says the same again and again, once it has begun."""

    def __init__(self, says: bytes) -> None:
        super().__init__()
        self.says, self.said = says, 0
        self.begun = asyncio.Event()

    async def read(self) -> bytes | None:
        await self.begun.wait()
        await asyncio.sleep(0)
        self.said += 1
        return None if self.gone.is_set() else self.says


@pytest.mark.parametrize("says", [ACKNOWLEDGEMENT, OF_A_LATER_VERSION], ids=["acknowledged", "unknown"])
async def test_of_what_a_client_says_without_need_no_more_is_read_than_its_time_allows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    monkeypatch.setattr(subscription, "_SAID_SECONDS", 3600.0)
    talker = Talker(says)
    async with opened(engine, talker) as stream:
        talker.begun.set()
        await until(lambda: talker.said >= 65)
        commit(engine, 1)
        stream.committed()
        await talker.next_of("changes")
        for _ in range(100):
            await asyncio.sleep(0)
        assert talker.said == 65


async def test_each_change_that_is_sent_may_be_acknowledged_by_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_SAID_SECONDS", 3600.0)
    talker = Talker(ACKNOWLEDGEMENT)
    async with opened(engine, talker) as stream:
        for number in (1, 2, 3):
            commit(engine, number)
        stream.committed()
        assert len((await talker.next_of("changes")).changes.changes) == 3
        talker.begun.set()
        await until(lambda: talker.said >= 68)
        for _ in range(100):
            await asyncio.sleep(0)
        assert talker.said == 68
