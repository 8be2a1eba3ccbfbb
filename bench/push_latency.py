"""How long a change takes from its commit to a client, at a steady rate: for one subscriber, and for twenty.

The service, its subscribers (all in one process) and the producer are three processes on one machine, so their clocks
are one. A change's `commit_time` is taken when its commit begins: the fsync is in the figures.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import Figure, below, report
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.rpc import Client, client_of, submission
from tests.support.service import running_service
from tests.support.waits import until

RATE: Final = 200
"""Changes a second, each submitted alone."""
CHANGES: Final = 3000
SUBSCRIBERS: Final = (1, 20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--follow", nargs=3, metavar=("ADDRESS", "NAMESPACE", "SUBSCRIBERS"), help="used by itself")
    arguments = parser.parse_args()
    if arguments.follow:
        address, namespace, subscribers = arguments.follow
        asyncio.run(follow(address, namespace, int(subscribers), arguments.changes))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder) / "store") as service:
        for subscribers in SUBSCRIBERS:
            latencies = asyncio.run(measure(service.address, subscribers, arguments.changes))
            p50, p99 = np.percentile(latencies, [50, 99])
            who = f"{subscribers} subscriber{'s' if subscribers > 1 else ''}"
            figures += [
                below(f"commit to client p50, {who}", float(p50), "ms", 5),
                below(f"commit to client p99, {who}", float(p99), "ms", 50),
            ]
    return report("push_latency", figures)


async def measure(address: str, subscribers: int, changes: int) -> list[float]:
    """The latencies of all changes at all subscribers, milliseconds."""
    namespace = f"for-{subscribers}"
    async with client_of(address) as client:
        await client.make_namespace(namespace)
        arguments = ["--follow", address, namespace, str(subscribers), "--changes", str(changes)]
        follower = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.push_latency", *arguments, stdout=subprocess.PIPE
        )
        await until_connected(client, namespace, subscribers)
        await produce(client, namespace, changes)
        found, _ = await follower.communicate()
        if follower.returncode:
            raise SystemExit("the subscribers failed")
    latencies: list[float] = json.loads(found)
    return latencies


async def until_connected(client: Client, namespace: str, subscribers: int) -> None:
    request = sync_pb.ListConsumersRequest(namespace=namespace)

    async def connected() -> bool:
        return len((await client.sync.ListConsumers(request)).consumers) >= subscribers

    await until(connected, "all subscribers are connected")


async def produce(client: Client, namespace: str, changes: int) -> None:
    """Submit one change at a time, at the rate, whether or not the service keeps up."""
    call = client.ingest.SubmitStream()
    answers = asyncio.create_task(read_all(call))
    began = time.monotonic()
    for number in range(changes):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        await call.write(ingest_pb.SubmitStreamRequest(submissions=[submission(namespace, number)]))
    await call.done_writing()
    await answers


async def read_all(call: object) -> None:
    async for _ in call:  # type: ignore[attr-defined] # a call
        pass


async def follow(address: str, namespace: str, subscribers: int, changes: int) -> None:
    """Subscribe that many times and print the latency of every change at every subscriber, milliseconds."""
    async with client_of(address) as client:
        lists = await asyncio.gather(*(follow_one(client, namespace, changes) for _ in range(subscribers)))
    print(json.dumps([latency for one in lists for latency in one]))


async def follow_one(client: Client, namespace: str, changes: int) -> list[float]:
    """The latencies of a new namespace's changes; SystemExit where one is missing, or comes twice."""
    latencies: list[float] = []
    async with client.subscribe(namespace, head=True) as stream:
        while len(latencies) < changes:
            message = await stream.next()
            now_us = time.time_ns() / 1000
            for change in message.changes.changes:
                latencies.append((now_us - change.commit_time.ToMicroseconds()) / 1000)
                if change.revision != len(latencies):
                    raise SystemExit(f"revision {change.revision} came as number {len(latencies)}")
            if message.HasField("changes"):
                await stream.acknowledge(message.changes.changes[-1].revision)
    return latencies


if __name__ == "__main__":
    sys.exit(main())
