"""Clients that mean harm, one kind at a time, for bench/hostile.py: `python -m bench.attackers KIND …`.

They run at SCHED_IDLE, only when nothing else wants a core: on a network they would be on machines of their own, and
what they cost themselves is not what is measured. So that they do not become harmless by it they count what they have
done, each when it is done, and bench/hostile.py asks for what KINDS says of them.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Never

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from epistream.v1 import ingest_service_pb2 as ingest_pb
from tests.support.http2 import START, ping_until_sent_away
from tests.support.rpc import PATIENCE_SECONDS, Client, submission
from tests.support.security import client_with

NAMESPACE: Final = "theirs"
WATCHED: Final = "ours"
HEALTHY: Final = "healthy"
HOSTILE: Final = "hostile"
EAGER: Final = "eager"
"""The tokens, and the names of the principals."""
EAGER_MAY_PER_SECOND: Final = 20
"""Submissions of the principal that sends ten times as many."""
_CHANNELS: Final = 20
_THREADS: Final = 64
"""Of which each is at most at one connection; those of asyncio itself are 6 on two cores."""
_TOO_LARGE_BYTES: Final = 20 * 1024 * 1024
_NO_MESSAGE: Final = b"\xff" * 1000
_NO_METHOD: Final = "SyncService/No"


@dataclass(frozen=True, slots=True)
class Done:
    """What an attack has done since it is under way."""

    seconds: float
    done: int
    """Carried out as its kind says: connections with their handshake, calls with an answer, streams that are open."""
    refused: int
    """Those of them that the service refused, as it should."""
    failed: int
    """What was begun and not carried out."""


class Attack:
    """Where to, as whom, and what has been done."""

    def __init__(self, address: str, ca: Path, token: str) -> None:
        self.address, self.ca, self.token = address, ca, token
        self.done = self.refused = self.failed = 0
        self._begun = 0.0

    def under_way(self) -> None:
        """Say so: what is done counts from now on."""
        self._begun = time.monotonic()
        print("under way", flush=True)

    def so_far(self) -> Done:
        """What has been done."""
        return Done(time.monotonic() - self._begun, self.done, self.refused, self.failed)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Each is a connection of its own."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        async with client_with(self.address, credentials, self.token, ("grpc.use_local_subchannel_pool", 1)) as client:
            yield client

    async def call(self, call: Awaitable[object], is_refusal: Callable[[grpc.aio.AioRpcError], bool]) -> None:
        """Count a call when it is answered, and whether it was refused; an error that is no refusal is a failure."""
        try:
            await call
        except grpc.aio.AioRpcError as error:
            if not is_refusal(error):
                self.failed += 1
                return
            self.refused += 1
        self.done += 1

    async def connect(self, use: Callable[[ssl.SSLSocket], bool], alpn: tuple[str, ...] = ("h2",)) -> None:
        """Count a connection when it has been used; `use`, on a thread, says whether it was refused."""
        try:
            refused = await asyncio.to_thread(self._connected, use, alpn)
        except OSError:
            self.failed += 1
        else:  # not `+= await …`, which forgets what others count meanwhile
            self.refused += refused
            self.done += 1

    def _connected(self, use: Callable[[ssl.SSLSocket], bool], alpn: tuple[str, ...]) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.set_alpn_protocols(alpn)
        host, _, port = self.address.rpartition(":")
        with context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host) as connection:
            return use(connection)


async def due(per_second: int) -> AsyncIterator[tuple[int, float]]:
    """Numbers from 0, each when it is due, and when that is by the monotonic clock, whether or not anybody keeps up.

    Each is due at a random moment of a part of the second that is its own. Evenly spaced calls of two processes, whose
    rates are multiples of each other, would meet for a whole round or not at all, as their beginnings happen to lie.
    """
    begun = time.monotonic()
    for number in itertools.count():
        at = begun + (number + random.random()) / per_second
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        yield number, at


async def steadily(attack: Attack, per_second: int, act: Callable[[int], Coroutine[Any, Any, None]]) -> Never:
    """Do something again and again, at a steady rate whether or not the service keeps up; `act` is told its number."""
    acts = set[asyncio.Task[None]]()
    attack.under_way()
    async for number, _ in due(per_second):
        task = asyncio.create_task(act(number))
        acts.add(task)
        task.add_done_callback(acts.discard)
    raise AssertionError("numbers have no end")


async def oversized(attack: Attack, per_second: int) -> Never:
    """Messages larger than the service takes."""
    request = ingest_pb.SubmitRequest(submissions=[submission(NAMESPACE, 1, content="x" * _TOO_LARGE_BYTES)])
    async with attack.client() as client:

        async def send(_: int) -> None:
            await attack.call(client.ingest.Submit(request, timeout=PATIENCE_SECONDS), is_too_much)

        await steadily(attack, per_second, send)


def is_too_much(error: grpc.aio.AioRpcError) -> bool:
    """Whether it is RESOURCE_EXHAUSTED."""
    return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def malformed(attack: Attack, per_second: int) -> Never:
    """Bytes that are no message, and bytes that are no HTTP/2."""
    methods = ("IngestService/Submit", "KnowledgeService/Search", "NamespaceService/GetNamespace", _NO_METHOD)
    async with attack.client() as client:

        async def send(number: int) -> None:
            if which := number % (len(methods) + 1):
                await attack.call(client.call_raw(methods[which - 1], _NO_MESSAGE), is_no_call)
            else:
                await attack.connect(_talk_nonsense, alpn=())

        await steadily(attack, per_second, send)


async def unknown(attack: Attack, per_second: int) -> Never:
    """Calls of a method that is not there. gRPC refuses them by itself, so nobody's code around it could cost less."""
    async with attack.client() as client:

        async def send(_: int) -> None:
            await attack.call(client.call_raw(_NO_METHOD, _NO_MESSAGE), is_no_call)

        await steadily(attack, per_second, send)


