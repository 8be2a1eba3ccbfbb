"""Clients that mean harm, one kind at a time, for bench/hostile.py: `python -m bench.attackers KIND …`.

They run only when nothing else wants a core: on a network they would be on machines of their own, and what they cost
themselves is not what is measured.
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import duration_pb2

from epistream.v1 import ingest_service_pb2 as ingest_pb
from tests.support.http2 import START, ping_until_sent_away
from tests.support.rpc import Client, submission
from tests.support.security import client_with

NAMESPACE: Final = "theirs"
WATCHED: Final = "ours"
IDLE_STREAMS: Final = 1000
SLOW_READERS: Final = 50
CONNECTIONS_PER_SECOND: Final = 200
_CHANNELS: Final = 20
_TOO_LARGE_BYTES: Final = 20 * 1024 * 1024


class Attack:
    """Where to, until when, and what has been done."""

    def __init__(self, address: str, ca: Path, token: str, seconds: float) -> None:
        self.address, self.ca, self.token = address, ca, token
        self.until = time.monotonic() + seconds
        self.done = 0
        self.refused = 0

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return time.monotonic() >= self.until

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Each is a connection of its own."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        async with client_with(self.address, credentials, self.token, ("grpc.use_local_subchannel_pool", 1)) as client:
            yield client

    async def trying(self, call: Awaitable[object]) -> None:
        """Count a call, and whether it was refused."""
        self.done += 1
        try:
            await call
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self.refused += 1

    def connected(self, *, http2: bool = True) -> ssl.SSLSocket:
        """A new connection with its handshake done."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if http2:
            context.set_alpn_protocols(["h2"])
        host, _, port = self.address.rpartition(":")
        return context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host)


async def oversized(attack: Attack) -> None:
    """Messages larger than the service takes, as fast as they are refused."""
    message = submission(NAMESPACE, 1, content="x" * _TOO_LARGE_BYTES)
    async with attack.client() as client:
        while not attack.over:
            await attack.trying(client.ingest.Submit(ingest_pb.SubmitRequest(submissions=[message])))
            await asyncio.sleep(0.1)


async def malformed(attack: Attack) -> None:
    """Bytes that are no message, and bytes that are no HTTP/2, 100 a second."""
    methods = ("IngestService/Submit", "KnowledgeService/Search", "NamespaceService/GetNamespace", "SyncService/No")
    async with attack.client() as client:
        while not attack.over:
            for method in methods:
                await attack.trying(client.call_raw(method, b"\xff" * 1000))
            await attack.trying(asyncio.to_thread(_talk_nonsense, attack))
            await asyncio.sleep(0.05)


def _talk_nonsense(attack: Attack) -> None:
    with attack.connected(http2=False) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(4000))
        connection.recv(1000)


async def pings(attack: Attack) -> None:
    """Pings without end, on a new connection each time the service has closed the one before."""
    while not attack.over:
        await asyncio.to_thread(_ping, attack)
        attack.done += 1
        await asyncio.sleep(0.05)


def _ping(attack: Attack) -> None:
    with attack.connected() as connection:
        connection.settimeout(1)
        attack.refused += ping_until_sent_away(connection, attack.until) is not None


async def idle(attack: Attack) -> None:
    """A thousand subscriptions to which nothing comes."""
    await _subscribed(attack, IDLE_STREAMS, NAMESPACE, reading=True)


async def slow(attack: Attack) -> None:
    """Subscriptions to what the healthy ones publish, of which nothing is read."""
    await _subscribed(attack, SLOW_READERS, WATCHED, reading=False)


async def _subscribed(attack: Attack, count: int, namespace: str, *, reading: bool) -> None:
    interval = duration_pb2.Duration(seconds=60)

    async def one(client: Client) -> None:
        async with client.subscribe(namespace, head=True, progress_interval=interval) as stream:
            await attack.trying(stream.next_of("subscribed"))
            print(end="", flush=True)
            while not attack.over:
                if reading:
                    await asyncio.wait({asyncio.ensure_future(stream.call.read())}, timeout=_left(attack))
                else:
                    await asyncio.sleep(_left(attack))

    async with AsyncExitStack() as connected:
        clients = [await connected.enter_async_context(attack.client()) for _ in range(_CHANNELS)]
        await asyncio.gather(*(one(clients[number % _CHANNELS]) for number in range(count)))


def _left(attack: Attack) -> float:
    return max(0.05, attack.until - time.monotonic())


async def connections(attack: Attack) -> None:
    """New connections, each with its handshake, at a steady rate whether or not the service keeps up."""
    begun, tasks = time.monotonic(), set[asyncio.Task[None]]()
    number = 0
    while not attack.over:
        number += 1
        await asyncio.sleep(max(0.0, begun + number / CONNECTIONS_PER_SECOND - time.monotonic()))
        task = asyncio.create_task(attack.trying(asyncio.to_thread(_connect, attack)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks, return_exceptions=True)


def _connect(attack: Attack) -> None:
    with attack.connected() as connection:
        connection.sendall(START)


KINDS: Final[dict[str, Callable[[Attack], Coroutine[Any, Any, None]]]] = {
    "oversized": oversized,
    "malformed": malformed,
    "pings": pings,
    "idle": idle,
    "slow": slow,
    "connections": connections,
}


def step_back() -> None:
    """Run when nothing else does.

    A low priority is not enough: since Linux 6.6 (EEVDF) who wakes up waits until such a process has used up its slice
    of some milliseconds. One of SCHED_IDLE makes way at once.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address")
    parser.add_argument("ca", type=Path)
    parser.add_argument("token")
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    step_back()
    attack = Attack(given.address, given.ca, given.token, given.seconds)
    asyncio.run(KINDS[given.kind](attack))
    print(json.dumps({"done": attack.done, "refused": attack.refused}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
