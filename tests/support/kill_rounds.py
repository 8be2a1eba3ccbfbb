"""A service that is killed with SIGKILL, again and again, at random moments and named points; and all that is seen.

    producers over gRPC ─┐                                   ┌─► subscribers that write everything down
    producer over Kafka ─┴─► service, killed and restarted ──┴─► replicas in their files, killed and restarted too

All send to two namespaces; each of these has a subscriber and a replica of its own.
Nothing of the service is in this process. `tests.support.kill_check` says what must hold of what was seen.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Final

import apsw
import numpy as np

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.indexer.store import FILE, Store
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.failing_service import (
    RUNNING,
    STARTING,
    STOPPING,
    acknowledged,
    acknowledging,
    offset_shown,
    rebuilding,
)
from tests.support.kill_check import PATIENCE_SECONDS, History, NamespaceHistory, Stored, taken
from tests.support.kill_followers import HITS, Recorder, ReplicaProcess, ids, recording, snapshot
from tests.support.kill_producers import KafkaSide, producing
from tests.support.kill_replica import CONSUMER
from tests.support.kill_traffic import DIMENSION, NAMESPACES
from tests.support.service import Fail, RunningService

KILL_AFTER_SECONDS: Final = (0.05, 0.8)
"""So long after a service has taken something it is killed."""
PASSES_MAX: Final = {"applied": 20, "committed": 20, "shown": 20, "checkpoint": 40, "offset_shown": 2}
"""At which pass of a point it strikes at the latest; those that are not named, at the first."""
QUERIES: Final = 10
"""So many searches are asked of the service and of the replica in the end, in each namespace."""
_AGAIN_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has to do with."""

    number: int
    """From 0."""
    service: RunningService
    subscribers: Sequence[Recorder]
    """One for each namespace, in their order."""
    replicas: Sequence[ReplicaProcess]
    """One for each namespace, in their order."""
    history: History
    with_kafka: bool
    chance: random.Random

    def wait_for_kafka(self, count: int) -> None:
        """Wait until so many more changes that came in over Kafka were pushed to each subscriber."""
        wanted = [(subscriber, subscriber.revisions_over_kafka + count) for subscriber in self.subscribers]
        self.history.wait_until(lambda: all(one.revisions_over_kafka >= n for one, n in wanted), "changes over Kafka")

    def lose_replicas(self) -> None:
        """Kill the replicas, each in one of three rounds."""
        for replica in self.replicas:
            if self.chance.random() < 1 / 3:
                replica.kill()


def kill_rounds(service: RunningService, rounds: int, *, seed: int, kafka: KafkaSide | None = None) -> History:
    """Kill a service as often as that during ingest, in every other round once more at a named point."""
    points = _points(with_kafka=kafka is not None)

    def one(now: Round) -> None:
        kill_while_it_works(now)
        if now.number % 2:
            strike(now, next(points))
        come_back(now)

    return rounds_under_load(service, rounds, one, seed=seed, kafka=kafka)


