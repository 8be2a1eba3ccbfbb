"""The healthy clients of bench/hostile.py, in a process of their own: `python -m bench.healthy ADDRESS CA`.

They ask, publish and subscribe at a steady rate, whether or not the service keeps up, for ever, and answer each line, a
number of seconds, with the p99 of the windows of so many seconds from then on.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import numpy as np

from bench.attackers import HEALTHY, NAMESPACE, WATCHED, due
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from tests.support.rpc import Client, submission, vector
from tests.support.security import client_with

WINDOW_SECONDS: Final = 10.0
ASKED_PER_SECOND: Final = 100
PUBLISHED_PER_SECOND: Final = 50
PATIENCE_SECONDS: Final = 1.0
"""For the answers to what was due at the end of some time; what has none by then never had one."""
ITEMS: Final = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("ca", type=Path)
    given = parser.parse_args()
    asyncio.run(healthy(given.address, given.ca.read_bytes()))
    return 0


async def healthy(address: str, ca: bytes) -> None:
    """Ask, publish and subscribe for ever; answer each line, a number of seconds, with the p99 of its windows."""
    async with client_with(address, grpc.ssl_channel_credentials(ca), HEALTHY) as client:
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
            begun, seconds = time.monotonic(), float(line)
            await asyncio.sleep(seconds + PATIENCE_SECONDS)
            for ended in [task for task in tasks if task.done()]:
                ended.result()  # none ends by itself, but with an error
            of_both = (("ask", asked, ASKED_PER_SECOND), ("push", pushed, PUBLISHED_PER_SECOND))
            p99 = {
                what: [p99_from(found, at, int(rate * WINDOW_SECONDS)) for at in windows(begun, seconds)]
                for what, found, rate in of_both
            }
            print(json.dumps(p99), flush=True)
        while not all(task.done() for task in tasks):  # until Python 3.12 wait_for may lose a cancellation
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)


def windows(begun: float, seconds: float) -> list[float]:
    """When each begins."""
    return [begun + WINDOW_SECONDS * number for number in range(int(seconds / WINDOW_SECONDS))]


def p99_from(found: Sequence[tuple[float, float]], begun: float, expected: int = 0) -> float:
    """Of what was due in the window that begins at `begun`, milliseconds; infinite for what of `expected` never came.

    At the window's edges one more or less may be due.
    """
    took = [1000 * took for at, took in found if begun <= at < begun + WINDOW_SECONDS]
    return float(np.percentile([*took, *[np.inf] * (expected - 1 - len(took))], 99, method="lower"))


async def ask(client: Client, found: list[tuple[float, float]]) -> None:
    """Get and search in turns; when each was due, and how long until its answer came."""
    calls = set[asyncio.Task[None]]()
    async for number, at in due(ASKED_PER_SECOND):
        call = asyncio.create_task(ask_once(client, number, at, found))
        calls.add(call)
        call.add_done_callback(calls.discard)


async def ask_once(client: Client, number: int, at: float, found: list[tuple[float, float]]) -> None:
    if number % 2:
        await client.knowledge.Get(know_pb.GetRequest(namespace=WATCHED, item_id=f"item-{number % ITEMS}"))
    else:
        query = pb.Embedding(float32=vector(number % ITEMS))
        await client.knowledge.Search(know_pb.SearchRequest(namespace=WATCHED, vector=query))
    found.append((at, time.monotonic() - at))


async def publish(client: Client) -> None:
    """New items, one at a time, each with the moment it was due as an attribute."""
    calls = set[asyncio.Task[list[pb.Receipt]]]()
    async for number, at in due(PUBLISHED_PER_SECOND):
        made = submission(WATCHED, ITEMS + number, attributes={"due": repr(at)})
        call = asyncio.create_task(client.submit(made))
        calls.add(call)
        call.add_done_callback(calls.discard)


async def follow(client: Client, found: list[tuple[float, float]]) -> None:
    """When each change was due, and how long until it was here; says what it has, as a replica does."""
    async with client.subscribe(WATCHED, head=True) as stream:
        while True:
            message = await stream.next()
            now = time.monotonic()
            for change in message.changes.changes:
                at = float(change.knowledge.attributes["due"])
                found.append((at, now - at))
            if message.HasField("changes"):
                await stream.acknowledge(message.changes.changes[-1].revision)


if __name__ == "__main__":
    sys.exit(main())
