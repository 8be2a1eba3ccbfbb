"""What one principal may use, on a live server: who is over a limit is told so, and when to come back.

Limits on messages: test_authorisation.py. On streams: test_hostile.py.
"""

import asyncio
import itertools

import grpc
import pytest

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.rpc import PATIENCE_SECONDS, Client, assert_turned_away, submission, told_by
from tests.support.secured import Secured
from tests.support.waits import until


@pytest.mark.parametrize("who", ["hasty", "seldom", "weighty"])
async def test_who_is_over_a_rate_is_told_when_to_come_back(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a exists
    who: str,
) -> None:
    async with secured.client(who) as client:
        await client.submit(submission("a", 61))
        delay_seconds = await assert_turned_away(client.submit(submission("a", 61)), "RATE_LIMITED")
        for method in ("Submit", "Retract"):  # refused before it is read
            await assert_turned_away(client.call_raw(f"IngestService/{method}", b"\xff"), "RATE_LIMITED")
    assert delay_seconds > 900, "of what is owed at 0.001 a second, not what is told where nothing is known"


async def test_who_has_as_many_calls_open_as_may_be_is_told_when_to_come_back(secured: Secured, root: Client) -> None:
    await root.submit(submission("a", 63))
    request = sync_pb.WaitAppliedRequest(namespace="a", revision=1, consumers=["nobody"])
    async with secured.client("single") as client:
        both = {asyncio.ensure_future(client.sync.WaitApplied(request, timeout=PATIENCE_SECONDS)) for _ in range(2)}
        [refused], [waiting] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        await assert_turned_away(refused, "OVERLOADED")
        waiting.cancel()
        await until(lambda: is_answered(client), "room for a call")


async def is_answered(client: Client) -> bool:
    try:
        await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name="a"))
    except grpc.aio.AioRpcError as error:
        if told_by(error).reason != "OVERLOADED":
            raise
        return False
    return True


async def test_who_has_as_many_bytes_in_hand_as_may_be_is_told_when_to_come_back(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a exists
) -> None:
    numbers = itertools.count(100)
    refused: list[asyncio.Task[list[pb.Receipt]]] = []
    async with secured.client("narrow") as client:

        async def collided() -> bool:
            """Whether one of two large requests came while the other was worked on."""
            larges = [[submission("a", next(numbers)) for _ in range(100)] for _ in range(2)]
            both = [asyncio.create_task(client.submit(*large)) for large in larges]
            await asyncio.wait(both)
            refused.extend(call for call in both if call.exception() is not None)
            return bool(refused)

        await until(collided, "a request too many")
        [one] = refused
        await assert_turned_away(one, "OVERLOADED")
        await client.submit(submission("a", 64))
