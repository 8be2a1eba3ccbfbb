"""What the tests of backups share."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from epistream.clients.channel import translate
from epistream.indexer import store as stores
from epistream.v1 import admin_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import Unavailable
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, Client, client_of, submission
from tests.support.service import RunningService

Result = TypeVar("Result")

ENCODER: Final = ns.Encoder(model="none", dimension=DIMENSION)
LARGE_BYTES: Final = 200_000
LARGE_ITEMS: Final = 100
"""Together more than gRPC and the pipe keep for a client that does not read."""


async def taken(call: Any) -> list[api.BackupResponse]:
    """All messages of a backup."""
    messages = []
    while isinstance(message := await asyncio.wait_for(call.read(), PATIENCE_SECONDS), api.BackupResponse):
        messages.append(message)
    return messages


async def in_turn(begin: Callable[[], Awaitable[Result]]) -> Result:
    """What `begin` gives, once no other backup is being made: one that was given up takes a moment to end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await begin()
            except Unavailable as error:
                if error.reason != "OVERLOADED":
                    raise
            await asyncio.sleep(0.02)


async def begun(client: Client) -> Any:
    """A backup whose header was read, when it is its turn."""

    async def begin() -> Any:
        call: Any = client.admin.Backup(api.BackupRequest())
        try:
            assert (await call.read()).HasField("header")
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        return call

    return await in_turn(begin)


def dumped(folder: Path) -> list[str]:
    store = stores.Store(folder)
    try:
        assert stores.check(store) == []
        return list(store.logical_dump())
    finally:
        store.close()


async def produce(service: RunningService, who: int, acknowledged: set[str], stop: asyncio.Event) -> None:
    """Atomic batches of five of this producer's own, and now and then one that is refused."""
    rng = random.Random(who)
    async with client_of(service.address) as client:
        for batch in range(10_000):
            if stop.is_set():
                return
            ids = [f"{who}-{batch}-{n}" for n in range(5)]
            sent = [submission("busy", 10_000 * who + 5 * batch + n, submission_id=one) for n, one in enumerate(ids)]
            await client.submit(*sent, atomic=True)
            acknowledged.update(ids)
            if rng.random() < 0.2:
                await client.submit(submission("nowhere", batch, submission_id=f"{who}-{batch}-bad"))


def submissions_in(folder: Path) -> set[str]:
    with stores.read_only(folder) as at:
        return {row[0] for row in at.connection.execute("SELECT submission_id FROM submissions")}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