def is_no_call(error: grpc.aio.AioRpcError) -> bool:
    """Whether it says that there is no such message, or no such method."""
    return error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


def _talk_nonsense(connection: ssl.SSLSocket) -> bool:
    with suppress(ConnectionError):  # which is an answer to it
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(4000))
        connection.recv(1000)
    return True


async def pings(attack: Attack, per_second: int) -> Never:
    """New connections, each with pings without end until the service says that it is enough."""
    await steadily(attack, per_second, lambda _: attack.connect(_ping))


def _ping(connection: ssl.SSLSocket) -> bool:
    if ping_until_sent_away(connection, time.monotonic() + PATIENCE_SECONDS) is None:
        raise TimeoutError("pings were neither answered nor too many")
    return True


async def connections(attack: Attack, per_second: int) -> Never:
    """New connections, each with its handshake."""
    await steadily(attack, per_second, lambda _: attack.connect(_greet))


def _greet(connection: ssl.SSLSocket) -> bool:
    connection.sendall(START)
    return False


async def over_limits(attack: Attack, per_second: int) -> Never:
    """Calls without a fault, each with a new submission, of a principal that may send a tenth of them."""
    first = time.time_ns() // 1_000_000  # larger than any of an attack before
    async with attack.client() as client:

        async def submit(number: int) -> None:
            request = ingest_pb.SubmitRequest(submissions=[submission(NAMESPACE, first + number)])
            await attack.call(client.ingest.Submit(request, timeout=PATIENCE_SECONDS), is_told_when_to_come_back)

        await steadily(attack, per_second, submit)


def is_told_when_to_come_back(error: grpc.aio.AioRpcError) -> bool:
    """Whether it is RESOURCE_EXHAUSTED with a retry delay."""
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    told = status is not None and any(detail.Unpack(retry) for detail in status.details)
    return told and is_too_much(error) and retry.retry_delay.ToMicroseconds() > 0


async def unsent(attack: Attack, per_second: int) -> Never:
    """Calls of health, for which nobody needs credentials, and of which nothing but the headers comes."""
    async with attack.client() as client:
        check: Any = client.channel.stream_unary("/grpc.health.v1.Health/Check")

        async def begin(_: int) -> None:
            await attack.call(check(timeout=PATIENCE_SECONDS), is_given_up)

        await steadily(attack, per_second, begin)