def rounds_under_load(
    service: RunningService, rounds: int, one: Callable[[Round], None], *, seed: int, kafka: KafkaSide | None
) -> History:
    """Do something to a service as often as that; then let it finish, ask it everything again, and stop it.

    Args:
        service: it runs, with an empty store.
        rounds: how many times.
        one: what is done. It leaves the service running, or about to run.
        seed: of the traffic and of the moments.
        kafka: what the service reads from, too.
    """
    history = History({name: NamespaceHistory() for name in NAMESPACES})
    with SyncKnowledgeClient(service.address) as client:
        for name in NAMESPACES:
            client.create_namespace(name, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    with ExitStack() as running:
        subscribers = [running.enter_context(recording(service.address, name, history)) for name in NAMESPACES]
        replicas = [running.enter_context(ReplicaProcess(service, name, history)) for name in NAMESPACES]
        with producing(service.address, history, seed, kafka):
            for number in range(rounds):
                chance = random.Random(f"round {number} of {seed}")
                one(Round(number, service, subscribers, replicas, history, kafka is not None, chance))
        finish(service, subscribers, replicas, history, kafka)
    service.stop()
    history.faults += fsck(service.folder)
    read_store(service.folder, history)
    return history


def kill_while_it_works(now: Round) -> None:
    """Let the service work for a moment, then kill it; each replica too in one of three rounds.

    With Kafka the moment begins in two of three rounds when something has come in over Kafka in each namespace. That is
    later than the first answer over gRPC: the service must find its way to Kafka first.
    """
    wait_for_work(now)
    time.sleep(now.chance.uniform(*KILL_AFTER_SECONDS))
    now.lose_replicas()
    now.service.kill()


def wait_for_work(now: Round) -> None:
    """Until something was taken in: over Kafka in each namespace, in two of three rounds with it; else over gRPC."""
    if now.with_kafka and now.chance.random() < 2 / 3:
        now.wait_for_kafka(1)
    else:
        answered = len(now.history.answered)
        now.history.wait_until(lambda: len(now.history.answered) > answered, "an answer")


def strike(now: Round, point: Callable[..., None]) -> None:
    """Have a service that does not run work until it kills itself at a named point."""
    service, name = now.service, point.__name__
    if point is rebuilding:
        _make_older(service.folder)
    fail = Fail(name, now.chance.randint(1, PASSES_MAX.get(name, 1)))
    if point in STOPPING:
        service.start(fail)
        service.signal(signal.SIGTERM)
    else:
        service.launch(fail)  # it may be at the point before it has said that it serves
    code = service.wait(PATIENCE_SECONDS)
    if code != -signal.SIGKILL:
        now.history.faults.append(f"the service was to be killed at {fail}, but ended with {code}")
    now.history.struck.append(name)


def come_back(now: Round) -> None:
    """Start the service again, and the replicas that do not run."""
    begun = time.monotonic()
    now.service.start()
    with SyncKnowledgeClient(now.service.address) as client:
        client.namespace(NAMESPACES[0])
    now.history.restart_seconds.append(time.monotonic() - begun)
    for replica in now.replicas:
        replica.start()


def _points(*, with_kafka: bool) -> Iterator[Callable[..., None]]:
    """Every named point in turn: first one of each kind, then the others."""
    over_kafka = (acknowledging, acknowledged, offset_shown)
    kinds = zip_longest(RUNNING, STOPPING, STARTING)
    return cycle([p for kind in kinds for p in kind if p is not None and (with_kafka or p not in over_kafka)])


def _make_older(folder: Path) -> None:
    """Have the store be one of an earlier version, whose views are made anew when it is opened."""
    with closing(apsw.Connection(str(folder / FILE))) as connection:
        connection.set_busy_timeout(10_000)
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")


def finish(
    service: RunningService,
    subscribers: Sequence[Recorder],
    replicas: Sequence[ReplicaProcess],
    history: History,
    kafka: KafkaSide | None,
) -> None:
    """Wait until everything has arrived everywhere, submit everything again, and write down what is there."""
    with SyncKnowledgeClient(service.address) as client:
        if kafka is not None:
            kafka.read_to_the_end(service, client, history)
        for (name, seen), subscriber, replica in zip(history.namespaces.items(), subscribers, replicas, strict=True):
            seen.head = client.namespace(name).head_revision
            subscriber.wait_for(seen.head)
            client.wait_applied(name, seen.head, [CONSUMER], timeout_seconds=PATIENCE_SECONDS)
            replica.kill()
        with SyncProducer(service.address) as producer:
            sent = taken(history)
            for start in range(0, len(sent), _AGAIN_BATCH):
                batch = sent[start : start + _AGAIN_BATCH]
                history.again += zip(batch, producer.submit(*batch), strict=True)
        queries = np.random.default_rng(0).standard_normal((QUERIES, DIMENSION)).astype(np.float32)
        for (name, seen), replica in zip(history.namespaces.items(), replicas, strict=True):
            seen.head_after = client.namespace(name).head_revision
            seen.found = [ids(client.search(name, query, limit=HITS).hits) for query in queries]
            seen.snapshot = snapshot(service.address, name)
            replica.write_down(queries)


def fsck(folder: Path) -> list[str]:
    """What is wrong with a store, as the command says."""
    command = [sys.executable, "-m", "epistream.services", "fsck", f"--folder={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return [f"fsck: {done.stdout}{done.stderr}"] if done.returncode else []


def read_store(folder: Path, history: History) -> None:
    """Write down the journal's decisions and the dead letters of a store that nobody has open."""
    store, names = Store(folder), dict[int, str]()
    try:
        for entry in store.journal.follow(0):
            if entry.record.HasField("namespace"):
                names[entry.namespace] = entry.record.namespace.name
            if entry.record.HasField("decision"):
                stored = Stored(entry.record.decision, entry.change)
                history.namespaces[names[entry.namespace]].stored.append(stored)
        number = 0
        while page := store.dead_letters(number, _AGAIN_BATCH):
            number = page[-1].number
            places = (letter.record.position for letter in page)
            history.dead_letters += [(place.partition, place.offset) for place in places if place is not None]
    finally:
        store.close()
