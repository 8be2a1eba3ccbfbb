"""Clients that submit and cancel: what they sent is theirs until it is let go of, and what was written is told.

The border and the writer are real; the encoder and the commit are the test's, so that they take as long as it needs.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import cast

import grpc
import pytest
import pytest_asyncio

from epistream.services.calls import Context
from epistream.services.turns import Turn, Turns
from epistream.wire.errors import Unavailable
from tests.support.border import LARGE, THREADS, Border, Stage, request_of, streaming, submitting
from tests.support.rpc import PATIENCE_SECONDS, Client, client_of, failure_of
from tests.support.waits import until


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
    call = await streaming(client, request_of(LARGE)) if streams else submitting(client, LARGE)
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
    await until(lambda: border.writer.waiting_bytes == (0, 0))
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
    stream = await streaming(client, request_of())
    await until(lambda: border.committing.begun == 1)
    stream.cancel()
    await until(lambda: border.writer.cancels == 1)
    border.committing.may_go_on.set()
    await until(lambda: border.codes() == ["BATCH", "CANCELLED"])
    assert border.audit()[0]["outcomes"] == {"ADMITTED": 1}


class Endless:
    """A client's stream that says nothing more until its call has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def read(self) -> object:
        await self.ended.wait()
        return grpc.aio.EOF

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


async def test_a_stream_that_is_cut_off_while_it_is_read_leaves_nothing_behind() -> None:
    before, context = asyncio.all_tasks(), Endless()
    turns = Turns(cast("Context", context), asyncio.Event())
    reading = asyncio.create_task(turns.next_batch())
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    await turns.close()
    context.ended.set()
    await until(lambda: asyncio.all_tasks() == before)
