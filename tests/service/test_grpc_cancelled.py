"""Clients that submit and cancel: what they sent is theirs until it is let go of, and what was written is told.

The border and the writer are real; the encoder and the commit are the test's, so that they take as long as it needs.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import grpc
import pytest
import pytest_asyncio

from epistream.indexer.clock import SystemClock
from epistream.indexer.model import Arrived, Malformed, Record
from epistream.services import ingest
from epistream.services.calls import Calls, Context
from epistream.services.metrics import Metrics
from epistream.services.security.audit import Audit
from epistream.services.security.guard import Guard
from epistream.services.server import Server
from epistream.services.turns import Turn, Turns
from epistream.services.writer import Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import Unavailable
from tests.support.rpc import PATIENCE_SECONDS, Client, client_of, failure_of
from tests.support.security import hash_of
from tests.support.waits import until

THREADS: Final = 2
LARGE: Final = 800_000
ACCESS: Final = f"""
[roles.writer]
verbs = ["write"]
namespaces = ["*"]

[principals.writer]
roles = ["writer"]
token_hashes = ["{hash_of("writer")}"]
limits = {{ in_hand_bytes = 1000000, calls = 2 }}

[principals.other]
roles = ["writer"]
token_hashes = ["{hash_of("other")}"]
"""


class Stage:
    """Work that is held up while the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def take(self) -> None:
        """Be in it until it may go on."""
        self.begun += 1
        assert self.may_go_on.wait(PATIENCE_SECONDS)


class Pool(ThreadPoolExecutor):
    """Counts what it was given."""

    given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(fn, *args, **kwargs)


class NoticingWriter(Writer):
    """Counts the batches that somebody would have liked to cancel, whether or not it was too late."""

    cancels = 0

    def submit_batch(
        self, prepared: Sequence[Prepared], *, atomic: bool = False, wait: bool = False
    ) -> Future[list[pb.Receipt]]:
        future = super().submit_batch(prepared, atomic=atomic, wait=wait)
        cancel = future.cancel

        def noticed() -> bool:
            self.cancels += 1
            return cancel()

        future.cancel = noticed  # type: ignore[method-assign]
        return future