def is_given_up(error: grpc.aio.AioRpcError) -> bool:
    """Whether the service, which does so before the client, says DEADLINE_EXCEEDED."""
    return error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and rpc_status.from_call(error) is not None


async def idle(attack: Attack, streams: int) -> Never:
    """Subscriptions to which nothing comes."""
    await _subscribed(attack, streams, NAMESPACE, reading=True)


async def slow(attack: Attack, streams: int) -> Never:
    """Subscriptions to what the healthy ones publish, of which nothing is read."""
    await _subscribed(attack, streams, WATCHED, reading=False)


async def _subscribed(attack: Attack, count: int, namespace: str, *, reading: bool) -> Never:
    """Under way when all are open; one that ends is not counted any more, and not opened again."""
    interval = duration_pb2.Duration(seconds=60)

    async def one(client: Client) -> None:
        async with client.subscribe(namespace, head=True, progress_interval=interval) as stream:
            await stream.next_of("subscribed")
            attack.done += 1
            if attack.done == count:
                attack.under_way()
            with suppress(grpc.aio.AioRpcError):
                while reading and await stream.call.read() is not grpc.aio.EOF:
                    pass
            await stream.call.code()
            attack.done -= 1
            attack.failed += 1

    async with AsyncExitStack() as connected:
        clients = [await connected.enter_async_context(attack.client()) for _ in range(_CHANNELS)]
        await asyncio.gather(*(one(clients[number % _CHANNELS]) for number in range(count)))
    raise SystemExit("all streams have ended")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of attack, and what it has to do to be one."""

    carry_out: Callable[[Attack, int], Coroutine[Any, Any, Never]]
    """Goes on until it is cancelled. Is given `count`."""
    count: int
    """How much of it: a second, or streams at one time."""
    what: str
    """What is counted."""
    unit: str = "/s"
    refused: float = 0.0
    """The part of it that the service has to refuse."""
    refusal: str = "of which refused"
    principal: str = HOSTILE
    granted: int = 0
    """How much of it the principal may do, and does in quiet times too: it is the rest that means harm."""


KINDS: Final = {
    "oversized": Kind(oversized, 10, "messages of 20 MiB answered", refused=1),
    "malformed": Kind(malformed, 100, "messages that are none, answered", refused=1),
    "unknown": Kind(unknown, 100, "calls of no method, answered", refused=1),
    "pings": Kind(pings, 20, "connections with 100 pings or more", refused=1),
    "idle": Kind(idle, 1000, "opened, and open to the end", "streams"),
    "slow": Kind(slow, 50, "opened, and open to the end", "streams"),
    "connections": Kind(connections, 200, "connections made"),
    "unsent": Kind(unsent, 100, "calls begun and never sent, ended", refused=1),
    "over_limits": Kind(
        over_limits,
        10 * EAGER_MAY_PER_SECOND,
        "submissions answered",
        refused=0.9,
        refusal="of which RESOURCE_EXHAUSTED with a retry delay",
        principal=EAGER,
        granted=EAGER_MAY_PER_SECOND,
    ),
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


async def attack_until_told(kind: Kind, attack: Attack, count: int) -> Done:
    """Do so much of it until standard input has a line or ends. Raises what the attack fails with."""
    loop, enough = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    loop.add_reader(sys.stdin, enough.set)
    attacking, told = asyncio.create_task(kind.carry_out(attack, count)), asyncio.create_task(enough.wait())
    await asyncio.wait({attacking, told}, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin)
    if attacking.done():
        await attacking
    return attack.so_far()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address")
    parser.add_argument("ca", type=Path)
    parser.add_argument("--granted", action="store_true", help="no more of it than they may")
    given = parser.parse_args()
    step_back()
    kind = KINDS[given.kind]
    count = kind.granted if given.granted else kind.count
    done = asyncio.run(attack_until_told(kind, Attack(given.address, given.ca, kind.principal), count))
    print(json.dumps(asdict(done)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
