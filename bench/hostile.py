"""What healthy clients feel of hostile ones: their p99 under each attack, as a multiple of that of quiet times.

The service has TLS and an access file. A healthy process asks, publishes and subscribes at a steady rate, whether or
not the service keeps up, all the time; attacks (bench/attackers.py) come and go, a quiet time before and after each.
The service's memory is looked at five times a second.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import numpy as np
import psutil

from bench.attackers import KINDS, NAMESPACE, WATCHED
from bench.parts import Asked
from bench.report import Figure, below, report
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from tests.support.certificates import Authority
from tests.support.rpc import Client, submission, vector
from tests.support.security import client_with, hash_of
from tests.support.service import RunningService, running_service

SECONDS: Final = 20.0
CONNECTIONS_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 20.0
ASKED_PER_SECOND: Final = 100
PUBLISHED_PER_SECOND: Final = 50
ITEMS: Final = 2000
MEBIBYTE: Final = 1024 * 1024

ACCESS: Final = f"""
[roles.healthy]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

[roles.hostile]
verbs = ["read", "write", "watch"]
namespaces = ["{NAMESPACE}"]

[roles.onlooker]
verbs = ["watch"]
namespaces = ["{WATCHED}"]

[principals.healthy]
roles = ["healthy"]
token_hashes = ["{hash_of("healthy")}"]

[principals.hostile]
roles = ["hostile", "onlooker"]
token_hashes = ["{hash_of("hostile")}"]
limits = {{ calls_per_second = 1000, streams = 1000, submissions_per_second = 100 }}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", nargs=2, metavar=("ADDRESS", "CA"), help="used by itself")
    parser.add_argument("--only", choices=KINDS, help="one kind of attack")
    arguments = parser.parse_args()
    if arguments.healthy:
        address, ca = arguments.healthy
        asyncio.run(healthy(address, Path(ca).read_bytes()))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        (folder / "access.toml").write_text(ACCESS)
        flags = authority.service_flags() | {"access_file": str(folder / "access.toml"), "max_streams": "2000"}
        with running_service(folder / "store", flags) as service:
            clients = Asked(
                "the healthy process", "-m", "bench.hostile", "--healthy", service.address, str(authority.ca_file)
            )
            clients.hear()
            figures = [
                figure
                for kind in ([arguments.only] if arguments.only else KINDS)
                for figure in under(kind, service, authority, clients)
            ]
            clients.finish()
    return report("hostile", figures)


def under(kind: str, service: RunningService, authority: Authority, clients: Asked) -> list[Figure]:
    """The figures of one attack."""
    before = felt(clients, QUIET_SECONDS)
    process = psutil.Process(service.pid)
    resting = process.memory_info().rss
    seconds = CONNECTIONS_SECONDS if kind == "connections" else SECONDS
    with memory_of(process) as most, attacking(kind, service.address, authority, seconds) as attackers:
        time.sleep(2)  # until it is under way
        during = felt(clients, seconds - 4)
        done = json.loads(attackers.communicate(timeout=120)[0])
    after = felt(clients, QUIET_SECONDS)
    figures = []
    for what in ("ask", "push"):
        quiet = (before[what] + after[what]) / 2
        figures += [
            Figure(f"{kind}: p99 of {'a call' if what == 'ask' else 'a push'}, quiet", quiet, "ms"),
            Figure(f"{kind}: the same under attack", during[what], "ms"),
            below(f"{kind}: as a multiple", during[what] / quiet, "times", 1.2),
        ]
    return [
        *figures,
        Figure(f"{kind}: tried", done["done"], "times"),
        Figure(f"{kind}: of which refused", done["refused"], "times"),
        Figure(f"{kind}: memory of the service before", resting / MEBIBYTE, "MiB"),
        Figure(f"{kind}: at most", max(most) / MEBIBYTE, "MiB"),
        Figure(f"{kind}: afterwards", process.memory_info().rss / MEBIBYTE, "MiB"),
    ]


def felt(clients: Asked, seconds: float) -> dict[str, float]:
    """The healthy clients' p99 over some time, by `ask` and `push`, milliseconds."""
    found: dict[str, float] = json.loads(clients.ask(str(seconds)))
    return found


@contextmanager
def attacking(kind: str, address: str, authority: Authority, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "bench.attackers", kind, address, str(authority.ca_file), "hostile", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def memory_of(process: psutil.Process) -> Iterator[list[int]]:
    """What the process had in memory, looked at five times a second, bytes."""
    seen, over = [process.memory_info().rss], threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            seen.append(process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


async def healthy(address: str, ca: bytes) -> None:
    """Ask, publish and subscribe for ever; answer each line, a number of seconds, with the p99 of that time."""
    async with client_with(address, grpc.ssl_channel_credentials(ca), "healthy") as client:
        for namespace in (WATCHED, NAMESPACE):
            await client.make_namespace(namespace)
        for start in range(0, ITEMS, 500):
            await client.submit_many(WATCHED, range(start, start + 500))
        asked: list[tuple[float, float]] = []
        pushed: list[tuple[float, float]] = []
        tasks = [
            asyncio.create_task(ask(client, asked)),
            asyncio.create_task(publish(client)),
            asyncio.create_task(follow(client, pushed)),
        ]
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            begun = time.monotonic()
            await asyncio.sleep(float(line))
            p99 = {
                name: float(np.percentile([1000 * took for at, took in found if at >= begun], 99))
                for name, found in (("ask", asked), ("push", pushed))
            }
            print(json.dumps(p99), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def ask(client: Client, found: list[tuple[float, float]]) -> None:
    """Get and search in turns; when each was due, and how long until its answer came."""
    calls = set[asyncio.Task[None]]()
    begun = time.monotonic()
    number = 0
    while True:
        number += 1
        due = begun + number / ASKED_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        call = asyncio.create_task(ask_once(client, number, due, found))
        calls.add(call)
        call.add_done_callback(calls.discard)


async def ask_once(client: Client, number: int, due: float, found: list[tuple[float, float]]) -> None:
    if number % 2:
        await client.knowledge.Get(know_pb.GetRequest(namespace=WATCHED, item_id=f"item-{number % ITEMS}"))
    else:
        query = pb.Embedding(float32=vector(number % ITEMS))
        await client.knowledge.Search(know_pb.SearchRequest(namespace=WATCHED, vector=query))
    found.append((due, time.monotonic() - due))


async def publish(client: Client) -> None:
    """New items, one at a time, each with the moment it was due as an attribute."""
    begun, number, calls = time.monotonic(), ITEMS, set[asyncio.Task[list[pb.Receipt]]]()
    while True:
        number += 1
        due = begun + (number - ITEMS) / PUBLISHED_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        made = submission(WATCHED, number, attributes={"due": repr(due)})
        call = asyncio.create_task(client.submit(made))
        calls.add(call)
        call.add_done_callback(calls.discard)


async def follow(client: Client, found: list[tuple[float, float]]) -> None:
    """When each change was due, and how long until it was here."""
    async with client.subscribe(WATCHED, head=True) as stream:
        while True:
            message = await stream.next()
            now = time.monotonic()
            for change in message.changes.changes:
                due = float(change.knowledge.attributes["due"])
                found.append((due, now - due))


if __name__ == "__main__":
    sys.exit(main())