class Border:
    """A server with an IngestService whose stages can be held up."""

    def __init__(self, folder: Path) -> None:
        (folder / "access.toml").write_text(ACCESS)
        self.preparing, self.committing = Stage(), Stage()
        self.pool = Pool(THREADS)
        self.written: list[bytes] = []
        self._audit_file, self._audit = folder / "audit.jsonl", Audit(folder / "audit.jsonl", print)
        guard = Guard(folder / "access.toml", lambda _: None)
        calls = Calls(Metrics(), guard, self._audit, calls_max=100, unary_seconds=60, answer_bytes_max=1 << 20)
        self.writer = NoticingWriter(self._commit, committed=lambda *_: None, failed=lambda _: None)
        ready = asyncio.Event()
        ready.set()
        ways = ingest.Ways(self._prepare, self.pool, THREADS, ready, self.writer, SystemClock())
        servicer = ingest.IngestServicer(ways, calls, submissions_max=1000)
        self._server = Server("127.0.0.1:0", {ingest.SERVICE: servicer.handlers()}, max_message_bytes=1 << 24)
        self.address = self._server.address

    async def start(self) -> None:
        self.writer.start()
        await self._server.start()

    async def stop(self) -> None:
        self.preparing.may_go_on.set()
        self.committing.may_go_on.set()
        await self._server.stop()
        await asyncio.to_thread(self.writer.stop)
        self.pool.shutdown()
        self._audit.close()

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._audit_file.read_text().splitlines()]

    def codes(self) -> list[str]:
        return [line["code"] for line in self.audit()]

    def _prepare(self, records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:  # noqa: ARG002 - the stage's
        self.preparing.take()
        return [Malformed(one, pb.REASON_INVALID, ()) for one in records if isinstance(one, Record)]

    def _commit(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:  # noqa: ARG002
        self.committing.take()
        self.written += [one.record.value or b"" for one in prepared if isinstance(one, Malformed)]
        return [pb.Receipt(namespace="a", outcome=pb.OUTCOME_ADMITTED, revision=7) for _ in prepared]


@pytest_asyncio.fixture
async def border(tmp_path: Path) -> AsyncIterator[Border]:
    border = Border(tmp_path)
    await border.start()
    yield border
    await border.stop()


@pytest_asyncio.fixture
async def client(border: Border) -> AsyncIterator[Client]:
    async with client_of(border.address) as client:
        yield client


def shown(who: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {who}"),)


def request_of(size: int = 1) -> bytes:
    one = pb.Submission(namespace="a", origin=pb.ORIGIN_EXPERT, content="x" * size)
    return RawSubmitRequest(submissions=[one.SerializeToString()]).SerializeToString()


def submitting(client: Client, size: int = 1, who: str = "writer") -> Any:
    stub: Any = client.channel.unary_unary("/epistream.v1.IngestService/Submit")
    return stub(request_of(size), timeout=PATIENCE_SECONDS, metadata=shown(who))


async def streaming(client: Client, size: int = 1) -> Any:
    stub: Any = client.channel.stream_stream("/epistream.v1.IngestService/SubmitStream")
    stream = stub(metadata=shown("writer"))
    await stream.write(request_of(size))
    return stream


async def assert_no_room(client: Client) -> None:
    """For a while: a cancel takes its time to the server."""
    for _ in range(20):
        error = await failure_of(submitting(client, LARGE))
        assert isinstance(error, Unavailable)
        assert error.reason == "OVERLOADED"
        await asyncio.sleep(0.02)


async def succeeds(client: Client) -> None:
    """As soon as there is room."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (code := await submitting(client, LARGE).code()) != grpc.StatusCode.OK:
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("streams", [False, True], ids=["a call", "a stream"])
@pytest.mark.parametrize("stage", ["preparing", "committing"])
async def test_what_is_cancelled_has_its_room_until_its_bytes_are_let_go_of(
    border: Border,
    client: Client,
    stage: str,
    streams: bool,
) -> None:
    held: Stage = getattr(border, stage)
    held.may_go_on.clear()
    call = await streaming(client, LARGE) if streams else submitting(client, LARGE)
    await until(lambda: held.begun == 1)
    call.cancel()
    await assert_no_room(client)
    held.may_go_on.set()
    await succeeds(client)


async def test_a_cancelled_call_counts_as_open_until_it_is_over(border: Border, client: Client) -> None:
    border.preparing.may_go_on.clear()
    calls = [submitting(client) for _ in range(2)]
    await until(lambda: border.preparing.begun == 2)
    for call in calls:
        call.cancel()
    for _ in range(20):
        error = await failure_of(submitting(client))
        assert error.message.startswith("you have 2 calls open")
        await asyncio.sleep(0.02)


async def test_what_was_not_begun_is_let_go_of_at_once(border: Border, client: Client) -> None:
    border.preparing.may_go_on.clear()
    for _ in range(THREADS):
        submitting(client, who="other")
    await until(lambda: border.preparing.begun == THREADS)
    for number in range(1, 11):
        call = submitting(client, LARGE)
        await asyncio.sleep(0.02)
        call.cancel()
        await until(lambda number=number: border.codes() == ["CANCELLED"] * number)  # type: ignore[misc]
    assert border.pool.given == THREADS, "it has nothing that none of its threads works on"


async def test_what_waits_to_be_written_leaves_the_queue_with_its_call(border: Border, client: Client) -> None:
    border.committing.may_go_on.clear()
    first = submitting(client, who="other")
    await until(lambda: border.committing.begun == 1)
    waiting = border.writer.waiting_bytes
    call = submitting(client, LARGE)
    await until(lambda: border.writer.waiting_bytes > waiting)
    call.cancel()
    await until(lambda: border.codes() == ["CANCELLED"])
    assert border.writer.waiting_bytes == waiting
    border.committing.may_go_on.set()
    await first
    assert border.writer.waiting_bytes == 0
    assert "outcomes" not in border.audit()[0]
    assert len(border.written) == 1


async def test_the_audit_log_has_the_outcome_of_a_call_that_was_cancelled_too_late(
    border: Border, client: Client
) -> None:
    border.committing.may_go_on.clear()
    call = submitting(client)
    await until(lambda: border.committing.begun == 1)
    call.cancel()
    await until(lambda: border.writer.cancels == 1)
    border.committing.may_go_on.set()
    await until(lambda: border.codes() == ["CANCELLED"])
    [line] = border.audit()
    assert (line["outcomes"], line["revisions"]) == ({"ADMITTED": 1}, {"a": 7})
    assert len(border.written) == 1


async def test_the_audit_log_has_the_outcome_of_a_batch_whose_stream_was_cancelled(
    border: Border, client: Client
) -> None:
    border.committing.may_go_on.clear()
    stream = await streaming(client)
    await until(lambda: border.committing.begun == 1)
    stream.cancel()
    await until(lambda: border.writer.cancels == 1)
    border.committing.may_go_on.set()
    await until(lambda: border.codes() == ["BATCH", "CANCELLED"])
    assert border.audit()[0]["outcomes"] == {"ADMITTED": 1}


class Endless:
    """A client's stream that says nothing more."""

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def write(self, _: bytes) -> None:
        raise AssertionError("nothing is answered")


async def test_the_newest_batch_of_a_stream_is_let_go_of_first() -> None:
    """The writer may take one meanwhile. Were its elder let go of before it, the elder would be missing."""
    turns, let_go = Turns(cast("Context", Endless()), asyncio.Event()), list[int]()

    async def work(number: int, _: Turn) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            let_go.append(number)
        return b""

    for number in range(4):
        turns.begin(partial(work, number), lambda: None)
    await asyncio.sleep(0.01)
    await turns.close()
    assert let_go == [3, 2, 1, 0]
