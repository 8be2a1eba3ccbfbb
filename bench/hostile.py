"""What healthy clients feel of hostile ones: their p99 under each attack, as a multiple of that of quiet times.

The service has TLS and an access file. A healthy process asks, publishes and subscribes at a steady rate, whether or
not the service keeps up, all the time; an attack (bench/attackers.py) comes and goes `--rounds` times, a quiet time
of half its `--seconds` before and after each. What counts is the median of the rounds' multiples: this machine is
shared, and single ones differ by a third. The service's memory is looked at five times a second.

Attackers have no machine of their own here and run at SCHED_IDLE, on what service and healthy clients leave of its
cores: so what they compute for themselves takes nothing from those, and what they send waits while all cores are busy,
as it would not on a network. Each attack counts what it has done; one that did less than it says misses its bound, and
so does the bench.

The p99 is that of ten seconds, and of those the median: one wait for the disk would else decide about a minute. Where
the disk itself is slower or faster for whole minutes a small write beside them tells it: a push waits for it. With
`--elsewhere` the attacks go to another service on the same machine, which tells what of it is the machine's.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import numpy as np
import psutil

from bench.attackers import EAGER, EAGER_MAY_PER_SECOND, HOSTILE, KINDS, NAMESPACE, WATCHED, Done
from bench.machine import Meanwhile, watched
from bench.parts import Asked
from bench.report import Figure, at_least, below, report
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from tests.support.certificates import Authority
from tests.support.rpc import Client, submission, vector
from tests.support.security import client_with, hash_of
from tests.support.service import RunningService, running_service

ROUNDS: Final = 3
SECONDS: Final = 60
WINDOW_SECONDS: Final = 10.0
ASKED_PER_SECOND: Final = 100
PUBLISHED_PER_SECOND: Final = 50
PATIENCE_SECONDS: Final = 1.0
"""For the answers to what was due at the end of some time; what has none by then never had one."""
ITEMS: Final = 2000
MEBIBYTE: Final = 1024 * 1024
KEPT: Final = 0.95
"""Of the rate that an attack says it has, what it must have reached."""

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

[principals.{HOSTILE}]
roles = ["hostile", "onlooker"]
token_hashes = ["{hash_of(HOSTILE)}"]
limits = {{ calls_per_second = 1000, streams = 1000, submissions_per_second = 100 }}

[principals.{EAGER}]
roles = ["hostile"]
token_hashes = ["{hash_of(EAGER)}"]
limits = {{ submissions_per_second = {EAGER_MAY_PER_SECOND} }}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", nargs=2, metavar=("ADDRESS", "CA"), help="used by itself")
    parser.add_argument("--only", choices=KINDS, nargs="+", help="these kinds of attack")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each attack comes")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long each attack lasts, 20 or more")
    parser.add_argument("--elsewhere", action="store_true", help="attack another service on the same machine")
    arguments = parser.parse_args()
    if arguments.healthy:
        address, ca = arguments.healthy
        asyncio.run(healthy(address, Path(ca).read_bytes()))
        return 0
    if arguments.seconds < 2 * WINDOW_SECONDS:
        parser.error(f"--seconds {arguments.seconds}: a quiet time, of half of it, needs {WINDOW_SECONDS:.0f} seconds")
    figures = [
        figure
        for kind in arguments.only or KINDS
        for figure in attacked_by(kind, arguments.rounds, arguments.seconds, elsewhere=arguments.elsewhere)
    ]
    return report("hostile, elsewhere" if arguments.elsewhere else "hostile", figures)


def attacked_by(kind: str, rounds: int, seconds: float, *, elsewhere: bool) -> list[Figure]:
    """What comes of one kind of attack on a service of its own: what the kinds before have published costs searches."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        authority = Authority(folder)
        (folder / "access.toml").write_text(ACCESS)
        flags = authority.service_flags() | {"access_file": str(folder / "access.toml"), "max_streams": "2000"}
        service = running.enter_context(running_service(folder / "store", flags))
        disk = running.enter_context(watched(folder))
        clients = healthy_clients(service, authority)
        attacked = service
        if elsewhere:
            attacked = running.enter_context(running_service(folder / "elsewhere", flags))
            healthy_clients(attacked, authority).finish()  # the same namespaces and items
        figures: list[Figure] = []
        feel = partial(felt, clients, disk)
        quiet, during = [feel(seconds / 2)], []
        for _ in range(rounds):
            felt_then, seen = under(kind, attacked, authority, seconds, feel)
            during.append(felt_then)
            figures += seen
            quiet.append(feel(seconds / 2))
        clients.finish()
    return figures + compared(kind, quiet, during)


