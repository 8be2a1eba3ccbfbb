"""Subscribers of the SDK in tests, and what they yield."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from epistream.clients import (
    Changes,
    Position,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotItems,
    Start,
    Subscriber,
)
from epistream.v1 import knowledge_pb2 as pb
from tests.support.proxies import Proxy
from tests.support.scripted_server import ScriptedServer

SECONDS_MAX = 60


async def changes_up_to(subscriber: Subscriber, revision: int) -> list[pb.Change]:
    """The changes that are yielded until the position is at `revision`."""
    received: list[pb.Change] = []
    async with asyncio.timeout(SECONDS_MAX):
        async for event in subscriber:
            match event:
                case Changes(changes):
                    received.extend(changes)
                case _:
                    pass
            if subscriber.position is not None and subscriber.position.revision >= revision:
                break
    return received


async def a_snapshot(subscriber: Subscriber) -> tuple[int, dict[str, pb.Change]]:
    """The next whole snapshot, and its revision."""
    items: dict[str, pb.Change] = {}
    async with asyncio.timeout(SECONDS_MAX):
        async for event in subscriber:
            match event:
                case SnapshotBegin():
                    items = {}
                case SnapshotItems(changes):
                    items |= {change.item_id: change for change in changes}
                case SnapshotEnd(revision):
                    return revision, items
                case _:
                    pass
    raise AssertionError("the subscription ended")


def without_vectors(changes: Sequence[pb.Change]) -> list[pb.Change]:
    plain = [pb.Change.FromString(change.SerializeToString()) for change in changes]
    for change in plain:
        change.ClearField("embedding")
    return plain


@contextlib.asynccontextmanager
async def through_proxy(server: ScriptedServer) -> AsyncIterator[Proxy]:
    async with server, Proxy(server.port) as proxy:
        yield proxy


def subscriber_of(address: str, start: Start | Position = Start.BEGINNING, **options: object) -> Subscriber:
    fields: dict[str, object] = {"progress_interval_seconds": 0.1} | options
    return Subscriber(address, "tests", "consumer", start=start, **fields)  # type: ignore[arg-type] # any options
