"""What healthy clients feel of hostile ones: their p99 under each attack, as a multiple of that of quiet times.

The service has TLS and an access file. A healthy process asks, publishes and subscribes at a steady rate, whether or
not the service keeps up, all the time; an attack (bench/attackers.py) comes and goes `--rounds` times, a quiet time
of half its `--seconds` before and after each. Who sends more than its limit under attack sends what the limit grants in
quiet times: that is to be served. What counts is the median of the rounds' multiples: this machine is shared, and
single ones differ by a third. The service's memory is looked at five times a second.

Attackers have no machine of their own here and run at SCHED_IDLE, on what service and healthy clients leave of its
cores: so what they compute for themselves takes nothing from those, and what they send waits while all cores are busy,
as it would not on a network. Each attack counts what it has done; one that did less than it says misses its bound, and
so does the bench.

The p99 is that of ten seconds, and of those the median: one wait for the disk would else decide about a minute. Where
the disk itself is slower or faster for whole minutes a small write beside them tells it: a push waits for it. With
`--elsewhere` the attacks go to another service on the same machine, which tells what of it is the machine's.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from bench.attackers import EAGER, EAGER_MAY_PER_SECOND, HEALTHY, HOSTILE, KINDS, NAMESPACE, WATCHED, Done
from bench.healthy import WINDOW_SECONDS, p99_from, windows
from bench.machine import Meanwhile, again_and_again, watched
from bench.parts import Asked
from bench.report import Figure, at_least, below, equal, report
from tests.support.certificates import Authority
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service

ROUNDS: Final = 3
SECONDS: Final = 60
MEBIBYTE: Final = 1024 * 1024
MEMORY_MAX_MEBIBYTES: Final = 512
"""Of the service, which has some 155 before: what it may hold of one principal, and what it publishes meanwhile."""
KEPT: Final = 0.95
"""Of the rate that an attack says it has, what it must have reached."""

Felt: TypeAlias = dict[str, list[float]]
"""The p99 of each window, milliseconds: of `ask`, `push` and `disk`."""
Feel: TypeAlias = Callable[[float], Felt]
"""What is felt in so many seconds."""

ACCESS: Final = f"""
[roles.healthy]
verbs = ["read", "write", "watch", "admin", "monitor"]
namespaces = ["*"]

[roles.hostile]
verbs = ["read", "write", "watch"]
namespaces = ["{NAMESPACE}"]

[roles.onlooker]
verbs = ["watch"]
namespaces = ["{WATCHED}"]

[principals.{HEALTHY}]
roles = ["healthy"]
token_hashes = ["{hash_of(HEALTHY)}"]

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
    parser.add_argument("--only", choices=KINDS, nargs="+", help="these kinds of attack")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each attack comes")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long each attack lasts, 20 or more")
    parser.add_argument("--elsewhere", action="store_true", help="attack another service on the same machine")
    arguments = parser.parse_args()
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
        target = Target(kind, attacked, authority.ca_file)
        quiet, during = [in_quiet(target, seconds / 2, feel)], []
        for _ in range(rounds):
            felt_then, seen = under(target, seconds, feel)
            during.append(felt_then)
            figures += seen
            quiet.append(in_quiet(target, seconds / 2, feel))
        clients.finish()
    return figures + compared(kind, quiet, during)


def healthy_clients(service: RunningService, authority: Authority) -> Asked:
    """The healthy process, which has made its namespaces and goes on."""
    clients = Asked("the healthy process", "-m", "bench.healthy", service.address, str(authority.ca_file))
    clients.hear()
    return clients


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked, and how."""

    kind: str
    service: RunningService
    ca_file: Path

    def attackers(self, *more: str) -> Asked:
        """Their process, which is under way."""
        given = (self.kind, self.service.address, str(self.ca_file), *more)
        process = Asked("the attackers", "-m", "bench.attackers", *given)
        process.hear()
        return process

    def streams(self) -> float:
        """How many subscriptions the service has open."""
        return self.service.metric("epistream_watch_streams", ca=self.ca_file.read_bytes(), token=HEALTHY)


def in_quiet(target: Target, seconds: float, feel: Feel) -> Felt:
    """What is felt while nobody does more than it may."""
    if not KINDS[target.kind].granted:
        return feel(seconds)
    allowed = target.attackers("--granted")
    quiet = feel(seconds)
    done = Done(**json.loads(allowed.ask("enough")))
    allowed.finish()
    if done.done < KEPT * KINDS[target.kind].granted * done.seconds:
        raise SystemExit(f"{target.kind}: less was sent in quiet times than is granted: {done}")
    return quiet


def under(target: Target, seconds: float, feel: Feel) -> tuple[Felt, list[Figure]]:
    """What is felt under one attack; what the attack did, and what memory it took."""
    kind, process = target.kind, psutil.Process(target.service.pid)
    resting, followed = process.memory_info().rss, target.streams()
    with memory_of(process) as most:
        attacking = target.attackers()
        during = feel(seconds)
        followed = target.streams() - followed
        done = Done(**json.loads(attacking.ask("enough")))
        attacking.finish()
    return during, [
        *kept(kind, done, followed),
        Figure(f"{kind}: memory of the service before", resting / MEBIBYTE, "MiB"),
        below(f"{kind}: at most", max(most) / MEBIBYTE, "MiB", MEMORY_MAX_MEBIBYTES),
        Figure(f"{kind}: afterwards", process.memory_info().rss / MEBIBYTE, "MiB"),
    ]


def kept(name: str, done: Done, followed: float) -> list[Figure]:
    """What an attack has done, each with what it had to do as its target: what is felt under less says nothing.

    Args:
        name: of KINDS.
        done: what the attackers say.
        followed: how many more streams the service has open at the end: who does not read does not see the end of one.
    """
    kind = KINDS[name]
    per, least = (done.seconds, KEPT * kind.count) if kind.unit == "/s" else (1, kind.count)
    figures = [at_least(f"{name}: {kind.what}", done.done / per, kind.unit, least)]
    if kind.refused:
        figures.append(at_least(f"{name}: {kind.refusal}", done.refused / per, kind.unit, kind.refused * least))
    if kind.unit == "streams":
        figures.append(at_least(f"{name}: open to the end, as the service counts them", followed, kind.unit, least))
    return [*figures, Figure(f"{name}: begun in vain", done.failed, "times")]


def compared(kind: str, quiet: Sequence[Felt], during: Sequence[Felt]) -> list[Figure]:
    """What is felt under each attack against what is felt before and after it; one more in `quiet` than in `during`."""
    unanswered = sum(not math.isfinite(p99) for felt in (*quiet, *during) for of in felt.values() for p99 in of)
    figures = [equal(f"{kind}: windows in which more than 1 in 100 had no answer", unanswered, "windows", 0)]
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


def felt(clients: Asked, disk: Meanwhile, seconds: float) -> Felt:
    """What the healthy clients and the disk say of the next seconds."""
    begun = time.time()
    found: Felt = json.loads(clients.ask(str(seconds)))
    waited = [(begin, end - begin) for begin, end in disk.writes]
    return found | {"disk": [p99_from(waited, at) for at in windows(begun, seconds)]}


@contextmanager
def memory_of(process: psutil.Process) -> Iterator[list[int]]:
    """What the process had in memory, looked at five times a second, bytes."""
    seen = [process.memory_info().rss]
    with again_and_again(lambda: seen.append(process.memory_info().rss), 0.2):
        yield seen


if __name__ == "__main__":
    sys.exit(main())