def healthy_clients(service: RunningService, authority: Authority) -> Asked:
    """The healthy process, which has made its namespaces and goes on."""
    command = ("-m", "bench.hostile", "--healthy", service.address, str(authority.ca_file))
    clients = Asked("the healthy process", *command)
    clients.hear()
    return clients


def under(
    kind: str,
    attacked: RunningService,
    authority: Authority,
    seconds: float,
    feel: Callable[[float], dict[str, list[float]]],
) -> tuple[dict[str, list[float]], list[Figure]]:
    """What is felt under one attack; what the attack did, and what memory it took."""
    process = psutil.Process(attacked.pid)
    resting = process.memory_info().rss
    with memory_of(process) as most:
        attackers = Asked("the attackers", "-m", "bench.attackers", kind, attacked.address, str(authority.ca_file))
        attackers.hear()  # that it is under way
        during = feel(seconds)
        done = Done(**json.loads(attackers.ask("enough")))
        attackers.finish()
    return during, [
        *kept(kind, done),
        Figure(f"{kind}: memory of the service before", resting / MEBIBYTE, "MiB"),
        Figure(f"{kind}: at most", max(most) / MEBIBYTE, "MiB"),
        Figure(f"{kind}: afterwards", process.memory_info().rss / MEBIBYTE, "MiB"),
    ]


def kept(name: str, done: Done) -> list[Figure]:
    """What an attack has done, each with what it had to do as its target: what is felt under less says nothing."""
    kind = KINDS[name]
    per, least = (done.seconds, KEPT * kind.count) if kind.unit == "/s" else (1, kind.count)
    figures = [at_least(f"{name}: {kind.what}", done.done / per, kind.unit, least)]
    if kind.refused:
        figures.append(at_least(f"{name}: {kind.refusal}", done.refused / per, kind.unit, kind.refused * least))
    return [*figures, Figure(f"{name}: begun in vain", done.failed, "times")]


def compared(
    kind: str, quiet: Sequence[dict[str, list[float]]], during: Sequence[dict[str, list[float]]]
) -> list[Figure]:
    """What is felt under each attack against what is felt before and after it; one more in `quiet` than in `during`."""
    figures = []
    for what, name in (("ask", "a call"), ("push", "a push"), ("disk", "a write of 4 KiB beside them")):
        multiples = []
        for before, meanwhile, after in zip(quiet, during, quiet[1:], strict=False):
            usual, then = statistics.median(before[what] + after[what]), statistics.median(meanwhile[what])
            figures += [
                Figure(f"{kind}: p99 of {name}, quiet", usual, "ms"),
                Figure(f"{kind}: the same under attack", then, "ms"),
            ]
            multiples.append(then / usual)
        if what == "disk":
            continue
        figures += [Figure(f"{kind}: as a multiple", multiple, "times") for multiple in multiples]
        figures.append(below(f"{kind}: the median of these", statistics.median(multiples), "times", 1.2))
    return figures


def felt(clients: Asked, disk: Meanwhile, seconds: float) -> dict[str, list[float]]:
    """The p99 of each window over some time, milliseconds: of the healthy clients' `ask` and `push`, and of `disk`."""
    begun = time.time()
    found: dict[str, list[float]] = json.loads(clients.ask(str(seconds)))
    waited = [(begin, end - begin) for begin, end in disk.writes]
    return found | {"disk": [p99_from(waited, at) for at in windows(begun, seconds)]}


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
    """Ask, publish and subscribe for ever; answer each line, a number of seconds, with the p99 of its windows."""
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
            begun, seconds = time.monotonic(), float(line)
            await asyncio.sleep(seconds + PATIENCE_SECONDS)
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


def p99_from(found: Sequence[tuple[float, float]], begun: float, due: int = 0) -> float:
    """Of what was due in the window that begins at `begun`, milliseconds; infinite for what of `due` never came."""
    took = [1000 * took for at, took in found if begun <= at < begun + WINDOW_SECONDS]
    return float(np.percentile([*took, *[np.inf] * (due - len(took))], 99, method="lower"))


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
    """When each change was due, and how long until it was here; says what it has, as a replica does."""
    async with client.subscribe(WATCHED, head=True) as stream:
        while True:
            message = await stream.next()
            now = time.monotonic()
            for change in message.changes.changes:
                due = float(change.knowledge.attributes["due"])
                found.append((due, now - due))
            if message.HasField("changes"):
                await stream.acknowledge(message.changes.changes[-1].revision)


if __name__ == "__main__":
    sys.exit(main())
